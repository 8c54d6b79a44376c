"""Does the map's peak lie in the pneumonia? On phantoms, where it is known where that is.

    python benchmarks/heatmap.py --seeds 0 1 2 3 4 5

A federation of phantom hospitals is trained for each seed, every node exports the best model as its daemon would, and
answers new PNEUMONIA pictures of its own look. Prints one line a seed: the share of the pictures where the highest
place of the smoothed map, as it is painted, lies within two standard deviations of the middle of a consolidation; the
same for pictures that are called PNEUMONIA; the same without the NORMAL images' mean map; and what a random point in
the lungs or in the picture would reach (the consolidations' share of their area).
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import NamedTuple

import keras
import msgspec
import numpy as np
from numpy.typing import NDArray
from phantom import federate, load_node

from pneumod.core.jobs import Export
from pneumod.demo import phantom
from pneumod.images.dataset import Dataset
from pneumod.images.heatmap import spread
from pneumod.images.prepare import prepare_pixels
from pneumod.learning.card import load_model
from pneumod.learning.export import explained_litert, write_export
from pneumod.learning.model import export_litert
from pneumod.learning.predict import Predictor, Scored
from pneumod.messages import Best, BlobRef, RunSpec

THRESHOLD = 0.5
PLACES = (np.mgrid[0 : phantom.SIZE, 0 : phantom.SIZE] + 0.5).astype(np.float64)  # y and x of each pixel


class Row(NamedTuple):
    """One value a picture, each 0 to 1."""

    hit: bool
    called: bool
    hit_plain: bool  # by the map without the NORMAL images' mean
    lungs: float
    picture: float


def answers(litert: bytes, folder: Path, pixels: NDArray[np.uint8]) -> Scored:
    spec = RunSpec(1, "phantom", "benchmark", 0, phantom.SETTINGS)
    best = Best(round=1, auc=0.0, threshold=THRESHOLD, model=BlobRef("0" * 64, 1))
    path = write_export(folder, Export(spec, best, nodes=1, images=0, train_images=None), litert, {})
    return Predictor(load_model(path)).answers(pixels)


def inside(picture: phantom.Phantom) -> NDArray[np.bool_]:
    """Where the consolidations are, [SIZE, SIZE]."""
    y, x = PLACES
    reach = [np.hypot(x - spot.x_px, y - spot.y_px) / spot.radius_px for spot in picture.consolidations]
    return np.asarray(np.min(reach, axis=0) <= 1)


def hits(cam: NDArray[np.float32], truth: NDArray[np.bool_]) -> bool:
    return bool(truth.flat[spread(cam, *truth.shape).argmax()])


def judge(network: keras.Model, node: Dataset, pictures: list[phantom.Phantom], folder: Path) -> list[Row]:
    """One node's pictures, by the file that it exports."""
    pixels = np.stack([prepare_pixels(picture.pixels, phantom.SETTINGS.preparation) for picture in pictures])
    litert, _ = explained_litert(network, node)
    told, plain = (answers(data, folder, pixels) for data in (litert, export_litert(network)))
    rows = []
    for place, picture in enumerate(pictures):
        truth, (y, x) = inside(picture), PLACES / phantom.SIZE
        lungs = np.minimum(*(lung.reach(x, y) for lung in picture.lungs)) <= 1
        called = bool(told.probability[place] >= THRESHOLD)
        found, without = hits(told.cam[place], truth), hits(plain.cam[place], truth)
        rows.append(Row(found, called, without, float(truth[lungs].mean()), float(truth.mean())))
    return rows


def run(seed: int, images: int, folder: Path) -> list[Row]:
    settings = msgspec.structs.replace(phantom.SETTINGS, seed=seed)
    folders = phantom.write_dataset(folder / "data", phantom.NODES, seed, test_images=0)
    nodes = [load_node(one, index, folder, settings.preparation) for index, one in enumerate(folders)]
    best = federate(settings, nodes)
    rows = []
    for index, node in enumerate(nodes):
        look = phantom.site(np.random.default_rng((seed, index)), index, phantom.NODES)
        random = np.random.default_rng((seed, index, 4))  # the datasets use 1 to 3
        pictures = [phantom.draw(random, look, pneumonia=True) for _ in range(images)]
        rows += judge(best.trainer.model, node, pictures, folder / "models")
    print(f"{seed:4}  {best.auc:5.3f}  {len(rows):8}  " + shares(rows), flush=True)
    return rows


def shares(rows: list[Row]) -> str:
    hit = np.mean([row.hit for row in rows])
    called = np.mean([row.hit for row in rows if row.called])
    plain, lungs, picture = (np.mean([row[column] for row in rows]) for column in (2, 3, 4))
    return f"{hit:5.3f}  {called:10.3f}  {plain:12.3f}  {lungs:12.3f}  {picture:14.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3])
    parser.add_argument("--images", type=int, default=100, help="PNEUMONIA pictures a node")
    arguments = parser.parse_args()
    print("seed    AUC  pictures   peak  if so called  without mean  random: lungs  random: picture")
    rows = []
    for seed in arguments.seeds:
        with tempfile.TemporaryDirectory() as folder:
            rows += run(seed, arguments.images, Path(folder))
    print(f" all         {len(rows):8}  {shares(rows)}")


if __name__ == "__main__":
    main()
