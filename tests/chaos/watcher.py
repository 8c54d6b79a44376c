"""What is heard on the bus, across lost connections, and when."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from pneumod.bus import Incoming
from pneumod.client import operator
from pneumod.config import NodeConfig
from pneumod.errors import BusError
from pneumod.messages import Beacon, RoundClosed, RoundOpen, Term
from pneumod.view import ClusterView

RECONNECT_S = 0.2
LOOK_S = 0.25  # conditions that time alone changes are looked at so often


class Watcher:
    """A view of the cluster and its history, of one run after the other.

    Attributes:
        beacon_at_s: when the first live beacon of each term came.
        opened: each RoundOpen that came live, in order, with the time.
        closed_at_s: when each (run, round) was first heard to be closed.
    """

    def __init__(self, config: NodeConfig) -> None:
        self.config = config
        self.view = ClusterView()
        self.beacon_at_s: dict[Term, float] = {}
        self.opened: list[tuple[float, RoundOpen]] = []
        self.closed_at_s: dict[tuple[str, int], float] = {}
        self._changed = asyncio.Event()

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self._follow())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})

    async def until(self, condition: Callable[[], object], limit_s: float, what: str) -> None:
        """Wait until a condition of what was heard holds; it is looked at as soon as something comes."""
        end_s = time.monotonic() + limit_s
        while not condition():
            left_s = end_s - time.monotonic()
            assert left_s > 0, f"not within {limit_s:.0f} s: {what}"
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), min(LOOK_S, left_s))
            except TimeoutError:
                continue

    @property
    def master(self) -> int | None:
        return self.view.master(time.monotonic())

    async def _follow(self) -> None:
        """Follow for ever; a broker that is away is tried again."""
        while True:
            try:
                async with operator(self.config, "watch", "chaos") as me:
                    await me.connection.subscribe(["open"])
                    async for incoming in me.connection.receive():
                        self._hear(incoming)
            except BusError:
                await asyncio.sleep(RECONNECT_S)

    def _hear(self, incoming: Incoming) -> None:
        now_s, message, term = time.monotonic(), incoming.envelope.message, incoming.envelope.term
        self.view.apply(incoming, now_s)
        if not incoming.retained and isinstance(message, Beacon):
            self.beacon_at_s.setdefault(term, now_s)
        elif not incoming.retained and isinstance(message, RoundOpen):
            self.opened.append((now_s, message))
        elif isinstance(message, RoundClosed):
            self.closed_at_s.setdefault((message.run, message.round), now_s)
        self._changed.set()
