"""The judges, each on one action of a cluster that is whole."""

from __future__ import annotations

import msgspec
import pytest

from pneumod.core import actions as act
from pneumod.core.jobs import Train
from pneumod.messages import RunSettings, StartRun, Term
from pneumod.sim.bus import Weather
from pneumod.sim.machine import Machine
from pneumod.sim.world import World
from tests.sim.checkers import Violation
from tests.sim.court import Court

Case = tuple[Court, World, Machine]


@pytest.fixture
def case() -> Case:
    """A run of two nodes that has ended, and the node that followed."""
    world = World(1, [1, 2], Weather((1, 1)))
    court = Court(world)
    world.start(1)
    world.start(2)
    world.run(8_000)
    request = StartRun("run-a", 0, RunSettings(rounds=2, min_nodes=2))
    court.asked(request)
    world.ask("op-run-a", 1, request)
    world.run(90_000)
    return court, world, world.machines[2]


def test_a_cluster_without_faults_is_settled(case: Case) -> None:
    court, world, _ = case
    assert court.settled("run-a") is None
    assert court.claims == 1
    court.bounds.look()
    world.crash(2)
    assert court.settled("run-a") is None
    assert court.settled("run-b") == "the run run-b is not known"


def test_a_node_that_knows_less_is_not_settled(case: Case) -> None:
    court, _, machine = case
    machine.disk.durable = act.Durable()
    assert court.settled("run-a") == "the run is not over everywhere"


def test_a_term_from_the_future(case: Case) -> None:
    court, world, machine = case
    with pytest.raises(Violation, match="has not persisted"):
        court.see(world, machine, act.Publish("closed", Term(99, -2, 1), machine.durable.closed))


def test_who_may_speak_as_master(case: Case) -> None:
    court, world, machine = case
    with pytest.raises(Violation, match="master of another's term"):
        court.see(world, machine, act.Publish("open", machine.durable.term, machine.durable.opened))


def test_a_lost_disk_may_forget_and_nothing_else_may(case: Case) -> None:
    court, world, machine = case
    with pytest.raises(Violation, match="goes back"):
        court.see(world, machine, act.Persist(act.Durable()))
    court.forget(machine.id)
    court.see(world, machine, act.Persist(act.Durable()))


def test_who_has_lost_its_work_may_train_again_and_nobody_else(case: Case) -> None:
    court, world, machine = case
    opened = machine.durable.opened
    assert opened is not None
    with pytest.raises(Violation, match="again"):
        court.see(world, machine, act.Start(Train(opened)))
    court.forget(machine.id)
    court.see(world, machine, act.Start(Train(opened)))


def test_a_round_that_a_node_knows_is_not_closed_again(case: Case) -> None:
    court, world, machine = case
    closed = machine.durable.closed
    assert closed is not None
    term = Term(7, -1, 1)
    lower = msgspec.structs.replace(closed, round=0, receipt=None, term=term, ended=None)
    world.machines[1].disk.durable = msgspec.structs.replace(world.machines[1].durable, term=term)
    with pytest.raises(Violation, match="closes round 0, node 2 knows the end"):
        court.see(world, world.machines[1], act.Publish("closed", term, lower))


def test_the_broker_keeps_no_more_than_its_limit(case: Case) -> None:
    court, world, _ = case
    session = world.bus.sessions["2"]
    world.bus.stall(session)
    world.run(world.now_ms + 30_000)
    court.bounds.look()
    assert len(session.inbox) > 10
    world.bus.weather = msgspec.structs.replace(world.bus.weather, queue_limit=5)
    with pytest.raises(Violation, match="the broker keeps"):
        court.bounds.look()
