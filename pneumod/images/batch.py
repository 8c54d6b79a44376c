"""Many files -> one array of grey levels, by all cores. A file that can't be read is set aside."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from pneumod.errors import DataError
from pneumod.images.load import Grey, load_grey

Watch = Callable[[float, float], None]  # fraction done in [0, 1], images a second
Skipped = tuple[Path, str]  # a file that was set aside, and why


class Loaded(NamedTuple):
    pixels: NDArray[np.uint8]  # [N, S, S], the images that could be read, in the order of the paths
    kept: NDArray[np.int64]  # [N], their indices in the paths
    skipped: tuple[Skipped, ...]


def load_all(paths: Sequence[Path], image_size: int, threads: int = 0, watch: Watch | None = None) -> Loaded:
    """Load files with `threads` threads (0: one a core), squashed to squares of `image_size`."""
    cv2.setNumThreads(1)  # the pool is the parallelism
    pixels = np.empty((len(paths), image_size, image_size), np.uint8)
    kept: list[int] = []
    skipped: list[Skipped] = []
    started = time.monotonic()
    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        loaded = pool.map(lambda path: _load(path, image_size), paths)
        for index, (path, result) in enumerate(zip(paths, loaded, strict=True)):
            if isinstance(result, DataError):
                skipped.append((path, str(result)))
            else:
                pixels[len(kept)] = result
                kept.append(index)
            if watch is not None:
                done = index + 1
                watch(done / len(paths), done / max(time.monotonic() - started, 1e-3))
    return Loaded(pixels[: len(kept)], np.array(kept, np.int64), tuple(skipped))


def _load(path: Path, image_size: int) -> Grey | DataError:
    try:
        return load_grey(path, image_size)
    except DataError as error:
        return error
