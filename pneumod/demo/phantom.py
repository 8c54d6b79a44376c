"""A synthetic chest phantom: drawn pictures that a federation can be shown on without any patient's image.

Each image has two lung fields, ribs, heart and spine shadow in soft tissue. PNEUMONIA adds soft, patchy
consolidations inside a lung field, whose place is known. NORMAL has a distractor (a band, a sharp nodule or
a ring) in place of each, of the same brightness in sum, and either class may have one more: so neither the
mean of a region nor the number of opacities tells the class, only their form.
Exposure, noise, sharpness and the share of PNEUMONIA differ from node to node.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pneumod.messages import RunSettings

# The demo's defaults: a run that means something within three minutes on two cores.
NODES = 4
SETTINGS = RunSettings(rounds=16, local_epochs=4, batch_size=16, learning_rate=3e-3, image_size=96)
TRAIN_IMAGES = 64  # a node
VAL_IMAGES = 120
TEST_IMAGES = 50  # in each node's look, in the common test folder

# How hard it is: benchmarks/phantom.py measures it.
STRENGTH = 0.40  # mean height of a consolidation, of a full scale of 1
SIGMA = (0.05, 0.08)  # its standard deviation, of the image's side
CONSOLIDATIONS = 2
SHARES = (0.25, 0.75)  # of PNEUMONIA, at the first and at the last node

SIZE = 128  # pixels a side of the files
CLASSES = ("NORMAL", "PNEUMONIA")

Image = NDArray[np.float64]  # [SIZE, SIZE], 1 is full scale
_Y, _X = np.mgrid[0:SIZE, 0:SIZE] / SIZE  # both in [0, 1): down, right


@dataclass(frozen=True)
class Site:
    """How one node's X-rays look."""

    gain: float
    gamma: float
    noise: float  # standard deviation, of a full scale of 1
    blur_px: float
    pneumonia: float  # share of the images


@dataclass(frozen=True)
class Lung:
    """An ellipse: centre, half axes (of the image's side) and tilt in radians."""

    x: float
    y: float
    half_width: float
    half_height: float
    tilt: float

    def reach(self, x: Image, y: Image) -> Image:
        """0 in the centre, 1 on the border, more outside."""
        right = (x - self.x) * math.cos(self.tilt) + (y - self.y) * math.sin(self.tilt)
        down = (y - self.y) * math.cos(self.tilt) - (x - self.x) * math.sin(self.tilt)
        reach: Image = np.hypot(right / self.half_width, down / self.half_height)
        return reach


@dataclass(frozen=True)
class Opacity:
    """A consolidation: centre and radius (two standard deviations) in pixels."""

    x_px: float
    y_px: float
    radius_px: float


@dataclass(frozen=True)
class Phantom:
    """One picture, uint8 [SIZE, SIZE], and what is in it."""

    pixels: NDArray[np.uint8]
    lungs: tuple[Lung, Lung]
    consolidations: tuple[Opacity, ...]


def site(random: np.random.Generator, index: int, nodes: int) -> Site:
    """The settings of node `index` of `nodes`: the share of PNEUMONIA spreads evenly over the nodes."""
    share = 0.5 if nodes == 1 else SHARES[0] + (SHARES[1] - SHARES[0]) * index / (nodes - 1)
    return Site(
        gain=random.uniform(0.8, 1.1),
        gamma=random.uniform(0.8, 1.25),
        noise=random.uniform(0.02, 0.035),
        blur_px=random.uniform(0.4, 0.9),
        pneumonia=share,
    )


def draw(random: np.random.Generator, look: Site, pneumonia: bool) -> Phantom:
    """One synthetic X-ray as node `look` would take it."""
    lungs = _lungs(random)
    image = _chest(random, lungs)
    consolidations = []
    for number in range(CONSOLIDATIONS + random.integers(2)):
        x, y = _place(random, lungs[random.integers(2)])
        sigma, strength = random.uniform(*SIGMA), STRENGTH * random.uniform(0.7, 1.3)
        if pneumonia and number < CONSOLIDATIONS:
            image += strength * _consolidation(random, x, y, sigma)
            consolidations.append(Opacity(x * SIZE, y * SIZE, 2 * sigma * SIZE))
        else:
            image += strength * _distractor(random, x, y, sigma)
    return Phantom(_expose(random, image, look), lungs, tuple(consolidations))


