"""Real nodes for short tests: one alone on a virtual clock, or several joined in memory.

`Solo` is one Node whose test plays everyone else. `joined` is a whole cluster whose messages take one
millisecond. No loop, no clock, no mocks; the invariants are checked after every step.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from pneumod.core import actions as act
from pneumod.core import events as ev
from pneumod.core.invariants import check
from pneumod.core.jobs import Check, Fetch, Initialise, Job, Outcome, Prepare, Prepared, Train, Trained
from pneumod.core.node import Node
from pneumod.messages import (
    NO_TERM,
    Beacon,
    Beat,
    BlobRef,
    Card,
    ClassCounts,
    Envelope,
    Message,
    Report,
    RoundClosed,
    RoundOpen,
    RunSettings,
    RunSpec,
    StartRun,
    Term,
    TrainResult,
)
from pneumod.sim.bus import Weather
from pneumod.sim.children import blob, outcome_of
from pneumod.sim.world import World
from pneumod.work import Skill

START_MS = 1_000_000  # a monotonic clock starts anywhere
DIGEST = "0" * 64
COUNTS = ClassCounts(50, 100, 5, 10)
CARD = Card("a node", "test", 1)
J = TypeVar("J", bound=Job)


def reign(counter: int, node: int, boot: int = 1) -> Term:
    return Term(counter, -node, boot)


def beacon(*heirs: int, connection: int = 1) -> Beacon:
    return Beacon(connection, heirs, len(heirs) + 1, DIGEST, "idle")


def beat(
    boot: int = 1, connection: int = 1, top_term: Term = NO_TERM, closed: RoundClosed | None = None, round_: int = 0
) -> Beat:
    model, checkpoint = (closed.model.digest, closed.checkpoint.digest) if closed else (None, None)
    return Beat(boot, connection, "idle", 0.0, round_, model, checkpoint, top_term)


def report(
    spec: RunSpec | None = None, closed: RoundClosed | None = None, counts: ClassCounts = COUNTS, boot: int = 1
) -> Report:
    holds = (closed.model.digest, closed.checkpoint.digest) if closed else ()
    return Report(boot, counts, spec, closed, tuple(sorted(holds)))


def spec_of(number: int = 1, run: str = "run-a", **settings: int) -> RunSpec:
    return RunSpec(number, run, "op-run-a", 1_700_000_000, RunSettings(**settings))  # type: ignore[arg-type]


def closed_of(spec: RunSpec, round_: int, term: Term, ended: str | None = None) -> RoundClosed:
    model, checkpoint = blob("model", spec.run, round_), blob("checkpoint", spec.run, round_)
    return RoundClosed(spec.run, spec.number, round_, term, model, checkpoint, (20, 20), ended=ended)


def open_of(spec: RunSpec, closed: RoundClosed, who: tuple[int, ...], *terms: Term, train: bool = True) -> RoundOpen:
    return RoundOpen(
        spec.run, spec.number, closed.round + 1, closed.model, train, who, 60_000, (1.0, 1.0), closed.exponents,
        spec.settings, terms,
    )  # fmt: skip


def result_of(node: int, opened: RoundOpen, update: BlobRef | None = None) -> TrainResult:
    """What `node` answers to a round."""
    trained = outcome_of(Train(opened), node)
    assert isinstance(trained, Trained)
    return TrainResult(
        opened.run, opened.round, opened.base.digest, opened.terms[-1], trained.scores, update or trained.update,
        trained.samples, trained.train_loss, trained.train_ms,
    )  # fmt: skip


class Solo:
    """One node. What it says to all or to itself comes back at once, as from a broker, while `echo` is true."""

    def __init__(
        self,
        node_id: int = 1,
        place: int = 0,
        durable: act.Durable | None = None,
        held: frozenset[str] = frozenset(),
        boot: int = 1,
        share_counts: bool = True,
        sites: Mapping[int, str] | None = None,
        skills: tuple[Skill, ...] = ("predict",),
        room: int = 0,
    ) -> None:
        self.now_ms = START_MS
        self.echo = True
        self.actions: list[act.Action] = []  # since `forget`
        self.peers: dict[int, Beat] = {}  # they beat each second while the time advances
        durable = durable or act.Durable()
        self.node = Node(node_id, place, boot, durable, held, CARD, Prepare(96), share_counts, sites, skills, room)
        self.step(ev.Tick())

    # ---- what happens ----

    def step(self, event: ev.Event) -> list[act.Action]:
        actions = self.node.step(event, self.now_ms)
        check(self.node)
        self.actions += actions
        for said in actions:
            mine = isinstance(said, act.Publish) and said.kind != "beat" and said.dest in (None, str(self.id))
            if mine and self.echo and self.node.state.connected:
                assert isinstance(said, act.Publish)
                self.step(ev.Received(said.kind, Envelope(str(self.id), said.term, said.message)))
        return actions

    def connect(self, connection: int = 1) -> Solo:
        self.step(ev.Connected(connection, at_home=True))
        return self

    def advance(self, ms: int) -> None:
        """Let the time pass; Ticks come when they are due, and the beats of the peers."""
        end_ms = self.now_ms + ms
        beat_ms = self.now_ms
        while True:
            if self.peers and self.now_ms >= beat_ms:
                beat_ms = self.now_ms + 1_000
                for peer in sorted(self.peers):
                    self.hear(peer, "beat", self.peers[peer])
            due_ms = max(self.node.deadline_ms(), self.now_ms + 1)
            next_ms = min(due_ms, beat_ms) if self.peers else due_ms
            if next_ms > end_ms:
                self.now_ms = end_ms
                return
            self.now_ms = next_ms
            if next_ms == due_ms:
                self.step(ev.Tick())

    def freeze(self, ms: int) -> None:
        """The process doesn't run for a while."""
        self.now_ms += ms
        self.step(ev.Tick())

    def hear(
        self, sender: int | str, kind: str, message: Message | None, term: Term | None = None, retained: bool = False
    ) -> list[act.Action]:
        """A message comes; its term is the node's own unless another is given."""
        term = self.term if term is None else term
        return self.step(ev.Received(kind, Envelope(str(sender), term, message), retained, b"c"))

    def finish(self, job: Job, outcome: Outcome | None = None) -> None:
        """A job ends as the simulator's children would end it, or with another outcome."""
        outcome = outcome or outcome_of(job, self.id)  # type: ignore[assignment]
        assert not isinstance(outcome, str | None), outcome
        self.step(ev.JobDone(job, outcome))

    def prepared(self, counts: ClassCounts = COUNTS) -> Solo:
        self.finish(self.running(Prepare), Prepared(counts, 0))
        return self

    # ---- what it did and is ----

    @property
    def id(self) -> int:
        return self.node.state.id

    @property
    def term(self) -> Term:
        return self.node.state.durable.term

    @property
    def durable(self) -> act.Durable:
        return self.node.state.durable

    @property
    def leads(self) -> bool:
        return self.node.conductor is not None

    @property
    def phase(self) -> str:
        assert self.node.conductor is not None
        return self.node.conductor.phase

    def forget(self) -> None:
        self.actions.clear()

    def published(self, kind: str) -> list[act.Publish]:
        return [a for a in self.actions if isinstance(a, act.Publish) and a.kind == kind]

    def said(self, kind: str) -> list[Message | None]:
        return [p.message for p in self.published(kind)]

    def logged(self) -> list[str]:
        return [a.text for a in self.actions if isinstance(a, act.Log)]

    def started(self, kind: type[J]) -> list[J]:
        return [a.job for a in self.actions if isinstance(a, act.Start) and isinstance(a.job, kind)]

    def running(self, kind: type[J]) -> J:
        """The one job of a kind that runs."""
        jobs = [job for job in self.node.state.running if isinstance(job, kind)]
        assert len(jobs) == 1, jobs
        return jobs[0]

    def runs(self, kind: type[Job]) -> bool:
        return any(isinstance(job, kind) for job in self.node.state.running)


