"""An operator ends a run: at any moment, once, and with the models that it has."""

from __future__ import annotations

import pytest

from pneumod.core import events as ev
from pneumod.core.jobs import Check, Close, Fetch, Initialise, Train
from pneumod.messages import NO_TERM, Reply, StopRun
from tests.core.items import order
from tests.core.pair import (
    Solo,
    ask,
    beacon,
    beat,
    closed_of,
    hold,
    in_round,
    master,
    reign,
    report,
    result_of,
    spec_of,
    take_in,
)

STOPPED = "stopped by op-run-a"


def stop(solo: Solo, run: str = "run-a", operator: str = "op-run-a") -> Reply:
    """An operator asks for the end of a run; the answer."""
    solo.forget()
    solo.hear(operator, "stop", StopRun(run), NO_TERM)
    replies = solo.published("reply")
    assert [p.dest for p in replies] == [operator]
    assert replies[0].correlation == b"c"
    message = replies[0].message
    assert isinstance(message, Reply)
    return message


def ended(solo: Solo) -> str | None:
    """Why the run is over, by the node's own disk and by what all were told."""
    closed = solo.durable.closed
    assert closed is not None
    told = [c for c in solo.said("closed") if c is not None]
    assert told in ([], [closed])
    return closed.ended


def in_phase(phase: str) -> Solo:
    """A master whose run is in a phase."""
    solo = master(2)
    ask(solo, min_nodes=3 if phase == "waiting" else 1)
    solo.finish(solo.running(Initialise))
    if phase == "handing":
        return solo
    hold(solo)
    if phase == "closing":
        take_in(solo, 1, 2)
    return solo


@pytest.mark.parametrize("phase", ["waiting", "collecting", "closing", "handing"])
def test_a_run_is_stopped_at_once_in_whatever_phase_it_is(phase: str) -> None:
    solo = in_phase(phase)
    assert solo.phase == phase
    before = solo.durable.closed
    assert before is not None
    assert stop(solo) == Reply(True, "run run-a is stopped")
    assert ended(solo) == STOPPED
    assert solo.durable.closed is not None
    assert (solo.durable.closed.round, solo.durable.closed.model) == (before.round, before.model), "its model stays"
    assert not any(solo.runs(kind) for kind in (Train, Check, Close, Initialise))
    solo.forget()
    solo.advance(30_000)
    assert solo.said("open") == []
    assert solo.phase == "idle"


def test_the_end_is_on_the_disk_then_said_to_all_then_answered() -> None:
    solo = in_phase("collecting")
    stop(solo)
    assert order(solo.actions, "Persist", "closed", "reply") == ["Persist", "closed", "reply"]
    assert f"run-a has ended: {STOPPED}" in solo.logged()
    assert solo.durable.closed is not None
    assert solo.durable.closed.term == solo.term


def test_the_training_of_the_nodes_and_the_masters_jobs_end() -> None:
    solo, opened = in_round(2, 3)
    solo.hear(2, "result", result_of(2, opened))
    train, fetch = solo.running(Train), solo.running(Fetch)
    stop(solo)
    assert train not in solo.node.state.running
    assert fetch not in solo.node.state.running
    for job in (train, fetch):
        solo.step(ev.JobFailed(job, "cancelled"))
    solo.hear(3, "result", result_of(3, opened))
    assert solo.started(Fetch) == []
    assert solo.started(Check) == []


def test_a_node_that_hears_of_the_end_stops_its_training_and_answers_nothing() -> None:
    spec, term = spec_of(), reign(1, 1)
    solo, _ = in_round(2)
    told = closed_of(spec, 0, term, ended=STOPPED)
    worker = Solo(2, 1, held=frozenset({told.model.digest, told.checkpoint.digest})).prepared().connect()
    worker.hear(1, "beacon", beacon(2), term)
    worker.hear(1, "spec", spec)
    worker.hear(1, "closed", closed_of(spec, 0, term))
    assert solo.durable.opened is not None
    worker.hear(1, "open", solo.durable.opened)
    job = worker.running(Train)
    worker.hear(1, "closed", told)
    assert not worker.runs(Train)
    worker.forget()
    worker.finish(job)
    worker.hear(1, "reopen", solo.durable.opened)
    assert worker.said("result") == []
    assert not worker.runs(Train)


def test_a_closing_that_ends_after_the_stop_changes_nothing() -> None:
    solo = in_phase("closing")
    job = solo.running(Close)
    stop(solo)
    before = solo.durable
    solo.finish(job)
    assert solo.durable == before


