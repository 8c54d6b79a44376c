"""The master's work: what is asked of it, when a round opens, how it goes on, how a run ends."""

from __future__ import annotations

import pytest

from pneumod.core.actions import Archive, Broadcast, Durable
from pneumod.core.collector import REJOIN_MS
from pneumod.core.events import JobFailed
from pneumod.core.jobs import Check, Close, Fetch, Initialise, Train, Trained
from pneumod.core.rounds import FIRST_DEADLINE_MS, class_weights_of, deadline_of, ending_of, summary_of, trains_next
from pneumod.messages import ClassCounts, Reply, RoundClosed, RoundOpen, Scores, Summary, TrainResult
from pneumod.sim.children import blob
from tests.core.pair import (
    COUNTS,
    Solo,
    ask,
    beacon,
    beat,
    closed_of,
    current,
    hold,
    in_round,
    master,
    open_of,
    reign,
    report,
    result_of,
    spec_of,
    take_in,
)


def replies(solo: Solo) -> list[tuple[str | None, Reply]]:
    return [(p.dest, p.message) for p in solo.published("reply") if isinstance(p.message, Reply)]


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


# ---- an operator's request ----


def test_a_request_starts_a_run_its_first_model_is_made_and_said_to_all() -> None:
    solo = master(2)
    solo.forget()
    ask(solo, rounds=3)
    assert solo.durable.spec == spec_of(rounds=3)
    assert solo.said("spec") == [spec_of(rounds=3)]
    assert replies(solo) == [("op-run-a", Reply(True, "run run-a is on"))]
    solo.finish(solo.running(Initialise))
    closed = solo.durable.closed
    assert closed is not None
    assert (closed.round, closed.term) == (0, solo.term)
    assert solo.said("closed")[-1] == closed
    assert {a.digest for a in solo.actions if isinstance(a, Broadcast)} == {
        closed.model.digest,
        closed.checkpoint.digest,
    }


def test_a_second_run_is_refused_with_who_asked_for_the_first_and_since_when() -> None:
    solo = master(2)
    ask(solo)
    solo.forget()
    ask(solo, run="run-b", operator="op-run-b")
    text = "run run-a is on, asked for by op-run-a at 1700000000"
    assert replies(solo) == [("op-run-b", Reply(False, text))]
    assert solo.durable.spec == spec_of()


def test_the_same_request_twice_is_one_run() -> None:
    solo = master(2)
    ask(solo)
    solo.forget()
    ask(solo)
    assert replies(solo) == [("op-run-a", Reply(True, "run run-a is on"))]
    assert solo.said("spec") == []
    assert solo.started(Initialise) == []


@pytest.mark.parametrize("operator", ["op-watch-a", "op-predict-a", "2"])
def test_only_an_operator_with_the_role_run_may_start_one(operator: str) -> None:
    solo = master(2)
    ask(solo, operator=operator)
    assert replies(solo) == [(operator, Reply(False, "only an operator with the role run may start one"))]
    assert solo.durable.spec is None


def test_a_master_that_still_gathers_asks_for_patience() -> None:
    solo = Solo().prepared().connect()
    solo.advance(3_000)
    ask(solo)
    assert replies(solo) == [("op-run-a", Reply(False, "the master has just taken over; ask again in a moment"))]


def test_a_node_that_does_not_lead_does_not_answer() -> None:
    solo = Solo(2, 1).prepared().connect()
    solo.hear(1, "beacon", beacon(2), reign(1, 1))
    ask(solo)
    assert replies(solo) == []


def test_the_reply_carries_the_correlation_of_the_request() -> None:
    solo = master()
    ask(solo)
    assert solo.published("reply")[0].correlation == b"c"


# ---- a round opens ----


def test_a_round_waits_for_min_nodes_and_says_so_in_the_beacon() -> None:
    solo = master(2)
    ask(solo, min_nodes=3)
    solo.finish(solo.running(Initialise))
    hold(solo)
    assert solo.phase == "waiting"
    assert solo.node.conductor is not None
    assert solo.node.conductor.beacon().note == "2 of 3 nodes are ready"
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
    summary = Summary(2, (), 0, 0.5, 60_000, 50_000, 1)
    assert deadline_of(RoundClosed("a", 1, 1, reign(1, 1), closed.model, closed.model, (), summary=summary)) == 230_000


def test_the_next_round_opens_once_the_first_two_heirs_hold_the_model_or_after_10_s() -> None:
    solo = master(2, 3, 4)
    ask(solo)
    solo.finish(solo.running(Initialise))
    for node in (2, 4):
        solo.peers[node] = beat(closed=solo.durable.closed)
    solo.advance(5_000)
    assert solo.phase == "handing"
    solo.advance(6_000)
    assert current(solo).who == (1, 2, 3, 4)


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
    assert "round 1 abandoned: 1 answers, 2 needed" in solo.logged()
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
    assert "close failed, trying again: no space" in solo.logged()
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
    assert replies(solo) == [("op-run-b", Reply(True, "run run-b is on"))]
    assert solo.durable.spec is not None
    assert (solo.durable.spec.number, solo.durable.closed) == (2, None)


def test_when_to_train_and_why_a_run_is_over() -> None:
    spec = spec_of(rounds=3, patience=2)
    closed = closed_of(spec, 2, reign(1, 1))
    assert trains_next(spec, closed)
    assert not trains_next(spec, closed_of(spec, 3, reign(1, 1)))
    assert ending_of(spec, closed) == "no better AUC in 2 rounds"
    assert ending_of(spec, closed_of(spec, 3, reign(1, 1))) == "all 3 rounds done"


