"""The master's part: gather what the nodes know, open rounds, close them, hand over.

Theory of operation. A new master gathers reports for a moment, takes the furthest standing as the run's
state, and says it again under its own term. Then it goes through

    preparing   the first model is made, or the newest one is fetched
    waiting     for `min_nodes` nodes that have images
    collecting  the answers come (see Collector)
    closing     the updates are folded into the next model
    handing     the first heirs store the new model; then waiting again, or idle when the run has ended

A round that is open by the journal is opened again as it was: who has trained it answers from the disk.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from pneumod.core.actions import Archive, Broadcast, Watch
from pneumod.core.collector import Collector
from pneumod.core.handover import heirs_hold
from pneumod.core.jobs import Check, Close, Closed, Fetch, Initialise, Initialised, Job
from pneumod.core.membership import Members
from pneumod.core.requests import answer
from pneumod.core.rounds import close_job, ending_of, first_of, next_of, open_again, open_next, run_on, summary_of
from pneumod.core.state import State, standing
from pneumod.core.trainee import Trainee
from pneumod.messages import Beacon, Beat, Gone, Report, RoundClosed, StartRun, TrainResult

GATHER_MS = 1_500
HANDING_MS = 10_000
RETRY_MS = 5_000
MAX_SETBACKS = 3
LOOK_MS = 1_000
HURRY_MS = 50  # looks that a change asks for keep this distance: a look costs O(nodes)

Phase = Literal["idle", "gathering", "waiting", "preparing", "collecting", "closing", "handing"]


class Conductor:
    """The run, as long as this node leads."""

    def __init__(self, state: State, members: Members, trainee: Trainee) -> None:
        self.state = state
        self.members = members
        self.trainee = trainee
        self.collector: Collector | None = None
        self.abandoned: tuple[str, int, str] | None = None  # a round that this master gave up needs min_nodes again
        self.stale_rounds = 0
        self.setbacks = 0  # in a row
        self.note = ""
        self.phase: Phase = "gathering"
        self.phase_until_ms = state.now_ms + GATHER_MS  # gathering and handing end by then
        self.due_ms = state.now_ms  # of the next tick
        self.looked_ms = 0
        state.actions.append(Watch(True))

    @property
    def is_between_rounds(self) -> bool:
        return self.phase in ("idle", "waiting", "preparing")

    def beacon(self) -> Beacon:
        durable, collector = self.state.durable, self.collector
        last = durable.closed.round if durable.closed else 0
        return Beacon(
            connection=self.state.connection,
            heirs=self.members.heirs(),
            live=len(self.members.live),
            members=self.members.live_digest,
            phase=self.phase,
            note=self.note,
            run=durable.spec.run if durable.spec else None,
            round=collector.opened.round if collector else last,
            expected=len(collector.opened.who) if collector else 0,
            accepted=len(collector.accepted) if collector else 0,
        )

    def tick(self) -> None:
        """Look at whatever time, or a change among the members, can change."""
        now = self.looked_ms = self.state.now_ms
        self.members.refresh()
        over = now >= self.phase_until_ms
        self.due_ms = now + LOOK_MS if over else min(now + LOOK_MS, self.phase_until_ms)
        if self.phase == "gathering" and over:
            self.settle()
        elif self.phase == "preparing":
            self.prepare()
        elif self.phase == "waiting":
            self.open_round()
        elif self.phase == "collecting":
            self.look()
        elif self.phase == "handing" and (over or heirs_hold(self.state, self.members)):
            self.phase = "idle" if run_on(self.state) is None else "waiting"
            self._look_soon()  # a lower node may take over before the next round opens

    def resign(self) -> None:
        """Stop leading: clear what was said as master, and drop the master's jobs."""
        for kind in ("beacon", "spec", "closed"):
            self.state.say(kind, None)
        self.dismiss()

    def dismiss(self) -> None:
        pending = self.collector.pending if self.collector else {}
        for job in list(self.state.running):
            if job in pending or isinstance(job, Check | Close | Initialise):
                self.state.cancel(job)
        self.state.actions.append(Watch(False))

    def hear_beat(self, node: int, beat: Beat) -> None:
        if self.members.hear_beat(node, beat):
            self._look_soon()

    def hear_gone(self, node: int, gone: Gone) -> None:
        if node != self.state.id and self.members.hear_gone(node, gone):
            self._look_soon()

    def hear_report(self, node: int, report: Report) -> None:
        self.members.hear_report(node, report)
        self._look_soon()
        mine = standing(self.state.durable.spec, self.state.durable.closed)
        theirs = standing(report.spec, report.closed)
        if self.phase not in ("gathering", "closing") and theirs > mine:
            self._adopt(report)
            self.settle()
        elif self.phase in ("idle", "waiting") and theirs < mine:
            self._repeat()  # it refused this master's word while it still believed in an earlier one
        elif (collector := self.collector) and collector.lacks(node) and not self.members.is_training(node):
            self.state.say("reopen", collector.opened, dest=str(node))

    def hear_result(self, node: int, result: TrainResult) -> None:
        if self.collector is not None and self.phase == "collecting":
            self.collector.hear_result(node, result)
            self.look()

    def hear_request(self, sender: str, request: StartRun, correlation: bytes) -> None:
        """Start a run, or say why not."""
        spec, closed = self.state.durable.spec, self.state.durable.closed
        lost = self.phase == "preparing" and closed is not None  # its model is nowhere, or not here yet
        stuck = lost or (self.phase == "waiting" and self.note != "") or (closed is None and self.setbacks > 0)
        settled = self.phase != "gathering"
        reply, new = answer(sender, request, spec, closed, settled, stuck)
        if new is not None:
            self.trainee.hear_spec(new)
            self.collector, self.setbacks = None, 0
            self.state.log("master", f"run {new.run} starts, asked for by {sender}")
            self.state.say("spec", new)
            self.state.say("closed", None)
            self.prepare()
        self.state.say("reply", reply, dest=sender, correlation=correlation)

    def settle(self) -> None:
        """Take the furthest standing among the reports, say it under this term, and go on from there."""
        self.members.refresh()
        for report in self.members.reports().values():
            if standing(report.spec, report.closed) > standing(self.state.durable.spec, self.state.durable.closed):
                self._adopt(report)
        self.collector = None
        self._repeat()
        self.prepare()

    def _repeat(self) -> None:
        """Say the run's state under this term."""
        spec, closed = self.state.durable.spec, self.state.durable.closed
        if spec is not None:
            self.state.say("spec", spec)
        if closed is not None:
            self.state.say("closed", closed)

    def prepare(self) -> None:
        """Make the first model of a run, or wait until the newest one is on this disk."""
        spec, closed = self.state.durable.spec, self.state.durable.closed
        if spec is None or (closed is not None and closed.ended is not None):
            self.phase, self.note = "idle", ""
            return
        self.phase = "preparing"
        if closed is None:
            self.note = "making the first model"
            self.state.start(Initialise(spec))
        elif {closed.model.digest, closed.checkpoint.digest} <= self.state.held:
            self.open_round()
        else:
            self.note = f"fetching the model of round {closed.round}"
            self.trainee.pursue()

    def open_round(self) -> None:
        """Open the next round, or again the one that is open by the journal; wait where too few are there."""
        run = run_on(self.state)
        if run is None:
            return
        spec, closed = run
        counts = {n: report.counts for n, report in self.members.reports().items() if report.counts.train > 0}
        self.phase = "waiting"
        opened = open_next(spec, closed, counts, self.state.durable.term)
        journal = self.state.durable.opened
        again = journal is not None and journal.key == opened.key and bool(set(journal.who) & set(counts))
        if len(counts) < spec.settings.min_nodes and not (again and opened.key != self.abandoned):
            self.note = f"{len(counts)} of {spec.settings.min_nodes} nodes are ready"
            return
        if journal is not None and again:
            opened = open_again(journal, opened)
        self.phase, self.note = "collecting", ""
        self.collector = Collector(self.state, self.members, opened)
        self.state.remember(opened=opened)
        self.state.say("open", opened)
        what = "trains" if opened.train else "scores the last model"
        self.state.log("master", f"{opened.run}: round {opened.round} {what}, {len(opened.who)} nodes")

    def look(self) -> None:
        """Close the round if nobody is worth waiting for, or abandon it if too few are in."""
        collector, run = self.collector, run_on(self.state)
        if collector is None or run is None or not collector.over():
            return
        spec, closed = run
        if len(collector.accepted) < spec.settings.min_nodes:
            self.collector, self.abandoned, self.phase = None, collector.opened.key, "waiting"
            self._abandon(collector, spec.settings.min_nodes)
            return
        job, self.stale_rounds = close_job(collector, closed)
        self.phase = "closing"
        self.state.start(job)

    def _abandon(self, collector: Collector, needed: int) -> None:
        """Tell why too few answers counted. Nodes that are gone may come back; refusals count as a setback."""
        out = "; ".join(f"node {one.node}: {one.why}" for one in collector.left_out())
        text = f"round {collector.opened.round} abandoned, {len(collector.accepted)} of {needed} answers: {out}"[:400]
        self._setback(text, bool(collector.refused) or any(self.members.is_live(n) for n in collector.missing()))

    def _setback(self, text: str, counts: bool = True) -> None:
        """What failed is tried again; a run that fails several times in a row is given up, and says why."""
        self.setbacks += counts
        self.note = text[:400]
        self.state.log("master", self.note, "warning")
        run = run_on(self.state)
        if run is None or not counts or self.setbacks < MAX_SETBACKS:
            return
        ended = f"given up after {self.setbacks} failures: {text}"[:400]
        closed = msgspec.structs.replace(run[1], term=self.state.durable.term, ended=ended)
        self.collector, self.phase, self.note = None, "idle", ""
        self.trainee.hear_closed(closed)
        self.state.say("closed", closed)

    def job_done(self, job: Job, outcome: object) -> None:
        if self.collector is not None and self.collector.job_done(job):
            self.look()
        elif isinstance(job, Initialise) and isinstance(outcome, Initialised):
            self._publish(first_of(job.spec, outcome, self.state.durable.term))
        elif isinstance(job, Close) and isinstance(outcome, Closed):
            self._close(job, outcome)
        elif isinstance(job, Fetch) and self.phase == "preparing":
            self.prepare()

    def job_failed(self, job: Job, why: str) -> None:
        """A node's update that can't be had or used is the collector's; else settle again in a moment."""
        if self.collector is not None and self.collector.job_failed(job, why):
            self.look()
        elif isinstance(job, Initialise | Close):
            self.phase, self.phase_until_ms = "gathering", self.state.now_ms + RETRY_MS
            self._setback(f"{type(job).__name__.lower()} failed: {why}")

    def _close(self, job: Close, outcome: Closed) -> None:
        run, collector = run_on(self.state), self.collector
        if run is None or collector is None or collector.opened.key != job.opened.key:
            return
        spec, previous = run
        ended = None if job.opened.train else ending_of(spec, previous)
        closed = next_of(previous, job, outcome, summary_of(collector, job), self.stale_rounds, ended)
        closed = msgspec.structs.replace(closed, term=self.state.durable.term)
        self.state.actions.append(Archive(outcome.receipt.digest, closed.run, closed.round))
        auc = "none" if job.scored.auc is None else f"{job.scored.auc:.3f}"
        self.state.log("master", f"{closed.run}: round {closed.round} closed, AUC of its base {auc}")
        self._publish(closed)

    def _publish(self, closed: RoundClosed) -> None:
        """Store the run's new state, say it, and send its blobs round once."""
        blobs = [blob for blob in (closed.model, closed.checkpoint, closed.receipt) if blob is not None]
        self.state.held |= {blob.digest for blob in blobs}
        self.collector, self.setbacks = None, 0
        self.trainee.hear_closed(closed)
        self.state.say("closed", closed)
        for blob in blobs:
            self.state.actions.append(Broadcast(blob.digest))
        if closed.ended is not None:
            self.state.log("master", f"{closed.run} has ended: {closed.ended}")
        self.phase, self.note = "handing", ""
        self.phase_until_ms = self.state.now_ms + HANDING_MS
        self._look_soon()

    def _adopt(self, report: Report) -> None:
        if report.spec is not None:
            self.trainee.hear_spec(report.spec)
        if report.closed is not None:
            self.trainee.hear_closed(report.closed)

    def _look_soon(self) -> None:
        self.due_ms = min(self.due_ms, max(self.state.now_ms, self.looked_ms + HURRY_MS))
