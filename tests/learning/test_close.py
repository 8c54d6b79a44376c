"""The end of a round, from blobs to blobs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from pneumod.blobs import BlobFolder, digest_of
from pneumod.core.jobs import Check, Close, Closed, Contribution
from pneumod.errors import DataError, PneumodError
from pneumod.learning.aggregate import exponents_of
from pneumod.learning.checkpoint import checkpoint_document, read_history
from pneumod.learning.close import check_update, close_round
from pneumod.learning.codec import update_document
from pneumod.learning.weights import Model, model_document, read_model
from pneumod.messages import Best, BlobRef, LeftOut, Metrics, RoundClosed, RoundOpen, RunSettings, Takeover, Term
from pneumod.wire import decode_document, encode_document

ARRAYS = (np.array([[1.0, -2.0], [0.5, 0.0]], np.float32), np.zeros(3, np.float32))
BASE = Model(28, "run-a", 0, ("kernel", "bias"), ARRAYS)


class Cluster:
    """A master's blobs at the start of round 1 of a run."""

    def __init__(self, folder: Path) -> None:
        self.blobs = BlobFolder(folder)
        model = self.write(model_document(BASE.arrays, BASE.names, 28, "run-a", 0))
        self.before = RoundClosed(
            run="run-a", number=1, round=0, term=Term(1, -1, 1), model=model, exponents=exponents_of(ARRAYS),
            checkpoint=self.write(checkpoint_document("run-a", 1, 0, model, None, [])),
        )  # fmt: skip
        self.opened = self.open(self.before)

    def write(self, document: Any) -> BlobRef:
        return self.blobs.write(encode_document(document))

    def open(self, before: RoundClosed, train: bool = True) -> RoundOpen:
        return RoundOpen(
            run="run-a", number=1, round=before.round + 1, base=before.model, train=train, who=(1, 2, 3),
            deadline_ms=1000, class_weights=(1.0, 1.0), exponents=before.exponents,
            settings=RunSettings(image_size=28), terms=(Term(1, -1, 1),),
        )  # fmt: skip

    def update(self, step: float, samples: int, opened: RoundOpen | None = None) -> BlobRef:
        deltas = [np.full(array.shape, step, np.float32) for array in ARRAYS]
        return self.write(update_document(deltas, BASE, opened or self.opened, samples))

    def contribution(self, node: int, step: float, samples: int) -> Contribution:
        return Contribution(node, self.update(step, samples), samples)

    def job(self, *contributions: Contribution, **changes: Any) -> Close:
        job = Close(
            opened=self.opened, previous=self.before, contributions=contributions,
            left_out=(LeftOut(3, "no update by the deadline"),), scored=Metrics(0.75, 0.5, 40),
            best=Best(0, 0.75, 0.4, self.before.model), takeovers=(),
        )  # fmt: skip
        return msgspec.structs.replace(job, **changes)

    def header(self, ref: BlobRef, kind: str) -> dict[str, Any]:
        data = self.blobs.read(ref.digest)
        assert data is not None
        return decode_document(data, kind).header

    def model(self, closed: Closed) -> Model:
        data = self.blobs.read(closed.model.digest)
        assert data is not None
        return read_model(data)


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path / "blobs")


def test_the_next_model_is_the_mean_weighted_by_samples(cluster: Cluster) -> None:
    closed = close_round(
        cluster.job(cluster.contribution(1, 0.5, 300), cluster.contribution(2, -0.5, 100)), cluster.blobs
    )
    model = cluster.model(closed)
    assert (model.run, model.round, model.image_size, model.names) == ("run-a", 1, 28, BASE.names)
    for new, old in zip(model.arrays, ARRAYS, strict=True):
        assert (new == old + np.float32(0.25)).all()
    assert closed.exponents == exponents_of(model.arrays)


