"""A node's own work: fetch, train once, answer as often as asked, export, tidy."""

from __future__ import annotations

import msgspec

from pneumod.core.actions import Archive, Durable, Keep
from pneumod.core.events import JobFailed
from pneumod.core.jobs import Export, Fetch, Train
from pneumod.messages import Best, Gone, Report, RoundClosed, RoundOpen
from pneumod.sim.children import blob
from tests.core.pair import COUNTS, Solo, beacon, closed_of, open_of, reign, result_of, spec_of

TERM = reign(5, 1)
SPEC = spec_of()
CLOSED = closed_of(SPEC, 0, TERM)
OPENED = open_of(SPEC, CLOSED, (1, 2, 3), TERM)
HELD = frozenset({CLOSED.model.digest, CLOSED.checkpoint.digest})


def trainee(durable: Durable | None = None, held: frozenset[str] = HELD) -> Solo:
    """Node 2, prepared, that obeys node 1 and knows the run."""
    solo = Solo(2, 1, durable or Durable(TERM, SPEC, CLOSED), held).prepared().connect()
    solo.hear(1, "beacon", beacon(2, 3), TERM)
    solo.forget()
    return solo


def asked_by(master: int, counter: int, opened: RoundOpen = OPENED) -> RoundOpen:
    """The same round, opened again by a later master."""
    return msgspec.structs.replace(opened, terms=(*opened.terms, reign(counter, master)))


def test_a_round_is_trained_and_its_result_persisted_before_it_is_said() -> None:
    solo = trainee()
    solo.hear(1, "open", OPENED)
    solo.finish(solo.running(Train))
    result = result_of(2, OPENED)
    assert solo.durable.result == result
    assert [(p.dest, p.message, p.term) for p in solo.published("result")] == [("1", result, TERM)]


def test_a_round_of_others_is_not_trained() -> None:
    solo = trainee()
    solo.hear(1, "open", open_of(SPEC, CLOSED, (1, 3), TERM))
    assert not solo.runs(Train)
    assert solo.durable.opened is None


def test_a_result_is_said_again_as_often_as_asked_and_never_trained_again() -> None:
    solo = trainee()
    for _ in range(3):
        solo.hear(1, "open", OPENED)
    solo.finish(solo.running(Train))
    for _ in range(3):
        solo.hear(1, "reopen", OPENED)
    assert len(solo.started(Train)) == 1
    assert solo.said("result") == [result_of(2, OPENED)] * 4


def test_a_result_on_the_disk_answers_after_a_restart() -> None:
    result = result_of(2, OPENED)
    assert result.update is not None
    solo = trainee(Durable(TERM, SPEC, CLOSED, OPENED, result), HELD | {result.update.digest})
    solo.hear(1, "open", OPENED)
    assert solo.started(Train) == []
    assert solo.said("result") == [result]


def test_a_result_whose_update_rotted_is_trained_again() -> None:
    solo = trainee(Durable(TERM, SPEC, CLOSED, OPENED, result_of(2, OPENED)))
    solo.hear(1, "open", OPENED)
    assert solo.running(Train).opened == OPENED
    assert solo.said("result") == []


def test_a_round_in_the_journal_goes_on_after_a_restart() -> None:
    solo = Solo(2, 1, Durable(TERM, SPEC, CLOSED, OPENED), HELD).prepared().connect()
    solo.hear(1, "beacon", beacon(2, 3), TERM)
    assert solo.running(Train).opened == OPENED


def test_training_goes_on_through_a_change_of_masters_and_answers_the_new_one() -> None:
    solo = trainee()
    solo.hear(1, "open", OPENED)
    job = solo.running(Train)
    solo.hear(1, "gone", Gone(1, 1))
    assert solo.leads  # it is the first heir; node 3 is another case:
    other = Solo(3, 2, Durable(TERM, SPEC, CLOSED), HELD).prepared().connect()
    other.hear(1, "beacon", beacon(2, 3), TERM)
    other.hear(1, "open", OPENED)
    job = other.running(Train)
    other.hear(1, "gone", Gone(1, 1))
    other.hear(2, "beacon", beacon(3), reign(6, 2))
    other.hear(2, "open", asked_by(2, 6), reign(6, 2))
    assert other.running(Train) == job
    other.finish(job)
    assert len(other.started(Train)) == 1
    assert [(p.dest, p.term) for p in other.published("result")] == [("2", reign(6, 2))]
    assert other.durable.result is not None
    assert other.durable.result.trained_term == TERM


