"""What a node wants done. The shell runs them in order: a Persist is on the disk before what follows it."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from pneumod.core.jobs import Job
from pneumod.messages import NO_TERM, Message, Offer, RoundClosed, RoundOpen, RunSpec, Term, TrainResult


class Durable(Struct, frozen=True):
    """All that a node must remember across a crash, besides its blobs."""

    term: Term = NO_TERM  # the highest it obeyed or claimed
    spec: RunSpec | None = None
    closed: RoundClosed | None = None
    opened: RoundOpen | None = None  # the last round it was asked to train
    result: TrainResult | None = None  # its own last
    batch: Offer | None = None  # that it offers to its site


class Persist(Struct, frozen=True):
    durable: Durable


class Publish(Struct, frozen=True):
    """Say `message` (None clears a retained topic), under the term that the node obeys."""

    kind: str
    term: Term
    message: Message | None
    dest: str | None = None
    correlation: bytes = b""


class Broadcast(Struct, frozen=True):
    """Send a blob's chunks to everyone, once."""

    digest: str


class Start(Struct, frozen=True):
    job: Job


class Cancel(Struct, frozen=True):
    """Stop a job that was started; its JobDone or JobFailed still comes, and is then ignored."""

    job: Job


class Watch(Struct, frozen=True):
    """Subscribe to everyone's heartbeats (masters), or stop it."""

    on: bool


class Keep(Struct, frozen=True):
    """The blobs that are still needed; the others may go."""

    digests: frozenset[str]


class Archive(Struct, frozen=True):
    """Keep a receipt for good."""

    digest: str
    run: str
    round: int


class Deliver(Struct, frozen=True):
    """Keep what came of an item of this node's batch, under the item's number; before its Persist it may come twice.

    `node` did it.
    """

    batch: str
    item: int
    data: bytes
    failed: str | None
    node: int


class Log(Struct, frozen=True):
    component: Literal["master", "worker", "train"]
    level: Literal["info", "warning", "error"]
    text: str


class Halt(Struct, frozen=True):
    """Everything before this was done; end the process."""


Action = Persist | Publish | Broadcast | Start | Cancel | Watch | Keep | Archive | Deliver | Log | Halt
