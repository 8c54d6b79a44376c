"""Every message on the wire, as frozen typed structs.

`wire` turns bytes into an `Envelope` and checks every constraint written here: who holds one of these
structs may trust its types and ranges, never its truthfulness. Durations are by the sender's own clock.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from pneumod.primitives import (
    BIN_COUNT,
    LOGIT_LIMIT,
    MAX_CLASS_WEIGHT,
    MAX_COUNTER,
    MAX_IMAGES,
    MAX_LOSS,
    MAX_NODE_ID,
    NO_TERM,
    BlobRef,
    Bytes,
    ClassCounts,
    ClassWeight,
    Count,
    Digest,
    Loss,
    Millis,
    Name,
    NodeId,
    RunId,
    Sender,
    Share,
    Term,
    Text,
)
from pneumod.settings import RunSettings
from pneumod.work import Done, Grant, Offer, ParcelWant, Piece, Pull, Taken


class RunSpec(Struct, frozen=True):
    """A run that was accepted. `number` grows by one a run, so that two specs can be ordered."""

    number: Annotated[int, Meta(ge=1, le=MAX_COUNTER)]
    run: RunId
    asked_by: Name
    asked_at_s: Annotated[int, Meta(ge=0, le=2**40)]  # Unix seconds by the asker's clock; shown, never used
    settings: RunSettings
    ended: Text | None = None  # why a run is over that never had a model; else the last RoundClosed says it


class Best(Struct, frozen=True):
    """The best scored model of a run so far, by pooled validation AUC."""

    round: Count
    auc: Share
    threshold: Share  # probability that maximises Youden's J on the pooled validation scores
    model: BlobRef


class Metrics(Struct, frozen=True):
    """Scores of one global model over the validation images of all nodes that answered."""

    auc: Share | None  # None: no image of one class
    loss: Loss | None
    images: Count


class LeftOut(Struct, frozen=True):
    node: NodeId
    why: Text


class Takeover(Struct, frozen=True):
    """A round that went on under a new master. `updates_kept`: trained under an earlier term, used now."""

    old_term: Term
    new_term: Term
    updates_kept: Count


class Summary(Struct, frozen=True):
    """What a round did, for people; the receipt blob has the whole of it."""

    counted: Count
    left_out: Annotated[tuple[LeftOut, ...], Meta(max_length=64)]
    left_out_total: Count
    train_loss: Loss | None
    duration_ms: Millis
    slowest_train_ms: Millis
    update_bytes: Bytes
    takeovers: Annotated[tuple[Takeover, ...], Meta(max_length=64)] = ()
    deadline_ms: Millis = 0  # that the round had in the end
    answered_ms: Millis = 0  # from the opening until the last answer that counts


class RoundOpen(Struct, frozen=True):
    """Train (or, with `train` false, only score) `base`. (run, round, base) is the key of the work."""

    run: RunId
    number: Annotated[int, Meta(ge=1, le=MAX_COUNTER)]
    round: Annotated[int, Meta(ge=1, le=1_000_000)]
    base: BlobRef
    train: bool
    who: Annotated[tuple[NodeId, ...], Meta(max_length=10_000)]  # ascending
    deadline_ms: Millis  # from its arrival, by each node's own clock
    class_weights: tuple[ClassWeight, ClassWeight]
    exponents: Annotated[tuple[Annotated[int, Meta(ge=-64, le=64)], ...], Meta(max_length=4096)]
    settings: RunSettings
    terms: Annotated[tuple[Term, ...], Meta(min_length=1, max_length=64)]  # masters that opened this round, in order
    counts: ClassCounts = ClassCounts()  # of all of `who` together

    @property
    def key(self) -> tuple[str, int, str]:
        return (self.run, self.round, self.base.digest)


class RoundClosed(Struct, frozen=True):
    """The state of a run after a round. Round 0 is the model that the run starts from."""

    run: RunId
    number: Annotated[int, Meta(ge=1, le=MAX_COUNTER)]
    round: Annotated[int, Meta(ge=0, le=1_000_000)]
    term: Term  # the reign that closed it, kept when a later master repeats it
    model: BlobRef
    checkpoint: BlobRef
    exponents: Annotated[tuple[Annotated[int, Meta(ge=-64, le=64)], ...], Meta(max_length=4096)]
    receipt: BlobRef | None = None
    scored: Metrics | None = None  # of the base of this round: the model of the round before
    best: Best | None = None
    stale_rounds: Count = 0  # scored rounds since the best
    summary: Summary | None = None
    ended: Text | None = None  # why the run is over; None while it goes on

    @property
    def blobs(self) -> tuple[BlobRef, ...]:
        return tuple(blob for blob in (self.model, self.checkpoint, self.receipt) if blob is not None)


Histogram = Annotated[
    tuple[tuple[Annotated[int, Meta(ge=0, lt=BIN_COUNT)], Count], ...], Meta(max_length=BIN_COUNT)
]  # (bin of the logit, images), ascending by bin


class Scores(Struct, frozen=True):
    """One model on one node's validation images: counts a logit bin, so that no single score leaves."""

    normal: Histogram = ()
    pneumonia: Histogram = ()
    loss: Loss | None = None


