"""The class activation map over its X-ray, beside the plain X-ray, as a picture for people."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from pneumod import RESEARCH_ONLY

PANEL_PX = (620, 720)  # width and height that one X-ray is scaled into
LEAST_PANEL_PX = (420, 90)  # so that texts and colour scale find their place beside a narrow or a flat X-ray
MARGIN_PX = 24
BAR_PX = (18, 320)  # width and height of the colour scale, at most
SCALE_PX = 96  # width of the colour scale with its numbers
SMOOTH = 0.06  # standard deviation of the smoothing, of the map's side: three quarters of a cell
# What the top of the colour scale stands for at least. Without it the faintest trace in a NORMAL X-ray would glow like
# a consolidation.
LEAST_TOP = 8.0
OPACITY = 0.6  # of the colour where the evidence is strong: the X-ray must show through
FIRST_COLOUR = 60  # of Inferno's 256: those before it would darken the X-ray
MEANING = "Colour: the network's evidence by place, in units of the logit. It outlines no disease."
PAPER, INK, DIM, AMBER = (16, 18, 20), (236, 238, 240), (160, 166, 172), (255, 190, 90)

Pixels = NDArray[np.uint8]
Map = NDArray[np.float32]


def spread(cam: Map, height: int, width: int) -> Map:
    """The class activation map [a, b] smoothed and enlarged to float32 [height, width]; its values keep their scale."""
    rows, columns = cam.shape
    fine = cv2.resize(cam, (16 * columns, 16 * rows), interpolation=cv2.INTER_LINEAR)
    smooth = cv2.GaussianBlur(fine, (0, 0), sigmaX=16 * columns * SMOOTH, sigmaY=16 * rows * SMOOTH)
    return np.asarray(cv2.resize(smooth, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def draw(
    grey: Pixels,
    cam: Map,
    probability: float,
    threshold: float,
    label: str,
    model_name: str,
    warnings: Sequence[str] = (),
    box: tuple[int, int, int, int] | None = None,
) -> bytes:
    """A PNG: the plain X-ray, the X-ray under its map, the colour scale, and what the model says.

    Args:
        grey: the X-ray, [h, w] of any size and shape.
        cam: evidence for PNEUMONIA by place, [a, b]; its mean is the logit.
        box: top, bottom, left and right of the part of `grey` that the network saw, as a square; None: all of it.
    """
    plain = _fitted(grey)
    height, width = plain.shape
    evidence = _placed(cam, plain, (0, grey.shape[0], 0, grey.shape[1]) if box is None else box, grey)
    highest = max(LEAST_TOP, float(evidence.max()))
    side, depth = max(width, LEAST_PANEL_PX[0]), max(height, LEAST_PANEL_PX[1])
    page = _Page(2 * (side + MARGIN_PX) + MARGIN_PX + SCALE_PX, depth)
    page.say(f"{label}, probability of pneumonia {probability:.3f}", 30, INK)
    page.say(f"Threshold {threshold:.3f}, model {model_name}", 18, DIM)
    for warning in warnings:
        page.say(f"Warning: {warning}", 18, AMBER)
    page.skip(14)
    second = side + 2 * MARGIN_PX
    page.caption("The X-ray", MARGIN_PX)
    page.caption("What speaks for pneumonia, to the model", second)
    page.skip(26)
    page.picture(plain, MARGIN_PX)
    page.picture(_painted(plain, evidence / highest), second)
    page.scale(second + width + 16, depth, highest)
    page.skip(depth + 14)
    page.say(RESEARCH_ONLY, 22, INK)
    page.say(MEANING, 16, DIM)
    return page.png()


def _fitted(grey: Pixels) -> Pixels:
    """The X-ray scaled into PANEL_PX, its aspect kept."""
    height, width = grey.shape
    scale = min(PANEL_PX[0] / width, PANEL_PX[1] / height)
    size = max(1, round(scale * width)), max(1, round(scale * height))
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC), np.uint8)


def _placed(cam: Map, plain: Pixels, box: tuple[int, int, int, int], grey: Pixels) -> Map:
    """The evidence float32 [h, w] at each pixel of `plain`, 0 outside of `box`, which is in pixels of `grey`."""
    down, right = plain.shape[0] / grey.shape[0], plain.shape[1] / grey.shape[1]
    top, bottom = round(box[0] * down), max(round(box[0] * down) + 1, round(box[1] * down))
    left, end = round(box[2] * right), max(round(box[2] * right) + 1, round(box[3] * right))
    evidence = np.zeros(plain.shape, np.float32)
    part = evidence[top:bottom, left:end]
    part[:] = spread(cam, *part.shape)
    return evidence


def _painted(plain: Pixels, share: Map) -> Pixels:
    """The X-ray [h, w] under the colours of `share`, float32 [h, w], up to 1: uint8 [h, w, 3]. Below 0 none is laid."""
    share = share.clip(0, 1)
    opacity = (OPACITY * np.minimum(1, 2 * share))[..., None]
    mixed = (1 - opacity) * plain[..., None] + opacity * _colours(share)
    return np.asarray(np.rint(mixed), np.uint8)


def _colours(share: Map) -> Pixels:
    """uint8 [..., 3], RGB: from violet over red to yellow, in rising brightness, so that it reads in grey as well."""
    levels = np.rint(FIRST_COLOUR + share * (255 - FIRST_COLOUR)).astype(np.uint8)
    return np.asarray(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO)[..., ::-1], np.uint8)


class _Page:
    """Text and pictures on dark paper, from top to bottom."""

    def __init__(self, width: int, height: int) -> None:
        """`height` is that of the pictures; the text comes on top of it, up to some forty lines."""
        self._image = Image.new("RGB", (width, height + 1200), PAPER)
        self._pen = ImageDraw.Draw(self._image)
        self._y = MARGIN_PX

    def say(self, text: str, size: int, colour: tuple[int, int, int]) -> None:
        """Lines of text over the whole width."""
        font = ImageFont.load_default(size)
        characters = int((self._image.width - 2 * MARGIN_PX) / (0.55 * size))
        for line in textwrap.wrap(_plain(text), characters):
            self._pen.text((MARGIN_PX, self._y), line, colour, font)
            self._y += round(1.35 * size)

    def caption(self, text: str, x: int) -> None:
        self._pen.text((x, self._y), text, DIM, ImageFont.load_default(18))

    def skip(self, height: int) -> None:
        self._y += height

    def picture(self, pixels: Pixels, x: int) -> None:
        self._image.paste(Image.fromarray(pixels), (x, self._y))

    def scale(self, x: int, height: int, highest: float) -> None:
        """The colour scale, from no evidence to the `highest`."""
        length = min(BAR_PX[1], height)
        steps = np.linspace(1, 0, length, dtype=np.float32)[:, None].repeat(BAR_PX[0], 1)
        self.picture(_painted(np.full(steps.shape, 96, np.uint8), steps), x)
        font = ImageFont.load_default(16)
        for share in (1.0, 0.5, 0.0):
            y = self._y + (1 - share) * (length - 1)
            self._pen.text((x + BAR_PX[0] + 8, y), f"{share * highest:+.1f}" if share else "0", DIM, font, anchor="lm")

    def png(self) -> bytes:
        """What was put on the page so far."""
        file, mark = io.BytesIO(), PngInfo()
        mark.add_text("Software", "pneumod")
        self._image.crop((0, 0, self._image.width, self._y + MARGIN_PX)).save(file, "PNG", pnginfo=mark)
        return file.getvalue()


def _plain(text: str) -> str:
    """The characters that Pillow's own font has."""
    return text.replace("×", "x").encode("ascii", "replace").decode()
