"""Whether sending images to other nodes pays: what a sent one costs against one that is worked on at home. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

LEAST = 4  # items of each kind that are measured before anything is decided


class Cost(NamedTuple):
    """What one item cost this machine."""

    files: int
    bytes: int
    ms: float


class Worth(NamedTuple):
    """Medians of one image."""

    kb: float
    sent_ms: float
    worked_ms: float

    @property
    def pays(self) -> bool:
        return self.sent_ms < self.worked_ms

    def __str__(self) -> str:
        return (
            f"an image of {self.kb:.0f} kB costs {self.sent_ms:.1f} ms to send, "
            f"and {self.worked_ms:.1f} ms to work on here"
        )


def worth(sent: Sequence[Cost], worked: Sequence[Cost]) -> Worth | None:
    """What sending is worth; None while too little was measured."""
    if len(sent) < LEAST or len(worked) < LEAST:
        return None
    return Worth(
        median(cost.bytes / cost.files for cost in sent) / 1000,
        median(cost.ms / cost.files for cost in sent),
        median(cost.ms / cost.files for cost in worked),
    )
