"""The picture of a map: whole, in the X-ray's own geometry, readable at any size and shape."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pneumod.images import heatmap
from pneumod.images.heatmap import draw, spread

NO_EVIDENCE = np.full((12, 12), -2.0, np.float32)


def xray(height: int, width: int) -> NDArray[np.uint8]:
    """Neither black nor coloured anywhere, unlike the paper."""
    return np.random.default_rng(0).integers(90, 160, (height, width), np.uint8)


def peak_at(row: int, column: int) -> NDArray[np.float32]:
    cam = NO_EVIDENCE.copy()
    cam[row, column] = 200.0
    return cam


def read(png: bytes) -> NDArray[np.int16]:
    """[h, w, 3], to be subtracted."""
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(np.int16)


def panels(page: NDArray[np.int16]) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Where the plain and the painted X-ray are: drawn without evidence, both are the large grey areas."""
    area = (page.min(axis=2) >= 85) & (np.ptp(page, axis=2) <= 8)
    rows = np.flatnonzero(area.sum(axis=1) > 0.9 * area.sum(axis=1).max())
    columns = np.flatnonzero(area[rows].mean(axis=0) > 0.9)
    gap = int(np.argmax(np.diff(columns)))
    down = slice(int(rows[0]), int(rows[-1]) + 1)
    return (
        (down, slice(int(columns[0]), int(columns[gap]) + 1)),
        (down, slice(int(columns[gap + 1]), int(columns[-1]) + 1)),
    )


@pytest.mark.parametrize(("height", "width"), [(1500, 1800), (1800, 1200), (64, 64), (3000, 3000)])
def test_the_peak_stands_in_the_x_rays_own_geometry(height: int, width: int) -> None:
    """Whatever its shape: the map's square is stretched over it."""
    arguments = (0.9, 0.5, "PNEUMONIA", "run-r1")
    plain, told = (read(draw(xray(height, width), cam, *arguments)) for cam in (NO_EVIDENCE, peak_at(3, 9)))
    left, right = panels(plain)
    assert plain[left].shape == plain[right].shape
    assert plain[left].shape[0] / plain[left].shape[1] == pytest.approx(height / width, rel=0.01)
    assert np.array_equal(plain[left], plain[right])
    assert np.array_equal(told[left], plain[left])
    change = np.abs(told[right] - plain[right]).sum(axis=2)
    rows, columns = np.nonzero(change > 0.9 * change.max())
    assert rows.mean() / change.shape[0] == pytest.approx(3.5 / 12, abs=0.02)
    assert columns.mean() / change.shape[1] == pytest.approx(9.5 / 12, abs=0.02)


def test_what_the_network_did_not_see_stays_plain() -> None:
    """Its square is the box within the borders that were cut off."""
    box = (100, 700, 200, 600)
    plain = read(draw(xray(800, 800), NO_EVIDENCE, 0.9, 0.5, "PNEUMONIA", "run-r1", box=box))
    told = read(draw(xray(800, 800), peak_at(0, 0) + 20, 0.9, 0.5, "PNEUMONIA", "run-r1", box=box))
    _, right = panels(plain)
    change = np.abs(told[right] - plain[right]).sum(axis=2)
    rows, columns = np.nonzero(change)
    height, width = change.shape
    assert (rows.min() / height, (rows.max() + 1) / height) == pytest.approx((1 / 8, 7 / 8), abs=0.01)
    assert (columns.min() / width, (columns.max() + 1) / width) == pytest.approx((2 / 8, 6 / 8), abs=0.01)
    assert np.unravel_index(change.argmax(), change.shape)[0] < height / 4


def test_a_faint_trace_does_not_glow() -> None:
    plain, faint, strong = (
        read(draw(xray(500, 500), cam, 0.2, 0.5, "NORMAL", "run-r1"))
        for cam in (NO_EVIDENCE, NO_EVIDENCE + 2.5, peak_at(5, 5))
    )
    _, right = panels(plain)
    assert 0 < np.abs(faint[right] - plain[right]).max() < np.abs(strong[right] - plain[right]).max() / 2


@pytest.fixture
def texts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, float, float]]:
    """What is written on pages, with its right and lower end."""
    found = []
    write = ImageDraw.ImageDraw.text

    def text(pen: ImageDraw.ImageDraw, place: Any, text: str, fill: Any, font: Any, **rest: Any) -> None:
        found.append((text, *pen.textbbox(place, text, font, **rest)[2:]))
        write(pen, place, text, fill, font, **rest)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    return found


@pytest.mark.parametrize(
    ("height", "width"), [(1500, 1800), (1800, 1200), (1, 1), (20, 2000), (2000, 20), (8000, 12000)]
)
def test_everything_is_said_within_the_page(height: int, width: int, texts: list[tuple[str, float, float]]) -> None:
    """Also beside an X-ray of an odd shape, and with many warnings."""
    warnings = [
        "the model is provisional",
        *(f"warning {number} with rather many words in it " * 4 for number in "123"),
    ]
    grey = np.full((height, width), 128, np.uint8)
    page = read(draw(grey, peak_at(2, 2), 0.8713, 0.6649, "PNEUMONIA", "20261124-133900-158e-r10", warnings))
    whole = " ".join(text for text, _, _ in texts)
    for part in ("PNEUMONIA", "0.871", "0.665", "20261124-133900-158e-r10", "For research only, not for diagnosis."):
        assert part in whole
    assert whole.count("rather many words") == 12
    assert 900 < page.shape[1] < 1600
    assert page.shape[0] < 1400
    assert max(right for _, right, _ in texts) <= page.shape[1]
    assert max(lower for _, _, lower in texts) <= page.shape[0]


def test_signs_that_the_font_lacks_are_replaced(texts: list[tuple[str, float, float]]) -> None:
    draw(xray(50, 50), NO_EVIDENCE, 0.1, 0.5, "NORMAL", "run-r1", ["96 × 96 → less"])
    assert any(text == "Warning: 96 x 96 ? less" for text, _, _ in texts)


@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (12, 12), (32, 32)])
def test_smoothing_keeps_scale_and_place(shape: tuple[int, int]) -> None:
    assert np.allclose(spread(np.full(shape, 3.5, np.float32), 70, 110), 3.5, atol=1e-4)
    if shape[0] >= 12:
        cam = np.zeros(shape, np.float32)
        cam[shape[0] // 4, shape[1] // 2] = 1
        row, column = np.unravel_index(spread(cam, 200, 300).argmax(), (200, 300))
        assert row / 200 == pytest.approx(0.25 + 0.5 / shape[0], abs=0.01)
        assert column / 300 == pytest.approx(0.5 + 0.5 / shape[1], abs=0.01)


def test_the_colours_grow_brighter() -> None:
    """So that the picture reads in grey, and to people who see few colours."""
    colours = heatmap._colours(np.linspace(0, 1, 50, dtype=np.float32)[None])[0].astype(float)
    assert (np.diff(colours @ [0.299, 0.587, 0.114]) > 0).all()
