"""Runs that can't go on: they end, or make room, and say why."""

from __future__ import annotations

import pytest

from pneumod.core import events as ev
from pneumod.core.actions import Durable
from pneumod.core.conductor import MAX_SETBACKS
from pneumod.core.election import ABSTAIN_MS
from pneumod.core.jobs import Check, Close, Fetch, Initialise, Job, Train
from pneumod.messages import BlobRef, Reply, RoundOpen, StopRun
from tests.core.pair import (
    Solo,
    ask,
    beacon,
    beat,
    closed_of,
    current,
    hold,
    in_round,
    master,
    reign,
    report,
    result_of,
    spec_of,
    take_in,
)


def jobs(solo: Solo, kind: type[Job]) -> list[Job]:
    return [job for job in solo.node.state.running if isinstance(job, kind)]


def refuse(solo: Solo, *nodes: int) -> None:
    """The nodes answer, and their updates don't pass the check."""
    for node in nodes:
        solo.hear(node, "result", result_of(node, current(solo)))
        for fetch in [
            job for job in list(solo.node.state.running) if isinstance(job, Fetch) and job.holders == (node,)
        ]:
            solo.finish(fetch)
        for check in [job for job in list(solo.node.state.running) if isinstance(job, Check)]:
            solo.step(ev.JobFailed(check, "beyond the range"))


def test_a_run_whose_updates_are_always_refused_is_given_up_with_the_reason() -> None:
    solo, _ = in_round(2, min_nodes=2)
    for _ in range(MAX_SETBACKS):
        assert solo.durable.closed is not None
        assert solo.durable.closed.ended is None
        refuse(solo, 1, 2)
        solo.hear(2, "beat", beat(closed=solo.durable.closed))
        solo.advance(2_000)
    assert solo.durable.closed is not None
    assert solo.durable.closed.ended is not None
    assert "given up after 3 failures" in solo.durable.closed.ended
    assert "node 2: beyond the range" in solo.durable.closed.ended
    assert solo.phase == "idle"
    assert not solo.runs(Train), "nothing of it is trained any more"
    ask(solo, run="run-b")
    assert solo.durable.spec is not None
    assert solo.durable.spec.run == "run-b"


def fail_to_close(solo: Solo, opened: RoundOpen) -> None:
    """The closing of a round fails as often as a master tries it."""
    for attempt in range(MAX_SETBACKS):
        solo.step(ev.JobFailed(solo.running(Close), "no space"))
        if attempt == MAX_SETBACKS - 1:
            return
        solo.advance(6_000)
        for peer in solo.peers:
            solo.hear(peer, "result", result_of(peer, opened))
        for check in jobs(solo, Check):
            solo.finish(check)


def test_a_master_that_cant_close_a_round_lets_another_try() -> None:
    solo, opened = in_round(2)
    take_in(solo, 1, 2)
    fail_to_close(solo, opened)
    assert not solo.leads
    assert solo.durable.closed is not None
    assert solo.durable.closed.ended is None
    solo.advance(ABSTAIN_MS - 1)
    assert not solo.leads
    solo.advance(2)
    assert solo.leads


def test_a_closing_that_fails_everywhere_ends_the_run() -> None:
    """The others could not close it either: the round is back, and nobody is asked again."""
    solo, opened = in_round(2)
    take_in(solo, 1, 2)
    fail_to_close(solo, opened)
    solo.advance(ABSTAIN_MS + 10)
    solo.hear(2, "report", report(solo.durable.spec, solo.durable.closed))
    solo.advance(2_000)
    opened = current(solo)
    solo.hear(2, "result", result_of(2, opened))
    for check in jobs(solo, Check):
        solo.finish(check)
    fail_to_close(solo, opened)
    assert solo.leads
    assert solo.durable.closed is not None
    assert solo.durable.closed.ended == "given up after 3 failures: close failed: no space"


def test_a_closing_that_always_fails_ends_the_run_of_a_node_that_is_alone() -> None:
    solo, opened = in_round()
    take_in(solo, 1)
    fail_to_close(solo, opened)
    assert solo.durable.closed is not None
    assert solo.durable.closed.ended == "given up after 3 failures: close failed: no space"


def test_a_blob_that_rotted_is_fetched_again_and_told() -> None:
    solo = master(2)
    ask(solo)
    solo.finish(solo.running(Initialise))
    closed = solo.durable.closed
    assert closed is not None
    solo.forget()
    solo.step(ev.BlobsFound(frozenset({closed.checkpoint.digest})))
    assert [text for text in solo.logged() if "damaged or lost" in text and closed.model.digest[:12] in text]


def test_a_run_that_waits_for_nodes_is_not_replaced_and_says_what_it_waits_for() -> None:
    solo = master(2)
    ask(solo, min_nodes=3)
    solo.finish(solo.running(Initialise))
    hold(solo)
    solo.advance(2_000)
    assert solo.phase == "waiting"
    solo.forget()
    ask(solo, run="run-b", operator="op-run-b")
    (reply,) = solo.said("reply")
    assert isinstance(reply, Reply)
    assert "run run-a is on" in reply.text
    assert "2 of 3 nodes are ready" in reply.text
    assert solo.durable.closed is not None


