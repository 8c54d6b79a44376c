"""Prepared pixels that are kept: one array file with an index, for one preparation, in any folder.

    96.sqlite       the index (index.py)
    96.0.u8         the array: uint8 [rows, S, S], to be mapped
    96.lock         held by the process that has the cache open

A row is on the disk before the index names it, and is never written to again: what a crash leaves behind it is unnamed,
and an array that somebody has mapped stays as it is. Rows of files that are gone are holes; an array that is mostly
holes is copied without them to a new one, which the index then names.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from errno import EIO, ENOSPC
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pneumod.blobs import sync_folder
from pneumod.errors import DataError
from pneumod.images.index import Entry, Index
from pneumod.settings import Preparation

GROUP = 512  # files that are written at once
GROUP_S = 2.0  # a smaller group is written after so long
LEAST_HOLES = 1000  # rows; fewer are left where they are


class Busy(DataError):
    """Another process has the cache open."""


@contextmanager
def open_cache(
    folder: Path, preparation: Preparation, say: Callable[[str], None], force: bool = False
) -> Iterator[Cache]:
    """A cache, for this process alone.

    Args:
        say: is told when the cache is damaged and made anew.
        force: files are taken also where they are no chest projection.

    Raises:
        Busy: another process has it open.
        OSError: the disk can't read or write it; also while it is used.
    """
    words = {"clahe": preparation.clahe, "crop": preparation.crop_borders, "force": force}
    stem = "-".join([str(preparation.image_size), *(word for word, is_so in words.items() if is_so)])
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _lock(folder / f"{stem}.lock"):
            cache = Cache(folder, stem, preparation.image_size, say)
            try:
                yield cache
            finally:
                cache.close()
    except sqlite3.Error as error:
        full = error.sqlite_errorcode == sqlite3.SQLITE_FULL
        raise OSError(ENOSPC if full else EIO, os.strerror(ENOSPC) if full else str(error), str(folder)) from error


class Cache:
    """An open cache.

    Attributes:
        index: what there is of which file.
    """

    def __init__(self, folder: Path, stem: str, side: int, say: Callable[[str], None]) -> None:
        self.folder = folder
        self.side = side
        self._stem = stem
        self._group: list[tuple[Path, NDArray[np.uint8] | str]] = []
        self._group_s = 0.0  # when it was begun
        self.index = self._indexed(say)
        self._rows = self.index.rows
        self._array = _private(self._path(self.index.generation))
        for old in folder.glob(f"{stem}.*.u8"):  # of a copy that was cut off, or of one that came to its end
            if old != self._path(self.index.generation):
                old.unlink()
        sync_folder(folder)

    def close(self) -> None:
        self.index.close()
        os.close(self._array)

    def see(self, files: Iterable[Path], within: Path | None = None) -> int:
        """Compare with the files as they are now: what is kept of changed and vanished ones is forgotten.

        Args:
            files: absolute paths. Where there are none, nothing is forgotten: their disk may not be mounted.
            within: only this folder was looked through; without it, all that isn't in `files` is forgotten.

        Returns:
            how many files there are.
        """
        count = self.index.see(files)
        if count:
            self.index.forget_stale(within)
            used = self.index.named_rows()
            if self._rows - len(used) > max(len(used), LEAST_HOLES):
                self._compact(used)
        return count

    def add(self, path: Path, came: NDArray[np.uint8] | str) -> None:
        """Keep the pixels [S, S] of a file that was seen, or the reason why it was set aside."""
        if not self._group:
            self._group_s = time.monotonic()
        self._group.append((path, came))
        if len(self._group) >= GROUP or time.monotonic() - self._group_s >= GROUP_S:
            self.flush()

    def flush(self) -> None:
        """Have all that was added on the disk."""
        group, self._group = self._group, []
        entries, row = [], self._rows
        for path, came in group:
            if isinstance(came, str):
                entries.append(Entry(path, None, None, came))
            else:
                entries.append(Entry(path, row, zlib.crc32(came.data), None))
                row += 1
        self._write(b"".join(came.tobytes() for _, came in group if not isinstance(came, str)))
        self.index.add(entries)
        self._rows = row

    def array(self) -> NDArray[np.uint8]:
        """The rows [N, S, S], mapped read-only; they stay as they are also when the cache is closed and goes on."""
        shape = self._rows, self.side, self.side
        if self._rows == 0:
            return np.zeros(shape, np.uint8)
        return np.memmap(self._path(self.index.generation), np.uint8, "r", shape=shape)

    def _path(self, generation: int) -> Path:
        return self.folder / f"{self._stem}.{generation}.u8"

    def _indexed(self, say: Callable[[str], None]) -> Index:
        """The index; where it or the array is damaged, both are made anew."""
        path = self.folder / f"{self._stem}.sqlite"
        if path.exists():
            index = Index(path)
            damage = index.damage() or self._cut_off(index)
            if damage is None:
                return index
            index.close()
            say(f"{path}: {damage}; the cache is made anew")
        for old in (path, path.with_name(f"{path.name}-journal"), *self.folder.glob(f"{self._stem}.*.u8")):
            old.unlink(missing_ok=True)
        os.close(_private(path))
        return Index(path, create=True)

    def _cut_off(self, index: Index) -> str | None:
        array = self._path(index.generation)
        size_bytes = array.stat().st_size if array.exists() else 0
        return None if size_bytes >= index.rows * self.side**2 else "its array is cut off or missing"

    def _write(self, data: bytes) -> None:
        """Append to the array. Not through a mapping: where the disk is full, a write to one kills the process."""
        try:
            written = os.pwrite(self._array, data, self._rows * self.side**2)
            if written < len(data):
                raise OSError(ENOSPC, os.strerror(ENOSPC))
            os.fdatasync(self._array)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.folder)) from error

    def _compact(self, used: NDArray[np.int64]) -> None:
        """Copy the array without its holes."""
        array, old = self.array(), self._path(self.index.generation)
        copy = _private(self._path(self.index.generation + 1))
        os.close(self._array)
        self._array, self._rows = copy, 0
        for start in range(0, len(used), GROUP):
            pixels = array[used[start : start + GROUP]]
            self._write(pixels.tobytes())
            self._rows += len(pixels)
        sync_folder(self.folder)
        self.index.renumber()
        old.unlink()


def _private(path: Path) -> int:
    """A file, made where there is none, that nobody else on this machine may read: it shows X-rays, or their names."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold a cache's lock, which has the process that holds it in it."""
    with os.fdopen(_private(path), "rb+", buffering=0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            who = file.read().decode() or "another"
            raise Busy(f"{path.parent}: process {who} is at work on this cache; let it end first") from error
        with suppress(OSError):  # no space: it holds all the same
            file.truncate(0)
            file.write(str(os.getpid()).encode())
        yield