def test_a_result_that_is_ready_while_nobody_leads_waits_for_the_next_master() -> None:
    solo = Solo(3, 2, Durable(TERM, SPEC, CLOSED), HELD).prepared().connect()
    solo.hear(1, "beacon", beacon(2, 3), TERM)
    solo.hear(1, "open", OPENED)
    solo.hear(1, "gone", Gone(1, 1))
    solo.forget()
    solo.finish(solo.running(Train))
    assert solo.said("result") == []
    solo.hear(2, "beacon", beacon(3), reign(6, 2))
    solo.hear(2, "open", asked_by(2, 6), reign(6, 2))
    assert solo.said("result") == [result_of(3, OPENED)]


def test_a_new_reign_gets_a_report_at_once_then_every_10_s() -> None:
    solo = Solo(2, 1, Durable(TERM, SPEC, CLOSED), HELD).prepared().connect()
    solo.hear(1, "beacon", beacon(2), TERM)
    told = Report(1, solo.node.state.counts, SPEC, CLOSED, tuple(sorted(HELD)))  # type: ignore[arg-type]
    assert [(p.dest, p.message) for p in solo.published("report")] == [("1", told)]
    for _ in range(10):
        solo.advance(1_000)
        solo.hear(1, "beacon", beacon(2), TERM)
    assert len(solo.said("report")) == 2


def test_a_node_reports_what_it_knows_also_before_its_images_are_prepared() -> None:
    solo = Solo(2).connect()
    solo.hear(1, "beacon", beacon(2), TERM)
    assert [message.counts for message in solo.said("report") if isinstance(message, Report)] == [None]
    solo.prepared()
    assert [message.counts for message in solo.said("report") if isinstance(message, Report)] == [None, COUNTS]


def test_a_missing_base_is_fetched_first_from_the_master_then_from_its_heirs() -> None:
    solo = trainee(held=frozenset())
    fetching = {job.blob for job in solo.node.state.running if isinstance(job, Fetch)}
    assert fetching == {CLOSED.model, CLOSED.checkpoint}
    solo.hear(1, "open", OPENED)
    assert not solo.runs(Train)
    for job in list(solo.node.state.running):
        assert isinstance(job, Fetch)
        assert job.holders == (1, 3)
        solo.finish(job)
    assert solo.running(Train).opened == OPENED


def test_a_failed_job_is_tried_again_after_2_s_then_4_s() -> None:
    solo = trainee()
    solo.hear(1, "open", OPENED)
    for wait_ms in (2_000, 4_000):
        solo.step(JobFailed(solo.running(Train), "out of memory"))
        solo.advance(wait_ms - 1)
        assert not solo.runs(Train)
        solo.advance(1)
        assert solo.running(Train).opened == OPENED
        solo.hear(1, "beacon", beacon(2, 3), TERM)
    assert "train failed: out of memory" in solo.logged()


def test_training_stops_when_its_round_is_closed_without_it() -> None:
    solo = trainee()
    solo.hear(1, "open", OPENED)
    job = solo.running(Train)
    solo.hear(1, "closed", closed_of(SPEC, 1, TERM))
    assert not solo.runs(Train)
    solo.finish(job)  # its end still comes, and means nothing
    assert solo.durable.result is None


def test_the_standing_never_goes_back() -> None:
    later = closed_of(SPEC, 3, TERM)
    solo = trainee(Durable(TERM, SPEC, later))
    for earlier in (closed_of(SPEC, 2, TERM), closed_of(SPEC, 9, reign(4, 1)), later):
        solo.hear(1, "closed", earlier)
    assert solo.durable.closed == later
    solo.hear(1, "closed", closed_of(SPEC, 2, reign(6, 1)))  # a later reign decides
    assert solo.durable.closed is not None
    assert solo.durable.closed.round == 2