def _lungs(random: np.random.Generator) -> tuple[Lung, Lung]:
    middle, top = random.normal(0.5, 0.012), random.normal(0.47, 0.015)
    width, height = random.uniform(0.135, 0.165), random.uniform(0.29, 0.35)

    def lung(side: int) -> Lung:
        return Lung(
            middle + side * random.uniform(0.19, 0.215),
            top + random.normal(0, 0.01),
            width * random.uniform(0.93, 1.07),
            height * random.uniform(0.95, 1.05),
            -side * random.uniform(0.05, 0.14),
        )

    return lung(-1), lung(1)


def _chest(random: np.random.Generator, lungs: tuple[Lung, Lung]) -> Image:
    """Anatomy without disease."""
    middle = (lungs[0].x + lungs[1].x) / 2
    image: Image = 0.68 + _clouds(random, 4, 0.05) - 1.4 * (_X - middle) ** 2
    air = np.zeros_like(image)
    for lung in lungs:
        inside = _edge(1 - lung.reach(_X, _Y), 0.06)
        image -= random.uniform(0.30, 0.42) * inside
        air = np.maximum(air, inside)
    image += air * (_clouds(random, 16, 0.025) + _clouds(random, 5, 0.05))
    image += _bones(random, middle)
    heart = Lung(middle + random.uniform(0.04, 0.07), 0.63, random.uniform(0.11, 0.14), random.uniform(0.12, 0.15), 0.4)
    image += random.uniform(0.18, 0.26) * _edge(1 - heart.reach(_X, _Y), 0.12)
    return image


def _bones(random: np.random.Generator, middle: float) -> Image:
    """Spine with vertebrae, and pairs of ribs falling outwards."""
    spine = np.exp(-(((_X - middle) / 0.035) ** 2)) * (0.14 + 0.03 * np.sin(_Y * 2 * math.pi * random.uniform(11, 13)))
    away = np.abs(_X - middle)
    cage = _edge(0.37 - away, 0.02) * _edge(away - 0.03, 0.02)
    ribs = np.zeros_like(_X)
    first, gap, fall = random.uniform(0.16, 0.20), random.uniform(0.078, 0.09), random.uniform(0.7, 1.3)
    for number in range(8):
        line = first + number * gap + fall * (away - 0.12) * np.abs(away - 0.12) * 2
        ribs += np.exp(-(((_Y - line) / 0.013) ** 2))
    bones: Image = spine + random.uniform(0.05, 0.09) * cage * ribs
    return bones


def _place(random: np.random.Generator, lung: Lung) -> tuple[float, float]:
    """A point inside `lung`, away from its border."""
    angle, reach = random.uniform(0, 2 * math.pi), 0.65 * math.sqrt(random.uniform())
    right, down = reach * lung.half_width * math.cos(angle), reach * lung.half_height * math.sin(angle)
    cos, sin = math.cos(lung.tilt), math.sin(lung.tilt)
    return lung.x + right * cos - down * sin, lung.y + right * sin + down * cos


def _consolidation(random: np.random.Generator, x: float, y: float, sigma: float) -> Image:
    """A soft, patchy opacity; its sum is that of a Gaussian of height 1."""
    stretch, angle = random.uniform(0.8, 1.25), random.uniform(0, math.pi)
    along, across = _turned(x, y, angle)
    bell = np.exp(-((along / (sigma * stretch)) ** 2 + (across * stretch / sigma) ** 2) / 2)
    return _scaled(bell * (1 + _clouds(random, 24, 0.35)), sigma)


def _distractor(random: np.random.Generator, x: float, y: float, sigma: float) -> Image:
    """An opacity of another form, with the sum of a consolidation of the same `sigma`."""
    along, across = _turned(x, y, random.uniform(0, math.pi))
    kind = random.integers(3)
    if kind == 0:  # a band, as of a collapsed segment or a tube
        form = np.exp(-((across / (0.28 * sigma)) ** 2) / 2) * _edge(3.0 * sigma - np.abs(along), 0.01)
    elif kind == 1:  # a sharp nodule
        form = _edge(1.5 * sigma - np.hypot(along, across), 0.004)
    else:  # a ring
        form = np.exp(-(((np.hypot(along, across) - 1.6 * sigma) / (0.3 * sigma)) ** 2) / 2)
    return _scaled(form, sigma)


