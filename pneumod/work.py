"""The messages of leased work items: who offers, pulls, grants and delivers them.

A batch is a number of items that its owner, a node, wants done by the nodes of its site. The master leases
items to whoever pulls; what comes of an item goes to the owner, who takes the first completion of each.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from pneumod.primitives import Millis, NodeId, Text

MAX_ITEMS = 65_536  # of a batch
MAX_HELD = 64  # items that a node may hold at one time
DATA_BYTES = 192 * 1024  # that come of an item, at most
PARCEL_BYTES = 32 * 1024 * 1024  # of the files of an item on their way to another node, at most
PIECE_BYTES = 192 * 1024

BatchId = Annotated[str, Meta(pattern=r"^[a-z0-9-]{1,64}\Z")]
Item = Annotated[int, Meta(ge=0, lt=MAX_ITEMS)]
Skill = Literal["preprocess", "predict"]  # what is done with an item


class Offer(Struct, frozen=True):
    """The owner tells the master of its batch: on a new reign, when something was done, and every few seconds."""

    batch: BatchId
    skill: Skill
    items: Annotated[int, Meta(ge=1, le=MAX_ITEMS)]
    done: Annotated[bytes, Meta(max_length=MAX_ITEMS // 8)]  # bit i % 8 of byte i // 8: item i is done
    withdrawn: bool = False  # nobody wants the rest of it


class Pull(Struct, frozen=True):
    """A node asks for items, and renews the leases of those that it holds."""

    room: Annotated[int, Meta(ge=0, le=MAX_HELD)]
    skills: Annotated[tuple[Skill, ...], Meta(max_length=8)]
    held: Annotated[tuple[tuple[NodeId, BatchId, Item], ...], Meta(max_length=MAX_HELD)]


class Grant(Struct, frozen=True):
    """Items that the receiver is to do, and nobody else while it renews them."""

    owner: NodeId
    batch: BatchId
    skill: Skill
    items: Annotated[tuple[Item, ...], Meta(min_length=1, max_length=MAX_HELD)]
    lease_ms: Millis


class Done(Struct, frozen=True):
    """What came of an item, for its owner; said again until the owner takes it."""

    batch: BatchId
    item: Item
    data: Annotated[bytes, Meta(max_length=DATA_BYTES)]
    failed: Text | None = None  # why nothing came of it


class Taken(Struct, frozen=True):
    """The owner has an item's completion, or wants none: the node may forget it."""

    batch: BatchId
    item: Item


class ParcelWant(Struct, frozen=True):
    """A node that was granted an item asks its owner for pieces of the item's files."""

    batch: BatchId
    item: Item | None  # None: the batch's head, what is to be done with every item
    pieces: Annotated[tuple[Annotated[int, Meta(ge=0, lt=1024)], ...], Meta(min_length=1, max_length=64)]


class Piece(Struct, frozen=True):
    """A part of a parcel. It holds parts of images: it goes to one node of the owner's own site, and no further."""

    batch: BatchId
    item: Item | None
    index: Annotated[int, Meta(ge=0, lt=1024)]
    count: Annotated[int, Meta(ge=1, le=1024)]
    data: Annotated[bytes, Meta(max_length=PIECE_BYTES)]
    reading: Annotated[int, Meta(ge=0, le=2**32)] = 0  # of the files, which may change: pieces of two don't mix
