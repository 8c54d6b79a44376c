"""What a node does when its own jobs fail: it tries each again by itself, and tells the master of what stays."""

from __future__ import annotations

import msgspec

from pneumod.core.actions import Archive, Durable
from pneumod.core.events import JobFailed, ReceiptMissing
from pneumod.core.jobs import Export, Fetch, Train
from pneumod.core.trainee import MAX_FAILURES
from pneumod.messages import Best, TrainResult
from pneumod.sim.children import blob
from tests.core.pair import beacon, closed_of
from tests.core.test_trainee import CLOSED, OPENED, SPEC, TERM, trainee


def test_a_training_that_fails_again_and_again_is_told_to_the_master_without_a_word_of_the_log() -> None:
    solo = trainee()
    solo.hear(1, "open", OPENED)
    for attempt in range(MAX_FAILURES):
        assert solo.said("result") == [], attempt
        solo.step(JobFailed(solo.running(Train), "/home/secret: no space"))
        solo.hear(1, "beacon", beacon(2, 3), TERM)
        solo.advance(4_000)
        solo.hear(1, "beacon", beacon(2, 3), TERM)
        solo.advance(4_000)
    (told,) = solo.said("result")
    assert isinstance(told, TrainResult)
    assert (told.key, told.failed) == (OPENED.key, "its training fails; its log says why")
    assert solo.durable.result is None


def test_a_training_that_failed_keeps_no_model_away() -> None:
    solo = trainee()
    solo.hear(1, "open", OPENED)
    solo.step(JobFailed(solo.running(Train), "out of memory"))
    later = closed_of(SPEC, OPENED.round, TERM)
    solo.hear(1, "closed", later)
    assert {job.blob for job in solo.started(Fetch)} >= {later.model, later.checkpoint}


def test_an_export_whose_child_died_is_made_again() -> None:
    ended = msgspec.structs.replace(CLOSED, best=Best(1, 0.9, 0.5, CLOSED.model), ended="over")
    solo = trainee(Durable(TERM, SPEC, ended))
    solo.hear(1, "beacon", beacon(2, 3), TERM)
    solo.step(JobFailed(solo.running(Export), "the child died (-9)", again=True))
    solo.advance(2_000)
    assert solo.running(Export).best == ended.best


def test_a_missing_receipt_is_fetched_and_archived_also_if_it_is_here_already() -> None:
    gap = ReceiptMissing(blob("receipt", 1), SPEC.run, 1)
    solo = trainee()
    solo.step(gap)
    (fetch,) = solo.started(Fetch)
    assert (fetch.blob, fetch.announced) == (gap.blob, False)
    solo.step(JobFailed(fetch, "nobody sent it"))
    solo.forget()
    solo.advance(2_000)
    solo.hear(1, "beacon", beacon(2, 3), TERM)
    solo.finish(solo.running(Fetch))
    assert [a for a in solo.actions if isinstance(a, Archive)] == [Archive(gap.blob.digest, SPEC.run, 1)]
    solo.forget()
    solo.step(gap)
    assert [a for a in solo.actions if isinstance(a, Archive)] == [Archive(gap.blob.digest, SPEC.run, 1)]
