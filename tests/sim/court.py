"""All judges together, and what a cluster must have come to in the end."""

from __future__ import annotations

from pneumod.core import actions as act
from pneumod.core.actions import Durable
from pneumod.messages import RoundClosed, StartRun
from pneumod.sim.machine import Machine
from pneumod.sim.world import World
from tests.sim.bounds import Bounds, Items
from tests.sim.checkers import Rounds, Survival, Terms, Training


def ended(durable: Durable) -> str | None:
    """Why the run that a node knows is over; None while it is on."""
    spec, closed = durable.spec, durable.closed
    if spec is not None and spec.ended is not None:
        return spec.ended
    return closed.ended if closed is not None else None


def known_of(durable: Durable) -> tuple[str, RoundClosed | None, str | None]:
    """The run that a node knows, its state, and how it ended, whether the spec or the state says so."""
    return durable.spec.run if durable.spec is not None else "", durable.closed, ended(durable)


class Court:
    """Watches every action of a world; raises Violation at the first broken promise."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.terms, self.rounds, self.items = Terms(world), Rounds(world), Items(world)
        self.bounds, self.training = Bounds(world), Training(world)
        self.survival = Survival(world)
        self.judges = (self.terms, self.training, self.rounds, self.survival, self.items, self.bounds)
        self.rotten: set[tuple[int, str]] = set()  # node and blob: nobody knows before it is read
        world.observers.append(self.see)

    @property
    def claims(self) -> int:
        return len(self.terms.masters)

    def asked(self, request: StartRun) -> None:
        """An operator asks for a run: what it asks for is the measure."""
        self.rounds.asked(request)

    def forget(self, node: int) -> None:
        """A disk was lost, or is not what it was: the node may not know what it knew."""
        for judge in self.judges:
            judge.forget(node)

    def rots(self, node: int, digest: str) -> None:
        """A blob of a node can't be read any more."""
        self.rotten.add((node, digest))
        self.training.rots(node, digest)
        self.survival.rots(node, digest)

    def see(self, world: World, machine: Machine, action: act.Action) -> None:
        for judge in self.judges:
            judge.see(world, machine, action)

    def settled(self, run: str) -> str | None:
        """After the faults: why the cluster is not yet as it must be in the end; None if it is."""
        machines = [m for m in self.world.machines.values() if m.up]
        if not machines:
            return "nobody runs"
        lowest = min(m.id for m in machines)
        if self.world.leaders() != [lowest]:
            return f"leaders {self.world.leaders()}"
        if (undone := self.items.unfinished()) is not None:
            return undone
        leader = self.world.machines[lowest]
        spec, closed = leader.durable.spec, leader.durable.closed
        if spec is None or spec.run != run:
            return f"the run {run} is not known"
        if ended(leader.durable) is None:
            return self._stuck(leader, machines)
        models = [m.durable.closed.model for m in machines if m.durable.closed is not None and ended(m.durable)]
        if len({model.digest for model in models}) > 1:
            return "different models"
        if len({known_of(machine.durable) for machine in machines}) > 1:
            return "the run is not over everywhere"
        if closed is None:
            return None  # stopped before its first model
        lost = {closed.model.digest, closed.checkpoint.digest} - set().union(*(m.blobs for m in machines))
        model = closed.model.digest
        if not lost and any(model not in m.blobs and (m.id, model) not in self.rotten for m in machines):
            return "a node lacks the model"
        return self._chains(closed, machines)

    def _chains(self, closed: RoundClosed, machines: list[Machine]) -> str | None:
        """Every node keeps all receipts of the run, back to one that no node has any more."""
        kept = {machine.id: set(machine.disk.receipts.files.values()) for machine in machines}
        anywhere = set().union(*kept.values())
        receipt, round_ = closed.receipt.digest if closed.receipt is not None else None, closed.round
        while receipt in anywhere:
            if lacking := [node for node, digests in kept.items() if receipt not in digests]:
                return f"node {lacking[0]} lacks the receipt of round {round_}"
            receipt, round_ = self.rounds.previous[receipt], round_ - 1
        return None

    def _stuck(self, leader: Machine, machines: list[Machine]) -> str | None:
        """A run that isn't over: it may wait for ever only for what can't come, and must say so."""
        spec, closed = leader.durable.spec, leader.durable.closed
        assert spec is not None
        conductor = leader.node.conductor if leader.node is not None else None
        note = conductor.note if conductor is not None else ""
        held = set().union(*(m.blobs for m in machines))
        lost = closed is not None and not {closed.model.digest, closed.checkpoint.digest} <= held
        few = self.rounds.min_nodes[spec.run] > len(machines)
        if not lost and not few:
            return f"the run is not over: {note}"
        return None if note else "the run can't go on, and its master doesn't say why"
