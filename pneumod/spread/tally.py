"""Who did how much of a batch, and when each was done."""

from __future__ import annotations

import time
from collections.abc import Iterator

from msgspec import Struct

from pneumod.spread.worth import Worth

HOME = -1  # in place of a node's id: this command itself


class Share(Struct):
    """What one node did."""

    files: int = 0
    last_s: float = 0.0  # since the start


class Tally:
    """The shares of all nodes, as they grow.

    Attributes:
        worth: what sending an image costs, as far as it was measured.
    """

    def __init__(self) -> None:
        self.shares: dict[int, Share] = {}
        self.files = 0
        self.worth: Worth | None = None
        self._start_s = time.monotonic()

    @property
    def seconds(self) -> float:
        return max(time.monotonic() - self._start_s, 1e-3)

    @property
    def per_s(self) -> float:
        """Files a second."""
        return self.files / self.seconds

    def add(self, who: int, files: int) -> None:
        share = self.shares.setdefault(who, Share())
        share.files += files
        share.last_s = self.seconds
        self.files += files

    def brief(self) -> str:
        """One short line, for a progress bar."""
        return ", ".join(f"{_name(who)} {share.files:,}" for who, share in sorted(self.shares.items()))

    def lines(self) -> Iterator[str]:
        """What is said at the end."""
        yield f"who did how much of {_images(self.files)}, in {self.seconds:.1f} s ({self.per_s:.0f} images/s):"
        for who, share in sorted(self.shares.items()):
            yield f"  {_name(who)}: {_images(share.files)}, the last after {share.last_s:.1f} s"
        if self.worth is not None:
            yield f"  {self.worth}"


def _images(count: int) -> str:
    return f"{count:,} image{'s' * (count != 1)}"


def _name(who: int) -> str:
    return "here" if who == HOME else f"node {who}"
