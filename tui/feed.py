"""The bus -> ClusterStatus messages: connects, follows, and connects again after a loss."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from datetime import datetime

from pneumod.client import Operator, operator
from pneumod.config import NodeConfig
from pneumod.errors import BusError
from pneumod.tui.messages import ClusterStatus, Lost
from pneumod.view import ClusterView

LEAST_INTERVAL_S = 0.25  # between two statuses, however busy the bus is
MOST_INTERVAL_S = 0.5  # so that ages grow while nothing is heard
FIRST_PAUSE_S = 0.5  # before connecting again; doubled after each failure
LONGEST_PAUSE_S = 4.0
SETTLE_S = 3.0  # after a reconnect, the longest that the state from before it is shown on


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
        self._lost_at_s = time.monotonic()
        self._lost: Lost | None = None

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
                    pause_s = FIRST_PAUSE_S
                    await self._follow(me)
            except BusError as error:
                self._lose(str(error))
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _follow(self, me: Operator) -> None:
        """Take what comes. The view of an earlier connection stays until the new one knows who leads."""
        connected_at_s = time.monotonic()
        self._lost = None

        def changed() -> None:
            now_s = time.monotonic()
            settled = not self._view.nodes or now_s - connected_at_s > SETTLE_S
            if settled or me.view.master(now_s) is not None:
                self._view = me.view
            self._changed.set()

        self._changed.set()
        await me.follow(changed)

    def _lose(self, why: str) -> None:
        now_s = time.monotonic()
        if self._lost is None:
            self._lost_at_s = now_s
            self._lost = Lost(datetime.now(), 0.0, why)
        self._lost = self._lost._replace(for_s=now_s - self._lost_at_s, why=why)
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
        if self._lost is None:
            return ClusterStatus(self._view, now_s, None)
        return ClusterStatus(self._view, self._lost_at_s, self._lost._replace(for_s=now_s - self._lost_at_s))
