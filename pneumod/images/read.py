"""The bytes of one file, or why they can't be had."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from pneumod.errors import DataError
from pneumod.images.picture import MAX_FILE_BYTES


def read_file(path: Path, most_bytes: int = MAX_FILE_BYTES) -> bytes:
    """A file's bytes, the first `most_bytes` of them.

    Raises:
        DataError: not there, unreadable, empty, no file, or over MAX_FILE_BYTES.
    """
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb", buffering=0) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise DataError("not a file but a pipe or a device")
            if status.st_size > MAX_FILE_BYTES:
                raise DataError(f"the file is over {MAX_FILE_BYTES // 2**20} MiB")
            data = file.read(min(status.st_size, most_bytes))
    except FileNotFoundError as error:
        raise DataError("no such file") from error
    except OSError as error:
        raise DataError(f"can't be read: {error.strerror}") from error
    if not data:
        raise DataError("the file is empty")
    return data
