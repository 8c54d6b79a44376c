"""The index of a cache, an SQLite file: path, size and time of each file, and its row, or why it was set aside."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pneumod.parcel import VERSION  # a change of the cache's form raises it too

PAGE = 512  # missing files that are looked up at once
# Reasons that may be the machine's fault and not the file's: it is tried again the next time. (So is one that hung, but
# not while a folder is watched: each look would take as long.)
PASSING = ("can't be read", "no such file", "the decoder died", "the decoder failed on it (MemoryError)")
HUNG = "the decoder hung"

SCHEMA = """
CREATE TABLE file (path BLOB PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
                   row INTEGER, crc INTEGER, reason TEXT) WITHOUT ROWID;
CREATE TABLE array (generation INTEGER NOT NULL);
INSERT INTO array VALUES (0);
"""


class Entry(NamedTuple):
    """What the cache has of one file: its row in the array, or the reason why it was set aside."""

    path: Path
    row: int | None
    crc: int | None  # CRC-32 of the row
    reason: str | None


class Index:
    """An open index. Its methods raise sqlite3.Error."""

    def __init__(self, path: Path, create: bool = False) -> None:
        self._sql = sqlite3.connect(path)
        if create:
            self._sql.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;")

    def close(self) -> None:
        self._sql.close()

    def damage(self) -> str | None:
        """What is wrong with it; None: nothing."""
        try:
            if self._one("PRAGMA quick_check(1)") != "ok":
                return "damaged"
        except sqlite3.OperationalError:
            raise  # no damage: no rights, no space
        except sqlite3.DatabaseError as error:
            return str(error)
        return None if self._one("PRAGMA user_version") == VERSION else "of another version"

    @property
    def generation(self) -> int:
        """Of the array that the rows are in: counts its copies."""
        return int(self._one("SELECT generation FROM array"))

    @property
    def rows(self) -> int:
        """Of the array, up to the last that is named: holes are among them."""
        return int(self._one("SELECT COALESCE(MAX(row) + 1, 0) FROM file"))

    def see(self, files: Iterable[Path]) -> int:
        """Take down the files as they are now, on the disk too; how many there are."""
        self._sql.execute("DROP TABLE IF EXISTS temp.seen")
        self._sql.execute(
            "CREATE TEMP TABLE seen (path BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER) WITHOUT ROWID"
        )
        with self._sql:
            self._sql.executemany("INSERT OR REPLACE INTO seen VALUES (?, ?, ?)", map(_status, files))
        return int(self._one("SELECT COUNT(*) FROM seen"))

    def forget_stale(self, within: Path | None) -> None:
        """Drop the entries, of a folder or all, whose file wasn't seen or has changed."""
        query = (
            "DELETE FROM file WHERE path >= ? AND path < ? AND NOT EXISTS (SELECT 1 FROM seen WHERE "
            "seen.path = file.path AND seen.size = file.size AND seen.mtime_ns = file.mtime_ns)"
        )
        low, high = b"/", b"0"  # all absolute paths; what lies in a folder comes after FOLDER/ and before FOLDER0
        if within is not None:
            low, high = os.fsencode(within) + low, os.fsencode(within) + high
        with self._sql:
            self._sql.execute(query, (low, high))

    def missing_count(self) -> int:
        """How many of the files that were seen have no entry."""
        return int(self._one("SELECT COUNT(*) FROM seen WHERE path NOT IN (SELECT path FROM file)"))

    def missing(self) -> Iterator[Path]:
        """The files that were seen and have no entry, by path. Entries may be added meanwhile."""
        query = (
            "SELECT path FROM seen WHERE path > ? AND NOT EXISTS (SELECT 1 FROM file WHERE file.path = seen.path) "
            "ORDER BY path LIMIT ?"
        )
        last = b""
        while page := self._sql.execute(query, (last, PAGE)).fetchall():
            for (last,) in page:
                yield Path(os.fsdecode(last))

    def add(self, entries: Iterable[Entry]) -> None:
        """Name what came of files that were seen, all or none of it."""
        query = "INSERT OR REPLACE INTO file SELECT path, size, iif(?, -2, mtime_ns), ?, ?, ? FROM seen WHERE path = ?"
        with self._sql:
            self._sql.executemany(
                query,
                (
                    ((reason or "").startswith((*PASSING, HUNG)), row, crc, reason, os.fsencode(path))
                    for path, row, crc, reason in entries
                ),
            )

    def forget(self, paths: Iterable[Path]) -> None:
        """Drop entries, so that their files are missing."""
        with self._sql:
            self._sql.executemany("DELETE FROM file WHERE path = ?", ((os.fsencode(path),) for path in paths))

    def entries(self) -> Iterator[Entry]:
        """What there is of the files that were seen, by path."""
        query = "SELECT path, row, crc, reason FROM seen JOIN file USING (path) ORDER BY path"
        for path, row, crc, reason in self._sql.execute(query):
            yield Entry(Path(os.fsdecode(path)), row, crc, reason)

    def named_rows(self) -> NDArray[np.int64]:
        """The rows that are no holes, ascending."""
        rows = self._sql.execute("SELECT row FROM file WHERE row NOT NULL ORDER BY row")
        return np.fromiter((row for (row,) in rows), np.int64)

    def renumber(self) -> None:
        """Name the rows of the next array, which has those of this one without the holes."""
        with self._sql:
            self._sql.execute(
                "UPDATE file SET row = new.row FROM (SELECT path, ROW_NUMBER() OVER (ORDER BY row) - 1 AS row "
                "FROM file WHERE row NOT NULL) AS new WHERE file.path = new.path"
            )
            self._sql.execute("UPDATE array SET generation = generation + 1")

    def _one(self, query: str) -> int | str:
        value: int | str = self._sql.execute(query).fetchone()[0]
        return value


def _status(path: Path) -> tuple[bytes, int, int]:
    """Path, size and time of a file; one that has just vanished is missing, and the decoder will say so."""
    try:
        status = path.stat()
    except OSError:
        return os.fsencode(path), -1, -1
    return os.fsencode(path), status.st_size, status.st_mtime_ns
