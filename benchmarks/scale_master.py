"""One master on the real core, fed with messages decoded from the wire: its memory and processor time by node."""

from __future__ import annotations

import gc
import time
import tracemalloc
from hashlib import blake2b
from typing import NamedTuple

from mqtt_packet import TOPICS
from msgspec import Struct

from pneumod import wire
from pneumod.core import actions as act
from pneumod.core import events as ev
from pneumod.core import jobs as j
from pneumod.core.node import Node
from pneumod.messages import (
    Beat,
    BlobRef,
    Card,
    ClassCounts,
    Message,
    Report,
    RoundOpen,
    Scores,
    StartRun,
    Term,
    TrainResult,
)
from pneumod.settings import RunSettings

MODEL_BYTES = 1_200_000
TENSORS = 60
BINS = 60  # filled bins of a node's scores, a class
COUNTS = ClassCounts(300, 300, 50, 50)
OPERATOR = "op-run-scale"
TICK_MS = 50
LOOKS = 10


class Times(NamedTuple):
    """Of the processor, the decoding of the message included."""

    beat_us: float
    report_us: float
    result_us: float  # with its fetch and its check, as far as the core sees them
    look_ms: float  # at all members, in a round: at most 20 times a second


class Figures(Struct):
    """What `nodes` nodes cost their master."""

    nodes: int
    times: Times
    idle_bytes: int  # of memory, all nodes together
    round_bytes: int  # more, while a round is open and all answers are in
    worker_bytes: int  # that one worker holds of an open round
    open_bytes: int  # payload of RoundOpen
    report_bytes: int
    result_bytes: int


def digest_of(*parts: object) -> str:
    return blake2b(repr(parts).encode(), digest_size=32).hexdigest()


MODEL, CHECKPOINT = BlobRef(digest_of("model"), MODEL_BYTES), BlobRef(digest_of("checkpoint"), 4_000)


