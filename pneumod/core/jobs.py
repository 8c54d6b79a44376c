"""Slow actions. Each one that is started ends as exactly one JobDone(job, outcome) or JobFailed(job, why).

The structs travel to the children as msgpack, tagged with their class's name.
"""

from __future__ import annotations

from msgspec import Struct

from pneumod.messages import (
    Best,
    BlobRef,
    ClassCounts,
    LeftOut,
    Metrics,
    RoundClosed,
    RoundOpen,
    RunSpec,
    Scores,
    Takeover,
)
from pneumod.settings import Preparation
from pneumod.work import Skill


class Prepare(Struct, frozen=True, tag=True):
    """Scan the node's folders and fill the cache of prepared pixels (light child) -> Prepared."""

    image_size: int
    clahe: bool = False
    crop_borders: bool = False

    @property
    def preparation(self) -> Preparation:
        return Preparation(self.image_size, self.clahe, self.crop_borders)


class Prepared(Struct, frozen=True, tag=True):
    counts: ClassCounts
    skipped: int  # files set aside; the reasons are in the log


class Initialise(Struct, frozen=True, tag=True):
    """Make the model that a run starts from, and its first checkpoint (trainer) -> Initialised."""

    spec: RunSpec


class Initialised(Struct, frozen=True, tag=True):
    model: BlobRef
    checkpoint: BlobRef
    exponents: tuple[int, ...]


class Train(Struct, frozen=True, tag=True):
    """Score `opened.base`, then train it on this node's images if `opened.train` (trainer) -> Trained."""

    opened: RoundOpen


class Trained(Struct, frozen=True, tag=True):
    scores: Scores
    update: BlobRef | None
    samples: int
    train_loss: float | None
    train_ms: int


class Check(Struct, frozen=True, tag=True):
    """Check one node's update against the base and the exponents (light child) -> Checked, or fails with why."""

    node: int
    update: BlobRef
    samples: int  # that the result claimed
    opened: RoundOpen


class Checked(Struct, frozen=True, tag=True):
    pass


class Contribution(Struct, frozen=True):
    """A checked update that counts in a round."""

    node: int
    update: BlobRef | None
    samples: int


class Close(Struct, frozen=True, tag=True):
    """Fold the updates into the next model; write it, the checkpoint and the receipt (light child) -> Closed."""

    opened: RoundOpen
    previous: RoundClosed
    contributions: tuple[Contribution, ...]  # ascending by node
    left_out: tuple[LeftOut, ...]
    scored: Metrics
    best: Best | None
    takeovers: tuple[Takeover, ...]


class Closed(Struct, frozen=True, tag=True):
    model: BlobRef
    checkpoint: BlobRef
    receipt: BlobRef
    exponents: tuple[int, ...]


class Export(Struct, frozen=True, tag=True):
    """Write the best model as LiteRT with its card under `models/` (trainer) -> Exported."""

    spec: RunSpec
    best: Best
    nodes: int
    images: int  # validation images that its AUC was computed on
    train_images: ClassCounts | None  # of the cluster, where known


class Exported(Struct, frozen=True, tag=True):
    path: str


class Fetch(Struct, frozen=True, tag=True):
    """Get a blob from whoever holds it (shell) -> Fetched."""

    blob: BlobRef
    holders: tuple[int, ...]  # to ask, in this order
    announced: bool  # its chunks are being sent to all: ask only for what doesn't come


class Fetched(Struct, frozen=True, tag=True):
    pass


class Work(Struct, frozen=True, tag=True):
    """Do one item of a batch of a node of one's own site -> Worked."""

    owner: int
    batch: str
    skill: Skill
    item: int


class Worked(Struct, frozen=True, tag=True):
    data: bytes  # at most DATA_BYTES


Job = Prepare | Initialise | Train | Check | Close | Export | Fetch | Work
Outcome = Prepared | Initialised | Trained | Checked | Closed | Exported | Fetched | Worked
