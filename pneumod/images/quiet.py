"""Keep what native libraries print away from the terminal."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_users = 0
_stderr = -1  # the real standard error, while it is turned away


@contextmanager
def quiet() -> Iterator[None]:
    """Turn file descriptor 2 to nowhere; may be nested and used by threads at once.

    libjpeg, libpng and XNNPACK write there with no way to tell them not to. What other threads write to
    standard error meanwhile is lost too, so hold it around native calls only.
    """
    _enter()
    try:
        yield
    finally:
        _leave()


def _enter() -> None:
    global _users, _stderr
    with _lock:
        if _users == 0:
            _stderr = os.dup(2)
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 2)
            os.close(nowhere)
        _users += 1


def _leave() -> None:
    global _users
    with _lock:
        _users -= 1
        if _users == 0:
            os.dup2(_stderr, 2)
            os.close(_stderr)
