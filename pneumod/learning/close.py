"""The end of a round: fold the updates into the next model, and write down what happened.

No clock and no randomness: any master that closes the same round writes the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pneumod.blobs import BlobFolder
from pneumod.core.jobs import Check, Close, Closed
from pneumod.errors import DataError
from pneumod.learning.aggregate import Fold, check, exponents_of
from pneumod.learning.checkpoint import checkpoint_document, read_history
from pneumod.learning.codec import read_update
from pneumod.learning.weights import Array, Model, model_document, read_model
from pneumod.messages import BlobRef, RoundOpen
from pneumod.wire import Document, encode_document

Progress = Callable[[float], None]  # a share in [0, 1]
Counted = list[tuple[int, int, str]]  # (node, samples, digest of its update), ascending by node


def check_update(job: Check, blobs: BlobFolder) -> None:
    """Check one node's update against its round, the base model and the exponents.

    Raises:
        WireError, DataError: what is wrong with it, or a blob that isn't here.
    """
    base = read_model(_blob(blobs, job.opened.base))
    check(_deltas(blobs, job.update, job.samples, base, job.opened), base.arrays, job.opened.exponents)


def close_round(job: Close, blobs: BlobFolder, progress: Progress = lambda fraction: None) -> Closed:
    """Write the next model, the checkpoint and the receipt of a round, O(model) in memory.

    The base stays the model where the round only scored, or where nobody's update counts.

    Args:
        progress: told the share of the updates that are folded, after each.

    Raises:
        WireError, DataError: a blob isn't here or isn't what it should be.
    """
    base = read_model(_blob(blobs, job.opened.base))
    model, exponents, counted = job.opened.base, exponents_of(base.arrays), Counted()
    if job.opened.train and any(contribution.update for contribution in job.contributions):
        model, exponents, counted = _fold(job, base, blobs, progress)
    history = [*read_history(_blob(blobs, job.previous.checkpoint)), _history_entry(job, counted)]
    opened = job.opened
    checkpoint = checkpoint_document(opened.run, opened.number, opened.round, model, job.best, history)
    return Closed(
        model,
        blobs.write(encode_document(checkpoint)),
        blobs.write(encode_document(_receipt(job, model, counted))),
        exponents,
    )


def _blob(blobs: BlobFolder, ref: BlobRef) -> bytes:
    data = blobs.read(ref.digest)
    if data is None:
        raise DataError(f"blob {ref.digest[:12]} is not here")
    return data


def _deltas(blobs: BlobFolder, ref: BlobRef, samples: int, base: Model, opened: RoundOpen) -> tuple[Array, ...]:
    """What an update changes, which must be learnt from as many samples as its node claimed."""
    update = read_update(_blob(blobs, ref), base, opened)
    if update.samples != samples:
        raise DataError(f"the update is of {update.samples} samples, where its node claimed {samples}")
    return update.deltas


def _fold(job: Close, base: Model, blobs: BlobFolder, progress: Progress) -> tuple[BlobRef, tuple[int, ...], Counted]:
    """The new model, its exponents, and what counted in it."""
    fold = Fold(base.arrays, job.opened.exponents)
    counted = Counted()
    for index, contribution in enumerate(job.contributions, 1):
        if contribution.update is not None:
            deltas = _deltas(blobs, contribution.update, contribution.samples, base, job.opened)
            fold.add(deltas, contribution.samples)
            counted.append((contribution.node, contribution.samples, contribution.update.digest))
        progress(index / len(job.contributions))
    arrays = fold.apply()
    document = model_document(arrays, base.names, base.image_size, job.opened.run, job.opened.round)
    return blobs.write(encode_document(document)), exponents_of(arrays), counted


def _history_entry(job: Close, counted: Counted) -> dict[str, Any]:
    """One round for people. `auc`, `loss` and `images` score the model that the round started from."""
    return {
        "round": job.opened.round,
        "auc": job.scored.auc,
        "loss": job.scored.loss,
        "images": job.scored.images,
        "counted": len(counted),
        "samples": sum(samples for _, samples, _ in counted),
        "left_out": len(job.left_out),
    }


def _receipt(job: Close, model: BlobRef, counted: Counted) -> Document:
    """Who counted in the round and who was left out, chained to the receipt of the round before."""
    previous = job.previous.receipt
    return Document(
        "receipt",
        {
            "run": job.opened.run,
            "number": job.opened.number,
            "round": job.opened.round,
            "base": job.opened.base.digest,
            "model": model.digest,
            "previous": None if previous is None else previous.digest,
            "previous_bytes": None if previous is None else previous.size_bytes,
            "counted": counted,
            "left_out": [(left.node, left.why) for left in job.left_out],
            "metrics": job.scored,
            "takeovers": job.takeovers,
        },
    )