def test_the_checkpoint_names_the_model_and_goes_on_with_the_history(cluster: Cluster) -> None:
    first = close_round(cluster.job(cluster.contribution(1, 0.5, 30)), cluster.blobs)
    after = msgspec.structs.replace(
        cluster.before, round=1, model=first.model, checkpoint=first.checkpoint, receipt=first.receipt,
        exponents=first.exponents,
    )  # fmt: skip
    opened = cluster.open(after, train=False)
    second = close_round(
        cluster.job(opened=opened, previous=after, scored=Metrics(0.8, 0.4, 40), left_out=()), cluster.blobs
    )
    header = cluster.header(second.checkpoint, "checkpoint")
    assert (header["run"], header["number"], header["round"]) == ("run-a", 1, 2)
    assert header["model"] == second.model.digest == first.model.digest
    assert header["best"]["auc"] == 0.75
    data = cluster.blobs.read(second.checkpoint.digest)
    assert data is not None
    assert read_history(data) == [
        {"round": 1, "auc": 0.75, "loss": 0.5, "images": 40, "counted": 1, "samples": 30, "left_out": 1},
        {"round": 2, "auc": 0.8, "loss": 0.4, "images": 40, "counted": 0, "samples": 0, "left_out": 0},
    ]
    assert cluster.header(second.receipt, "receipt")["previous"] == first.receipt.digest


def test_the_receipt_says_who_counted_and_who_was_left_out(cluster: Cluster) -> None:
    contributions = (cluster.contribution(1, 0.5, 30), Contribution(2, None, 0))
    takeover = Takeover(Term(1, -1, 1), Term(2, -2, 1), 1)
    closed = close_round(cluster.job(*contributions, takeovers=(takeover,)), cluster.blobs)
    assert cluster.header(closed.receipt, "receipt") == {
        "run": "run-a",
        "number": 1,
        "round": 1,
        "base": cluster.before.model.digest,
        "model": closed.model.digest,
        "previous": None,
        "previous_bytes": None,
        "counted": [[1, 30, contributions[0].update.digest]],  # type: ignore[union-attr]
        "left_out": [[3, "no update by the deadline"]],
        "metrics": {"auc": 0.75, "loss": 0.5, "images": 40},
        "takeovers": [{"old_term": [1, -1, 1], "new_term": [2, -2, 1], "updates_kept": 1}],
    }


def test_any_master_writes_the_same_bytes(cluster: Cluster, tmp_path: Path) -> None:
    other = Cluster(tmp_path / "other")
    steps = [(node, 0.1 * node, 100 + node) for node in range(1, 6)]
    closed = close_round(cluster.job(*(cluster.contribution(*step) for step in steps)), cluster.blobs)
    assert close_round(other.job(*(other.contribution(*step) for step in steps)), other.blobs) == closed


@pytest.mark.parametrize("train", [True, False])
def test_without_an_update_the_model_stays(cluster: Cluster, train: bool) -> None:
    opened = cluster.open(cluster.before, train)
    closed = close_round(cluster.job(Contribution(1, None, 0), opened=opened), cluster.blobs)
    assert closed.model == cluster.before.model
    assert closed.exponents == cluster.before.exponents


def test_a_blob_that_is_not_here_is_named(cluster: Cluster) -> None:
    gone = BlobRef(digest_of(b"gone"), 4)
    with pytest.raises(DataError, match=f"blob {gone.digest[:12]} is not here"):
        close_round(cluster.job(Contribution(1, gone, 9)), cluster.blobs)
    with pytest.raises(DataError, match=f"blob {gone.digest[:12]} is not here"):
        check_update(Check(1, gone, 9, cluster.opened), cluster.blobs)


def test_a_good_update_passes_the_check(cluster: Cluster) -> None:
    check_update(Check(1, cluster.update(7.5, 1), 1, cluster.opened), cluster.blobs)


def test_a_bad_update_fails_the_check_with_the_reason(cluster: Cluster) -> None:
    later = msgspec.structs.replace(cluster.opened, round=2)
    for update, why in (
        (cluster.update(0.5, 30, later), "the update is of another round"),
        (cluster.update(0.5, 0), "samples are out of range"),
        (cluster.update(0.5, 31), "the update is of 31 samples, where its node claimed 30"),
        (cluster.update(100.0, 30), "beyond ±64"),
        (cluster.update(float("nan"), 30), "not finite"),
        (cluster.before.model, "a model in place of a update"),
        (cluster.blobs.write(b"noise"), r"another version|not msgpack"),
    ):
        with pytest.raises(PneumodError, match=why):
            check_update(Check(1, update, 30, cluster.opened), cluster.blobs)
