"""What a node's own images add to the model that it exports."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pneumod.config import DataConfig
from pneumod.core.jobs import Export
from pneumod.demo import phantom
from pneumod.images.dataset import Dataset, Part
from pneumod.learning import export
from pneumod.learning.card import ModelCard, load_model
from pneumod.learning.export import explained_litert, write_export
from pneumod.learning.model import build, explain
from pneumod.learning.predict import Predictor
from pneumod.messages import Best, BlobRef, ClassCounts, RunSettings, RunSpec

SETTINGS = RunSettings(image_size=32, clahe=True)
DATA = DataConfig(Path("train"), about="children of 1 to 5 years", ages_years=(1.0, 5.0))


def part(seed: int, count: int) -> Part:
    """Phantoms, half of them PNEUMONIA."""
    random = np.random.default_rng(seed)
    look = phantom.site(np.random.default_rng(0), 0, 1)
    labels = np.arange(count) % 2 == 1
    pixels = np.stack([phantom.draw(random, look, bool(label)).pixels[::4, ::4] for label in labels])
    return Part(pixels, labels.astype(np.uint8), ())  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def images() -> Dataset:
    return Dataset(part(1, 200), part(2, 120), ClassCounts(100, 100, 60, 60), ())


def job(nodes: int) -> Export:
    best = Best(round=3, auc=0.9, threshold=0.6, model=BlobRef("a" * 64, 9))
    return Export(RunSpec(1, "run-a", "tester", 0, SETTINGS), best, nodes, images=40, train_images=None)


def test_maps_are_told_against_normal_images_and_distances_are_known(images: Dataset, tmp_path: Path) -> None:
    network = build(SETTINGS)
    litert, likeness = explained_litert(network, images)
    path = write_export(tmp_path, job(1), litert, {}, DATA, likeness)
    scored = Predictor(load_model(path)).answers(images.train.pixels[:])
    assert scored.cam is not None
    assert scored.distance is not None
    normal = images.train.labels == 0
    told = scored.cam[normal].mean(axis=0)
    plain = explain(network, images.train.pixels[:]).cam[normal].mean(axis=0)
    assert np.ptp(told) < 0.01 * np.ptp(plain)  # a NORMAL image shows nothing, in the mean
    assert likeness is not None
    ordinary = Predictor(load_model(path)).answers(part(3, 200).pixels[:]).distance
    assert ordinary is not None
    assert np.mean(ordinary > likeness.threshold) < 0.05
    noise = np.random.default_rng(4).integers(0, 256, (20, 32, 32), np.uint8)
    odd = Predictor(load_model(path)).answers(noise).distance
    assert odd is not None
    assert (odd > likeness.threshold).all()


def test_no_more_images_are_looked_at_than_a_round_can_wait_for(
    images: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "SAMPLE", 50)
    _, likeness = explained_litert(build(SETTINGS), images)
    assert likeness is not None
    assert likeness.val_images == 40  # every third of 120


def card_of(nodes: int, data: DataConfig | None, folder: Path) -> ModelCard:
    return load_model(write_export(folder, job(nodes), b"a model", {}, data)).card


def test_the_card_says_what_the_node_says_of_its_images(tmp_path: Path) -> None:
    card = card_of(1, DATA, tmp_path)
    assert (card.about, card.ages_years) == ("children of 1 to 5 years", (1.0, 5.0))
    assert (card.preparation, card.clahe, card.crop_borders) == (SETTINGS.preparation, True, False)


def test_of_other_nodes_it_says_only_how_many_they_are(tmp_path: Path) -> None:
    card = card_of(4, DATA, tmp_path)
    assert card.about is not None
    assert card.about.startswith("children of 1 to 5 years")
    assert "3 others" in card.about


def test_a_node_that_says_nothing_has_a_card_that_says_nothing(tmp_path: Path) -> None:
    for data in (None, DataConfig(Path("train"))):
        card = card_of(4, data, tmp_path)
        assert (card.about, card.ages_years, card.likeness) == (None, None, None)
