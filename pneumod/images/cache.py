"""A node's prepared images: read once for each settings digest, then kept in one file under `cache/`."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pneumod.blobs import atomic_file
from pneumod.config import CLASSES, NodeConfig
from pneumod.errors import DataError
from pneumod.images.batch import Skipped, Watch, load_all
from pneumod.images.folders import LabelledFile, labelled_files
from pneumod.images.split import compile_pattern, split
from pneumod.messages import ClassCounts

VERSION = 1  # of the way from files to pixels, and of the cache's form; a change makes every node prepare anew


@dataclass(frozen=True)
class Part:
    """Prepared images of one use."""

    pixels: NDArray[np.uint8]  # grey levels [N, S, S]
    labels: NDArray[np.uint8]  # [N], 1 is PNEUMONIA
    names: tuple[str, ...]  # paths of the files


@dataclass(frozen=True)
class Dataset:
    """The prepared images of one node."""

    train: Part
    val: Part
    counts: ClassCounts
    skipped: tuple[Skipped, ...]


def prepare(config: NodeConfig, image_size: int, progress: Watch | None = None) -> Dataset:
    """The node's images as squares of `image_size`, from the cache where nothing has changed since.

    Args:
        progress: told the fraction done and images a second, while files are read.

    Raises:
        DataError: a folder is missing, or a class has no image (that can be read) to train on.
        ConfigError: the patient pattern is not a regular expression.
    """
    files = labelled_files(config.data.train)
    val_files = labelled_files(config.data.val) if config.data.val is not None else []
    path = config.state_dir / "cache" / f"{image_size}-{_digest(config, image_size, files, val_files)}.npz"
    dataset = _read(path)
    if dataset is None:
        dataset = _build(config, image_size, files, val_files, progress)
        _write(path, dataset)
        for old in path.parent.glob(f"{image_size}-*.npz"):
            if old != path:
                old.unlink(missing_ok=True)
    for name, count in zip(CLASSES, (dataset.counts.train_normal, dataset.counts.train_pneumonia), strict=True):
        if count == 0:
            raise DataError(f"{config.data.train}: no image of {name} that can be read is left to train on")
    return dataset


def _digest(config: NodeConfig, image_size: int, files: list[LabelledFile], val_files: list[LabelledFile]) -> str:
    """Of all that decides what the cache holds; a changed file shows by its size or its time."""
    listed = []
    for path, label in (*files, *val_files):
        status = path.stat()
        listed.append((str(path), label, status.st_size, status.st_mtime_ns))
    pattern = compile_pattern(config.data.patient_pattern).pattern
    settings = (VERSION, image_size, len(files), config.data.val_fraction, pattern, listed)
    return blake2b(json.dumps(settings).encode(), digest_size=16).hexdigest()


def _build(
    config: NodeConfig,
    image_size: int,
    files: list[LabelledFile],
    val_files: list[LabelledFile],
    progress: Watch | None,
) -> Dataset:
    everything = [*files, *val_files]
    loaded = load_all([file.path for file in everything], image_size, config.threads, progress)
    kept = [everything[index] for index in loaded.kept]
    if val_files:
        is_val = loaded.kept >= len(files)
    else:
        is_val = split(kept, config.data.val_fraction, config.data.patient_pattern)
    labels = np.array([file.label for file in kept], np.uint8)
    train, val = (
        Part(loaded.pixels[use], labels[use], tuple(str(kept[index].path) for index in np.flatnonzero(use)))
        for use in (~is_val, is_val)
    )
    return Dataset(train, val, _counts(train, val), loaded.skipped)


def _counts(train: Part, val: Part) -> ClassCounts:
    """Images by use and class."""
    normal, pneumonia = ([int((part.labels == label).sum()) for part in (train, val)] for label in (0, 1))
    return ClassCounts(normal[0], pneumonia[0], normal[1], pneumonia[1])


def _write(path: Path, dataset: Dataset) -> None:
    """Replace the cache file at once: a crash leaves none or a whole one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    train, val = dataset.train, dataset.val
    skipped = [(str(path), reason) for path, reason in dataset.skipped]
    texts = json.dumps({"train": train.names, "val": val.names, "skipped": skipped}).encode()
    with atomic_file(path) as file:
        np.savez(
            file,
            train_pixels=train.pixels,
            train_labels=train.labels,
            val_pixels=val.pixels,
            val_labels=val.labels,
            texts=np.frombuffer(texts, np.uint8),
        )


def _read(path: Path) -> Dataset | None:
    """The dataset of a cache file; None if it isn't there or is damaged."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            texts = json.loads(stored["texts"].tobytes())
            train, val = (
                Part(stored[f"{use}_pixels"], stored[f"{use}_labels"], tuple(texts[use])) for use in ("train", "val")
            )
            skipped = tuple((Path(name), str(why)) for name, why in texts["skipped"])
            return Dataset(train, val, _counts(train, val), skipped)
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
        return None
