"""What the dashboard's feed tells its screen."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from textual.message import Message

from pneumod.view import ClusterView


class Lost(NamedTuple):
    """No broker is connected."""

    since: datetime  # local time
    for_s: float
    why: str


class ClusterStatus(Message):
    """The cluster as it was last heard.

    Attributes:
        view: what the bus told.
        now_s: the moment that `view` is to be judged at, monotonic; while no broker is connected, that of the loss.
        lost: None while a broker is connected.
    """

    def __init__(self, view: ClusterView, now_s: float, lost: Lost | None) -> None:
        super().__init__()
        self.view = view
        self.now_s = now_s
        self.lost = lost

    def can_replace(self, message: Message) -> bool:
        """A newer status takes the place of one that still waits: a slow terminal skips states, never lags."""
        return isinstance(message, ClusterStatus)
