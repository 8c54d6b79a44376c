"""What the dashboard's feed tells its screen."""

from __future__ import annotations

from textual.message import Message

from pneumod.client import Loss
from pneumod.view import ClusterView


class ClusterStatus(Message):
    """The cluster as it was last heard.

    Attributes:
        view: what the bus told.
        now_s: when it was looked at, monotonic.
        lost: why no broker is connected; None while one is.
    """

    def __init__(self, view: ClusterView, now_s: float, lost: Loss | None) -> None:
        super().__init__()
        self.view = view
        self.now_s = now_s
        self.lost = lost

    @property
    def judged_s(self) -> float:
        """The moment that `view` is to be judged at: while no broker is connected, that of the loss."""
        return self.now_s if self.lost is None else self.lost.at_s

    def can_replace(self, message: Message) -> bool:
        """A newer status takes the place of one that still waits: a slow terminal skips states, never lags."""
        return isinstance(message, ClusterStatus)
