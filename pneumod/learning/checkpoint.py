"""The checkpoint of a run: what the next round needs beside the model, and the history for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pneumod.learning.weights import header_field
from pneumod.messages import Best, BlobRef
from pneumod.wire import Document, decode_document

History = list[dict[str, Any]]


def checkpoint_document(
    run: str, number: int, round: int, model: BlobRef, best: Best | None, history: Sequence[dict[str, Any]]
) -> Document:
    """The state of a run after `round` (0: the model that it starts from, with an empty history).

    FedAvg's server has no state of its own, so there are no tensors.
    """
    header = {
        "run": run, "number": number, "round": round, "model": model.digest, "best": best, "history": list(history),
    }  # fmt: skip
    return Document("checkpoint", header)


def read_history(data: bytes) -> History:
    """One plain dict a closed round, oldest first.

    Raises:
        WireError: not a checkpoint document, or one without a history.
    """
    history: History = header_field(decode_document(data, "checkpoint"), "history", list)
    return history
