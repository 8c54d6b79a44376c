"""Squash to a square, pad or crop: which gives the pixels that the model was trained on?

The hospitals' training images are 224 x 224 squares made from chest X-rays of other shapes; native_samples
are some of the same X-rays at their own size. Each is prepared in three ways and compared with its square,
which is prepared as the training does.

    PNEUMOD_CXR=DIR python benchmarks/aspect.py
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from pneumod.images.load import read_picture
from pneumod.images.picture import Grey
from pneumod.images.prepare import prepare_pixels
from pneumod.settings import Preparation

IMAGE_SIZE = 96


def squash(grey: Grey, image_size: int) -> Grey:
    """As the training does."""
    return prepare_pixels(grey, Preparation(image_size))


def pad(grey: Grey, image_size: int) -> Grey:
    """Keep the aspect: black bars at the shorter side."""
    height, width = grey.shape
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    square = cv2.copyMakeBorder(grey, top, side - height - top, left, side - width - left, cv2.BORDER_CONSTANT)
    return squash(square.astype(np.uint8), image_size)


def crop(grey: Grey, image_size: int) -> Grey:
    """Keep the aspect: cut the longer side to the middle."""
    height, width = grey.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return squash(grey[top : top + side, left : left + side], image_size)


WAYS: dict[str, Callable[[Grey, int], Grey]] = {"squash": squash, "pad": pad, "crop": crop}


def main() -> None:
    folder = os.environ.get("PNEUMOD_CXR")
    if not folder:
        sys.exit("benchmarks/aspect.py: set PNEUMOD_CXR to the folder of X-rays")
    differences: dict[str, list[float]] = {way: [] for way in WAYS}
    correlations: dict[str, list[float]] = {way: [] for way in WAYS}
    aspects = []
    for path in sorted(Path(folder, "native_samples").glob("*/*.jpeg")):
        native = read_picture(path).grey
        trained = read_picture(Path(folder, "hospitals", "hospital_a", "train", path.parent.name, path.name)).grey
        expected = squash(trained, IMAGE_SIZE).astype(np.float64)
        aspects.append(native.shape[1] / native.shape[0])
        for way, prepare in WAYS.items():
            prepared = prepare(native, IMAGE_SIZE).astype(np.float64)
            differences[way].append(float(np.abs(prepared - expected).mean()))
            correlations[way].append(float(np.corrcoef(prepared.ravel(), expected.ravel())[0, 1]))
    print(
        f"{len(aspects)} X-rays, width / height {min(aspects):.2f} to {max(aspects):.2f}, {IMAGE_SIZE} x {IMAGE_SIZE}"
    )
    print("| way | mean difference, grey levels | largest of an image | mean correlation |")
    print("|---|---|---|---|")
    for way in WAYS:
        mean, largest = np.mean(differences[way]), np.max(differences[way])
        print(f"| {way} | {mean:.2f} | {largest:.2f} | {np.mean(correlations[way]):.3f} |")


if __name__ == "__main__":
    main()
