"""Operators: they start runs one after the other, ask twice, ask while another run is on, and stop runs."""

from __future__ import annotations

from random import Random

from pneumod.core import events as ev
from pneumod.messages import RunSettings, StartRun, StopRun
from pneumod.sim.world import World
from tests.sim.court import Court, ended

OPERATOR = "op-run-ann"
OTHER = "op-run-bob"
MAX_ITEMS = 40  # of a batch
PATIENCE = 60  # refusals in a row: then the run that is in the way is stopped


class Operators:
    """Whoever asks the cluster for something.

    Attributes:
        wanted: the run that the main operator wants now.
        left: runs that are wanted after it.
    """

    def __init__(self, world: World, court: Court, random: Random) -> None:
        self.world = world
        self.court = court
        self.random = random
        self.asked = self.batches = 0
        self.left = random.choice([0, 0, 1, 2])
        self.known = False  # the wanted run was accepted
        self.refused = 0  # times in a row that another run was on
        self.wanted = self._request()

    def next(self) -> None:
        """The wanted run is over, or can't go on: want another."""
        self.left -= 1
        self.wanted, self.known = self._request(), False

    def act(self) -> None:
        """In the safety phase: now and then something else than what is wanted."""
        self.ask()
        chance, leader = self.random.random(), self._leader()
        if leader is None:
            return
        if chance < 0.05:
            self.world.ask(OPERATOR, leader, self.wanted)
        elif chance < 0.08:
            self.world.ask(OTHER, leader, self._request(1))
        elif chance < 0.10:
            self.world.ask(OTHER, leader, StopRun(self.wanted.run), "stop")
        if self.random.random() < 0.1 and self.world.sites:
            self._offer()

    def ask(self) -> None:
        """Ask whoever leads for the wanted run until it is known; one that was lost or replaced gets a new name."""
        leader = self._leader()
        if leader is None:
            return
        durable = self.world.machines[leader].durable
        on = durable.spec is not None and durable.spec.run == self.wanted.run
        if on and self.left and ended(durable) is not None:
            self.next()
        elif self.known and not on:
            self.wanted, self.known, on = self._request(), False, False
        self.known = self.known or on
        if on:
            return
        self.world.ask(OPERATOR, leader, self.wanted)
        blocked = durable.spec is not None and ended(durable) is None
        self.refused = self.refused + 1 if blocked else 0
        if durable.spec is not None and self.refused > PATIENCE:  # it may wait for what never comes
            self.world.ask(OPERATOR, leader, StopRun(durable.spec.run), "stop")
            self.refused = 0

    def _leader(self) -> int | None:
        leaders = self.world.leaders()
        return leaders[0] if leaders and self.world.bus.up else None

    def _request(self, min_nodes: int | None = None) -> StartRun:
        """A new run; now and then for more nodes than there are."""
        count = len(self.world.machines)
        needed = count + 1 if self.random.random() < 0.03 else self.random.randint(1, max(1, count // 2))
        settings = RunSettings(rounds=self.random.randint(1, 4), min_nodes=min_nodes or needed, patience=10)
        self.asked += 1
        request = StartRun(f"sim-{self.asked}", 0, settings)
        self.court.asked(request)
        return request

    def _offer(self) -> None:
        """A node has items for its site."""
        machine = self.world.machines[self.random.choice(list(self.world.machines))]
        batch = machine.durable.batch if machine.up else None
        if batch is not None and self.random.random() < 0.2:
            machine.feed(ev.Withdrawn())
        elif machine.up and machine.link.session is not None and machine.link.at_home:
            self.batches += 1
            items = self.random.randint(1, MAX_ITEMS)
            machine.feed(ev.Offered(f"batch-{self.batches}", self.random.choice(["preprocess", "predict"]), items))
