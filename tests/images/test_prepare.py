"""A picture -> the network's pixels: squashed, and by choice without its borders and with its contrast evened out."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from pneumod.images.load import read_picture
from pneumod.images.prepare import Box, content_box, least_px, prepare_pixels
from pneumod.settings import Preparation

CROP = Preparation(32, crop_borders=True)


def textured(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width), np.uint8)


def framed(top: int, bottom: int, left: int, right: int, level: int = 0) -> np.ndarray:
    """A picture of 100 x 120 in a border that is uniform but for JPEG's ripples."""
    edges = ((top, bottom), (left, right))
    picture = np.pad(textured(100, 120), edges, constant_values=level)
    inside = np.pad(np.ones((100, 120), bool), edges)
    ripples = np.random.default_rng(1).integers(0, 8, picture.shape, np.uint8)
    return np.where(inside, picture, np.maximum(picture, ripples) if level == 0 else picture - ripples).astype(np.uint8)


def test_a_picture_of_any_shape_is_squashed_by_area() -> None:
    picture = np.repeat(np.repeat(textured(32, 32), 3, axis=0), 5, axis=1)
    assert (prepare_pixels(picture, Preparation(32)) == textured(32, 32)).all()


@pytest.mark.parametrize(("edges", "level"), [((10, 5, 20, 0), 0), ((0, 30, 0, 30), 255), ((0, 0, 0, 0), 0)])
def test_uniform_borders_are_cut_off(edges: tuple[int, int, int, int], level: int) -> None:
    top, _, left, _ = edges
    picture = framed(*edges, level)
    assert content_box(picture, CROP) == Box(top, top + 100, left, left + 120)
    assert (prepare_pixels(picture, CROP) == prepare_pixels(textured(100, 120), CROP)).all()
    assert content_box(picture, Preparation(32)) == Box(0, picture.shape[0], 0, picture.shape[1])


def test_what_is_mostly_border_is_left_whole() -> None:
    for picture in (np.zeros((50, 60), np.uint8), framed(200, 0, 0, 300)):
        assert content_box(picture, CROP) == Box(0, picture.shape[0], 0, picture.shape[1])


def test_a_picture_that_may_lose_its_borders_is_decoded_larger() -> None:
    assert (least_px(Preparation(96)), least_px(Preparation(96, crop_borders=True))) == (96, 192)


def test_clahe_raises_a_weak_contrast() -> None:
    weak = (textured(200, 200) // 16 + 100).astype(np.uint8)
    plain, even = (prepare_pixels(weak, Preparation(96, clahe=clahe)).std() for clahe in (False, True))
    assert even > 1.5 * plain


def test_borders_around_real_x_rays_change_nothing(cxr: Path) -> None:
    for path in sorted((cxr / "hospitals" / "hospital_d" / "val" / "NORMAL").iterdir())[:20]:
        grey = read_picture(path).grey
        bordered = cv2.copyMakeBorder(grey, 20, 30, 0, 40, cv2.BORDER_CONSTANT, value=[0.0])
        alone, around = (prepare_pixels(np.asarray(each, np.uint8), CROP) for each in (grey, bordered))
        assert np.abs(alone.astype(int) - around).mean() < 1.0
