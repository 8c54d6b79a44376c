"""A node's own images, prepared: only new and changed files are, the others come from the cache in its state."""

from __future__ import annotations

import sys
import time
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import tee
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pneumod.config import CLASSES, NodeConfig
from pneumod.errors import DataError
from pneumod.images.cache import Busy, Cache, open_cache
from pneumod.images.folders import LabelledFile, labelled_files
from pneumod.images.index import Entry
from pneumod.images.pool import Pool, Ready
from pneumod.images.split import split
from pneumod.messages import ClassCounts
from pneumod.settings import Preparation

BUSY_S = 0.5  # between two tries to open a cache that another process has
TRIES = 3  # to have every row on the disk as its checksum says

Say = Callable[[str], None]
Watch = Callable[[float, float], None]  # fraction done in [0, 1], images a second
Skipped = tuple[Path, str]  # a file that was set aside, and why


def warn(text: str) -> None:
    print(text, file=sys.stderr)


class Pixels:
    """Grey levels [N, S, S], uint8, that stay on the disk: an index reads the rows that it names."""

    def __init__(self, array: NDArray[np.uint8], rows: NDArray[np.int64]) -> None:
        self._array = array
        self._rows = rows

    @property
    def shape(self) -> tuple[int, int, int]:
        return len(self._rows), *self._array.shape[1:]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, which: slice | NDArray[np.int64] | NDArray[np.bool_]) -> NDArray[np.uint8]:
        pixels: NDArray[np.uint8] = self._array[self._rows[which]]
        return pixels

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype)


@dataclass(frozen=True)
class Part:
    """Prepared images of one use."""

    pixels: Pixels  # grey levels [N, S, S]
    labels: NDArray[np.uint8]  # [N], 1 is PNEUMONIA
    names: tuple[str, ...]  # paths of the files


@dataclass(frozen=True)
class Dataset:
    """The prepared images of one node."""

    train: Part
    val: Part
    counts: ClassCounts
    skipped: tuple[Skipped, ...]


def prepare(config: NodeConfig, preparation: Preparation, watch: Watch = lambda *_: None, say: Say = warn) -> Dataset:
    """The node's images, from the cache in its state directory where nothing has changed since.

    Args:
        watch: told the fraction done and images a second, while files are read.
        say: told what was wrong with the cache.

    Raises:
        DataError: a folder is missing, or a class has no image (that can be read) to train on.
        ConfigError: the patient pattern is not a regular expression.
        OSError: the cache can't be read or written.
    """
    files = labelled_files(config.data.train)
    val_files = labelled_files(config.data.val) if config.data.val is not None else []
    with _opened(cache_folder(config), preparation, watch, say) as cache:
        cache.see(file.path for file in (*files, *val_files))
        for _ in range(TRIES):
            _fill(cache, preparation, config.threads, watch)
            array = cache.array()
            entries = {entry.path: entry for entry in cache.index.entries()}
            damaged = [entry.path for entry in entries.values() if not _is_whole(entry, array)]
            if not damaged:
                break
            say(f"{cache.folder}: {len(damaged)} images of the cache are damaged, and are prepared anew")
            cache.index.forget(damaged)
        else:
            raise DataError("the disk doesn't keep the prepared images as they were written; is it failing?")
    dataset = _dataset(config, files, val_files, entries, array)
    for name, count in zip(CLASSES, (dataset.counts.train_normal, dataset.counts.train_pneumonia), strict=True):
        if count == 0:
            raise DataError(f"{config.data.train}: no image of {name} that can be read is left to train on")
    return dataset


def cache_folder(config: NodeConfig) -> Path:
    return config.state_dir / "cache"


def fill(cache: Cache, prepared: Callable[[Iterable[Path]], Generator[Ready | str]]) -> Generator[Path]:
    """Have what is missing in the cache prepared, and keep it; each file as it is done.

    Args:
        prepared: files -> what came of each, in their order: a Pool's map, or other machines.
    """
    paths, files = tee(cache.index.missing())
    try:
        with closing(prepared(files)) as came:
            for path, one in zip(paths, came, strict=True):
                cache.add(path, one if isinstance(one, str) else one.pixels)
                yield path
    finally:
        cache.flush()


@contextmanager
def _opened(folder: Path, preparation: Preparation, watch: Watch, say: Say) -> Iterator[Cache]:
    """The cache; a process that has it open is waited for."""
    while True:
        try:
            with open_cache(folder, preparation, say) as cache:
                yield cache
            return
        except Busy:
            watch(0.0, 0.0)  # a sign of life
            time.sleep(BUSY_S)


def _fill(cache: Cache, preparation: Preparation, processes: int, watch: Watch) -> None:
    missing = cache.index.missing_count()
    if missing:
        started_s = time.monotonic()
        with Pool(preparation, processes) as pool:
            for done, _ in enumerate(fill(cache, pool.map), 1):
                watch(done / missing, done / max(time.monotonic() - started_s, 1e-3))


def _is_whole(entry: Entry, array: NDArray[np.uint8]) -> bool:
    return entry.row is None or zlib.crc32(array[entry.row].data) == entry.crc


def _dataset(
    config: NodeConfig,
    files: Sequence[LabelledFile],
    val_files: Sequence[LabelledFile],
    entries: dict[Path, Entry],
    array: NDArray[np.uint8],
) -> Dataset:
    def is_kept(file: LabelledFile) -> bool:
        return entries[file.path].row is not None

    kept = list(filter(is_kept, (*files, *val_files)))
    if val_files:
        is_val = np.arange(len(kept)) >= sum(map(is_kept, files))
    else:
        is_val = split(kept, config.data.val_fraction, config.data.patient_pattern)
    rows = np.array([entries[file.path].row for file in kept], np.int64)
    labels = np.array([file.label for file in kept], np.uint8)
    train, val = (
        Part(Pixels(array, rows[use]), labels[use], tuple(str(kept[index].path) for index in np.flatnonzero(use)))
        for use in (~is_val, is_val)
    )
    found = ((file.path, entries[file.path].reason) for file in (*files, *val_files))
    return Dataset(train, val, _counts(train, val), tuple((path, why) for path, why in found if why is not None))


def _counts(train: Part, val: Part) -> ClassCounts:
    """Images by use and class."""
    normal, pneumonia = ([int((part.labels == label).sum()) for part in (train, val)] for label in (0, 1))
    return ClassCounts(normal[0], pneumonia[0], normal[1], pneumonia[1])
