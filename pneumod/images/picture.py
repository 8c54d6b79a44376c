"""What every decoder returns, and the limits that every one keeps to."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from pneumod.errors import DataError
from pneumod.parcel import Facts

Grey = NDArray[np.uint8]  # [height, width], 0 is black
Colours = NDArray[np.uint8]  # [height, width, 3], in any order that the function names

MAX_FILE_BYTES = 256 * 1024 * 1024
MAX_PIXELS = 100_000_000  # the largest X-ray detectors have 20 million; a small file may claim far more
SAMPLE_SIDE = 64  # pixels of a side, at least, that are looked at for colour


class Picture(NamedTuple):
    """One picture, upright, as a person sees it."""

    grey: Grey  # maybe smaller than the file's picture
    facts: Facts


def check_size(width: int, height: int) -> None:
    """Before decoding: refuse what would fill the memory.

    Raises:
        DataError: over MAX_PIXELS.
    """
    if width * height > MAX_PIXELS:
        raise DataError(f"{width} x {height} pixels are over the limit of {MAX_PIXELS // 1_000_000} million")


def picture(grey: Grey, size: tuple[int, int], colour: float = 0.0) -> Picture:
    """A picture with its facts. `size` is the file's own (height, width), upright."""
    contrast = float(cv2.meanStdDev(grey)[1].item())
    return Picture(grey, Facts(size[0], size[1], colour, contrast))


def colour_of(colours: Colours) -> float:
    """Mean of max(R, G, B) - min(R, G, B) over a grid of pixels, in grey levels [0, 255]."""
    step = max(1, min(colours.shape[:2]) // SAMPLE_SIDE)
    first, second, third = np.moveaxis(colours[::step, ::step], 2, 0)
    most = np.maximum(np.maximum(first, second), third)
    least = np.minimum(np.minimum(first, second), third)
    return float((most - least).mean())