def test_a_closed_round_that_comes_before_its_run_is_kept_until_the_run_is_known() -> None:
    solo = trainee()
    spec = spec_of(number=2, run="run-b")
    closed = closed_of(spec, 4, TERM)
    solo.hear(1, "closed", closed, retained=True)
    assert solo.durable.closed == CLOSED
    solo.hear(1, "spec", spec, retained=True)
    assert (solo.durable.spec, solo.durable.closed) == (spec, closed)


def test_a_later_run_forgets_the_earlier_one_and_an_earlier_run_changes_nothing() -> None:
    solo = trainee(Durable(TERM, SPEC, CLOSED, OPENED, result_of(2, OPENED)))
    later = spec_of(number=2, run="run-b")
    solo.hear(1, "spec", later)
    assert solo.durable == Durable(TERM, later)
    solo.hear(1, "spec", SPEC)
    assert solo.durable.spec == later


def with_best(round_: int, best: int, ended: str | None = None) -> RoundClosed:
    model = blob("model", SPEC.run, best)
    return msgspec.structs.replace(
        closed_of(SPEC, round_, TERM, ended), best=Best(best, 0.9, 0.5, model), receipt=blob("receipt", round_)
    )


def test_a_better_model_is_exported_once_at_the_end() -> None:
    solo = trainee()
    ended = with_best(1, best=0, ended="over")
    solo.hear(1, "closed", ended)
    assert solo.running(Export).best == ended.best
    solo.finish(solo.running(Export))
    solo.advance(3_000)
    assert len(solo.started(Export)) == 1


def test_the_export_waits_while_this_node_has_to_train() -> None:
    solo = trainee()
    solo.hear(1, "closed", with_best(2, best=1))
    for job in list(solo.node.state.running):
        solo.finish(job)
    assert not solo.runs(Export)  # the next round opens in a moment
    opened = open_of(SPEC, closed_of(SPEC, 2, TERM), (1, 2), TERM)
    solo.hear(1, "open", opened)
    assert not solo.runs(Export)
    solo.finish(solo.running(Train))
    assert solo.running(Export).best.round == 1


def test_the_untrained_model_is_exported_only_if_nothing_better_came_of_the_run() -> None:
    solo = trainee()
    solo.hear(1, "closed", with_best(1, best=0))
    solo.hear(1, "open", open_of(SPEC, closed_of(SPEC, 1, TERM), (1, 2), TERM))
    for job in list(solo.node.state.running):
        solo.finish(job)
    solo.finish(solo.running(Train))
    assert not solo.runs(Export)
    solo.hear(1, "closed", with_best(2, best=0, ended="over"))
    assert solo.runs(Export)


def test_an_export_that_fails_is_left_until_there_is_a_better_model() -> None:
    solo = trainee()
    solo.hear(1, "closed", with_best(1, best=0, ended="over"))
    solo.step(JobFailed(solo.running(Export), "converter"))
    solo.advance(3_000)
    assert not solo.runs(Export)


def test_a_receipt_that_was_fetched_is_archived() -> None:
    solo = trainee()
    closed = with_best(1, best=0)
    solo.hear(1, "closed", closed)
    receipt = next(j for j in solo.node.state.running if isinstance(j, Fetch) and j.blob == closed.receipt)
    solo.finish(receipt)
    assert Archive(receipt.blob.digest, SPEC.run, 1) in solo.actions


def test_only_the_blobs_that_something_names_are_kept() -> None:
    result = result_of(2, OPENED)
    assert result.update is not None
    solo = trainee(Durable(TERM, SPEC, CLOSED, OPENED, result), HELD | {result.update.digest, "e" * 64})
    closed = with_best(1, best=0)
    solo.hear(1, "closed", closed)
    kept = [a.digests for a in solo.actions if isinstance(a, Keep)][-1]
    assert closed.receipt is not None
    assert kept == {
        closed.model.digest, closed.checkpoint.digest, closed.receipt.digest,  # the new state
        CLOSED.model.digest,  # the best, and the base of the journal
        result.update.digest,
    }  # fmt: skip
