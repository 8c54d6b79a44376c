"""What the master says of itself in its beacon: for whom it waits, who is left out so far."""

from __future__ import annotations

import msgspec
import pytest

from pneumod.core import events as ev
from pneumod.core.jobs import Check, Close, Fetch, Initialise
from pneumod.core.notes import MAX_NAMED, MAX_NOTE
from pneumod.messages import ClassCounts, Gone
from tests.core.pair import COUNTS, Solo, ask, beat, current, hold, in_round, master, report, result_of, take_in


def note(solo: Solo) -> str:
    assert solo.node.conductor is not None
    return solo.node.conductor.beacon().note


def waiting(*peers: int, sites: dict[int, str] | None = None, counts: ClassCounts = COUNTS, needed: int = 50) -> Solo:
    """A master whose run needs more nodes than there are."""
    solo = master(*peers, sites=sites, counts=counts)
    ask(solo, min_nodes=needed)
    solo.finish(solo.running(Initialise))
    hold(solo)
    assert solo.phase == "waiting"
    return solo


# ---- too few nodes ----


def test_nodes_of_the_roster_that_were_not_heard_are_named() -> None:
    solo = waiting(2, sites={1: "a", 2: "a", 5: "b", 7: "b"})
    assert note(solo) == "2 of 50 nodes are ready; waiting for node 5 (not heard), node 7 (not heard)"


def test_nodes_that_are_gone_prepare_or_have_no_images_are_named_with_that() -> None:
    solo = waiting(2, 3, 4)
    solo.hear(3, "report", report(counts=ClassCounts(0, 0, 5, 5)))
    del solo.peers[2]
    solo.hear(2, "gone", Gone(1, 1))
    solo.peers[9] = beat(closed=solo.durable.closed)  # it has not reported yet
    solo.advance(2_100)
    assert note(solo) == (
        "2 of 50 nodes are ready; waiting for node 2 (gone), node 3 (no training images), node 9 (preparing its images)"
    )


def test_the_master_names_itself_too() -> None:
    solo = waiting(2, counts=ClassCounts(0, 0, 5, 5))
    assert note(solo) == "1 of 50 nodes are ready; waiting for node 1 (no training images)"


def test_where_all_known_nodes_are_ready_more_are_waited_for() -> None:
    assert note(waiting(2)) == "2 of 50 nodes are ready; waiting for more nodes"


@pytest.mark.parametrize("others", [MAX_NAMED, MAX_NAMED + 1, 200])
def test_so_many_are_named_at_most_and_the_rest_counted(others: int) -> None:
    roster = dict.fromkeys(range(1, others + 2), "a")
    text = note(waiting(sites=roster))
    assert text.count("not heard") == MAX_NAMED
    more = others - MAX_NAMED
    assert text.endswith(f" and {more} more") is (more > 0)
    assert len(text) <= MAX_NOTE


def test_a_note_fits_its_message_whatever_the_ids() -> None:
    roster = {1: "a"} | {2_147_483_000 + node: "a" for node in range(500)}
    solo = waiting(sites=roster)
    assert len(note(solo)) <= MAX_NOTE


def test_the_log_tells_whom_a_round_waits_for_once_a_change() -> None:
    solo = waiting(2, sites={1: "a", 2: "a", 5: "b"})
    text = note(solo)
    solo.forget()
    solo.advance(10_000)
    assert text not in solo.logged()
    solo.peers[5] = beat(closed=solo.durable.closed)
    solo.advance(1_500)
    assert [t for t in solo.logged() if "waiting for" in t] == [
        "2 of 50 nodes are ready; waiting for node 5 (preparing its images)"
    ]
    assert [b.note for b in solo.said("beacon")][-1:] == [note(solo)]  # type: ignore[union-attr]


