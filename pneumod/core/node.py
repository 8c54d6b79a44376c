"""One node of the cluster: an event and the time in, a list of actions out.

    step(event, now_ms) -> actions     deadline_ms() -> when to send a Tick at the latest

Nothing here reads a clock, does I/O or draws a random number: the same events at the same times give the
same actions. The parts: Election (who leads), Members (the master's view of the others), Conductor (the
master's work), Trainee (a node's own work, the master's too). Node routes events to them and beats.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pneumod import messages as m
from pneumod.core import events as ev
from pneumod.core.actions import Action, Durable, Halt
from pneumod.core.admission import MASTERS_WORD, refusal
from pneumod.core.conductor import Conductor
from pneumod.core.crew import Crew
from pneumod.core.election import FREEZE_MS, Election
from pneumod.core.handover import holders, successor
from pneumod.core.jobs import Check, Close, Initialise, Job, Prepare, Prepared, Work
from pneumod.core.membership import Members
from pneumod.core.pulse import BEAT_MS, Pulse
from pneumod.core.state import State
from pneumod.core.trainee import Trainee
from pneumod.work import Skill

PREPARE_AGAIN_MS = 30_000
BETWEEN_ROUNDS = ("idle", "waiting", "preparing")


class Node:
    """The state machine of one node."""

    def __init__(
        self,
        node_id: int,
        place: int,
        boot: int,
        durable: Durable,
        held: frozenset[str],
        card: m.Card,
        prepare: Prepare,
        share_counts: bool = True,
        sites: Mapping[int, str] | None = None,
        skills: tuple[Skill, ...] = (),
        room: int = 0,
    ) -> None:
        self.state = State(node_id, place, boot, durable, held, sites)
        self.election = Election(self.state)
        self.trainee = Trainee(self.state)
        self.conductor: Conductor | None = None
        self.crew = Crew(self.state, skills, room)
        self.pulse = Pulse(self.state, card, share_counts)
        self.stopped = False
        self.dropped: dict[str, int] = {}  # messages refused here, by reason
        self.prepare = prepare
        self.prepare_at_ms: int | None = 0

    def step(self, event: ev.Event, now_ms: int) -> list[Action]:
        """Take one event at a time that never goes back; what is to be done, in order."""
        if self.stopped:
            return []
        state = self.state
        slept_ms = now_ms - state.now_ms
        state.now_ms = max(state.now_ms, now_ms)
        if slept_ms > FREEZE_MS:
            self._thaw(slept_ms)
        match event:
            case ev.Received() if self._admit(event):
                self._hear(event)
            case ev.JobProgress(job=job) if job in state.running:
                state.progress[job] = event
            case ev.JobDone(job=job, outcome=outcome) if state.end(job):
                self._job_done(job, outcome)
            case ev.JobFailed(job=job, why=why, again=again) if state.end(job):
                self._job_failed(job, why, again)
            case ev.BlobsFound(digests=digests):
                self.trainee.lose(digests)
            case ev.Vitals():
                state.vitals = event
            case ev.ReceiptMissing():
                self.trainee.hear_gap(event)
            case ev.Connected(connection=connection, at_home=at_home):
                state.connection, state.connected, state.at_home = connection, True, at_home
                self.pulse.connected()
                self.election.listen()
            case ev.Disconnected():
                self._disconnected()
            case ev.DiskSlow(took_ms=took_ms):
                self.election.abstain()
                if self.conductor is not None:
                    self._step_down(f"a write took {took_ms} ms")
            case ev.Offered(batch=batch, skill=skill, items=items):
                self.crew.owner.offer(batch, skill, items)
            case ev.Withdrawn():
                self.crew.owner.withdraw()
            case ev.Stopping():
                self._stop()
                return state.take()
        if isinstance(event, ev.Received) and event.kind == "beat" and not state.actions:
            return []  # thousands come to a master; what is due by the time comes with a Tick
        self._tick()
        return state.take()

    def deadline_ms(self) -> int:
        """When a Tick is due at the latest."""
        dues = [self.election.deadline_ms(), self.trainee.deadline_ms(), self.crew.deadline_ms(), self.prepare_at_ms]
        if self.state.connected:
            dues.append(self.pulse.deadline_ms(self.conductor is not None))
        if self.conductor is not None:
            dues.append(self.conductor.due_ms)
        return max(self.state.now_ms, min([d for d in dues if d is not None], default=self.state.now_ms + BEAT_MS))

    @property
    def leader(self) -> int | None:
        """The master as this node knows it, itself included."""
        return self.state.id if self.conductor is not None else self.election.master

    def _admit(self, event: ev.Received) -> bool:
        """Whether a message may be obeyed; a higher term that may is persisted before anything else."""
        envelope, mine = event.envelope, self.state.durable.term
        why = refusal(event, self.state, self.election)
        if why is not None:
            self.dropped[why] = self.dropped.get(why, 0) + 1
            return False
        if event.kind in MASTERS_WORD and envelope.message is not None and envelope.term > mine:
            if self.conductor is not None:
                self._step_down(f"node {envelope.node} leads under a higher term")
            self.state.remember(term=envelope.term)
        return True

    def _hear(self, event: ev.Received) -> None:
        sender, node, message = event.envelope.sender, event.envelope.node, event.envelope.message
        conductor = self.conductor
        if isinstance(message, m.StartRun | m.StopRun) and conductor is not None:
            conductor.hear_operator(sender, message, event.correlation)
        if node is None:
            return
        if event.retained and node == self.state.id and event.kind in MASTERS_WORD and conductor is None:
            self.state.say(event.kind, None)  # left over from an earlier reign
        match message:
            case None if event.kind == "beacon" and not event.retained:
                self.election.lose(node)
            case m.Beacon() if not event.retained:
                self.election.hear_beacon(node, event.envelope.term, message)
            case m.Beat():
                self._hear_beat(node, message)
            case m.Gone():
                self._hear_gone(node, message)
            case m.RunSpec():
                self.trainee.hear_spec(message)
            case m.RoundOpen():
                self.trainee.hear_open(message)
            case m.RoundClosed():
                self.trainee.hear_closed(message)
            case m.Report() if conductor is not None:
                conductor.hear_report(node, message)
            case m.TrainResult() if conductor is not None:
                conductor.hear_result(node, message)
            case m.Offer() | m.Pull() if conductor is not None:
                conductor.leases.hear(node, message, conductor.settled)
            case m.Grant() | m.Done() | m.Taken():
                self.crew.hear(node, message)

    def _hear_beat(self, node: int, beat: m.Beat) -> None:
        if not self.election.hear_counter(beat.top_term.counter) or self.conductor is None:
            return
        if beat.top_term > self.state.durable.term:
            self._step_down(f"node {node} heard a higher term")
        else:
            self.conductor.hear_beat(node, beat)

    def _hear_gone(self, node: int, gone: m.Gone) -> None:
        if self.conductor is not None:
            self.conductor.hear_gone(node, gone)
        else:
            self.election.hear_gone(node, gone)

    def _job_done(self, job: Job, outcome: object) -> None:
        if isinstance(job, Prepare) and isinstance(outcome, Prepared):
            self.state.counts = outcome.counts
            self.trainee.report_at_ms = self.pulse.card_at_ms = self.state.now_ms
            return
        if isinstance(job, Work):
            self.crew.job_done(job, outcome)
        elif not self._is_masters(job):
            self.trainee.job_done(job, outcome)
        if self.conductor is not None:
            self.conductor.job_done(job, outcome)

    def _job_failed(self, job: Job, why: str, again: bool) -> None:
        if isinstance(job, Prepare):
            self.state.log("worker", f"the images can't be prepared, trying again in 30 s: {why}", "warning")
            self.prepare_at_ms = self.state.now_ms + PREPARE_AGAIN_MS
        elif isinstance(job, Work):
            self.crew.puller.job_failed(job, why)
        elif self._is_masters(job):
            if self.conductor is not None:
                self.conductor.job_failed(job, why, again)
                self._pass_on(self.conductor)
        else:
            self.trainee.job_failed(job, why, again)

    def _is_masters(self, job: Job) -> bool:
        collector = self.conductor.collector if self.conductor is not None else None
        return isinstance(job, Check | Close | Initialise) or (collector is not None and job in collector.pending)

    def _lead(self) -> None:
        self.state.remember(term=self.election.claim())
        self.state.log("master", f"leads under term {self.state.durable.term.counter}")
        beacon = self.election.beacon
        expected = max(1, beacon.live - 1) if beacon is not None else 0
        self.conductor = Conductor(self.state, Members(self.state), self.trainee, expected)
        self.pulse.lead()

    def _step_down(self, why: str, level: Literal["info", "warning"] = "warning") -> None:
        """Stop leading; the first heir leads at once, the others (oneself too) wait their turn."""
        assert self.conductor is not None
        self.state.log("master", f"steps down: {why}", level)
        self.election.heirs = self.conductor.members.heirs()
        self.conductor.resign()
        self.conductor = None
        self.election.leading = False
        self.election.master_lost()
        self.trainee.obey(None, (), 0)

    def _hand_over(self, conductor: Conductor) -> None:
        """Let a lower node lead, between two rounds; it must have been named, or nobody knows whose turn it is."""
        heir, beacon = successor(self.state, conductor.members), self.pulse.beacon
        if (
            heir is not None
            and conductor.phase in BETWEEN_ROUNDS
            and beacon is not None
            and beacon.heirs[:1] == (heir,)
        ):
            self._step_down(f"node {heir} has a lower id", "info")

    def _pass_on(self, conductor: Conductor) -> None:
        """Let another node lead where only this one's disk or child may be at fault."""
        if conductor.unfit:
            self.election.abstain()
            self._step_down("it can't close the round; another node tries")

    def _thaw(self, slept_ms: int) -> None:
        """This process did not run for a while: what it believes of the others is old."""
        if self.conductor is not None:
            self._step_down(f"was not run for {slept_ms} ms")
        self.election.thaw()

    def _disconnected(self) -> None:
        self.state.connected = False
        if self.conductor is not None:
            self.state.log("master", "steps down: the broker is out of reach", "warning")
            self.conductor.dismiss()
            self.conductor = None
        self.election.disconnected()
        self.trainee.obey(None, (), 0)

    def _stop(self) -> None:
        if self.conductor is not None:
            self._step_down("stopping", "info")
        for job in list(self.state.running):
            self.state.cancel(job)
        if self.state.connected:
            self.state.say("gone", m.Gone(self.state.boot, self.state.connection, "stopped"))
        self.stopped = True
        self.state.actions.append(Halt())

    def _tick(self) -> None:
        state, now = self.state, self.state.now_ms
        if self.prepare_at_ms is not None and now >= self.prepare_at_ms:
            self.prepare_at_ms = None
            state.start(self.prepare)
        if self.election.echo_by_ms is not None and self.conductor is not None and now >= self.election.echo_by_ms:
            self._step_down("its own beacon does not come back")
        if self.election.due():
            self._lead()
        if self.conductor is not None and now >= self.conductor.due_ms:
            self.conductor.tick()
            self._hand_over(self.conductor)
        self._obey()
        self.trainee.tick()
        self.crew.tick()
        if state.connected:
            if self.conductor is not None:
                self.pulse.say_beacon(self.conductor.beacon())
            self.pulse.say_beat(sum(self.dropped.values()))
            self.pulse.say_card()

    def _obey(self) -> None:
        if self.conductor is not None:
            self.trainee.obey(self.state.id, holders(self.state, self.conductor.members), 0)
            self.crew.obey(self.state.id, self.conductor.leases.is_open)
        else:
            live = self.election.beacon.live if self.election.beacon is not None else 0
            self.trainee.obey(self.election.master, self.election.heirs, live)
            self.crew.obey(self.election.master, self.election.has_work)
