"""One open round: whose answer counts, whose doesn't and why, and who is waited for."""

from __future__ import annotations

import msgspec
import pytest

from pneumod.core.collector import MAX_FETCHES, MAX_LOST, MAX_RESTARTS, REJOIN_MS
from pneumod.core.events import JobFailed
from pneumod.core.jobs import Check, Close, Fetch, Initialise, Train
from pneumod.messages import Gone
from tests.core.pair import ask, beat, current, hold, in_round, master, report, result_of, take_in


def left_out(job: Close) -> list[tuple[int, str]]:
    return [(x.node, x.why) for x in job.left_out]


def test_an_update_is_fetched_from_its_node_then_checked_then_it_counts() -> None:
    solo, opened = in_round(2)
    result = result_of(2, opened)
    assert result.update is not None
    solo.hear(2, "result", result)
    assert solo.running(Fetch) == Fetch(result.update, (2,), announced=False)
    solo.finish(solo.running(Fetch))
    assert solo.running(Check) == Check(2, result.update, result.samples, opened)
    assert solo.node.conductor is not None
    assert solo.node.conductor.beacon().accepted == 0
    solo.finish(solo.running(Check))
    assert (solo.node.conductor.beacon().accepted, solo.node.conductor.beacon().expected) == (1, 2)


def test_ones_own_update_is_not_fetched() -> None:
    solo, _ = in_round(2)
    solo.finish(solo.running(Train))
    assert not solo.runs(Fetch)
    assert solo.running(Check).node == 1


def test_an_answer_that_comes_twice_counts_once() -> None:
    solo, opened = in_round(2, 3)
    for _ in range(3):
        solo.hear(2, "result", result_of(2, opened))
    solo.finish(solo.running(Fetch))
    solo.hear(2, "result", result_of(2, opened))
    solo.finish(solo.running(Check))
    solo.hear(2, "result", result_of(2, opened))
    take_in(solo, 1, 3)
    assert [c.node for c in solo.running(Close).contributions] == [1, 2, 3]


@pytest.mark.parametrize("change", [{"run": "other"}, {"round": 2}, {"base": "f" * 64}])
def test_an_answer_to_another_question_is_not_taken(change: dict[str, object]) -> None:
    solo, opened = in_round(2)
    solo.hear(2, "result", msgspec.structs.replace(result_of(2, opened), **change))
    assert not solo.runs(Fetch)


def test_an_answer_of_a_node_outside_the_round_is_not_taken() -> None:
    solo, opened = in_round(2)
    solo.hear(9, "result", result_of(9, opened))
    assert not solo.runs(Fetch)


@pytest.mark.parametrize("change", [{"update": None}, {"samples": 0}])
def test_an_answer_without_an_update_leaves_its_node_out(change: dict[str, object]) -> None:
    solo, opened = in_round(2)
    solo.hear(2, "result", msgspec.structs.replace(result_of(2, opened), **change))
    take_in(solo, 1)
    assert left_out(solo.running(Close)) == [(2, "an answer without an update")]


def test_a_bad_update_leaves_its_node_out_with_the_reason_and_no_second_try() -> None:
    solo, opened = in_round(2, 3)
    solo.hear(2, "result", result_of(2, opened))
    solo.finish(solo.running(Fetch))
    solo.step(JobFailed(solo.running(Check), "dense/kernel is not finite"))
    assert "round 1: node 2 is left out: dense/kernel is not finite" in solo.logged()
    solo.hear(2, "result", result_of(2, opened))
    assert not solo.runs(Fetch)
    take_in(solo, 1, 3)
    job = solo.running(Close)
    assert [c.node for c in job.contributions] == [1, 3]
    assert left_out(job) == [(2, "dense/kernel is not finite")]


def test_an_update_that_was_lost_on_its_way_may_be_sent_again() -> None:
    solo, opened = in_round(2)
    solo.hear(2, "result", result_of(2, opened))
    solo.step(JobFailed(solo.running(Fetch), "nobody sent it"))
    take_in(solo, 1)
    assert not solo.runs(Close)
    take_in(solo, 2)
    assert left_out(solo.running(Close)) == []


def test_few_updates_are_on_their_way_at_one_time() -> None:
    peers = tuple(range(2, 10))
    solo, opened = in_round(*peers)
    for node in peers:
        solo.hear(node, "result", result_of(node, opened))
    fetching = [job for job in solo.node.state.running if isinstance(job, Fetch)]
    assert [job.holders for job in fetching] == [(n,) for n in peers[:MAX_FETCHES]]
    solo.finish(fetching[0])
    assert sum(isinstance(job, Fetch) for job in solo.node.state.running) == MAX_FETCHES


def test_a_node_that_died_is_waited_for_a_quarter_of_a_minute() -> None:
    solo, _ = in_round(2, 3)
    del solo.peers[3]
    solo.hear(3, "gone", Gone(1, 1))
    take_in(solo, 1, 2)
    solo.advance(REJOIN_MS - 2_000)
    assert not solo.runs(Close)
    solo.advance(3_000)
    assert left_out(solo.running(Close)) == [(3, "gone")]