def test_a_first_model_that_can_not_be_made_ends_the_run_with_the_reason() -> None:
    solo = master()
    ask(solo)
    for _ in range(MAX_SETBACKS):
        solo.step(ev.JobFailed(solo.running(Initialise), "no TensorFlow"))
        solo.advance(6_000)
    assert solo.durable.spec is not None
    assert solo.durable.spec.ended == "given up after 3 failures: initialise failed: no TensorFlow"
    ask(solo, run="run-b")
    assert solo.durable.spec.run == "run-b"


def test_a_run_that_was_stopped_before_its_first_model_stays_so() -> None:
    """A node that has that model, which an earlier master made, reports it later."""
    solo = master(2)
    ask(solo)
    spec = solo.durable.spec
    assert spec is not None
    solo.hear("op-run-a", "stop", StopRun("run-a"))
    solo.hear(2, "report", report(spec, closed_of(spec, 0, reign(1, 9))))
    assert solo.phase == "idle"
    assert solo.durable.closed is not None
    assert solo.durable.closed.ended == "stopped by op-run-a"


@pytest.mark.parametrize(("bytes_over", "refused"), [(0, False), (10**9, True)])
def test_an_update_far_larger_than_the_model_is_not_fetched(bytes_over: int, refused: bool) -> None:
    solo, opened = in_round(2)
    size = opened.base.size_bytes + bytes_over
    solo.hear(2, "result", result_of(2, opened, BlobRef("ab" * 32, size)))
    assert solo.runs(Fetch) is not refused


def test_more_samples_than_a_node_reported_are_not_believed() -> None:
    solo, opened = in_round(2)
    result = result_of(2, opened)
    solo.hear(2, "report", report(spec=solo.durable.spec, closed=solo.durable.closed))
    greedy = type(result)(**{**{f: getattr(result, f) for f in result.__struct_fields__}, "samples": 10**6})
    solo.hear(2, "result", greedy)
    assert not solo.runs(Fetch)
    assert any("more samples than the node reported" in text for text in solo.logged())


def test_a_blob_that_rotted_is_fetched_again() -> None:
    solo = Solo(2).connect()
    solo.hear(1, "beacon", beacon(2), reign(1, 1))
    assert solo.node.state.held == set()
    solo.node.state.held |= {"aa" * 32, "bb" * 32}
    solo.step(ev.BlobsFound(frozenset({"aa" * 32})))
    assert solo.node.state.held == {"aa" * 32}


def test_a_node_outside_the_roster_is_not_heard() -> None:
    solo = master(2)
    solo.node.state.sites = {1: "a", 2: "b"}
    solo.hear(9, "beat", beat())
    solo.hear(9, "report", report())
    assert solo.node.dropped["not in the roster"] == 2
    assert solo.node.conductor is not None
    assert 9 not in solo.node.conductor.members.members


def test_updates_are_not_among_the_blobs_that_any_node_may_have() -> None:
    solo, opened = in_round(2)
    take_in(solo, 1, 2)
    update = result_of(2, opened).update
    assert update is not None
    assert update.digest in solo.node.state.held
    assert update.digest not in solo.node.trainee.library.shareable()
    assert opened.base.digest in solo.node.trainee.library.shareable()


def test_after_the_stop_nothing_is_said() -> None:
    solo = master(2)
    solo.step(ev.Stopping())
    solo.forget()
    assert solo.step(ev.Tick()) == []


def test_a_first_model_that_comes_late_does_not_begin_the_run_again() -> None:
    """This master makes the first model while the others, as it then learns, are in round 3."""
    solo = master(2)
    ask(solo)
    spec = solo.durable.spec
    assert spec is not None
    making = solo.running(Initialise)
    later = closed_of(spec, 3, reign(solo.term.counter, 9))
    solo.hear(2, "report", report(spec, later))
    solo.finish(making)
    assert solo.durable.closed is not None
    assert solo.durable.closed.round == 3


def test_of_two_runs_with_one_number_the_one_that_is_further_goes_on() -> None:
    ours, theirs = spec_of(run="run-a"), spec_of(run="run-b")
    solo = Solo(2, durable=Durable(spec=ours, closed=closed_of(ours, 2, reign(5, 1)))).prepared().connect()
    solo.hear(1, "beacon", beacon(2), reign(6, 1))
    solo.hear(1, "spec", theirs, reign(6, 1))
    assert solo.durable.spec == ours
    solo.hear(1, "closed", closed_of(theirs, 1, reign(4, 3)), reign(6, 1))
    assert solo.durable.spec == ours
    solo.hear(1, "closed", closed_of(theirs, 1, reign(6, 1)), reign(6, 1))
    assert solo.durable.spec == theirs
    assert solo.durable.closed is not None
    assert solo.durable.closed.run == "run-b"
