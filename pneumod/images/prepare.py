"""A picture -> the network's pixels; the same in training and in prediction."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from pneumod.images.picture import Grey
from pneumod.settings import Preparation

BORDER_LEVELS = 16  # a border's row or column spans fewer grey levels than this; JPEG's ripples span about 8
MOST_BORDER = 0.5  # of a side; a picture with more is left whole, for what was found isn't a border
CLAHE_CLIP = 2.0  # times the mean count of a histogram's bin
CLAHE_TILES = (8, 8)


class Box(NamedTuple):
    """A part of a picture, in its pixels: rows top to bottom - 1, columns left to right - 1."""

    top: int
    bottom: int
    left: int
    right: int


def least_px(preparation: Preparation) -> int:
    """The side of the square that a picture will be squashed to, for `read_picture`: of all of it, borders included."""
    return round(preparation.image_size / MOST_BORDER) if preparation.crop_borders else preparation.image_size


def content_box(grey: Grey, preparation: Preparation) -> Box:
    """The part of grey levels [h, w] that the network sees: all, or what lies within uniform borders."""
    height, width = grey.shape
    box = whole = Box(0, height, 0, width)
    while preparation.crop_borders:
        part = grey[box.top : box.bottom, box.left : box.right]
        (top, bottom), (left, right) = _content(part, axis=1), _content(part, axis=0)
        if bottom - top < MOST_BORDER * height or right - left < MOST_BORDER * width:
            return whole
        inside = Box(box.top + top, box.top + bottom, box.left + left, box.left + right)
        if inside == box:
            break
        box = inside  # which may have a border of its own, of another level
    return box


def prepare_pixels(grey: Grey, preparation: Preparation) -> Grey:
    """Grey levels uint8 [h, w] -> uint8 [S, S], S the preparation's image_size.

    Resampled by area and squashed to a square: the aspect isn't kept (docs/adr/0002-squash-to-square.md).
    """
    box = content_box(grey, preparation)
    grey = grey[box.top : box.bottom, box.left : box.right]
    if preparation.clahe:
        grey = cv2.createCLAHE(CLAHE_CLIP, CLAHE_TILES).apply(grey)  # type: ignore[assignment]
    side = preparation.image_size
    return cv2.resize(grey, (side, side), interpolation=cv2.INTER_AREA)  # type: ignore[return-value]


def _content(grey: Grey, axis: int) -> tuple[int, int]:
    """First and last + 1 row (axis 1) or column (axis 0) that isn't uniform; 0, 0: all are."""
    content = np.flatnonzero(np.ptp(grey, axis=axis) >= BORDER_LEVELS)
    return (int(content[0]), int(content[-1]) + 1) if len(content) else (0, 0)