def test_asking_twice_is_as_good_as_once() -> None:
    solo = in_phase("collecting")
    stop(solo)
    assert stop(solo, operator="op-run-b") == Reply(True, f"run run-a has ended: {STOPPED}")
    assert solo.said("closed") == []
    assert ended(solo) == STOPPED


def test_a_run_that_ended_by_itself_is_not_ended_again() -> None:
    solo, _ = in_round(2, rounds=1)
    for _ in range(2):
        take_in(solo, 1, 2)
        solo.finish(solo.running(Close))
        hold(solo)
    assert stop(solo) == Reply(True, "run run-a has ended: all 1 rounds done")
    assert ended(solo) == "all 1 rounds done"


@pytest.mark.parametrize("operator", ["op-watch-a", "op-predict-a", "2"])
def test_only_an_operator_with_the_role_run_may_stop_one(operator: str) -> None:
    solo = in_phase("collecting")
    reply = stop(solo, operator=operator)
    assert reply == Reply(False, "only an operator with the role run may start or stop one")
    assert ended(solo) is None
    assert solo.phase == "collecting"


def test_another_run_is_not_stopped_in_place_of_the_one_that_is_on() -> None:
    solo = in_phase("collecting")
    assert stop(solo, run="run-b") == Reply(False, "no run run-b is on; run run-a is")
    assert ended(solo) is None


def test_where_no_run_is_on_there_is_none_to_stop() -> None:
    solo = master(2)
    assert stop(solo) == Reply(False, "no run run-a is on")
    run = in_phase("collecting")
    stop(run)
    assert stop(run, run="run-b") == Reply(False, "no run run-b is on")


def test_a_master_that_still_gathers_asks_for_patience() -> None:
    solo = Solo().prepared().connect()
    solo.advance(3_000)
    assert solo.phase == "gathering"
    assert stop(solo) == Reply(False, "the master has just taken over; ask again in a moment", again=True)


def test_a_node_that_does_not_lead_does_not_answer() -> None:
    solo = Solo(2, 1).prepared().connect()
    solo.hear(1, "beacon", beacon(2), reign(1, 1))
    solo.hear("op-run-a", "stop", StopRun("run-a"), NO_TERM)
    assert solo.said("reply") == []


def test_a_run_is_stopped_while_its_first_model_is_made_and_whatever_comes_of_that_is_let_go() -> None:
    solo = master(2)
    ask(solo)
    job = solo.running(Initialise)
    assert stop(solo) == Reply(True, "run run-a is stopped")
    assert job not in solo.node.state.running
    solo.finish(job)
    solo.advance(30_000)
    assert solo.durable.closed is None
    assert solo.said("open") == []
    assert stop(solo) == Reply(True, f"run run-a has ended: {STOPPED}")
    ask(solo, run="run-b")
    assert solo.durable.spec is not None
    assert (solo.durable.spec.run, solo.durable.spec.number) == ("run-b", 2)


def test_a_run_whose_first_model_cannot_be_made_can_be_stopped_between_two_tries() -> None:
    solo = master()
    ask(solo)
    solo.step(ev.JobFailed(solo.running(Initialise), "no space"))
    assert stop(solo) == Reply(True, "run run-a is stopped")


def test_a_run_whose_model_is_lost_can_be_stopped() -> None:
    solo = in_phase("collecting")
    led = Solo(durable=solo.durable).prepared().connect()
    led.peers = {2: beat()}
    led.advance(6_000)
    assert led.phase == "preparing"
    assert stop(led) == Reply(True, "run run-a is stopped")
    assert ended(led) == STOPPED


def test_the_next_master_knows_of_the_end_from_any_node_that_heard_of_it() -> None:
    """Also when its own disk says that the run is on."""
    solo = in_phase("collecting")
    on = solo.durable
    stop(solo)
    heir = Solo(2, 1, durable=on, held=frozenset(solo.node.state.held)).prepared().connect()
    heir.peers = {3: beat()}
    heir.advance(3_600)
    assert heir.leads
    heir.hear(3, "report", report(solo.durable.spec, solo.durable.closed))
    heir.advance(3_000)
    assert heir.phase == "idle"
    assert heir.said("closed") == [solo.durable.closed]
    assert not heir.runs(Train)


def test_the_next_master_makes_no_first_model_for_a_run_that_was_stopped_before() -> None:
    solo = master(2)
    ask(solo)
    on = solo.durable
    stop(solo)
    heir = Solo(2, 1, durable=on).prepared().connect()
    heir.peers = {3: beat()}
    heir.advance(3_600)
    heir.hear(3, "report", report(solo.durable.spec))
    heir.advance(3_000)
    assert heir.phase == "idle"
    assert heir.started(Initialise) == []
    assert heir.said("spec") == [solo.durable.spec]
