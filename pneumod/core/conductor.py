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

from pneumod.core import notes
from pneumod.core.actions import Watch
from pneumod.core.collector import Collector
from pneumod.core.handover import heirs_hold, holds_newest
from pneumod.core.jobs import Check, Close, Closed, Fetch, Initialise, Initialised, Job
from pneumod.core.leases import Leases
from pneumod.core.membership import Members
from pneumod.core.requests import answer, answer_stop
from pneumod.core.rounds import close_job, ended_of, first_of, next_of, run_key, run_on, summary_of, to_open
from pneumod.core.run import Run
from pneumod.core.state import State, standing
from pneumod.core.trainee import Trainee
from pneumod.messages import Beacon, Beat, Gone, Phase, Reply, Report, RoundClosed, StartRun, StopRun, TrainResult

GATHER_MS = 1_500
HANDING_MS = 10_000
RETRY_MS = 5_000
MAX_SETBACKS = 3
LOOK_MS = 1_000
HURRY_MS = 50  # looks that a change asks for keep this distance: a look costs O(nodes)


class Conductor:
    """The run, as long as this node leads."""

    def __init__(self, state: State, members: Members, trainee: Trainee, expected: int) -> None:
        self.state = state
        self.members = members
        self.trainee = trainee
        self.run = Run(state, trainee)
        self.expected = expected  # nodes that lived under the master before, with this one; 0: unknown
        self.leases = Leases(state, members)
        self.collector: Collector | None = None
        self.abandoned: tuple[str, int, str] | None = None  # a round that this master gave up needs min_nodes again
        self.stale_rounds = self.looked_ms = 0
        self.setbacks = 0  # in a row
        self.handed = ("", -1)  # the run and round whose model the heirs had their time to store
        self.settled = False  # knows what the nodes know
        self.lagging = False  # a node knows less of the run than this master
        self.unfit, self.note = False, ""  # unfit: this machine fails where another may not
        self.phase: Phase = "gathering"
        self.phase_until_ms = state.now_ms + GATHER_MS  # gathering and handing end by then
        self.due_ms = state.now_ms  # of the next tick
        state.actions.append(Watch(True))

    def beacon(self) -> Beacon:
        live = max(len(self.members.live), 0 if self.settled else self.expected)  # who reports spreads by it
        work = self.leases.is_open
        return notes.beacon_of(self.state, self.members, self.collector, self.phase, self.note, live, work)

    def tick(self) -> None:
        """Look at whatever time, or a change among the members, can change."""
        now = self.looked_ms = self.state.now_ms
        self.members.refresh()
        self.leases.tick()
        if self.lagging and self.settled:
            self.run.repeat()
        self.lagging = False
        over = now >= self.phase_until_ms
        self.due_ms = now + LOOK_MS if over else min(now + LOOK_MS, self.phase_until_ms)
        if self.phase == "gathering":
            if self.state.echoed and (over or 0 < self.expected <= len(self.members.reports())):
                self.settle()
        elif self.phase == "preparing":
            self.prepare()
        elif self.phase == "waiting":
            self.open_round()
        elif self.phase == "collecting" and self.collector is not None:
            self.note = notes.collecting(self.collector)
            self.collector.fetch()
            self.look()
        elif self.phase == "handing" and heirs_hold(self.state, self.members, late=over):
            self.phase, self.note = "idle" if run_on(self.state) is None else "waiting", ""
            self.handed = run_key(self.state) if over else self.handed
            self._look_soon()  # a lower node may take over before the next round opens
        elif self.phase == "handing" and not holds_newest(self.state):
            self.prepare()  # the only copy was damaged
        elif self.phase == "handing" and over:
            self.note = "waiting until another node holds the newest model"

    def resign(self) -> None:
        """Stop leading: clear what was said as master, and drop the master's jobs."""
        for kind in ("beacon", "spec", "closed"):
            self.state.say(kind, None)
        self.dismiss()

    def dismiss(self) -> None:
        self._cancel_jobs()
        self.state.actions.append(Watch(False))

    def _cancel_jobs(self) -> None:
        pending = self.collector.pending if self.collector else {}
        for job in [j for j in self.state.running if j in pending or isinstance(j, Check | Close | Initialise)]:
            self.state.cancel(job)

    def hear_beat(self, node: int, beat: Beat) -> None:
        if self.members.hear_beat(node, beat):
            self._look_soon()

    def hear_gone(self, node: int, gone: Gone) -> None:
        if node != self.state.id and self.members.hear_gone(node, gone):
            self.leases.lost(node)
            self._look_soon()

    def hear_report(self, node: int, report: Report) -> None:
        self.members.hear_report(node, report)
        self._look_soon()
        mine = standing(self.state.durable.spec, self.state.durable.closed)
        theirs = standing(report.spec, report.closed)
        if self.phase not in ("gathering", "closing") and theirs > mine:
            self.trainee.adopt(report)
            self.settle()
        elif self.settled and theirs < mine and self.phase != "closing":
            self.lagging = True  # it refused this master's word while it still believed in an earlier one, or lost it
        elif (collector := self.collector) and collector.lacks(node) and not self.members.is_training(node):
            self.state.say("reopen", collector.opened, dest=str(node))

    def hear_result(self, node: int, result: TrainResult) -> None:
        if self.collector is not None and self.phase == "collecting":
            self.collector.hear_result(node, result)
            self._look_if_complete()

    def hear_operator(self, sender: str, request: StartRun | StopRun, correlation: bytes) -> None:
        """Start a run, end it at once, or say why not."""
        reply = self._start(sender, request) if isinstance(request, StartRun) else self._stop(sender, request)
        self.state.say("reply", reply, dest=sender, correlation=correlation)

    def _start(self, sender: str, request: StartRun) -> Reply:
        spec, closed = self.state.durable.spec, self.state.durable.closed
        reply, new = answer(sender, request, spec, closed, self.settled, self.note)
        if new is not None:
            self._cancel_jobs()
            self.collector, self.setbacks = None, 0
            self.run.begin(new)
            self.prepare()
        return reply

    def _stop(self, sender: str, request: StopRun) -> Reply:
        durable = self.state.durable
        reply, stops = answer_stop(sender, request, durable.spec, durable.closed, self.settled)
        if stops:
            self._end(f"stopped by {sender}")
        return reply

    def settle(self) -> None:
        """Take the furthest standing among the reports, say it under this term, and go on from there."""
        self.settled = True
        self.members.refresh()
        self.run.take_furthest(self.members.reports())
        self.run.keep_ended()
        self.collector = None
        self.run.repeat()
        self.prepare()

    def prepare(self) -> None:
        """Make the first model of a run, or wait until the newest one is on this disk."""
        spec, closed = self.state.durable.spec, self.state.durable.closed
        if spec is None or ended_of(spec, closed) is not None:
            self.phase, self.note = "idle", ""
            return
        self.phase = "preparing"
        if closed is None:
            self.note = "making the first model"
            self.state.start(Initialise(spec))
        elif not self.state.holds(closed):
            self.note = f"fetching the model of round {closed.round}"
            self.trainee.pursue()
        else:
            self.open_round()

    def open_round(self) -> None:
        """Open the next round, or again the one that is open by the journal; wait where too few are there."""
        run = run_on(self.state)
        if run is None:
            return
        spec, closed = run
        if not self.state.holds(closed):
            self.prepare()  # it was damaged meanwhile
            return
        counts = {n: r.counts for n, r in self.members.reports().items() if r.counts is not None and r.counts.train > 0}
        self.phase = "waiting"
        opened, again = to_open(spec, closed, counts, self.state.durable)
        if len(counts) < spec.settings.min_nodes and not (again and opened.key != self.abandoned):
            note, before = notes.too_few(self.state, self.members, len(counts), spec.settings.min_nodes), self.note
            self.note = note
            if note != before:
                self.state.log("master", note)
            return
        if not heirs_hold(self.state, self.members, late=self.handed == run_key(self.state)):
            self._hand()  # a new master, or other heirs
            return
        self.phase, self.note = "collecting", ""
        absent = notes.absent(self.state, self.members)
        self.collector = Collector(
            self.state, self.members, opened, {node: why for node, why in absent.items() if node not in opened.who}
        )
        self.state.remember(opened=opened)
        self.state.say("open", opened)
        self.state.log("master", notes.opening(opened))

    def look(self) -> None:
        """Close the round if nobody is worth waiting for, or abandon it if too few are in."""
        collector, run = self.collector, run_on(self.state)
        if self.phase != "collecting" or collector is None or run is None or not collector.over():
            return
        spec, closed = run
        if len(collector.accepted) < spec.settings.min_nodes:
            self.collector, self.abandoned, self.phase = None, collector.opened.key, "waiting"
            self._abandon(collector, spec.settings.min_nodes)
            return
        job, self.stale_rounds = close_job(collector, closed)
        self.phase, self.note = "closing", ""
        self.state.start(job)

    def _look_if_complete(self) -> None:
        """The last answer closes a round at once; who is missing is looked for at each tick."""
        if self.collector is not None and self.collector.is_complete:
            self.look()

    def _abandon(self, collector: Collector, needed: int) -> None:
        """Tell why too few answers counted. Nodes that are gone may come back; refusals count as a setback."""
        here = any(self.members.is_live(node) for node in collector.missing())
        self._setback(collector.shortfall(needed), bool(collector.refused) or here)

    def _setback(self, text: str, counts: bool = True) -> None:
        """What failed is tried again; a run that fails several times in a row is given up, and says why."""
        self.setbacks += counts
        self.note = text[:400]
        self.state.log("master", self.note, "warning")
        if counts and self.setbacks >= MAX_SETBACKS and not self.unfit:
            self._end(f"given up after {self.setbacks} failures: {text}")

    def _end(self, why: str) -> None:
        self._cancel_jobs()
        self.collector, self.phase, self.note, self.setbacks = None, "idle", "", 0
        self.run.end(why)

    def job_done(self, job: Job, outcome: object) -> None:
        if self.collector is not None and self.collector.job_done(job):
            self._look_if_complete()
        elif isinstance(job, Initialise) and isinstance(outcome, Initialised):
            if self.state.durable.closed is None and job.spec == self.state.durable.spec:
                self._publish(first_of(job.spec, outcome, self.state.durable.term))
        elif isinstance(job, Close) and isinstance(outcome, Closed):
            self._close(job, outcome)
        elif isinstance(job, Fetch) and self.phase == "preparing":
            self.prepare()

    def job_failed(self, job: Job, why: str, again: bool) -> None:
        """A node's update that can't be had or used is the collector's; else settle again in a moment."""
        if self.collector is not None and self.collector.job_failed(job, why, again):
            self._look_if_complete()
        elif (self.phase == "closing" and isinstance(job, Close)) or isinstance(job, Initialise):
            self.phase, self.phase_until_ms = "gathering", self.state.now_ms + RETRY_MS
            key = run_key(self.state)
            if self.setbacks + 1 == MAX_SETBACKS and self.state.passed_on != key and len(self.members.live) > 1:
                self.unfit, self.state.passed_on = True, key
            self._setback(f"{type(job).__name__.lower()} failed: {why}")

    def _close(self, job: Close, outcome: Closed) -> None:
        run, collector = run_on(self.state), self.collector
        if run is None or collector is None or collector.opened.key != job.opened.key:
            return
        summary = summary_of(collector, job)
        closed = next_of(run, job, outcome, summary, self.stale_rounds, self.state.durable.term)
        auc = "none" if job.scored.auc is None else f"{job.scored.auc:.3f}"
        self.state.log("master", f"{closed.run}: round {closed.round} closed, AUC of its base {auc}")
        for one in [one for one in job.left_out if one.node not in collector.refused]:
            self.state.log("master", f"round {closed.round}: without node {one.node}: {one.why}", "warning")
        self._publish(closed)

    def _publish(self, closed: RoundClosed) -> None:
        self.run.close(closed)
        self.collector, self.setbacks = None, 0
        self._hand()
        self._look_soon()

    def _hand(self) -> None:
        """Let the heirs store the newest model before the next round opens."""
        self.phase, self.note = "handing", ""
        self.phase_until_ms = self.state.now_ms + HANDING_MS

    def _look_soon(self) -> None:
        self.due_ms = min(self.due_ms, max(self.state.now_ms, self.looked_ms + HURRY_MS))
