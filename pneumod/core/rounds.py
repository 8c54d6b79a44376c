"""What a round is made of and what it comes to: pure functions of the run's state and the answers."""

from __future__ import annotations

import msgspec

from pneumod.core.actions import Durable
from pneumod.core.collector import Collector
from pneumod.core.jobs import Close, Closed, Contribution, Initialised
from pneumod.core.scores import metrics_of
from pneumod.core.state import State
from pneumod.messages import (
    MAX_CLASS_WEIGHT,
    MAX_IMAGES,
    Best,
    ClassCounts,
    RoundClosed,
    RoundOpen,
    RunSpec,
    Summary,
    Term,
)

FIRST_DEADLINE_MS = 30 * 60_000  # while no round time has been observed
SLOWEST_FACTOR = 4  # of the slowest node's training
ROUND_FACTOR = 2  # of the time until its answer counted, which has the transfers in it
DEADLINE_MARGIN_MS = 30_000
LONGEST_DEADLINE_MS = 24 * 3_600_000  # whatever a node says of its time
MAX_TERMS = 64  # that an open round remembers


def deadline_of(closed: RoundClosed) -> int:
    """A round's deadline in ms, from what the round before took."""
    if closed.summary is None or closed.summary.slowest_train_ms == 0:
        return FIRST_DEADLINE_MS
    needed_ms = max(SLOWEST_FACTOR * closed.summary.slowest_train_ms, ROUND_FACTOR * closed.summary.answered_ms)
    return min(needed_ms + DEADLINE_MARGIN_MS, LONGEST_DEADLINE_MS)


def class_weights_of(counts: list[ClassCounts]) -> tuple[float, float]:
    """Weights (NORMAL, PNEUMONIA) that give both classes of the whole cluster equal say."""
    normal = sum(c.train_normal for c in counts)
    pneumonia = sum(c.train_pneumonia for c in counts)
    if normal == 0 or pneumonia == 0:
        return (1.0, 1.0)
    total = normal + pneumonia
    return (min(total / (2 * normal), MAX_CLASS_WEIGHT), min(total / (2 * pneumonia), MAX_CLASS_WEIGHT))


def sum_of(counts: list[ClassCounts]) -> ClassCounts:
    """The images of several nodes together, each number at most MAX_IMAGES."""
    totals = [sum(getattr(one, name) for one in counts) for name in ClassCounts.__struct_fields__]
    return ClassCounts(*[min(total, MAX_IMAGES) for total in totals])


def trains_next(spec: RunSpec, closed: RoundClosed) -> bool:
    """Whether the next round trains, or only scores the last model and ends the run."""
    return closed.round < spec.settings.rounds and closed.stale_rounds < spec.settings.patience


def open_next(spec: RunSpec, closed: RoundClosed, counts: dict[int, ClassCounts], term: Term) -> RoundOpen:
    """The round after `closed`, for these nodes."""
    return RoundOpen(
        spec.run,
        spec.number,
        closed.round + 1,
        closed.model,
        trains_next(spec, closed),
        tuple(sorted(counts)),
        deadline_of(closed),
        class_weights_of(list(counts.values())),
        closed.exponents,
        spec.settings,
        (term,),
        sum_of(list(counts.values())),
    )


def open_again(journal: RoundOpen, opened: RoundOpen) -> RoundOpen:
    """The open round of the journal under the term of `opened`: as it was, for its nodes and those of `opened`."""
    terms = journal.terms if journal.terms[-1] == opened.terms[-1] else (*journal.terms, *opened.terms)
    who = tuple(sorted({*journal.who, *opened.who}))
    return msgspec.structs.replace(journal, terms=terms[-MAX_TERMS:], who=who)


def to_open(
    spec: RunSpec, closed: RoundClosed, counts: dict[int, ClassCounts], durable: Durable
) -> tuple[RoundOpen, bool]:
    """The round to open for these nodes under the master's term; whether the journal's is opened again."""
    opened, journal = open_next(spec, closed, counts, durable.term), durable.opened
    if journal is None or journal.key != opened.key or not set(journal.who) & set(counts):
        return opened, False
    return open_again(journal, opened), True


def close_job(collector: Collector, closed: RoundClosed) -> tuple[Close, int]:
    """The job that folds a round, and the number of scored rounds since the best."""
    accepted = {n: collector.accepted[n] for n in sorted(collector.accepted)}
    scored, threshold = metrics_of([result.scores for result in accepted.values()])
    best, stale = closed.best, closed.stale_rounds + 1
    if scored.auc is not None and (best is None or scored.auc > best.auc):
        best, stale = Best(closed.round, scored.auc, threshold, closed.model), 0
    contributions = tuple(Contribution(n, result.update, result.samples) for n, result in accepted.items())
    left_out, takeovers = collector.left_out(), collector.takeovers()
    return Close(collector.opened, closed, contributions, left_out, scored, best, takeovers), stale


def summary_of(collector: Collector, job: Close) -> Summary:
    results = [collector.accepted[n] for n in sorted(collector.accepted)]
    losses = [(r.train_loss, r.samples) for r in results if r.train_loss is not None and r.samples > 0]
    weight = sum(samples for _, samples in losses)
    return Summary(
        counted=len(results),
        left_out=job.left_out[:64],
        left_out_total=len(job.left_out),
        train_loss=sum(loss * samples for loss, samples in losses) / weight if weight else None,
        duration_ms=collector.state.now_ms - collector.opened_ms,
        slowest_train_ms=max((r.train_ms for r in results), default=0),
        update_bytes=sum(r.update.size_bytes for r in results if r.update),
        takeovers=job.takeovers,
        deadline_ms=collector.deadline_at_ms - collector.opened_ms,
        answered_ms=collector.answered_ms,
    )


def first_of(spec: RunSpec, made: Initialised, term: Term) -> RoundClosed:
    """Round 0: the model that a run starts from."""
    return RoundClosed(spec.run, spec.number, 0, term, made.model, made.checkpoint, made.exponents)


def next_of(
    run: tuple[RunSpec, RoundClosed], job: Close, made: Closed, summary: Summary, stale: int, term: Term
) -> RoundClosed:
    """The state of the run after a round."""
    spec, previous = run
    return msgspec.structs.replace(
        previous,
        round=job.opened.round,
        term=term,
        model=made.model,
        checkpoint=made.checkpoint,
        exponents=made.exponents,
        receipt=made.receipt,
        scored=job.scored,
        best=job.best,
        stale_rounds=stale,
        summary=summary,
        ended=None if job.opened.train else ending_of(spec, previous),
    )


def ending_of(spec: RunSpec, closed: RoundClosed) -> str:
    """Why nothing was trained after `closed`, so that the run is over once its model is scored."""
    if closed.round < spec.settings.rounds:
        return f"no better AUC in {spec.settings.patience} rounds"
    return f"all {spec.settings.rounds} rounds done"


def run_key(state: State) -> tuple[str, int]:
    """The run and its last closed round, -1 before the first model."""
    spec, closed = state.durable.spec, state.durable.closed
    return (spec.run if spec else "", closed.round if closed else -1)


def run_on(state: State) -> tuple[RunSpec, RoundClosed] | None:
    """The run that is on, if its first model exists and it hasn't ended."""
    spec, closed = state.durable.spec, state.durable.closed
    if spec is None or closed is None or closed.number != spec.number or closed.ended is not None:
        return None
    return spec, closed


def ended_of(spec: RunSpec | None, closed: RoundClosed | None) -> str | None:
    """Why the run is over; None while it goes on, or if there is none."""
    return closed.ended if closed is not None else spec.ended if spec is not None else None