class TrainResult(Struct, frozen=True):
    """A node's answer to RoundOpen. The update itself is fetched as a blob by the master."""

    run: RunId
    round: Annotated[int, Meta(ge=1, le=1_000_000)]
    base: Digest
    trained_term: Term  # the master that asked for it
    scores: Scores  # of the base model
    update: BlobRef | None  # None where the round only scores
    samples: Count
    train_loss: Loss | None
    train_ms: Millis
    failed: Text | None = None  # why there is no answer, in words that tell nothing of the node's files

    @property
    def key(self) -> tuple[str, int, str]:
        return (self.run, self.round, self.base)


class Card(Struct, frozen=True):
    """Who I am. Retained; refreshed while the node lives."""

    name: Name
    version: Annotated[str, Meta(max_length=32)]
    cores: Annotated[int, Meta(ge=1, le=65536)]
    counts: ClassCounts | None = None  # where the config shares them with others than the master


Activity = Literal[
    "starting", "preparing", "idle", "fetching", "training", "scoring", "aggregating", "exporting", "working"
]  # working: on items of its site


class Beat(Struct, frozen=True):
    """A heartbeat, each second, QoS 0."""

    boot: Annotated[int, Meta(ge=0, le=2**53)]
    connection: Annotated[int, Meta(ge=0, le=2**53)]
    activity: Activity
    progress: Share  # of the activity
    round: Count  # last closed round that this node knows
    model: Digest | None  # newest global model it holds on disk
    checkpoint: Digest | None
    top_term: Term  # the highest that it obeyed: a stale claimant learns it
    load: Annotated[float, Meta(ge=0.0, le=1e6)] = 0.0  # 1-minute load average a core
    samples_per_s: Annotated[float, Meta(ge=0.0, le=1e9)] = 0.0
    sent_bytes: Bytes = 0
    received_bytes: Bytes = 0
    dropped: Count = 0  # messages refused since the start
    trained_ms: Millis = 0  # spent training since the start
    unfit: bool = False  # claims nothing for now: its disk is slow, or it could not close a round


class Gone(Struct, frozen=True):
    """The Will of a connection, or said on a clean stop."""

    boot: Annotated[int, Meta(ge=0, le=2**53)]
    connection: Annotated[int, Meta(ge=0, le=2**53)]
    why: Literal["lost", "stopped"] = "lost"


Phase = Literal["idle", "gathering", "waiting", "preparing", "collecting", "closing", "handing"]


class Beacon(Struct, frozen=True):
    """The master lives. An empty payload in its place: the master steps down, the first heir leads."""

    connection: Annotated[int, Meta(ge=0, le=2**53)]
    heirs: Annotated[tuple[NodeId, ...], Meta(max_length=8)]  # the lowest live ids but mine, ascending
    live: Count  # members, the master among them
    members: Digest  # of the list of live ids
    phase: Phase
    note: Text = ""  # what the master waits for
    run: RunId | None = None
    round: Count = 0
    expected: Count = 0  # updates
    accepted: Count = 0
    work: bool = False  # there are items to pull


class Report(Struct, frozen=True):
    """What a node tells its master: on a new term, after a reconnect, and every 10 s."""

    boot: Annotated[int, Meta(ge=0, le=2**53)]
    counts: ClassCounts | None  # None: its images are not prepared yet
    spec: RunSpec | None
    closed: RoundClosed | None
    holds: Annotated[tuple[Digest, ...], Meta(max_length=8)]


class BlobWant(Struct, frozen=True):
    """Send me these chunks of a blob."""

    digest: Digest
    chunks: Annotated[tuple[Annotated[int, Meta(ge=0, le=65535)], ...], Meta(min_length=1, max_length=4096)]


class Chunk(Struct, frozen=True):
    digest: Digest
    index: Annotated[int, Meta(ge=0, le=65535)]
    count: Annotated[int, Meta(ge=1, le=65536)]
    data: Annotated[bytes, Meta(max_length=192 * 1024)]


class StartRun(Struct, frozen=True):
    """An operator asks for a run. `run` is chosen by the asker, so that asking twice starts one run."""

    run: RunId
    asked_at_s: Annotated[int, Meta(ge=0, le=2**40)]
    settings: RunSettings


class StopRun(Struct, frozen=True):
    """An operator asks for the end of a run: its best model so far stays."""

    run: RunId


class Reply(Struct, frozen=True):
    ok: bool
    text: Text
    again: bool = False  # no for now: the same request may be answered otherwise in a moment


Message = (
    Card | Beat | Gone | Beacon | Report | RunSpec | RoundOpen | RoundClosed | TrainResult
    | BlobWant | Chunk | StartRun | StopRun | Reply | Offer | Pull | Grant | Done | Taken
    | ParcelWant | Piece
)  # fmt: skip


class Envelope(Struct, frozen=True):
    """What travels. `term` is the highest that the sender obeys; `message` fits the topic's kind."""

    sender: Sender
    term: Term
    message: Message | None  # None: an empty retained message, the topic was cleared

    @property
    def node(self) -> int | None:
        """The sender's node id; None for an operator."""
        return int(self.sender) if self.sender.isdigit() else None
