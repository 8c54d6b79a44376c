"""The deadline of a round: nodes that are slow but get on are waited for, and the log says so."""

from __future__ import annotations

import msgspec
import pytest

from pneumod.core.actions import Log
from pneumod.core.collector import LONGEST_ROUND_MS, MAX_TOLD, SHORTEST_PUT_OFF_MS, Collector
from pneumod.core.jobs import Close
from pneumod.core.rounds import DEADLINE_MARGIN_MS, SLOWEST_FACTOR
from pneumod.messages import Activity, Gone
from tests.core.pair import Solo, beat, current, hold, in_round, result_of, take_in
from tests.core.test_collector import left_out


def does(solo: Solo, node: int, progress: float, activity: Activity = "training") -> None:
    """From now on the beats of a node tell of its progress; the first comes at once."""
    told = msgspec.structs.replace(beat(closed=solo.durable.closed), activity=activity, progress=progress)
    solo.peers[node] = told
    solo.hear(node, "beat", told)


def collector_of(solo: Solo) -> Collector:
    assert solo.node.conductor is not None
    collector = solo.node.conductor.collector
    assert collector is not None
    return collector


def to_deadline(solo: Solo, beyond_ms: int = 1_100) -> int:
    """Let the time pass to the deadline and a look further; how long the round has been open."""
    collector = collector_of(solo)
    solo.advance(collector.deadline_at_ms - solo.now_ms + beyond_ms)
    return solo.now_ms - collector.opened_ms


def put_offs(solo: Solo) -> list[str]:
    return [a.text for a in solo.actions if isinstance(a, Log) and "put off" in a.text]


def slow(progress: float = 0.5, activity: Activity = "training") -> Solo:
    """A round in which nodes 1 and 2 have answered, and node 3 is slow."""
    solo, _ = in_round(2, 3)
    take_in(solo, 1, 2)
    does(solo, 3, progress, activity)
    return solo


@pytest.mark.parametrize(("progress", "activity"), [(0.1, "training"), (0.9, "training"), (0.5, "scoring")])
def test_a_node_that_gets_on_has_the_deadline_put_off(progress: float, activity: Activity) -> None:
    solo = slow(progress, activity)
    to_deadline(solo)
    assert solo.phase == "collecting"
    take_in(solo, 3)
    assert [c.node for c in solo.running(Close).contributions] == [1, 2, 3]


def test_it_is_put_off_by_half_as_much_again_as_the_node_seems_to_need() -> None:
    solo, opened = in_round(2, 3)
    take_in(solo, 1, 2)
    does(solo, 3, 4 / 9)  # half of the round, with the scoring
    to_deadline(solo)
    wait_ms = collector_of(solo).deadline_at_ms - collector_of(solo).opened_ms - opened.deadline_ms
    assert wait_ms == pytest.approx(1.5 * opened.deadline_ms, abs=3_000)
    (text,) = put_offs(solo)
    assert text.startswith("round 1: node 3 has done 50%; its deadline is put off by 270")
    assert [a.level for a in solo.actions if isinstance(a, Log) and "put off" in a.text] == ["warning"]


def test_a_node_that_is_almost_done_still_gets_a_few_seconds() -> None:
    solo = slow(0.9999)
    to_deadline(solo)
    assert 8_000 <= collector_of(solo).deadline_at_ms - solo.now_ms <= SHORTEST_PUT_OFF_MS


def test_a_node_that_stands_still_is_left_out_at_the_next_deadline() -> None:
    solo = slow()
    to_deadline(solo)
    to_deadline(solo)
    assert solo.phase == "closing"
    assert left_out(solo.running(Close)) == [(3, "no answer by the deadline")]
    assert len(put_offs(solo)) == 1


def test_a_node_that_goes_on_is_waited_for_again_and_again() -> None:
    solo = slow(0.6)
    for progress in (0.7, 0.8, 0.9):
        to_deadline(solo)
        does(solo, 3, progress)
    to_deadline(solo)
    assert len(put_offs(solo)) == 4
    take_in(solo, 3)
    assert left_out(solo.running(Close)) == []


def test_a_node_that_began_anew_is_waited_for_again() -> None:
    solo = slow(0.8)
    to_deadline(solo)
    does(solo, 3, 0.1)
    solo.advance(1_500)
    does(solo, 3, 0.5)
    to_deadline(solo)
    assert solo.phase == "collecting"


@pytest.mark.parametrize("activity", ["idle", "fetching", "preparing", "training", "scoring"])
def test_a_node_that_never_shows_progress_is_left_out_with_the_reason(activity: Activity) -> None:
    solo = slow(0.0, activity)
    solo.forget()
    to_deadline(solo)
    assert put_offs(solo) == []
    assert left_out(solo.running(Close)) == [(3, "no answer by the deadline")]
    solo.finish(solo.running(Close))
    assert "round 1: without node 3: no answer by the deadline" in solo.logged()
    closed = solo.durable.closed
    assert closed is not None
    assert closed.summary is not None
    assert [(one.node, one.why) for one in closed.summary.left_out] == [(3, "no answer by the deadline")]


