"""What can happen to a node. The shell turns everything into one of these."""

from __future__ import annotations

from msgspec import Struct

from pneumod.core.jobs import Job, Outcome
from pneumod.messages import Activity, BlobRef, Envelope
from pneumod.work import Skill


class Connected(Struct, frozen=True):
    """The bus is reachable and the subscriptions stand. `connection` grows by one each time.

    `at_home`: the configuration marks this broker as one of the node's own site, so that images may travel over it.
    """

    connection: int
    at_home: bool = False


class Disconnected(Struct, frozen=True):
    pass


class Received(Struct, frozen=True):
    """A message that passed `wire`. `retained`: the broker kept it, so it says nothing of the sender's life."""

    kind: str
    envelope: Envelope
    retained: bool = False
    correlation: bytes = b""


class Tick(Struct, frozen=True):
    """The time that `Node.deadline_ms` named has come."""


class JobProgress(Struct, frozen=True):
    job: Job
    activity: Activity
    fraction: float
    samples_per_s: float


class JobDone(Struct, frozen=True):
    job: Job
    outcome: Outcome


class JobFailed(Struct, frozen=True):
    job: Job
    why: str
    again: bool = False  # the child died or hung: the work itself may be good


class BlobsFound(Struct, frozen=True):
    """The blobs on the disk, listed after a job failed: one may have been found damaged, and set aside."""

    digests: frozenset[str]


class ReceiptMissing(Struct, frozen=True):
    """A receipt names this one as the one before it, and this one was never kept here."""

    blob: BlobRef
    run: str
    round: int


class Vitals(Struct, frozen=True):
    """Figures for the next heartbeat."""

    load: float
    sent_bytes: int
    received_bytes: int
    dropped: int


class DiskSlow(Struct, frozen=True):
    """A write took longer than 3 s."""

    took_ms: int


class Offered(Struct, frozen=True):
    """This node has a batch of items for the nodes of its site; it takes the place of an earlier one."""

    batch: str
    skill: Skill
    items: int


class Withdrawn(Struct, frozen=True):
    """Whoever wanted this node's batch wants no more of it."""


class Stopping(Struct, frozen=True):
    """The operator (or systemd) asks for a clean stop."""


Event = (
    Connected | Disconnected | Received | Tick | JobProgress | JobDone | JobFailed | BlobsFound | Vitals
    | ReceiptMissing | DiskSlow | Offered | Withdrawn | Stopping
)  # fmt: skip
