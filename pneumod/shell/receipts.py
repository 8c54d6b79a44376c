"""The receipts that a node keeps for good: `receipts/RUN/ROUND.msgpack`, found by their digests.

A receipt names the digest of the one before it, so a chain without a gap is a whole history: what a digest in
it names can't have been changed. One that is lost or damaged shows as a gap, and any node may serve it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta, Struct

from pneumod import wire
from pneumod.blobs import digest_of, read_checked, read_file, set_aside, write_atomic
from pneumod.core.events import ReceiptMissing
from pneumod.errors import WireError
from pneumod.logs import component
from pneumod.messages import BlobRef, Digest, RunId

MAX_RECEIPT_BYTES = 4 * 1024 * 1024  # one of 10,000 nodes, each with a reason, is smaller

log = component("worker")


class Header(Struct, frozen=True):
    """What is read of a receipt's header. It may come from a peer or a bad disk: all of it is checked."""

    run: RunId
    round: Annotated[int, Meta(ge=1)]
    previous: Digest | None
    previous_bytes: Annotated[int, Meta(ge=1, le=MAX_RECEIPT_BYTES)] | None


class Kept(NamedTuple):
    path: Path
    before: ReceiptMissing | None  # the receipt before it, in the words in which its lack is told


class Receipts:
    """The receipts under one folder, by digest."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._kept: dict[str, Kept] = {}

    def scan(self) -> None:
        """Learn what is here; what is no receipt is set aside."""
        for path in sorted(self.folder.glob("*/*.msgpack")):
            if not self._note(path, read_file(path)):
                set_aside(path)

    def __contains__(self, digest: str) -> bool:
        return digest in self._kept

    def read(self, digest: str) -> bytes | None:
        """The bytes of a receipt; None if it isn't here. A damaged one is set aside."""
        kept = self._kept.get(digest)
        if kept is None:
            return None
        data = read_checked(kept.path, digest)
        if data is None:
            del self._kept[digest]
        return data

    def add(self, data: bytes, run: str, round_: int) -> None:
        """Keep a receipt; another one in its place isn't of the chain, and is set aside."""
        if digest_of(data) in self._kept:
            return
        if _header(data) is None:
            log.error("the receipt of %s, round %d, is none: not kept", run, round_)
            return
        path = self.folder / run / f"{round_:05}.msgpack"
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            set_aside(path, "no part of the chain of receipts")
            self._kept = {digest: kept for digest, kept in self._kept.items() if kept.path != path}
        write_atomic(path, data)
        self._note(path, data)

    def gap(self, newest: str) -> ReceiptMissing | None:
        """The first that is missing on the way back from the receipt `newest`, which is here; None where all are."""
        kept = self._kept.get(newest)
        while kept is not None and kept.before is not None:
            if kept.before.blob.digest not in self._kept:
                return kept.before
            kept = self._kept[kept.before.blob.digest]
        return None

    def _note(self, path: Path, data: bytes) -> bool:
        header = _header(data)
        if header is None:
            return False
        before = None
        if header.previous is not None and header.previous_bytes is not None:
            blob = BlobRef(header.previous, header.previous_bytes)
            before = ReceiptMissing(blob, header.run, header.round - 1)
        self._kept[digest_of(data)] = Kept(path, before)
        return True


def _header(data: bytes) -> Header | None:
    try:
        return msgspec.convert(wire.decode_document(data, "receipt").header, Header)
    except (WireError, msgspec.ValidationError):
        return None