def test_nobody_waits_for_the_progress_of_a_node_that_is_gone() -> None:
    solo, _ = in_round(2, 3, 4)
    take_in(solo, 1, 2)
    does(solo, 3, 0.5)
    del solo.peers[3]
    to_deadline(solo)
    assert put_offs(solo) == []
    assert left_out(solo.running(Close)) == [(3, "gone"), (4, "no answer by the deadline")]


def test_a_node_that_dies_while_it_is_waited_for_ends_the_waiting() -> None:
    solo = slow(0.5)
    to_deadline(solo)
    del solo.peers[3]
    solo.hear(3, "gone", Gone(1, 1))
    solo.advance(20_000)
    assert left_out(solo.running(Close)) == [(3, "gone")]


def test_an_answer_that_comes_after_the_first_deadline_closes_the_round_at_once() -> None:
    solo = slow(0.5)
    to_deadline(solo)
    take_in(solo, 3)
    assert solo.phase == "closing"


def test_the_slowest_of_several_says_how_long_and_the_log_names_a_few() -> None:
    peers = range(2, 15)
    solo, _ = in_round(*peers)
    take_in(solo, 1)
    for node in peers:
        does(solo, node, 0.25 if node == 2 else 0.5)
    open_ms = to_deadline(solo)
    done = 0.1 + 0.9 * 0.25
    assert collector_of(solo).deadline_at_ms - solo.now_ms == pytest.approx(1.5 * open_ms * (1 - done) / done, rel=0.01)
    (text,) = put_offs(solo)
    assert text.count("has done") == MAX_TOLD
    assert len(text) <= 400


def test_no_round_is_open_for_more_than_a_day() -> None:
    solo = slow(0.001)
    progress = 0.001
    deadlines: list[int] = []
    while solo.phase == "collecting" and len(deadlines) < 100:
        deadlines.append(collector_of(solo).deadline_at_ms - collector_of(solo).opened_ms)
        progress = min(0.99, progress + 0.02)
        does(solo, 3, progress)
        opened_ms = collector_of(solo).opened_ms
        solo.now_ms = collector_of(solo).deadline_at_ms - 3_000
        solo.node.state.now_ms = solo.now_ms  # the day passes; nobody froze
        solo.node.election.echo_by_ms = solo.now_ms + 60_000
        does(solo, 3, progress)
        solo.advance(5_000)
    assert solo.phase == "closing"
    assert deadlines == sorted(deadlines)
    assert deadlines[-1] == LONGEST_ROUND_MS
    assert solo.now_ms - opened_ms == pytest.approx(LONGEST_ROUND_MS, abs=10_000)


def test_the_summary_names_the_deadline_in_the_end_and_the_next_follows_from_the_time_that_was_observed() -> None:
    solo, opened = in_round(2, 3)
    take_in(solo, 1, 2)
    does(solo, 3, 0.5)
    to_deadline(solo)
    solo.hear(3, "result", msgspec.structs.replace(result_of(3, opened), train_ms=2_000_000))
    put_off_ms = collector_of(solo).deadline_at_ms - collector_of(solo).opened_ms
    take_all(solo)
    solo.finish(solo.running(Close))
    closed = solo.durable.closed
    assert closed is not None
    assert closed.summary is not None
    assert closed.summary.deadline_ms == put_off_ms > opened.deadline_ms
    assert closed.summary.slowest_train_ms == 2_000_000
    hold(solo)
    assert current(solo).deadline_ms == SLOWEST_FACTOR * 2_000_000 + DEADLINE_MARGIN_MS


def take_all(solo: Solo) -> None:
    """What is under way for the round comes and is found good."""
    while collector_of(solo).pending:
        solo.finish(next(iter(collector_of(solo).pending)))


def test_a_round_that_is_not_put_off_has_the_deadline_that_it_opened_with() -> None:
    solo, opened = in_round(2)
    take_in(solo, 1, 2)
    solo.finish(solo.running(Close))
    closed = solo.durable.closed
    assert closed is not None
    assert closed.summary is not None
    assert closed.summary.deadline_ms == opened.deadline_ms


def test_with_too_few_answers_a_slow_node_is_waited_for_rather_than_the_round_abandoned() -> None:
    solo, _ = in_round(2, 3, min_nodes=3)
    take_in(solo, 1, 2)
    does(solo, 3, 0.5)
    to_deadline(solo)
    assert solo.phase == "collecting"
    take_in(solo, 3)
    assert solo.phase == "closing"
