"""Many files -> one array of grey levels, by all cores. A file that can't be read is set aside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pneumod.images.pool import Pool
from pneumod.settings import Preparation

Watch = Callable[[float, float], None]  # fraction done in [0, 1], images a second
Skipped = tuple[Path, str]  # a file that was set aside, and why


class Loaded(NamedTuple):
    pixels: NDArray[np.uint8]  # [N, S, S], the images that could be read, in the order of the paths
    kept: NDArray[np.int64]  # [N], their indices in the paths
    skipped: tuple[Skipped, ...]


def load_all(paths: Sequence[Path], preparation: Preparation, processes: int = 0) -> Loaded:
    """Prepare files with `processes` processes (0: one a core)."""
    side = preparation.image_size
    pixels = np.empty((len(paths), side, side), np.uint8)
    kept: list[int] = []
    skipped: list[Skipped] = []
    with Pool(preparation, processes) as pool:
        for index, came in enumerate(pool.map(paths)):
            if isinstance(came, str):
                skipped.append((paths[index], came))
            else:
                pixels[len(kept)] = came.pixels
                kept.append(index)
    return Loaded(pixels[: len(kept)], np.array(kept, np.int64), tuple(skipped))
