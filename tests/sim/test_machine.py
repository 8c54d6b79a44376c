"""The virtual machine runs a node as the shell does: in order, behind the disk, with children that fail."""

from __future__ import annotations

from pneumod.core import actions as act
from pneumod.core import events as ev
from pneumod.core.jobs import Initialise, Prepare
from pneumod.messages import RunSettings, StartRun
from pneumod.sim.bus import Weather
from pneumod.sim.children import QUIET_MS, START_MS, Luck
from pneumod.sim.disk import Wear
from pneumod.sim.machine import Machine
from pneumod.sim.world import World


class Told:
    """Actions that were done and events that came, with their times."""

    def __init__(self, world: World) -> None:
        self.actions: list[tuple[int, act.Action]] = []
        self.events: list[tuple[int, ev.Event]] = []
        self.world = world
        world.observers.append(lambda _, machine, action: self.actions.append((world.now_ms, action)))
        world.watchers.append(lambda machine, event: self.events.append((world.now_ms, event)))

    def published(self, kind: str) -> list[int]:
        return [at_ms for at_ms, a in self.actions if isinstance(a, act.Publish) and a.kind == kind]


def alone(wear: Wear | None = None, luck: Luck | None = None) -> tuple[World, Machine, Told]:
    world = World(1, [1], Weather((1, 1)), wear=wear, luck=luck)
    told = Told(world)
    world.start(1)
    return world, world.machines[1], told


def test_what_follows_a_write_waits_for_it_and_beats_do_not() -> None:
    world, machine, told = alone(Wear((2_000, 2_000)))
    world.run(20_000)
    persisted = [at_ms for at_ms, action in told.actions if isinstance(action, act.Persist)]
    assert told.published("beacon")[0] >= persisted[0]
    assert machine.durable.term.node == 1
    assert world.bus.published["beat"] >= 15


def test_a_crash_loses_the_write_under_way_or_has_it_whole() -> None:
    kept = set()
    for seed in range(20):
        world = World(seed, [1], Weather((1, 1)), wear=Wear((2_000, 2_000)))
        world.start(1)
        machine = world.machines[1]
        assert world.run_until(lambda machine=machine: isinstance(machine.writing, act.Persist), 10_000)  # type: ignore[misc]
        world.crash(1)
        kept.add(machine.durable.term.counter)
        assert not machine.actions
    assert kept == {0, 1}


def test_a_slow_write_is_told_while_it_runs() -> None:
    world, machine, told = alone(Wear((5_000, 5_000)))
    world.run_until(lambda: machine.writing is not None, 10_000)
    began_ms = world.now_ms
    world.run(began_ms + 4_000)
    slow = [at_ms for at_ms, event in told.events if isinstance(event, ev.DiskSlow)]
    assert began_ms + 2_900 <= slow[0] <= began_ms + 3_000
    assert machine.writing is not None


def test_a_child_that_dies_or_hangs_ends_its_job() -> None:
    for luck, why in ((Luck(dies=1.0), "the child died (-9)"), (Luck(hangs=1.0), "the child hung")):
        world, machine, told = alone(luck=luck)
        machine.light.luck = Luck()
        world.run(8_000)
        world.ask("op-run-a", 1, StartRun("run-a", 0, RunSettings(rounds=1)))
        world.run(9_000 + QUIET_MS[Initialise] + START_MS)
        failed = [event for _, event in told.events if isinstance(event, ev.JobFailed)]
        assert {(event.why, event.again) for event in failed} == {(why, True)}


def test_a_blob_that_rotted_is_missed_by_the_job_that_reads_it() -> None:
    world, machine, told = alone()
    world.run(8_000)
    world.ask("op-run-a", 1, StartRun("run-a", 0, RunSettings(rounds=1)))
    assert world.run_until(lambda: machine.durable.closed is not None, 10_000)
    closed = machine.durable.closed
    assert closed is not None
    machine.disk.rot(closed.model.digest)
    world.run(world.now_ms + 10_000)
    found = [event for _, event in told.events if isinstance(event, ev.BlobsFound)]
    assert found
    assert closed.model.digest not in found[0].digests


def test_a_kept_receipt_that_is_lost_is_told_at_the_start_and_comes_from_a_peer() -> None:
    world = World(1, [1, 2], Weather((1, 1)))
    told = Told(world)
    world.start_all()
    world.run(8_000)
    world.ask("op-run-a", 1, StartRun("run-a", 0, RunSettings(rounds=2, min_nodes=2)))
    world.run(90_000)
    kept = dict(world.machines[2].disk.receipts.files)
    assert sorted(kept) == [("run-a", 1), ("run-a", 2), ("run-a", 3)]
    world.crash(2)
    for round_ in (1, 2):
        del world.machines[2].disk.receipts.files["run-a", round_]
    world.start(2)
    world.run(100_000)
    missing = [(event.round, event.blob.digest) for _, event in told.events if isinstance(event, ev.ReceiptMissing)]
    assert missing == [(round_, kept["run-a", round_]) for round_ in (2, 1)]
    assert world.machines[2].disk.receipts.files == kept


def test_a_job_that_waits_is_dropped_at_once() -> None:
    world, machine, told = alone()
    world.run(8_000)
    assert machine.node is not None
    machine.node.state.start(Prepare(1))
    machine.node.state.start(Prepare(2))
    machine.node.state.cancel(Prepare(2))
    machine.step(ev.Tick())
    world.run(8_001)
    assert [event for _, event in told.events if isinstance(event, ev.JobFailed)] == [
        ev.JobFailed(Prepare(2), "cancelled")
    ]


def test_a_machine_that_sleeps_hears_afterwards() -> None:
    world = World(1, [1, 2], Weather((1, 1), keepalive_ms=5_000))
    told = Told(world)
    world.start(1)
    world.start(2)
    world.run(10_000)
    world.freeze(2, 6_000)
    world.run(15_900)
    assert world.machines[2].steady_ms == 0
    world.run(17_000)
    assert world.machines[2].reachable
    world.freeze(2, 30_000)
    world.run(50_000)
    disconnected = [at_ms for at_ms, event in told.events if isinstance(event, ev.Disconnected)]
    assert disconnected == [47_000]  # the broker gave it up meanwhile
