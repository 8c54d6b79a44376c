"""A folder of content-addressed blobs: `<digest>` holds the bytes whose BLAKE2b-256 is `<digest>`.

Used by the daemon and by its children, which share the folder. Every write is atomic and synced before
the name appears, so a name that exists is whole; a read checks the digest all the same, since disks rot.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from errno import EIO
from hashlib import blake2b, file_digest
from pathlib import Path
from typing import BinaryIO

from pneumod.messages import BlobRef

CHUNK_BYTES = 192 * 1024

logger = logging.getLogger("pneumod.worker")


def digest_of(data: bytes) -> str:
    """BLAKE2b-256, in hexadecimal."""
    return blake2b(data, digest_size=32).hexdigest()


def chunk_count(size_bytes: int) -> int:
    return max(1, -(-size_bytes // CHUNK_BYTES))


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write in place of `path`: a crash leaves the old one or the new one, and the new one is on the disk.

    Raises:
        OSError: the disk refused it, which leaves the old file and nothing else; the error names `path`.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()  # on a full disk it would take the space that is left
        if isinstance(error, OSError):
            error.filename = str(path)
        raise


def write_atomic(path: Path, data: bytes) -> None:
    """Write `path` as `atomic_file` does."""
    with atomic_file(path) as file:
        file.write(data)


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def refusal(error: OSError, folder: Path) -> str:
    """What the disk refused, where, and what to do, in one line; `folder` where the error names no file."""
    return f"{error.filename or folder}: {error.strerror or error}; free space or fix rights"


def read_file(path: Path) -> bytes:
    """The bytes of a file; none where the disk fails to read them, which is damage like any other."""
    try:
        return path.read_bytes()
    except OSError as error:
        if error.errno != EIO:
            raise
        return b""


def read_checked(path: Path, digest: str) -> bytes | None:
    """The bytes of a file if they have this digest; None if it isn't here, or is damaged: set aside as `.damaged`."""
    try:
        data = read_file(path)
    except FileNotFoundError:
        return None
    if digest_of(data) == digest:
        return data
    set_aside(path)
    return None


def set_aside(path: Path, why: str = "damaged") -> None:
    """Keep what is wrong for people to look at, and say so."""
    aside = path.with_name(f"{path.name}.damaged")
    path.replace(aside)
    logger.error("%s is %s: set aside as %s", path, why, aside.name)


class BlobFolder:
    """The blobs of one node."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, data: bytes) -> BlobRef:
        """Store `data`; its reference."""
        digest = digest_of(data)
        if self.read(digest) is None:
            write_atomic(self.folder / digest, data)
        return BlobRef(digest, len(data))

    def read(self, digest: str) -> bytes | None:
        """The bytes of a blob; None if it isn't here. A damaged one is set aside as `<digest>.damaged`."""
        return read_checked(self.folder / digest, digest)

    def adopt(self, path: Path, digest: str) -> bool:
        """Make a file in this folder the blob of `digest`; False, and nothing is done, if its bytes have another."""
        with path.open("rb") as file:
            if file_digest(file, lambda: blake2b(digest_size=32)).hexdigest() != digest:
                return False
            os.fsync(file.fileno())
        path.replace(self.folder / digest)
        sync_folder(self.folder)
        return True

    def digests(self) -> frozenset[str]:
        """The blobs that are here, by their names."""
        return frozenset(p.name for p in self.folder.iterdir() if len(p.name) == 64)

    def largest_bytes(self) -> int:
        """The size of the largest blob that is here, 0 without any."""
        largest = 0
        for digest in self.digests():
            with suppress(FileNotFoundError):  # a child has just set it aside
                largest = max(largest, (self.folder / digest).stat().st_size)
        return largest

    def whole(self) -> frozenset[str]:
        """The blobs that are here and undamaged: each is read, and set aside where it is damaged."""
        return frozenset(digest for digest in self.digests() if self.read(digest) is not None)

    def keep(self, digests: frozenset[str]) -> None:
        """Delete every blob that isn't named, and what a process that was killed had half written."""
        for digest in self.digests() - digests:
            (self.folder / digest).unlink(missing_ok=True)
        for path in self.folder.glob(".*.*.tmp"):
            if not Path("/proc", path.name.split(".")[2]).exists():
                path.unlink(missing_ok=True)
