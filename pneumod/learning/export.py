"""A round's best model for prediction: its LiteRT file, its card, and a folder that keeps the newest ones."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

import pneumod
from pneumod.blobs import digest_of
from pneumod.config import DataConfig
from pneumod.core.jobs import Export
from pneumod.images.dataset import Dataset, Pixels
from pneumod.learning.card import CardMetrics, ModelCard, TrainImages, save_model
from pneumod.learning.likeness import Likeness, learn

if TYPE_CHECKING:
    import keras

KEEP = 5
SAMPLE = 2000  # images of a node at most that a model is explained by: more would delay the next round


def explained_litert(network: keras.Model, images: Dataset) -> tuple[bytes, Likeness | None]:
    """A network's LiteRT file, its maps told against this node's NORMAL images, and the likeness of its images."""
    from pneumod.learning.model import explain, export_litert

    train, labels, val = (_some(part) for part in (images.train.pixels, images.train.labels, images.val.pixels))
    _, cam, features = explain(network, np.concatenate([train, val]))
    litert = export_litert(network, cam[: len(train)][labels == 0].mean(axis=0))
    return litert, learn(features[: len(train)], features[len(train) :])


def _some(images: Pixels | NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Every n-th of the images or labels, so that there are at most SAMPLE."""
    return images[:: max(1, -(-len(images) // SAMPLE))]


def write_export(
    folder: Path,
    job: Export,
    litert: bytes,
    versions: dict[str, str],
    data: DataConfig | None = None,
    likeness: Likeness | None = None,
) -> Path:
    """Write a LiteRT file with its card, make it the folder's current model, and drop all but the newest; its path.

    Args:
        versions: of the libraries that made the file, beside pneumod and Python.
        data: what the node says of its images.
        likeness: of the node's images.
    """
    counts, settings = job.train_images, job.spec.settings
    card = ModelCard(
        status="run",
        digest=job.best.model.digest,
        file=f"{job.spec.run}-r{job.best.round}.tflite",
        file_digest=digest_of(litert),
        run=job.spec.run,
        round=job.best.round,
        nodes=job.nodes,
        train_images=None if counts is None else TrainImages(counts.train_normal, counts.train_pneumonia),
        val_images=job.images,
        metrics=CardMetrics(job.best.auc),
        threshold=job.best.threshold,
        image_size=settings.image_size,
        versions={"pneumod": pneumod.__version__, "python": platform.python_version(), **versions},
        clahe=settings.clahe,
        crop_borders=settings.crop_borders,
        about=None if data is None else _about(data.about, job.nodes),
        ages_years=None if data is None else data.ages_years,
        likeness=likeness,
    )
    save_model(folder, card, litert)
    for old in sorted(folder.glob("*-r*.tflite"), key=lambda file: file.stat().st_mtime_ns)[:-KEEP]:
        old.with_suffix(".json").unlink(missing_ok=True)
        old.unlink()
    return folder / card.file


def _about(own: str | None, nodes: int) -> str | None:
    """What people may know of the training images: a node tells of its own, and of the others that there were some."""
    if own is None or nodes == 1:
        return own
    return f"{own} (the images of the node that wrote this; of the {nodes - 1} others only their number is known)"
