"""The bus -> ClusterStatus messages, at a pace that a terminal can show."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

from pneumod.client import Operator
from pneumod.config import NodeConfig
from pneumod.tui.messages import ClusterStatus

LEAST_INTERVAL_S = 0.25  # between two statuses, however busy the bus is
MOST_INTERVAL_S = 0.5  # so that ages grow while nothing is heard


class Feed:
    """Watches one cluster.

    Args:
        post: takes each status; called in the event loop that `run` runs in.
    """

    def __init__(self, config: NodeConfig, post: Callable[[ClusterStatus], object]) -> None:
        self._me = Operator(config, "watch")
        self._post = post
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Follow the cluster until cancelled."""
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._me.follow(self._changed.set))
                both.create_task(self._keep_posting())
        finally:
            await self._me.close()

    async def _keep_posting(self) -> None:
        await self._changed.wait()
        while True:
            self._changed.clear()
            self._post(self._status())
            await asyncio.sleep(LEAST_INTERVAL_S)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), MOST_INTERVAL_S - LEAST_INTERVAL_S)

    def _status(self) -> ClusterStatus:
        return ClusterStatus(self._me.view, time.monotonic(), self._me.lost)