def test_a_node_that_comes_back_in_time_counts() -> None:
    solo, opened = in_round(2, 3)
    del solo.peers[3]
    solo.hear(3, "gone", Gone(1, 1))
    take_in(solo, 1, 2)
    solo.advance(10_000)
    solo.peers[3] = beat(boot=2, closed=solo.durable.closed)
    solo.advance(10_000)
    assert not solo.runs(Close)
    solo.forget()
    solo.hear(3, "report", report(solo.durable.spec, solo.durable.closed, boot=2))
    assert [p.message for p in solo.published("reopen")] == [opened]
    take_in(solo, 3)
    assert [c.node for c in solo.running(Close).contributions] == [1, 2, 3]


def test_the_answer_of_a_node_that_died_after_giving_it_is_still_fetched() -> None:
    solo, opened = in_round(2, 3)
    solo.hear(3, "result", result_of(3, opened))
    fetch = solo.running(Fetch)
    del solo.peers[3]
    solo.hear(3, "gone", Gone(1, 1))
    take_in(solo, 1)
    solo.advance(REJOIN_MS + 5_000)
    assert not solo.runs(Close)
    solo.finish(fetch)
    solo.finish(solo.running(Check))
    take_in(solo, 2)
    assert [c.node for c in solo.running(Close).contributions] == [1, 2, 3]


def test_an_update_still_on_its_way_at_the_deadline_is_waited_for() -> None:
    solo, opened = in_round(2, 3)
    take_in(solo, 1, 2)
    solo.hear(3, "result", result_of(3, opened))
    solo.advance(opened.deadline_ms + 60_000)
    assert solo.phase == "collecting"
    solo.finish(solo.running(Fetch))
    solo.finish(solo.running(Check))
    assert left_out(solo.running(Close)) == []


def test_a_node_that_can_not_train_says_so_and_is_not_waited_for() -> None:
    solo, opened = in_round(2, 3)
    take_in(solo, 1, 2)
    answer = msgspec.structs.replace(result_of(3, opened), update=None, samples=0, failed="its training fails")
    solo.hear(3, "result", answer)
    assert left_out(solo.running(Close)) == [(3, "its training fails")]


def test_a_node_that_gets_nowhere_again_and_again_is_put_off_for_a_few_times_only() -> None:
    """Its child dies at 50 % each time, and begins anew."""
    solo, opened = in_round(2, 3)
    take_in(solo, 1, 2)
    for progress in (0.5, 0.1) * (MAX_RESTARTS + 2):
        solo.peers[3] = msgspec.structs.replace(
            beat(closed=solo.durable.closed), activity="training", progress=progress
        )
        solo.advance(opened.deadline_ms)
    assert left_out(solo.running(Close)) == [(3, "no answer by the deadline")]


def test_the_receipt_names_who_could_not_be_asked_and_why() -> None:
    solo = master(2)
    solo.node.state.sites = {1: "a", 2: "b", 3: "c", 4: "d"}
    solo.hear(4, "beat", beat())
    ask(solo)
    solo.finish(solo.running(Initialise))
    solo.peers[4] = beat()
    hold(solo)
    solo.advance(10_000)
    take_in(solo, 1, 2)
    assert left_out(solo.running(Close)) == [(3, "not heard"), (4, "preparing its images")]


def test_a_round_that_only_scores_takes_the_scores_and_fetches_nothing() -> None:
    solo, _ = in_round(2, rounds=1)
    take_in(solo, 1, 2)
    solo.finish(solo.running(Close))
    hold(solo)
    assert not current(solo).train
    solo.forget()
    take_in(solo, 1, 2)
    assert solo.started(Check) == []
    job = solo.running(Close)
    assert [(c.node, c.update) for c in job.contributions] == [(1, None), (2, None)]
    assert job.scored.images == 50


def test_a_node_whose_update_can_not_be_had_is_left_out_in_the_end() -> None:
    solo, opened = in_round(2, 3)
    take_in(solo, 1, 2)
    for _ in range(MAX_LOST):
        solo.hear(3, "result", result_of(3, opened))
        solo.step(JobFailed(solo.running(Fetch), "nobody sent it"))
    solo.advance(1_100)
    assert left_out(solo.running(Close)) == [(3, "nobody sent it")]


def test_a_node_that_starts_again_and_again_is_not_waited_for() -> None:
    solo, _ = in_round(2, 3)
    take_in(solo, 1, 2)
    solo.advance(1_100)
    for boot in range(2, 2 + MAX_RESTARTS):
        assert solo.phase == "collecting"
        solo.peers[3] = beat(boot=boot, closed=solo.durable.closed)
        solo.advance(2_500)
    assert left_out(solo.running(Close)) == [(3, "came and went")]


def test_a_node_that_loses_its_connection_often_is_waited_for() -> None:
    solo, _ = in_round(2, 3)
    take_in(solo, 1, 2)
    for connection in range(2, 10):
        solo.hear(3, "gone", Gone(1, connection - 1))
        solo.peers[3] = beat(connection=connection, closed=solo.durable.closed)
        solo.advance(2_500)
    assert solo.phase == "collecting"


def test_a_check_whose_child_died_is_tried_again() -> None:
    solo, opened = in_round(2)
    take_in(solo, 1)
    solo.hear(2, "result", result_of(2, opened))
    solo.finish(solo.running(Fetch))
    for _ in range(MAX_LOST - 1):
        solo.step(JobFailed(solo.running(Check), "the child died (-9)", again=True))
    solo.finish(solo.running(Check))
    assert solo.phase == "closing"
    assert left_out(solo.running(Close)) == []
