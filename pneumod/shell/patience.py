"""Waiting with a limit that isn't fooled by one's own freeze (SIGSTOP, a paused machine): it is nobody's silence."""

from __future__ import annotations

import asyncio
import time
from typing import Any

PART_S = 1.0  # waited for at a time
FROZEN_S = 1.0  # a part that took so much longer says that this process was not run


async def ends_within(work: asyncio.Future[Any], limit_s: float) -> bool:
    """Whether `work` ends within `limit_s` of this process's running; it goes on in either case.

    After a freeze what happened meanwhile still waits to be read: a part of the wait that was frozen doesn't count.
    """
    left_s = limit_s
    while left_s > 0:
        part_s, started_s = min(PART_S, left_s), time.monotonic()
        done, _ = await asyncio.wait({work}, timeout=part_s)
        if done:
            return True
        if time.monotonic() - started_s < part_s + FROZEN_S:
            left_s -= part_s
    return False


def look_away(work: asyncio.Future[Any]) -> None:
    """The callback of a task whose failure may come when nobody waits for it any more: asyncio would complain."""
    if not work.cancelled():
        work.exception()