def test_the_round_opens_by_itself_once_enough_are_there_and_the_note_goes() -> None:
    solo = waiting(2, sites={1: "a", 2: "a", 5: "b"}, needed=3)
    assert note(solo) == "2 of 3 nodes are ready; waiting for node 5 (not heard)"
    solo.peers[5] = beat(closed=solo.durable.closed)
    solo.hear(5, "beat", solo.peers[5])
    solo.hear(5, "report", report())
    solo.advance(1_100)
    assert current(solo).who == (1, 2, 5)
    assert note(solo) == ""


# ---- while answers are collected ----


def test_nothing_is_said_while_all_are_on_time() -> None:
    solo, _ = in_round(2, 3, 4)
    solo.advance(5_000)
    assert note(solo) == ""
    take_in(solo, 1)
    solo.advance(1_100)
    assert note(solo) == "", "most are still at work"


def test_who_is_left_out_is_named_with_the_reason_at_once() -> None:
    solo, opened = in_round(2, 3, 4, 5)
    solo.hear(2, "result", msgspec.structs.replace(result_of(2, opened), samples=0))
    solo.hear(3, "result", result_of(3, opened))
    solo.finish(solo.running(Fetch))
    solo.step(ev.JobFailed(solo.running(Check), "dense/kernel is not finite"))
    solo.advance(1_100)
    assert note(solo) == "left out: node 2 (an answer without an update), node 3 (dense/kernel is not finite)"
    assert [text for text in solo.logged() if "is left out" in text] == [
        "round 1: node 2 is left out: an answer without an update",
        "round 1: node 3 is left out: dense/kernel is not finite",
    ]


def test_who_is_gone_is_named_while_the_round_waits_for_it() -> None:
    solo, _ = in_round(2, 3, 4)
    del solo.peers[4]
    solo.hear(4, "gone", Gone(1, 1))
    solo.advance(1_100)
    assert note(solo) == "gone, waited for: node 4"


def test_who_is_slower_than_the_others_is_named_with_the_deadline() -> None:
    solo, opened = in_round(2, 3, 4)
    take_in(solo, 1, 2)
    solo.advance(1_100)
    slower = f"slower than the others: node 3, node 4, deadline {opened.deadline_ms // 1_000} s"
    assert note(solo) == slower
    solo.hear(3, "gone", Gone(1, 1))
    del solo.peers[3]
    solo.advance(1_100)
    assert note(solo) == (
        f"gone, waited for: node 3; slower than the others: node 4, deadline {opened.deadline_ms // 1_000} s"
    )


def test_a_deadline_that_is_put_off_shows_in_the_note() -> None:
    solo, opened = in_round(2, 3)
    take_in(solo, 1, 2)
    solo.peers[3] = msgspec.structs.replace(beat(closed=solo.durable.closed), activity="training", progress=0.5)
    solo.advance(opened.deadline_ms + 2_100)
    assert solo.node.conductor is not None
    collector = solo.node.conductor.collector
    assert collector is not None
    deadline_s = (collector.deadline_at_ms - collector.opened_ms) // 1_000
    assert deadline_s > opened.deadline_ms // 1_000
    assert note(solo) == f"slower than the others: node 3, deadline {deadline_s} s"


def test_of_many_a_few_are_named_in_a_note_that_fits() -> None:
    solo, opened = in_round(*range(2, 61))
    for node in range(2, 30):
        solo.hear(node, "result", msgspec.structs.replace(result_of(node, opened), samples=0))
    for node in range(30, 60):
        del solo.peers[node]
        solo.hear(node, "gone", Gone(1, 1))
    take_in(solo, 1)
    solo.advance(1_100)
    assert len(note(solo)) <= MAX_NOTE
    assert "and 20 more" in note(solo)


def test_a_note_of_an_open_round_goes_with_it() -> None:
    solo, _ = in_round(2, 3)
    take_in(solo, 1, 2)
    solo.advance(1_100)
    assert "slower" in note(solo)
    take_in(solo, 3)
    solo.finish(solo.running(Close))
    hold(solo)
    solo.advance(2_000)
    assert current(solo).round == 2
    assert note(solo) == ""
