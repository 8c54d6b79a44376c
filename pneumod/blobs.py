"""A folder of content-addressed blobs: `<digest>` holds the bytes whose BLAKE2b-256 is `<digest>`.

Used by the daemon and by its children, which share the folder. Every write is atomic and synced before
the name appears, so a name that exists is whole; a read checks the digest all the same, since disks rot.
"""

from __future__ import annotations

import os
from hashlib import blake2b
from pathlib import Path

from pneumod.messages import BlobRef

CHUNK_BYTES = 192 * 1024


def digest_of(data: bytes) -> str:
    """BLAKE2b-256, in hexadecimal."""
    return blake2b(data, digest_size=32).hexdigest()


def chunk_count(size_bytes: int) -> int:
    return max(1, -(-size_bytes // CHUNK_BYTES))


def write_atomic(path: Path, data: bytes) -> None:
    """Write `path` so that a crash leaves the old file or the new one, and the new one is on the disk."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class BlobFolder:
    """The blobs of one node."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, data: bytes) -> BlobRef:
        """Store `data`; its reference."""
        digest = digest_of(data)
        path = self.folder / digest
        if not path.exists():
            write_atomic(path, data)
        return BlobRef(digest, len(data))

    def read(self, digest: str) -> bytes | None:
        """The bytes of a blob; None if it isn't here. A damaged one is set aside as `<digest>.damaged`."""
        path = self.folder / digest
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        if digest_of(data) == digest:
            return data
        path.replace(path.with_name(f"{digest}.damaged"))
        return None

    def digests(self) -> frozenset[str]:
        return frozenset(p.name for p in self.folder.iterdir() if len(p.name) == 64)

    def keep(self, digests: frozenset[str]) -> None:
        """Delete every blob that isn't named."""
        for digest in self.digests() - digests:
            (self.folder / digest).unlink(missing_ok=True)