def _scaled(form: Image, sigma: float) -> Image:
    """`form` with the sum of a Gaussian of height 1 and width `sigma`."""
    return form * (2 * math.pi * (sigma * SIZE) ** 2 / float(form.sum()))


def _turned(x: float, y: float, angle: float) -> tuple[Image, Image]:
    right, down = _X - x, _Y - y
    return right * math.cos(angle) + down * math.sin(angle), down * math.cos(angle) - right * math.sin(angle)


def _edge(distance: Image, width: float) -> Image:
    """0 far outside (negative), 1 far inside, soft over `width`."""
    share: Image = np.clip(distance / width + 0.5, 0, 1)
    return share


def _clouds(random: np.random.Generator, cells: int, deviation: float) -> Image:
    """Smooth noise with `cells` knots a side."""
    knots = random.normal(0, deviation, (cells, cells))
    return np.asarray(cv2.resize(knots, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC))


def _expose(random: np.random.Generator, image: Image, look: Site) -> NDArray[np.uint8]:
    """What the node's machine makes of it: sharpness, exposure, noise, 8 bits."""
    sharp = np.asarray(cv2.GaussianBlur(image, (0, 0), look.blur_px))
    gain, gamma = look.gain * random.uniform(0.9, 1.1), look.gamma * random.uniform(0.9, 1.1)
    shown: Image = np.clip(sharp * gain, 0, 1) ** gamma
    shown = shown + random.normal(0, look.noise, shown.shape)
    levels: NDArray[np.uint8] = np.clip(np.rint(shown * 255), 0, 255).astype(np.uint8)
    return levels


def write_dataset(
    folder: Path,
    nodes: int = NODES,
    seed: int = 0,
    train_images: int = TRAIN_IMAGES,
    val_images: int = VAL_IMAGES,
    test_images: int = TEST_IMAGES,
) -> list[Path]:
    """Write `folder`/node<i>/{train,val}/{NORMAL,PNEUMONIA}/*.png and truth.csv; the nodes' folders.

    `train_images` and `val_images` are a node's; `test_images` of each node's look go to `folder`/test,
    half of either class (none for 0). The same arguments give the same files, and a node's images don't
    depend on the number of images asked for elsewhere.
    """
    looks = [site(np.random.default_rng((seed, index)), index, nodes) for index in range(nodes)]
    folders = [folder / f"node{index}" for index in range(nodes)]
    for index, (look, node) in enumerate(zip(looks, folders, strict=True)):
        for part, (use, images) in enumerate((("train", train_images), ("val", val_images)), start=1):
            random = np.random.default_rng((seed, index, part))
            _write(node / use, _pictures(random, look, images, look.pneumonia))
    if test_images:
        common = (
            (f"node{index}_{name}", label, picture)
            for index, look in enumerate(looks)
            for name, label, picture in _pictures(np.random.default_rng((seed, index, 3)), look, test_images, 0.5)
        )
        _write(folder / "test", common)
    return folders


def _pictures(
    random: np.random.Generator, look: Site, images: int, share: float
) -> Iterator[tuple[str, bool, Phantom]]:
    """Names, labels and pictures: `images` of them, `share` of them PNEUMONIA."""
    for number in range(images):
        pneumonia = number < round(images * share)
        yield f"synthetic{number:04d}.png", pneumonia, draw(random, look, pneumonia)


def _write(folder: Path, pictures: Iterable[tuple[str, bool, Phantom]]) -> None:
    """Write a folder of the two classes, and truth.csv: file, x_px, y_px, radius_px of each consolidation."""
    for name in CLASSES:
        (folder / name).mkdir(parents=True, exist_ok=True)
    with (folder / "truth.csv").open("w", newline="") as file:
        truth = csv.writer(file)
        truth.writerow(("file", "x_px", "y_px", "radius_px"))
        for name, pneumonia, phantom in pictures:
            path = f"{CLASSES[pneumonia]}/{name}"
            cv2.imwrite(str(folder / path), phantom.pixels)
            for spot in phantom.consolidations:
                truth.writerow((path, f"{spot.x_px:.1f}", f"{spot.y_px:.1f}", f"{spot.radius_px:.1f}"))