# ---- a new master ----


def heir() -> tuple[Solo, RoundOpen]:
    """Node 2 takes over round 1 from node 1, with nodes 3 and 4; what it has trained itself is in its journal."""
    spec, old = spec_of(min_nodes=2), reign(5, 1)
    closed = closed_of(spec, 0, old)
    opened = open_of(spec, closed, (1, 2, 3, 4), old)
    result = result_of(2, opened)
    solo = master(3, 4, node_id=2, durable=Durable(old, spec, closed, opened, result))
    hold(solo)
    return solo, opened


def test_a_new_master_opens_the_same_round_again_and_answers_it_from_its_disk() -> None:
    solo, before = heir()
    opened = current(solo)
    assert opened.key == before.key
    assert opened.who == before.who
    assert opened.terms == (reign(5, 1), reign(6, 2))
    assert solo.started(Train) == []
    assert solo.said("result") == [result_of(2, before)]
    assert solo.said("spec")[-1] == solo.durable.spec
    assert solo.said("closed")[-1] == solo.durable.closed


def test_the_takeover_counts_the_updates_that_were_trained_under_an_earlier_term() -> None:
    solo, before = heir()
    opened = current(solo)
    solo.finish(solo.running(Check))
    for node, asked in ((3, before), (4, opened)):
        solo.hear(node, "result", result_of(node, asked))
        solo.finish(solo.running(Fetch))
        solo.finish(solo.running(Check))
    solo.advance(20_000)  # node 1 is dead
    job = solo.running(Close)
    assert [c.node for c in job.contributions] == [2, 3, 4]
    assert [(t.old_term, t.new_term, t.updates_kept) for t in job.takeovers] == [(reign(5, 1), reign(6, 2), 2)]
    assert solo.node.conductor is not None
    collector = solo.node.conductor.collector
    assert collector is not None
    assert summary_of(collector, job).takeovers == job.takeovers


def test_a_new_master_takes_the_furthest_standing_that_is_reported() -> None:
    spec = spec_of()
    near, far = closed_of(spec, 1, reign(2, 9)), closed_of(spec, 2, reign(2, 9))
    held = frozenset({near.model.digest, near.checkpoint.digest})
    solo = Solo(1, durable=Durable(reign(2, 9), spec, near), held=held).prepared().connect()
    solo.peers = {2: beat(closed=far), 3: beat(closed=near)}
    solo.advance(3_000)
    solo.hear(3, "report", report(spec, near))
    solo.hear(2, "report", report(spec, far))
    solo.advance(2_000)
    assert solo.durable.closed == far
    assert {job.blob for job in solo.started(Fetch)} >= {far.model, far.checkpoint}
    assert {job.holders for job in solo.started(Fetch)} == {(2,)}
    assert solo.phase == "preparing"
    for job in list(solo.node.state.running):
        if isinstance(job, Fetch):
            solo.finish(job)
    assert current(solo).base == far.model


def test_a_report_that_goes_further_than_the_masters_knowledge_is_adopted_at_any_time() -> None:
    solo = master(2)
    spec = spec_of(number=4)
    far = closed_of(spec, 3, reign(9, 9), ended="over")
    solo.hear(2, "report", report(spec, far))
    assert (solo.durable.spec, solo.durable.closed, solo.phase) == (spec, far, "idle")


def test_a_node_that_missed_the_end_of_a_run_is_told_when_it_reports() -> None:
    """It may have refused the master's word while it still believed in an earlier master."""
    spec = spec_of(rounds=1)
    before, ended = closed_of(spec, 1, reign(1, 1)), closed_of(spec, 2, reign(1, 1), ended="over")
    solo = master(2, durable=Durable(reign(1, 1), spec, ended))
    assert solo.phase == "idle"
    solo.forget()
    solo.hear(2, "report", report(spec, ended))
    assert solo.said("closed") == []
    solo.hear(2, "report", report(spec, before))
    assert (solo.said("spec"), solo.said("closed")) == ([spec], [ended])


def test_a_new_master_waits_as_long_for_a_node_that_it_never_heard() -> None:
    solo, _ = heir()
    solo.finish(solo.running(Check))
    take_in(solo, 3, 4)
    solo.advance(REJOIN_MS - 5_000)
    assert not solo.runs(Close)
    solo.advance(5_000)
    assert [(x.node, x.why) for x in solo.running(Close).left_out] == [(1, "gone")]


def test_a_lower_id_never_gets_the_lead_in_the_middle_of_a_round() -> None:
    solo = master(7, node_id=5)
    ask(solo)
    solo.finish(solo.running(Initialise))
    hold(solo)
    opened = current(solo)
    solo.peers[2] = beat(closed=solo.durable.closed)
    solo.advance(1_000)
    solo.hear(2, "report", report(solo.durable.spec, solo.durable.closed))
    solo.advance(10_000)
    assert solo.leads
    assert current(solo) == opened
    take_in(solo, 5, 7)
    solo.finish(solo.running(Close))
    solo.advance(100)
    assert solo.leads  # node 2 has to store the new model first
    hold(solo)
    assert not solo.leads
    assert solo.durable.opened == opened  # and the next round was not opened before
    assert "steps down: node 2 has a lower id" in solo.logged()
