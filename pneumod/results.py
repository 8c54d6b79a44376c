"""The CSV file of `pneumod predict --watch`: the results, and the memory of what is done."""

from __future__ import annotations

import csv
import fcntl
import os
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from pneumod.errors import DataError
from pneumod.images.arrivals import Stamp
from pneumod.images.index import PASSING
from pneumod.output import FIELDS, NoAnswer, Result, as_row, csv_line

COLUMNS = ("path", "size", "mtime", *FIELDS[1:])  # bytes, and UTC to the nanosecond, of the file that was classified
ERROR = COLUMNS.index("error")
HEADER = csv_line(COLUMNS).encode()


class _Line(NamedTuple):
    """The last line of a file."""

    stamp: tuple[str, str]  # its size and time
    passing: bool  # it says nothing of the file's content


class ResultsFile:
    """One line a file that was classified; a file that was replaced has another. To be used in a `with` statement.

    A line is on the disk before the next is begun. So a kill or a power cut leaves one torn line at most, the last;
    it is cut off when the file is opened again.
    """

    def __init__(self, path: Path) -> None:
        """
        Raises:
            DataError: the file can't be used, is in use, or holds something else.
        """
        self.path = path
        self._lines: dict[str, _Line] = {}
        try:
            self._file = path.open("a+b", buffering=0)
        except OSError as error:
            raise DataError(f"{path}: can't be written: {error.strerror}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._read()
        except BlockingIOError as error:
            raise DataError(f"{path}: another pneumod writes to it") from error
        except OSError as error:
            raise DataError(f"{path}: can't be used: {error.strerror}") from error

    def __len__(self) -> int:
        """Files that have a line."""
        return len(self._lines)

    def is_done(self, name: str, stamp: Stamp) -> bool:
        """Whether the file of that name, as it stands, has its line; one that could not be opened is tried again."""
        line = self._lines.get(name)
        return line is not None and line.stamp == _texts(stamp) and not line.passing

    def add(self, result: Result | NoAnswer, stamp: Stamp) -> bool:
        """Write a line, and wait until it is on the disk. False where it says what the last one of that file says.

        Raises:
            DataError: the disk refuses it.
        """
        name, *rest = as_row(result)
        passing = isinstance(result, NoAnswer) and result.error.startswith(PASSING)
        line = _Line(_texts(stamp), passing)
        if passing and self._lines.get(name) == line:
            return False
        self._append((name, *line.stamp, *rest))
        self._lines[name] = line
        return True

    def _append(self, values: tuple[str, ...]) -> None:
        line = csv_line(values).encode()
        try:
            while line:  # a disk that fills up takes a part, and refuses the rest
                line = line[self._file.write(line) :]
            os.fsync(self._file.fileno())
            if os.fstat(self._file.fileno()).st_nlink == 0:
                raise DataError(f"{self.path}: it was removed, or replaced by an editor; results must go somewhere")
        except OSError as error:
            raise DataError(f"{self.path}: can't be written: {error.strerror}") from error

    def _read(self) -> None:
        """Learn what is done, and cut off a torn line."""
        self._file.seek(0)
        end = 0
        with open(os.dup(self._file.fileno()), "rb") as file:
            for number, line in enumerate(file, 1):
                whole = line.endswith(b"\n")
                if whole or (number == 1 and not HEADER.startswith(line)):
                    self._learn(number, line)
                if whole:
                    end += len(line)
        self._file.truncate(end)
        if end == 0:
            self._append(COLUMNS)

    def _learn(self, number: int, line: bytes) -> None:
        try:
            (row,) = csv.reader([line.decode()], strict=True)
        except (csv.Error, ValueError):
            row = []
        if len(row) != len(COLUMNS) or (number == 1) != (tuple(row) == COLUMNS):
            what = "it has other columns." if number == 1 else f"line {number} is none of ours; was it edited?"
            raise DataError(f"{self.path}: {what} Name another file with --out")
        if number > 1:
            self._lines[row[0]] = _Line((row[1], row[2]), row[ERROR].startswith(PASSING))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _texts(stamp: Stamp) -> tuple[str, str]:
    """As they stand in the file. A spreadsheet that saves it again leaves both as they are."""
    limit = np.iinfo(np.int64)
    return str(stamp.size), f"{np.datetime64(min(max(stamp.mtime_ns, limit.min + 1), limit.max), 'ns')}Z"
