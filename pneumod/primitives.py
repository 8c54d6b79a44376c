"""The small types that messages are made of: numbers with their ranges, names, terms, references to blobs."""

from __future__ import annotations

from typing import Annotated, NamedTuple

from msgspec import Meta, Struct

MAX_COUNTER = 2**48
MAX_NODE_ID = MAX_IMAGES = 2**31 - 1
BIN_COUNT = 1024  # bins of the logit over [-10, 10]; 1,024 bound the pooled AUC within 0.001
LOGIT_LIMIT = 10.0
MAX_CLASS_WEIGHT = MAX_LOSS = 1e6

NodeId = Annotated[int, Meta(ge=0, le=MAX_NODE_ID)]
Digest = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]  # BLAKE2b-256
RunId = Annotated[str, Meta(pattern=r"^[a-z0-9-]{1,64}\Z")]
Count = Annotated[int, Meta(ge=0, le=MAX_IMAGES)]
Millis = Annotated[int, Meta(ge=0, le=2**53)]
Bytes = Annotated[int, Meta(ge=0, le=2**53)]
Share = Annotated[float, Meta(ge=0.0, le=1.0)]
ClassWeight = Annotated[float, Meta(gt=0.0, le=MAX_CLASS_WEIGHT)]
Loss = Annotated[float, Meta(ge=0.0, le=MAX_LOSS)]
Text = Annotated[str, Meta(max_length=400)]
Name = Annotated[str, Meta(min_length=1, max_length=64)]
Sender = Annotated[str, Meta(pattern=r"^(0|[1-9][0-9]{0,9}|op-(watch|predict|run)-[a-z0-9_.-]{1,48})\Z")]


class Term(NamedTuple):
    """The reign of one master, compared as a tuple: of equal counters the lowest node id wins."""

    counter: Annotated[int, Meta(ge=0, le=MAX_COUNTER)]
    neg_node: Annotated[int, Meta(ge=-MAX_NODE_ID, le=0)]
    boot: Annotated[int, Meta(ge=0, le=2**53)]

    @property
    def node(self) -> int:
        return -self.neg_node


NO_TERM = Term(0, -MAX_NODE_ID, 0)


class BlobRef(Struct, frozen=True):
    """A blob, named by the BLAKE2b-256 of its bytes."""

    digest: Digest
    size_bytes: Annotated[int, Meta(ge=1, le=2**32)]


class ClassCounts(Struct, frozen=True):
    """Images of one node that are ready to be used, by class and use."""

    train_normal: Count = 0
    train_pneumonia: Count = 0
    val_normal: Count = 0
    val_pneumonia: Count = 0

    @property
    def train(self) -> int:
        return self.train_normal + self.train_pneumonia
