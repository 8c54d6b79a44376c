"""What came of the items of this node's batch, on its disk: `results/BATCH`, ready to be told to the command.

Records are only added, and the state that counts an item as done is written after a sync: every item that is done
there is whole here, and a tail that a crash has torn holds none of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from hashlib import blake2b
from io import FileIO
from pathlib import Path

from pneumod import desk
from pneumod.blobs import sync_folder
from pneumod.errors import WireError

CHECK_BYTES = 8  # before each record, of its BLAKE2b
READ_BYTES = 1024 * 1024  # told at once, and one record more


class Results:
    """The file of one batch. Used in the writer thread only."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file: FileIO | None = None
        self._whole_bytes = 0  # of records in it
        self._synced = True

    def begin(self, batch: str, anew: bool) -> frozenset[int]:
        """Take up the file of a batch, or begin one; the items that are in it. The files of others go."""
        self.end(but=None if anew else batch)
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self._file, self._whole_bytes = (self.folder / batch).open("a+b", buffering=0), 0
        self._file.seek(0)
        items = set()
        with suppress(WireError):  # of another version: begin anew from there
            for frame in _records(self._file):
                items.add(_item(frame))
                self._whole_bytes += CHECK_BYTES + len(frame)
        self._file.truncate(self._whole_bytes)
        sync_folder(self.folder)
        return frozenset(items)

    def append(self, came: desk.Came) -> None:
        """Add what came of one item. Without effect where no batch is on any more.

        Raises:
            OSError: the disk refused it; what was there is as it was.
        """
        if self._file is not None:
            frame = desk.pack_frame(came)
            record = memoryview(_check(frame) + frame)
            self._synced = False
            try:
                while record:
                    record = record[self._file.write(record) :]
            except OSError:
                self._file.truncate(self._whole_bytes)
                raise
            self._whole_bytes += CHECK_BYTES + len(frame)

    def sync(self) -> None:
        """Have what was added on the disk."""
        if self._file is not None and not self._synced:
            os.fsync(self._file.fileno())
            self._synced = True

    def read(self, start: int) -> tuple[bytes, int]:
        """Frames from an offset on, as the command reads them, and the offset behind them."""
        if self._file is None:
            return b"", start
        self._file.seek(start)
        frames = bytearray()
        for frame in _records(self._file):
            frames += frame
            start += CHECK_BYTES + len(frame)
            if len(frames) >= READ_BYTES:
                break
        return bytes(frames), start

    def end(self, but: str | None = None) -> None:
        """Delete what is here, except for one batch."""
        if self._file is not None:
            self._file.close()
            self._file = None
        for path in self.folder.glob("*"):
            if path.name != but:
                path.unlink()


def _records(file: FileIO) -> Iterator[bytes]:
    """The frames from where the file stands, up to its end or to the first that isn't whole."""
    while True:
        head = file.read(CHECK_BYTES + desk.HEADER.size)
        if len(head) < CHECK_BYTES + desk.HEADER.size:
            return
        check, header = head[:CHECK_BYTES], head[CHECK_BYTES:]
        (size,) = desk.HEADER.unpack(header)
        if size > desk.MAX_FRAME_BYTES:
            return
        frame = header + file.read(size)
        if _check(frame) != check:
            return
        yield frame


def _check(frame: bytes) -> bytes:
    return blake2b(frame, digest_size=CHECK_BYTES).digest()


def _item(frame: bytes) -> int:
    came = desk.unpack_frame(frame[desk.HEADER.size :])
    if not isinstance(came, desk.Came):
        raise WireError("another frame")
    return came.item
