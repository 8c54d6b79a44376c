"""Virtual time: a queue of calls, each at its moment."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from random import Random
from typing import Any

Span = tuple[int, int]  # from, to, both included, in ms


def draw(random: Random, span: Span) -> int:
    """A duration in ms out of a span."""
    low, high = span
    return low if low == high else low + int(random.random() * (high - low + 1))


class Clock:
    """Calls at the same moment are made in the order in which they were asked for."""

    def __init__(self) -> None:
        self.now_ms = 0
        self._queue: list[tuple[int, int, Callable[..., object], tuple[Any, ...]]] = []
        self._sequence = 0

    def at(self, at_ms: int, call: Callable[..., object], *args: object) -> None:
        self._sequence += 1
        heapq.heappush(self._queue, (max(at_ms, self.now_ms), self._sequence, call, args))

    def after(self, wait_ms: int, call: Callable[..., object], *args: object) -> None:
        self.at(self.now_ms + wait_ms, call, *args)

    def run(self, until_ms: int) -> None:
        """Let the time pass."""
        queue = self._queue
        while queue and queue[0][0] <= until_ms:
            self.now_ms, _, call, args = heapq.heappop(queue)
            call(*args)
        self.now_ms = until_ms

    def run_until(self, condition: Callable[[], bool], limit_ms: int) -> bool:
        """Let the time pass in steps of 100 ms until a condition holds; whether it did."""
        end_ms = self.now_ms + limit_ms
        while self.now_ms < end_ms:
            if condition():
                return True
            self.run(self.now_ms + 100)
        return condition()