def master(
    *peers: int,
    node_id: int = 1,
    counts: ClassCounts = COUNTS,
    durable: act.Durable | None = None,
    sites: Mapping[int, str] | None = None,
) -> Solo:
    """A node that leads, has gathered, and knows what its peers have."""
    closed, result = (durable.closed, durable.result) if durable else (None, None)
    blobs = [closed.model, closed.checkpoint] if closed else []
    blobs += [result.update] if result and result.update else []
    held = {b.digest for b in blobs}
    solo = Solo(node_id, durable=durable, held=frozenset(held), sites=sites).prepared(counts).connect()
    solo.peers = {n: beat() for n in peers}
    solo.advance(3_000)
    assert solo.leads
    for peer in peers:
        solo.hear(peer, "report", report())
    solo.advance(2_000)
    return solo


def ask(solo: Solo, run: str = "run-a", operator: str = "op-run-a", **settings: int) -> None:
    """An operator asks for a run."""
    solo.hear(operator, "request", StartRun(run, 1_700_000_000, RunSettings(**settings)), NO_TERM)  # type: ignore[arg-type]


def hold(solo: Solo) -> None:
    """The peers have stored the newest model."""
    for peer in solo.peers:
        solo.peers[peer] = beat(closed=solo.durable.closed)
    solo.advance(1_100)


def in_round(*peers: int, **settings: int) -> tuple[Solo, RoundOpen]:
    """A master in the first round of a run, with itself and its peers."""
    solo = master(*peers)
    ask(solo, **settings)
    solo.finish(solo.running(Initialise))
    hold(solo)
    return solo, current(solo)


def current(solo: Solo) -> RoundOpen:
    """The round that is open."""
    assert solo.phase == "collecting", solo.phase
    assert solo.durable.opened is not None
    return solo.durable.opened


def take_in(solo: Solo, *nodes: int) -> None:
    """The answers of these nodes come and are found good."""
    for node in nodes:
        opened = current(solo)
        if node == solo.id:
            solo.finish(solo.running(Train))
        else:
            solo.hear(node, "result", result_of(node, opened))
            if opened.train:
                solo.finish(solo.running(Fetch))
        if opened.train:
            solo.finish(solo.running(Check))


def joined(*ids: int, seed: int = 1) -> World:
    """A cluster in memory, every message one millisecond on its way, all nodes started."""
    world = World(seed, list(ids), Weather((1, 1)))
    for node in ids:
        world.start(node)
    return world
