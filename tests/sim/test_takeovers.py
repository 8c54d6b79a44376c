"""Takeovers that chance seldom brings about: they hold, and a core that is broken there is found out."""

from __future__ import annotations

import pytest

from pneumod.core import conductor
from pneumod.core.conductor import Conductor
from pneumod.core.handover import heirs_hold
from pneumod.core.membership import Members
from pneumod.core.run import Run
from pneumod.core.state import State
from pneumod.messages import RunSettings, StartRun
from pneumod.sim.bus import Weather
from pneumod.sim.world import World
from tests.sim.checkers import Violation
from tests.sim.court import Court

Patch = pytest.MonkeyPatch
SLOW = 60.0  # a fetch takes seconds


def cluster() -> World:
    """Three nodes that train, judged; node 1 leads."""
    world = World(1, [1, 2, 3], Weather((1, 1)))
    court = Court(world)
    world.start_all()
    world.run(8_000)
    request = StartRun("run-a", 0, RunSettings(rounds=3))
    court.asked(request)
    world.ask("op-run-a", 1, request)
    return world


def round_of(world: World, node: int) -> int:
    """The last round of which a node holds the state; -1: none."""
    machine = world.machines[node]
    closed = machine.durable.closed
    held = closed is not None and {closed.model.digest, closed.checkpoint.digest} <= machine.blobs
    return closed.round if closed is not None and held else -1


def lose_a_master_that_only_one_heir_has_followed() -> World:
    """The master dies when its first heir has the new model and the second still fetches it."""
    world = cluster()
    assert world.run_until(lambda: world.machines[3].durable.result is not None, 60_000)
    world.machines[3].slowness = SLOW
    assert world.run_until(lambda: round_of(world, 2) == 1, 60_000)
    world.crash(1)
    return world


def test_a_new_master_waits_until_its_heirs_hold_the_model() -> None:
    world = lose_a_master_that_only_one_heir_has_followed()
    assert world.run_until(lambda: round_of(world, 2) == 2, 600_000)


def test_found_out_a_new_master_that_does_not_wait_for_its_heirs(monkeypatch: Patch) -> None:
    """It waits only for the state that it made itself."""

    def hasty(state: State, members: Members, late: bool) -> bool:
        closed = state.durable.closed
        inherited = closed is not None and closed.term != state.durable.term
        return inherited or heirs_hold(state, members, late)

    monkeypatch.setattr(conductor, "heirs_hold", hasty)
    with pytest.raises(Violation, match="node 2 opens the next round, and heir 3 lacks round 1"):
        lose_a_master_that_only_one_heir_has_followed().run(600_000)


def come_back_alone_to_a_run_that_went_on() -> World:
    """The lowest node comes back with the state of an earlier round, and the broker has forgotten the newest."""
    world = cluster()
    assert world.run_until(lambda: round_of(world, 3) == 0, 60_000)
    world.crash(1)
    assert world.run_until(lambda: round_of(world, 3) == 2, 600_000)
    world.crash(2)
    world.cut(3, 6_500)
    world.bus.retained.clear()
    world.machines[1].slowness = 2.0
    world.start(1)
    return world


def test_a_master_that_comes_back_takes_over_what_the_others_know() -> None:
    world = come_back_alone_to_a_run_that_went_on()
    assert world.run_until(lambda: round_of(world, 1) == 2, 30_000)


def test_found_out_a_master_that_does_not_ask_what_the_others_know(monkeypatch: Patch) -> None:
    monkeypatch.setattr(Run, "take_furthest", lambda *_: None)
    monkeypatch.setattr(Conductor, "hear_report", lambda master, node, report: master.members.hear_report(node, report))
    with pytest.raises(Violation, match="node 1 closes round 1, node 3 knows round 2"):
        come_back_alone_to_a_run_that_went_on().run(600_000)
