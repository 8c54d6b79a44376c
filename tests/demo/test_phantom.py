"""The synthetic chest: the same from a seed, its truth in a lung, and no giveaway in coarse means."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pneumod.demo.phantom import CLASSES, SIZE, draw, site, write_dataset


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_same_seed_writes_the_same_files(tmp_path: Path) -> None:
    for name, seed in (("one", 3), ("two", 3), ("other", 4)):
        write_dataset(tmp_path / name, nodes=2, seed=seed, train_images=4, val_images=4, test_images=2)
    assert files(tmp_path / "one") == files(tmp_path / "two")
    assert files(tmp_path / "one") != files(tmp_path / "other")


def test_no_image_is_written_twice(tmp_path: Path) -> None:
    write_dataset(tmp_path, nodes=3, seed=0, train_images=6, val_images=6, test_images=4)
    images = [data for name, data in files(tmp_path).items() if name.endswith(".png")]
    assert len(images) == 3 * (6 + 6 + 4)
    assert len(set(images)) == len(images)


def test_each_node_gets_what_was_asked_in_both_classes(tmp_path: Path) -> None:
    folders = write_dataset(tmp_path, nodes=4, seed=0, train_images=12, val_images=8, test_images=4)
    assert folders == [tmp_path / f"node{index}" for index in range(4)]
    shares = []
    for folder in folders:
        for use, asked in (("train", 12), ("val", 8)):
            normal, pneumonia = (len(list((folder / use / name).glob("*.png"))) for name in CLASSES)
            assert normal + pneumonia == asked
            assert min(normal, pneumonia) > 0
        shares.append(pneumonia / asked)
    assert shares == sorted(shares)
    assert np.mean(shares) == pytest.approx(0.5)
    assert [len(list((tmp_path / "test" / name).glob("*.png"))) for name in CLASSES] == [8, 8]


def test_files_are_grey_and_of_one_size(tmp_path: Path) -> None:
    (folder,) = write_dataset(tmp_path, nodes=1, seed=0, train_images=2, val_images=2, test_images=0)
    image = cv2.imread(str(next(folder.rglob("*.png"))), cv2.IMREAD_UNCHANGED)
    assert image is not None
    assert image.shape == (SIZE, SIZE)
    assert image.dtype == np.uint8
    assert not (tmp_path / "test").exists()


def test_every_consolidation_lies_in_a_lung_and_normal_has_none() -> None:
    random = np.random.default_rng(0)
    look = site(random, 0, 1)
    for _ in range(50):
        assert draw(random, look, pneumonia=False).consolidations == ()
        phantom = draw(random, look, pneumonia=True)
        assert phantom.consolidations
        for spot in phantom.consolidations:
            assert min(lung.reach(spot.x_px / SIZE, spot.y_px / SIZE) for lung in phantom.lungs) < 0.8


def test_the_truth_beside_the_images_names_every_pneumonia(tmp_path: Path) -> None:
    (folder,) = write_dataset(tmp_path, nodes=1, seed=0, train_images=10, val_images=2, test_images=0)
    with (folder / "train" / "truth.csv").open() as file:
        named = {row["file"] for row in csv.DictReader(file)}
    assert named == {f"PNEUMONIA/{path.name}" for path in (folder / "train" / "PNEUMONIA").iterdir()}


def test_a_linear_model_of_coarse_means_stays_weak() -> None:
    random = np.random.default_rng(0)
    looks = [site(np.random.default_rng(index), index, 4) for index in range(4)]
    labels = np.array([random.uniform() < looks[index % 4].pneumonia for index in range(800)])
    means = [
        cv2.resize(draw(random, looks[index % 4], bool(label)).pixels, (8, 8), interpolation=cv2.INTER_AREA).ravel()
        for index, label in enumerate(labels)
    ]
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(means[:500], labels[:500])
    assert roc_auc_score(labels[500:], model.decision_function(means[500:])) < 0.75
