"""The master's work: when a round opens, how it goes on, how a run ends."""

from __future__ import annotations

import msgspec

from pneumod.core.actions import Archive
from pneumod.core.events import JobFailed
from pneumod.core.jobs import Check, Close, Fetch, Initialise, Train, Trained
from pneumod.core.rounds import (
    FIRST_DEADLINE_MS,
    LONGEST_DEADLINE_MS,
    class_weights_of,
    deadline_of,
    ending_of,
    trains_next,
)
from pneumod.messages import (
    MAX_CLASS_WEIGHT,
    MAX_IMAGES,
    ClassCounts,
    Reply,
    RoundClosed,
    Scores,
    Summary,
    TrainResult,
)
from pneumod.sim.children import blob
from tests.core.pair import (
    COUNTS,
    Solo,
    ask,
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


def scored(solo: Solo, *nodes: int, overlap: int) -> None:
    """The answers come with scores whose classes overlap in `overlap` of 10 images: a lower AUC the more they do."""
    scores = Scores(((400, 10 - overlap), (600, overlap)), ((500, 10),), 0.5)
    opened = current(solo)
    for node in nodes:
        update = blob("update", opened.key, node) if opened.train else None
        if node == solo.id:
            solo.finish(solo.running(Train), Trained(scores, update, 90, 0.5, 1_000))
        else:
            result = TrainResult(
                opened.run, opened.round, opened.base.digest, opened.terms[-1], scores, update, 90, 0.5, 1_000
            )
            solo.hear(node, "result", result)
            if opened.train:
                solo.finish(solo.running(Fetch))
        if opened.train:
            solo.finish(solo.running(Check))


def close(solo: Solo) -> RoundClosed:
    """The round is folded, and the peers store what came of it."""
    solo.finish(solo.running(Close))
    hold(solo)
    assert solo.durable.closed is not None
    return solo.durable.closed


# ---- a round opens ----


def test_a_round_waits_for_min_nodes_and_says_so_in_the_beacon() -> None:
    solo = master(2)
    ask(solo, min_nodes=3)
    solo.finish(solo.running(Initialise))
    hold(solo)
    assert solo.phase == "waiting"
    assert solo.node.conductor is not None
    assert solo.node.conductor.beacon().note == "2 of 3 nodes are ready; waiting for more nodes"
    solo.peers[3] = beat(closed=solo.durable.closed)
    solo.advance(1_000)
    assert solo.phase == "waiting"  # node 3 lives, but its images are not reported
    solo.hear(3, "report", report())
    solo.advance(1_000)
    assert current(solo).who == (1, 2, 3)


def test_the_class_weights_come_from_the_counts_of_the_whole_cluster() -> None:
    solo = master(2, counts=ClassCounts(10, 100, 1, 1))
    solo.hear(2, "report", report(counts=ClassCounts(90, 200, 1, 1)))
    ask(solo)
    solo.finish(solo.running(Initialise))
    hold(solo)
    assert current(solo).class_weights == (400 / (2 * 100), 400 / (2 * 300))


def test_class_weights_give_both_classes_equal_say_and_are_even_where_one_is_missing() -> None:
    normal, pneumonia = class_weights_of([COUNTS, COUNTS])
    assert normal * 60 == pneumonia * 120
    assert class_weights_of([ClassCounts(0, 60, 0, 0)]) == (1.0, 1.0)
    assert class_weights_of([ClassCounts(1, MAX_IMAGES, 0, 0)])[0] == MAX_CLASS_WEIGHT


def test_a_node_without_training_images_is_not_asked() -> None:
    solo = master(2, 3)
    solo.hear(3, "report", report(counts=ClassCounts(0, 0, 5, 5)))
    ask(solo)
    solo.finish(solo.running(Initialise))
    hold(solo)
    assert current(solo).who == (1, 2)


def test_the_deadline_follows_from_the_slowest_node_of_the_round_before() -> None:
    closed = closed_of(spec_of(), 1, reign(1, 1))
    assert deadline_of(closed) == FIRST_DEADLINE_MS
    for slowest_ms, deadline_ms in ((50_000, 230_000), (2**53, LONGEST_DEADLINE_MS)):
        summary = Summary(2, (), 0, 0.5, 60_000, slowest_ms, 1)
        assert deadline_of(msgspec.structs.replace(closed, summary=summary)) == deadline_ms


def test_the_next_round_opens_once_the_first_two_heirs_hold_the_model_or_after_10_s_another_node() -> None:
    solo = master(2, 3, 4)
    ask(solo)
    solo.finish(solo.running(Initialise))
    for node in (2, 4):
        solo.peers[node] = beat(closed=solo.durable.closed)
    solo.advance(5_000)
    assert solo.phase == "handing"
    solo.advance(6_000)
    assert current(solo).who == (1, 2, 3, 4)


def test_no_round_opens_while_only_the_masters_disk_has_the_run() -> None:
    solo = master(2, 3)
    ask(solo)
    solo.finish(solo.running(Initialise))
    solo.advance(60_000)
    assert solo.phase == "handing"
    assert solo.node.conductor is not None
    assert solo.node.conductor.beacon().note == "waiting until another node holds the newest model"
    solo.peers[3] = beat(closed=solo.durable.closed)
    solo.advance(2_000)
    assert current(solo).round == 1


def test_a_node_that_is_alone_waits_for_no_heir() -> None:
    solo = master()
    ask(solo)
    solo.finish(solo.running(Initialise))
    solo.advance(2_000)
    assert current(solo).who == (1,)


def test_a_round_that_is_open_is_sent_to_a_node_that_reports_without_having_answered() -> None:
    solo, opened = in_round(2, 3)
    solo.hear(2, "result", result_of(2, opened))
    solo.forget()
    solo.hear(2, "report", report(solo.durable.spec, solo.durable.closed))
    solo.hear(3, "report", report(solo.durable.spec, solo.durable.closed))
    assert [(p.dest, p.message) for p in solo.published("reopen")] == [("3", opened)]


# ---- a round closes ----


def test_a_round_closes_when_all_are_in_and_every_heir_can_make_the_same_of_it() -> None:
    solo, opened = in_round(2, 3)
    take_in(solo, 1, 3, 2)
    job = solo.running(Close)
    assert [c.node for c in job.contributions] == [1, 2, 3]
    assert (job.opened, job.left_out, job.takeovers) == (opened, (), ())
    solo.forget()
    closed = close(solo)
    assert (closed.round, closed.term, closed.ended) == (1, solo.term, None)
    assert closed.receipt is not None
    assert Archive(closed.receipt.digest, "run-a", 1) in solo.actions
    assert solo.said("closed") == [closed]
    assert closed.summary is not None
    assert (closed.summary.counted, closed.summary.left_out_total, closed.summary.slowest_train_ms) == (3, 0, 1_000)


def test_at_the_deadline_a_round_closes_with_enough_answers() -> None:
    solo, opened = in_round(2, 3, min_nodes=2)
    take_in(solo, 1, 2)
    solo.advance(opened.deadline_ms - 10_000)
    assert not solo.runs(Close)
    solo.advance(10_000)
    job = solo.running(Close)
    assert [c.node for c in job.contributions] == [1, 2]
    assert [(x.node, x.why) for x in job.left_out] == [(3, "no answer by the deadline")]


def test_at_the_deadline_a_round_with_too_few_answers_is_abandoned_and_opened_again_as_it_was() -> None:
    solo, opened = in_round(2, 3, min_nodes=2)
    take_in(solo, 2)
    solo.forget()
    solo.advance(opened.deadline_ms + 2_000)
    assert any(text.startswith("round 1 abandoned, 1 of 2 answers: node 1: no answer") for text in solo.logged())
    assert solo.started(Close) == []
    assert current(solo) == opened  # the same work: who has trained it answers from the disk
    assert solo.said("open") == [opened]
    solo.hear(2, "result", result_of(2, opened))
    solo.finish(solo.running(Check))  # its update is still here
    take_in(solo, 1, 3)
    assert solo.runs(Close)


def test_a_closing_that_fails_is_tried_again_from_the_updates_on_the_disk() -> None:
    solo, opened = in_round(2)
    take_in(solo, 1, 2)
    solo.forget()
    solo.hear(2, "beat", beat())
    solo.step(JobFailed(solo.running(Close), "no space"))
    assert "close failed: no space" in solo.logged()
    solo.advance(6_000)
    assert current(solo) == opened
    assert solo.started(Train) == []


# ---- how a run ends ----


def test_after_the_last_round_its_model_is_only_scored_and_the_run_ends() -> None:
    solo, opened = in_round(2, rounds=1)
    assert opened.train
    take_in(solo, 1, 2)
    first = close(solo)
    last = current(solo)
    assert (last.round, last.train, last.base) == (2, False, first.model)
    take_in(solo, 1, 2)
    closed = close(solo)
    assert closed.ended == "all 1 rounds done"
    assert closed.model == first.model
    assert closed.best is not None
    assert closed.scored is not None
    assert (closed.best.auc, closed.scored.auc, closed.scored.images) == (1.0, 1.0, 50)
    assert solo.phase == "idle"


def test_early_stopping_scores_the_last_model_and_keeps_the_best_round() -> None:
    solo, _ = in_round(2, rounds=10, patience=2)
    bests = []
    for overlap in (5, 2, 3, 2):  # of the models of rounds 0, 1, 2, 3
        assert current(solo).train
        scored(solo, 1, 2, overlap=overlap)
        closed = close(solo)
        assert closed.best is not None
        bests.append((closed.best.round, closed.best.auc, closed.stale_rounds))
    assert bests == [(0, 0.5, 0), (1, 0.8, 0), (1, 0.8, 1), (1, 0.8, 2)]
    assert not current(solo).train
    scored(solo, 1, 2, overlap=4)
    closed = close(solo)
    assert closed.ended == "no better AUC in 2 rounds"
    assert closed.best is not None
    assert (closed.best.round, closed.best.auc) == (1, 0.8)


def test_a_run_that_stopped_early_says_so_even_when_its_last_model_is_the_best() -> None:
    solo, _ = in_round(2, rounds=10, patience=1)
    for overlap in (4, 4, 2):
        scored(solo, 1, 2, overlap=overlap)
        closed = close(solo)
    assert closed.ended == "no better AUC in 1 rounds"
    assert closed.best is not None
    assert (closed.round, closed.best.round) == (3, 2)


def test_an_ended_run_makes_room_for_the_next_whose_number_is_one_higher() -> None:
    solo, _ = in_round(2, rounds=1)
    for _ in range(2):
        take_in(solo, 1, 2)
        close(solo)
    solo.forget()
    ask(solo, run="run-b", operator="op-run-b")
    assert solo.said("reply") == [Reply(True, "run run-b is on")]
    assert solo.durable.spec is not None
    assert (solo.durable.spec.number, solo.durable.closed) == (2, None)


def test_when_to_train_and_why_a_run_is_over() -> None:
    spec = spec_of(rounds=3, patience=2)
    closed = closed_of(spec, 2, reign(1, 1))
    assert trains_next(spec, closed)
    assert not trains_next(spec, closed_of(spec, 3, reign(1, 1)))
    assert ending_of(spec, closed) == "no better AUC in 2 rounds"
    assert ending_of(spec, closed_of(spec, 3, reign(1, 1))) == "all 3 rounds done"
