"""The bus -> ClusterStatus messages: connects, follows, and connects again after a loss."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from datetime import datetime

from pneumod.client import operator
from pneumod.config import NodeConfig
from pneumod.errors import BusError
from pneumod.tui.messages import ClusterStatus, Lost
from pneumod.view import ClusterView

LEAST_INTERVAL_S = 0.25  # between two statuses, however busy the bus is
MOST_INTERVAL_S = 0.5  # so that ages grow while nothing is heard
FIRST_PAUSE_S = 0.5  # before connecting again; doubled after each failure
LONGEST_PAUSE_S = 4.0


class Feed:
    """Watches one cluster.

    Args:
        post: takes each status; called in the event loop that `run` runs in.
    """

    def __init__(self, config: NodeConfig, post: Callable[[ClusterStatus], object]) -> None:
        self._config = config
        self._post = post
        self._view = ClusterView()
        self._changed = asyncio.Event()
        self._why_lost: str | None = None  # None while connected
        self._lost_at_s = 0.0
        self._lost_since = datetime.min

    async def run(self) -> None:
        """Follow the cluster until cancelled."""
        async with asyncio.TaskGroup() as both:
            both.create_task(self._keep_connected())
            both.create_task(self._keep_posting())

    async def _keep_connected(self) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                async with operator(self._config, "watch") as me:
                    me.view = self._view  # what was heard before a loss still holds, until something newer comes
                    pause_s, self._why_lost = FIRST_PAUSE_S, None
                    self._changed.set()
                    await me.follow(self._changed.set)
            except BusError as error:
                self._lose(str(error))
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _lose(self, why: str) -> None:
        if self._why_lost is None:
            self._lost_at_s, self._lost_since = time.monotonic(), datetime.now()
        self._why_lost = why
        self._changed.set()

    async def _keep_posting(self) -> None:
        await self._changed.wait()
        while True:
            self._changed.clear()
            self._post(self._status())
            await asyncio.sleep(LEAST_INTERVAL_S)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), MOST_INTERVAL_S - LEAST_INTERVAL_S)

    def _status(self) -> ClusterStatus:
        now_s = time.monotonic()
        if self._why_lost is None:
            return ClusterStatus(self._view, now_s, None)
        lost = Lost(self._lost_since, now_s - self._lost_at_s, self._why_lost)
        return ClusterStatus(self._view, self._lost_at_s, lost)
