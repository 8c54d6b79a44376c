"""A round's best model for prediction: its card, and a folder that keeps the newest ones."""

from __future__ import annotations

import platform
from pathlib import Path

import pneumod
from pneumod.blobs import digest_of
from pneumod.core.jobs import Export
from pneumod.learning.card import CardMetrics, ModelCard, TrainImages, save_model

KEEP = 5


def write_export(folder: Path, job: Export, litert: bytes, versions: dict[str, str]) -> Path:
    """Write a LiteRT file with its card, make it the folder's current model, and drop all but the newest; its path.

    Args:
        versions: of the libraries that made the file, beside pneumod and Python.
    """
    counts = job.train_images
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
        image_size=job.spec.settings.image_size,
        versions={"pneumod": pneumod.__version__, "python": platform.python_version(), **versions},
    )
    save_model(folder, card, litert)
    for old in sorted(folder.glob("*-r*.tflite"), key=lambda file: file.stat().st_mtime_ns)[:-KEEP]:
        old.with_suffix(".json").unlink(missing_ok=True)
        old.unlink()
    return folder / card.file
