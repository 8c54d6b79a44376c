"""What a node says of itself all the time."""

from __future__ import annotations

from pneumod.core import events as ev
from pneumod.core.actions import Durable
from pneumod.core.jobs import Prepare, Train
from pneumod.core.pulse import CARD_MS, HURRY_MS
from pneumod.messages import Beacon, Beat, Card, ClassCounts
from tests.core.pair import COUNTS, Solo, beacon, beat, closed_of, master, open_of, reign, spec_of

TERM = reign(5, 1)
SPEC = spec_of()
CLOSED = closed_of(SPEC, 0, TERM)
HELD = frozenset({CLOSED.model.digest, CLOSED.checkpoint.digest})


def beats(solo: Solo) -> list[Beat]:
    return [m for m in solo.said("beat") if isinstance(m, Beat)]


def follower() -> Solo:
    solo = Solo(2, 1, Durable(TERM, SPEC, CLOSED), HELD).prepared().connect()
    solo.hear(1, "beacon", beacon(2), TERM)
    solo.advance(500)
    solo.forget()
    return solo


def test_nothing_is_said_without_a_connection_and_a_beat_and_the_card_at_once_with_one() -> None:
    solo = Solo(2).prepared()
    solo.advance(10_000)
    assert solo.said("beat") == solo.said("card") == []
    solo.connect(4)
    assert [b.connection for b in beats(solo)] == [4]
    assert solo.said("card") == [Card("a node", "test", 1, COUNTS)]


def test_a_beat_comes_each_second() -> None:
    solo = follower()
    solo.advance(4_000)
    assert len(beats(solo)) == 4


def test_a_beat_says_what_the_node_holds_and_the_highest_term_it_heard() -> None:
    solo = follower()
    solo.advance(1_000)
    last = beats(solo)[-1]
    assert (last.model, last.checkpoint, last.round) == (CLOSED.model.digest, CLOSED.checkpoint.digest, 0)
    assert last.top_term == TERM


def test_a_model_that_is_known_but_not_here_is_not_claimed() -> None:
    solo = Solo(2, 1, Durable(TERM, SPEC, CLOSED), frozenset({CLOSED.model.digest})).connect()
    assert (beats(solo)[-1].model, beats(solo)[-1].checkpoint) == (CLOSED.model.digest, None)


def test_a_change_of_activity_is_told_at_once_but_not_more_often_than_ten_times_a_second() -> None:
    solo = follower()
    solo.hear(1, "open", open_of(SPEC, CLOSED, (1, 2), TERM))
    solo.advance(0)
    assert [b.activity for b in beats(solo)] == ["training"]
    solo.finish(solo.running(Train))
    assert len(beats(solo)) == 1
    solo.advance(HURRY_MS)
    assert [b.activity for b in beats(solo)] == ["training", "idle"]


def test_progress_travels_with_the_beats_and_ends_with_its_job() -> None:
    solo = follower()
    solo.hear(1, "open", open_of(SPEC, CLOSED, (1, 2), TERM))
    job = solo.running(Train)
    solo.step(ev.JobProgress(job, "scoring", 0.25, 120.0))
    solo.advance(1_000)
    last = beats(solo)[-1]
    assert (last.activity, last.progress, last.samples_per_s) == ("scoring", 0.25, 120.0)
    solo.finish(job)
    solo.advance(1_000)
    last = beats(solo)[-1]
    assert (last.activity, last.progress, last.samples_per_s) == ("idle", 0.0, 0.0)


def test_progress_of_a_job_that_does_not_run_is_ignored() -> None:
    solo = follower()
    solo.step(ev.JobProgress(Train(open_of(SPEC, CLOSED, (1, 2), TERM)), "training", 0.5, 1.0))
    solo.advance(1_000)
    assert beats(solo)[-1].activity == "idle"


def test_a_node_is_starting_until_it_begins_to_prepare_its_images_and_then_until_they_are_ready() -> None:
    solo = Solo(2).connect()
    assert beats(solo)[-1].activity == "preparing"
    solo.step(ev.JobFailed(solo.running(Prepare), "no such folder"))
    solo.advance(1_000)
    assert beats(solo)[-1].activity == "starting"
    solo.advance(30_000)
    assert solo.runs(Prepare)


def test_vitals_are_told_and_refusals_added_to_theirs() -> None:
    solo = follower()
    solo.hear(3, "beacon", beacon(), reign(1, 3))
    solo.step(ev.Vitals(load=0.5, sent_bytes=10, received_bytes=20, dropped=4))
    solo.advance(1_000)
    last = beats(solo)[-1]
    assert (last.load, last.sent_bytes, last.received_bytes, last.dropped) == (0.5, 10, 20, 5)


def test_the_card_is_refreshed_each_hour_and_keeps_the_counts_where_they_are_not_shared() -> None:
    solo = Solo(2, share_counts=False).prepared(ClassCounts(1, 1, 1, 1)).connect()
    solo.hear(1, "beacon", beacon(2), TERM)
    solo.echo = False
    solo.advance(CARD_MS)
    assert solo.said("card") == [Card("a node", "test", 1, None)] * 2


def test_a_beacon_comes_each_second_and_at_once_on_a_change() -> None:
    solo = master()
    solo.forget()
    solo.advance(3_000)
    assert len(solo.said("beacon")) == 3
    solo.forget()
    solo.hear(2, "beat", beat())
    solo.advance(HURRY_MS)
    last = solo.said("beacon")[-1]
    assert isinstance(last, Beacon)
    assert (last.heirs, last.live) == ((2,), 2)
