"""When what failed may be tried again: each thing by itself, waiting twice as long each time."""

from __future__ import annotations

from collections.abc import Hashable

from pneumod.core.state import State

RETRY_MS = 2_000
RETRY_LIMIT_MS = 60_000
MAX_RETRIES = 64  # things that failed and are remembered


class Retries:
    """The things of one node that failed, named by what they are for."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.at_ms: dict[Hashable, int] = {}  # that wait
        self.wait_ms: dict[Hashable, int] = {}  # after the next failure

    def failed(self, key: Hashable) -> None:
        if len(self.wait_ms) >= MAX_RETRIES:
            self.clear()
        wait_ms = self.wait_ms.get(key, RETRY_MS)
        self.at_ms[key] = self.state.now_ms + wait_ms
        self.wait_ms[key] = min(2 * wait_ms, RETRY_LIMIT_MS)

    def done(self, key: Hashable) -> None:
        self.at_ms.pop(key, None)
        self.wait_ms.pop(key, None)

    def may(self, key: Hashable) -> bool:
        return key not in self.at_ms

    def due(self) -> bool:
        """Whether the wait of something has ended."""
        ended = [key for key, at_ms in self.at_ms.items() if at_ms <= self.state.now_ms]
        for key in ended:
            del self.at_ms[key]
        return bool(ended)

    def deadline_ms(self) -> int | None:
        return min(self.at_ms.values(), default=None)

    def clear(self) -> None:
        self.at_ms.clear()
        self.wait_ms.clear()
