"""How a command on a node's own machine hands a batch of work to the node's daemon: frames on a Unix socket.

The socket is `desk.sock` in the node's state directory: who may enter that folder may use it. The command keeps the
files: the daemon asks for an item's parcel when somebody is to work on it. One command has one batch at a time.

    command                                   daemon
    Bring(batch, skill, items, head)   ->
                                       <-     Accepted, or Refused
                                       <-     Need(item)              any number of times, also twice for one item
    Give(item, parcel)                 ->
                                       <-     Came(item, data, node)  once or more for each item
                                       <-     Spent                   what it cost to do an item here, or to send it
    End                                ->                             or the connection's end: the batch is withdrawn

A daemon that was restarted takes the same batch up again from a command that brings it again, and tells first what
came of it before.
"""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from pneumod import wire
from pneumod.errors import WireError
from pneumod.primitives import NodeId, Text
from pneumod.work import MAX_ITEMS, PARCEL_BYTES, BatchId, Item, Skill

SOCKET = "desk.sock"
HEADER = struct.Struct("<I")
MAX_FRAME_BYTES = PARCEL_BYTES + 64 * 1024


class Bring(Struct, frozen=True, tag=True):
    """Have a batch done by the nodes of this site."""

    batch: BatchId
    skill: Skill
    items: Annotated[int, Meta(ge=1, le=MAX_ITEMS)]
    head: bytes  # a parcel.Head


class Give(Struct, frozen=True, tag=True):
    """The files of an item."""

    item: Item
    parcel: bytes  # a parcel.Parcel


class End(Struct, frozen=True, tag=True):
    """The command wants no more of its batch."""


class Accepted(Struct, frozen=True, tag=True):
    """The batch is offered. `site` has the nodes of this site by the roster, this one among them."""

    node: NodeId
    site: tuple[NodeId, ...]


class Refused(Struct, frozen=True, tag=True):
    """The batch can't be spread, or no longer: the rest of it is the command's own work."""

    why: Text


class Need(Struct, frozen=True, tag=True):
    """Somebody is to work on this item."""

    item: Item


class Came(Struct, frozen=True, tag=True):
    """What came of an item, and which node did it."""

    item: Item
    data: bytes  # a parcel.Answers; empty where it failed
    node: NodeId
    failed: Text | None = None


class Spent(Struct, frozen=True, tag=True):
    """What an item cost this machine: its parcel was sent to another node, or it was worked on here."""

    how: Literal["sent", "worked"]
    item: Item
    parcel_bytes: int
    ms: float


Frame = Bring | Give | End | Accepted | Refused | Need | Came | Spent


def socket_path(state_dir: Path) -> Path:
    return state_dir / SOCKET


@contextmanager
def address(path: Path) -> Iterator[str]:
    """A short path of the socket: its address has 108 bytes at most, and a folder's path may have more."""
    place = os.open(path.parent, os.O_PATH)
    try:
        yield f"/proc/self/fd/{place}/{path.name}"
    finally:
        os.close(place)


def pack_frame(frame: Frame) -> bytes:
    """A frame with its length before it."""
    body = wire.pack(frame)
    return HEADER.pack(len(body)) + body


def unpack_frame(body: bytes) -> Frame:
    """The inverse of `pack_frame`, without the length.

    Raises:
        WireError: not one of the frames.
    """
    try:
        return msgspec.convert(wire.unpack(body), Frame, builtin_types=(bytes,))  # type: ignore[no-any-return]
    except msgspec.ValidationError as error:
        raise WireError(f"bad frame: {error}"[:200]) from error


async def read_frame(reader: asyncio.StreamReader) -> Frame:
    """The next frame of a connection.

    Raises:
        WireError: not one of the frames, or too long.
        IncompleteReadError: the connection ended.
    """
    (size,) = HEADER.unpack(await reader.readexactly(HEADER.size))
    if size > MAX_FRAME_BYTES:
        raise WireError("too long")
    return unpack_frame(await reader.readexactly(size))
