"""What befalls a cluster: each fault is drawn, and its harm is over after a while."""

from __future__ import annotations

from random import Random

import msgspec

from pneumod.core import events as ev
from pneumod.core.actions import Durable
from pneumod.messages import RoundClosed, RunSettings, RunSpec, Term
from pneumod.sim.children import blob
from pneumod.sim.machine import Machine
from pneumod.sim.world import World
from tests.sim.checkers import FOREIGN_RUN
from tests.sim.court import Court

BACK_MS = (100, 20_000)  # a process that died is started again


class Faults:
    """Breaks a world, and counts how often."""

    def __init__(self, world: World, court: Court, random: Random) -> None:
        self.world = world
        self.court = court
        self.random = random
        self.count = 0
        self.kinds = [getattr(self, name) for name in sorted(dir(self)) if name.startswith("do_")]

    def strike(self) -> None:
        """One fault, often on whoever leads."""
        world, random = self.world, self.random
        leaders = world.leaders()
        node = leaders[0] if leaders and random.random() < 0.4 else random.choice(list(world.machines))
        self.count += 1
        random.choice(self.kinds)(world.machines[node])

    def restart_crashed(self) -> None:
        """Whom the world killed between two actions is started again later."""
        for node in self.world.crashes:
            self.count += 1
            self._start_later(self.world.machines[node])
        self.world.crashes.clear()

    def do_crash(self, machine: Machine) -> None:
        machine.kill()
        self._start_later(machine)

    do_crash_again = do_crash  # the commonest fault

    def do_stop(self, machine: Machine) -> None:
        machine.feed(ev.Stopping())
        self._start_later(machine)

    def do_lose_disk(self, machine: Machine) -> None:
        machine.kill()
        machine.disk.lose()
        self._forgets(machine)

    def do_damage_state(self, machine: Machine) -> None:
        machine.kill()
        machine.disk.damage_state()
        self._forgets(machine)

    def do_restore(self, machine: Machine) -> None:
        machine.kill()
        machine.disk.restore()
        self._forgets(machine)

    def do_rot(self, machine: Machine) -> None:
        if machine.blobs:
            digest = self.random.choice(sorted(machine.blobs))
            machine.disk.rot(digest)
            self.court.rots(machine.id, digest)

    def do_lose_receipt(self, machine: Machine) -> None:
        """A receipt that is kept for good can't be read: a start finds that out."""
        machine.kill()
        if machine.disk.receipts.files:
            del machine.disk.receipts.files[self.random.choice(sorted(machine.disk.receipts.files))]
        self._start_later(machine)

    def do_wrong_update(self, machine: Machine) -> None:
        """The node's answer names an update that was made on another base."""
        machine.kill()
        result = machine.durable.result
        if result is not None and result.update is not None:
            wrong = blob("update", "another base", machine.id)
            machine.disk.blobs.add(wrong.digest)
            machine.disk.durable = msgspec.structs.replace(
                machine.durable, result=msgspec.structs.replace(result, update=wrong)
            )
            self.court.training.trained[machine.id, result.key] = wrong.digest
        self._start_later(machine)

    def do_wrong_run(self, machine: Machine) -> None:
        """The node comes with the state of another cluster's run."""
        machine.kill()
        model, checkpoint = blob("model", FOREIGN_RUN, 3), blob("checkpoint", FOREIGN_RUN, 3)
        term = Term(1, -machine.id, 1)
        spec = RunSpec(1, FOREIGN_RUN, "op-run-foreign", 0, RunSettings(rounds=4))
        closed = RoundClosed(FOREIGN_RUN, 1, 3, term, model, checkpoint, (20, 20))
        machine.disk.durable = Durable(term, spec, closed)
        machine.disk.blobs = {model.digest, checkpoint.digest}
        self._forgets(machine)

    def do_freeze(self, machine: Machine) -> None:
        machine.freeze(self.random.choice([self.random.randint(500, 8_000), self.random.randint(5_000, 150_000)]))

    def do_cut(self, machine: Machine) -> None:
        machine.link.cut(self.random.randint(500, 30_000))

    def do_silence(self, machine: Machine) -> None:
        machine.link.silence(self.random.randint(500, 30_000))

    def do_partition(self, machine: Machine) -> None:
        """Some nodes lose their way to the broker at once."""
        ids = list(self.world.machines)
        for_ms, silent = self.random.randint(500, 30_000), self.random.random() < 0.5
        for node in self.random.sample(ids, self.random.randint(1, len(ids))):
            self.count += 1
            link = self.world.machines[node].link
            link.silence(for_ms) if silent else link.cut(for_ms)

    def do_move(self, machine: Machine) -> None:
        """The broker is gone for long: the nodes meet on another one, of one site, of all or of none."""
        self.world.foreign = {site for site in sorted(set(self.world.sites.values())) if self.random.random() < 0.5}
        self.world.broker_outage(self.random.randint(200, 20_000), keep_retained=False)

    def do_outage(self, machine: Machine) -> None:
        self.world.broker_outage(self.random.randint(200, 20_000), keep_retained=self.random.random() < 0.5)

    def do_power_cut(self, machine: Machine) -> None:
        """Everything at once, the broker too."""
        self.world.broker_outage(self.random.randint(200, 20_000), keep_retained=self.random.random() < 0.5)
        for one in self.world.machines.values():
            if one.up:
                self.count += 1
                one.kill()
                self._start_later(one)

    def do_back_up(self, machine: Machine) -> None:
        """No harm yet."""
        machine.disk.back_up()

    def _forgets(self, machine: Machine) -> None:
        self.court.forget(machine.id)
        self._start_later(machine)

    def _start_later(self, machine: Machine) -> None:
        self.world.after(self.random.randint(*BACK_MS), machine.start)
