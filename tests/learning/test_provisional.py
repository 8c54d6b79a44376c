"""The model in the package: it draws maps, says what it learnt from, and notices what is no chest X-ray."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pneumod.images.load import read_picture
from pneumod.images.prepare import prepare_pixels
from pneumod.learning.card import load_model
from pneumod.learning.predict import PACKAGED, Predictor


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(load_model(PACKAGED))


@pytest.fixture(scope="module")
def chests(cxr: Path, predictor: Predictor) -> NDArray[np.uint8]:
    """Validation images, 20 of each class of each hospital."""
    folders = sorted((cxr / "hospitals").glob("*/val/*"))
    return load([path for folder in folders for path in sorted(folder.iterdir())[:20]], predictor)


def load(paths: list[Path], predictor: Predictor) -> NDArray[np.uint8]:
    preparation = predictor.file.card.preparation
    return np.stack([prepare_pixels(read_picture(path, force=True).grey, preparation) for path in paths])


def unlike(pixels: NDArray[np.uint8], predictor: Predictor) -> float:
    """The share of images above the threshold."""
    likeness, distance = predictor.file.card.likeness, predictor.answers(pixels).distance
    assert likeness is not None
    assert distance is not None
    return float(np.mean(distance > likeness.threshold))


def test_it_gives_a_map_whose_mean_is_the_logit(predictor: Predictor) -> None:
    scored = predictor.answers(np.random.default_rng(0).integers(0, 256, (3, 96, 96), np.uint8))
    assert scored.cam is not None
    logit = np.log(scored.probability / (1 - scored.probability))
    np.testing.assert_allclose(scored.cam.mean(axis=(1, 2)), logit, atol=1e-3)


def test_its_card_says_what_it_learnt_from(predictor: Predictor) -> None:
    card = predictor.file.card
    assert card.about is not None
    assert "children" in card.about
    assert card.likeness is not None
    assert card.likeness.one_in >= 100


def test_validation_images_are_mostly_like_the_training_images(chests: NDArray[np.uint8], predictor: Predictor) -> None:
    assert unlike(chests, predictor) < 0.03


@pytest.mark.parametrize("turn", ["left", "right", "inverted"])
def test_turned_and_inverted_x_rays_are_mostly_unlike(
    chests: NDArray[np.uint8], predictor: Predictor, turn: str
) -> None:
    turned = {"left": np.rot90(chests, 1, (1, 2)), "right": np.rot90(chests, 3, (1, 2)), "inverted": 255 - chests}[turn]
    assert unlike(turned, predictor) > 0.9


def test_photographs_and_slices_are_unlike(cxr: Path, predictor: Predictor) -> None:
    paths = [*(cxr / "odd_files").glob("hopper*.jpg"), *(cxr / "dicom" / "not_chest").glob("*.dcm")]
    assert len(paths) >= 8
    assert unlike(load(paths, predictor), predictor) == 1.0
