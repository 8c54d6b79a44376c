"""Which images are called unlike the training images, and how often wrongly.

    python benchmarks/likeness.py CXR [--model FILE]

The features are those of a model's LiteRT file. Each hospital in CXR/hospitals learns the likeness of its own training
images as its node would at an export, and so do all of them together. Prints the share of images above the threshold:
of one half of the own validation images when the threshold comes from the other half (50 draws), beside the share that
is stated then; of the other hospitals' validation images; and of what is no upright chest X-ray: photographs, CT and MR
slices, noise, and the validation images of all hospitals turned, inverted, cut or mirrored.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from pneumod.errors import DataError
from pneumod.images.load import read_picture
from pneumod.images.prepare import prepare_pixels
from pneumod.learning.card import ModelFile
from pneumod.learning.likeness import learn
from pneumod.learning.predict import find_model

HALVES = 50
Pixels = NDArray[np.uint8]  # [N, S, S]
Features = NDArray[np.float32]


def corner(image: Pixels) -> Pixels:
    side = len(image)
    return np.asarray(cv2.resize(image[: side // 2, : side // 2], (side, side)), np.uint8)


CHANGES: dict[str, Callable[[Pixels], Pixels]] = {
    "turned left": lambda image: np.rot90(image),
    "turned right": lambda image: np.rot90(image, 3),
    "upside down": lambda image: np.rot90(image, 2),
    "inverted": lambda image: 255 - image,
    "one quarter": corner,
    "mirrored": lambda image: image[:, ::-1],
}


class Network:
    """A model's features of images."""

    def __init__(self, file: ModelFile) -> None:
        self.preparation = file.card.preparation
        self._interpreter = Interpreter(model_content=file.data)

    def features(self, pixels: Pixels) -> Features:
        place = self._interpreter.get_input_details()[0]["index"]
        self._interpreter.resize_tensor_input(place, (*pixels.shape, 1))
        self._interpreter.allocate_tensors()
        self._interpreter.set_tensor(place, pixels[..., None].astype(np.float32))
        self._interpreter.invoke()
        outputs = self._interpreter.get_output_details()
        (features,) = (one["index"] for one in outputs if len(one["shape"]) == 2 and one["shape"][1] > 1)
        return np.asarray(self._interpreter.get_tensor(features), np.float32)

    def load(self, folder: Path) -> Pixels:
        """The images under a folder that can be read."""
        pixels = []
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            try:
                pixels.append(prepare_pixels(read_picture(path, force=True).grey, self.preparation))
            except DataError:
                continue
        return np.stack(pixels)

    def odd(self, cxr: Path, chests: Pixels) -> dict[str, Features]:
        """What is no upright chest X-ray, by kind. One file of odd_files, an NIH X-ray, is left out."""
        random, side = np.random.default_rng(0), self.preparation.image_size
        pictures = self.load(cxr / "odd_files")
        nih = prepare_pixels(read_picture(cxr / "odd_files" / "nih_rgba_00001054_002.png").grey, self.preparation)
        coarse = random.integers(0, 256, (100, 6, 6)).astype(np.uint8)
        kinds = {
            "photographs": pictures[[not np.array_equal(picture, nih) for picture in pictures]],
            "CT, MR, screens": self.load(cxr / "dicom" / "not_chest"),
            "fine noise": random.integers(0, 256, (100, side, side)).astype(np.uint8),
            "coarse noise": np.stack([cv2.resize(one, (side, side), interpolation=cv2.INTER_CUBIC) for one in coarse]),
            **{name: np.stack([change(image) for image in chests]) for name, change in CHANGES.items()},
        }
        return {f"{name} ({len(pixels)})": self.features(pixels) for name, pixels in kinds.items()}


def held_out(train: Features, val: Features) -> str:
    """The share of one half of the validation images above the threshold that the other half gave, and the stated."""
    shares, half = [], len(val) // 2
    for seed in range(HALVES):
        order = np.random.default_rng(seed).permutation(len(val))
        likeness = learn(train, val[order[:half]])
        assert likeness is not None
        shares.append(np.mean(likeness.distance(val[order[half:]]) > likeness.threshold))
    return f"{np.mean(shares):.3f} ({likeness.false_alarms:.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cxr", type=Path)
    parser.add_argument("--model", type=Path, help="default: the one in the package")
    arguments = parser.parse_args()
    network = Network(find_model(arguments.model, None))
    folders = sorted(folder for folder in (arguments.cxr / "hospitals").iterdir() if folder.is_dir())
    pixels = {folder.name: (network.load(folder / "train"), network.load(folder / "val")) for folder in folders}
    parts = {name: (network.features(train), network.features(val)) for name, (train, val) in pixels.items()}
    odd = network.odd(arguments.cxr, np.concatenate([val for _, val in pixels.values()]))
    everyone = tuple(np.concatenate(part) for part in zip(*parts.values(), strict=True))
    columns: dict[str, list[str]] = {}
    for name, (train, val) in {**parts, "all four": everyone}.items():
        likeness = learn(train, val)
        assert likeness is not None
        others = {f"val of {other}": features for other, (_, features) in parts.items()}
        columns[name] = [
            f"{len(train)}/{len(val)}",
            f"1 in {likeness.one_in}",
            held_out(train, val),
            *(f"{np.mean(likeness.distance(each) > likeness.threshold):.3f}" for each in (others | odd).values()),
        ]
    titles = ["images: train/val", "stated", "half of val (stated)", *(f"val of {name}" for name in parts), *odd]
    print(f"{'':24}" + "".join(f"{name:>14}" for name in columns))
    for row, title in enumerate(titles):
        print(f"{title:24}" + "".join(f"{column[row]:>14}" for column in columns.values()))


if __name__ == "__main__":
    main()