class Fed:
    """A node whose events come over the wire and whose jobs end when this benchmark says so."""

    def __init__(self, node_id: int) -> None:
        self.node = Node(node_id, 0, 1, act.Durable(), frozenset(), Card(f"node {node_id}", "scale", 2), 96)
        self.now_ms = 0
        self.said: list[act.Publish] = []
        self.started: list[j.Job] = []
        self.step(ev.Connected(1))
        self.end(j.Prepare, j.Prepared(COUNTS, 0))

    def step(self, event: ev.Event) -> None:
        for action in self.node.step(event, self.now_ms):
            if isinstance(action, act.Publish) and action.kind != "beat":
                self.said.append(action)
            elif isinstance(action, act.Start):
                self.started.append(action.job)

    def hear(self, sender: str, kind: str, payload: bytes) -> None:
        dest = str(self.node.state.id) if kind in ("report", "result", "request") else None
        self.step(ev.Received(kind, wire.decode(TOPICS.parse(TOPICS.topic(sender, kind, dest)), payload), False))

    def end(self, kind: type[j.Job], outcome: j.Outcome) -> None:
        """The jobs of a kind end well."""
        done = [job for job in self.started if isinstance(job, kind)]
        self.started = [job for job in self.started if not isinstance(job, kind)]
        for job in done:
            self.step(ev.JobDone(job, outcome))

    def wait(self, for_ms: int) -> None:
        """Time passes; what this node tells all, or itself, comes back."""
        me = str(self.node.state.id)
        for _ in range(for_ms // TICK_MS):
            self.now_ms += TICK_MS
            self.step(ev.Tick())
            said, self.said = self.said, []
            for one in said:
                if one.kind in ("beacon", "report") and one.message is not None:
                    self.hear(me, one.kind, wire.encode(me, one.term, one.message))
                else:
                    self.said.append(one)


class Timed:
    """Feeds one message of each node and keeps the processor time of each in µs."""

    def __init__(self, fed: Fed) -> None:
        self.fed = fed

    def all(self, kind: str, payloads: dict[int, bytes]) -> float:
        started_s = time.process_time()
        for node, payload in payloads.items():
            self.fed.hear(str(node), kind, payload)
            self.work_off()
        return 1e6 * (time.process_time() - started_s) / max(1, len(payloads))

    def work_off(self) -> None:
        """Fetches and checks end as soon as they begin."""
        while any(isinstance(job, j.Fetch | j.Check) for job in self.fed.started):
            self.fed.end(j.Fetch, j.Fetched())
            self.fed.end(j.Check, j.Checked())


def measure(nodes: int) -> Figures:
    """A master with `nodes` nodes, itself one of them, through one round that trains."""
    master, others = Fed(1), range(2, nodes + 1)
    master.wait(6_000)
    assert master.node.conductor is not None, "it does not lead"
    term, timed = master.node.state.durable.term, Timed(master)
    beats, reports = _beats(others, term, None, None), _reports(others, term)
    tracemalloc.start()
    before = _memory()
    timed.all("beat", beats), timed.all("report", reports)
    master.wait(200)
    idle_bytes = _memory() - before
    opened = _open(master, timed, others, term)
    results = _results(others, term, opened)
    before = _memory()
    timed.all("result", results)
    round_bytes = _memory() - before
    worker_bytes = _worker(term, opened)
    tracemalloc.stop()
    return Figures(
        nodes=nodes,
        times=_times(others),
        idle_bytes=idle_bytes,
        round_bytes=round_bytes,
        worker_bytes=worker_bytes,
        open_bytes=len(wire.encode("1", term, opened)),
        report_bytes=len(reports[2]),
        result_bytes=len(results[2]),
    )


def _times(others: range) -> Times:
    """The same again without the memory's book-keeping, which slows it down."""
    master = Fed(1)
    master.wait(6_000)
    term, timed = master.node.state.durable.term, Timed(master)
    beats = _beats(others, term, None, None)
    timed.all("beat", beats)
    beat_us, report_us = timed.all("beat", beats), timed.all("report", _reports(others, term))
    master.wait(200)
    opened = _open(master, timed, others, term)
    result_us = timed.all("result", _results(others, term, opened))
    started_s, conductor = time.process_time(), master.node.conductor
    assert conductor is not None
    for _ in range(LOOKS):
        conductor.tick()
    return Times(beat_us, report_us, result_us, 1e3 * (time.process_time() - started_s) / LOOKS)


def _open(master: Fed, timed: Timed, others: range, term: Term) -> RoundOpen:
    """An operator asks for a run; its first round opens once the heirs hold the model."""
    request = StartRun("run-scale", 0, RunSettings(rounds=2))
    master.hear(OPERATOR, "request", wire.encode(OPERATOR, term, request))
    master.end(j.Initialise, j.Initialised(MODEL, CHECKPOINT, (20,) * TENSORS))
    timed.all("beat", _beats(others, term, MODEL.digest, CHECKPOINT.digest))
    master.wait(1_200)
    (opened,) = [one.message for one in master.said if isinstance(one.message, RoundOpen) and one.dest is None]
    assert len(opened.who) == len(others) + 1
    return opened


def _worker(term: Term, opened: RoundOpen) -> int:
    """What a worker keeps of the round that it is asked to do."""
    worker = Fed(2)
    payload = wire.encode("1", term, opened)
    before = _memory()
    worker.hear("1", "open", payload)
    assert worker.node.state.durable.opened == opened
    return _memory() - before


def _beats(others: range, term: Term, model: str | None, checkpoint: str | None) -> dict[int, bytes]:
    def beat(node: int) -> Message:
        return Beat(1, 1, "idle", 0.0, 0, model, checkpoint, term, 0.3, 0.0, 123_456 + node, 234_567 + node, 0, 0)

    return {node: wire.encode(str(node), term, beat(node)) for node in others}


def _reports(others: range, term: Term) -> dict[int, bytes]:
    return {node: wire.encode(str(node), term, Report(1, COUNTS, None, None, ())) for node in others}


def _results(others: range, term: Term, opened: RoundOpen) -> dict[int, bytes]:
    def result(node: int) -> Message:
        histogram = tuple((400 + bin_, 1) for bin_ in range(BINS))
        update = BlobRef(digest_of("update", node), MODEL_BYTES)
        scores = Scores(histogram, histogram, 0.5)
        return TrainResult(opened.run, opened.round, opened.base.digest, term, scores, update, 600, 0.5, 9_000)

    return {node: wire.encode(str(node), term, result(node)) for node in others}


def _memory() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]
