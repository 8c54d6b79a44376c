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


def objection(sent: Sequence[Cost], worked: Sequence[Cost]) -> str | None:
    """Why the work should stay at home, with the figures; None while sending pays, or too little was measured."""
    if len(sent) < LEAST or len(worked) < LEAST:
        return None
    sent_ms, worked_ms = (median(cost.ms / cost.files for cost in costs) for costs in (sent, worked))
    if sent_ms < worked_ms:
        return None
    size_kb = median(cost.bytes / cost.files for cost in sent) / 1000
    return (
        f"sending doesn't pay: an image of {size_kb:.0f} kB costs {sent_ms:.1f} ms to send, "
        f"and {worked_ms:.1f} ms to work on here"
    )
