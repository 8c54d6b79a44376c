"""Files -> answers in their order: decoded by child processes, a batch at a time through the network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from pneumod.errors import ModelError
from pneumod.images.load import read_picture
from pneumod.images.pool import DIED, HUNG, Pool
from pneumod.images.prepare import least_px, prepare_pixels
from pneumod.learning.card import load_model
from pneumod.learning.classify import classify
from pneumod.learning.predict import Predictor
from pneumod.parcel import Answer


class Wild(Pool):
    """A file's name says what its decoder does."""

    decoder = "tests.images.wild"
    decode_s = 1.0


def write_images(folder: Path, names: list[str]) -> list[Path]:
    random = np.random.default_rng(1)
    paths = [folder / f"{name}.png" for name in names]
    for path in paths:
        cv2.imwrite(str(path), random.integers(0, 256, (40, 50), np.uint8))
    return paths


@pytest.fixture
def predictor(brightness_model: Path) -> Predictor:
    return Predictor(load_model(brightness_model))


@pytest.mark.parametrize("batch", [1, 7, 16])
def test_answers_come_in_order_and_are_those_of_each_alone(brightness_model: Path, tmp_path: Path, batch: int) -> None:
    predictor = Predictor(load_model(brightness_model), batch=batch)
    paths = write_images(tmp_path, [f"{i}_slow" if i % 5 == 0 else f"{i}" for i in range(30)])
    preparation = predictor.file.card.preparation
    with Wild(preparation, 2) as pool:
        seen = list(classify(paths, pool, predictor))
    assert [one.source for one in seen] == paths
    for path, one in zip(paths, seen, strict=True):
        pixels = prepare_pixels(read_picture(path, least_px(preparation)).grey, preparation)
        assert isinstance(one.answer, Answer)
        assert one.answer.probability == pytest.approx(predictor.probability(pixels[None])[0], rel=1e-5)
        assert (one.answer.facts.height, one.answer.facts.width) == (40, 50)
        assert one.cam is not None


def test_a_file_that_kills_or_holds_its_decoder_is_one_reason(predictor: Predictor, tmp_path: Path) -> None:
    paths = write_images(tmp_path, ["a", "b_die", "c", "d_hang", "e"])
    with Wild(predictor.file.card.preparation, 2) as pool:
        answers = [seen.answer for seen in classify(paths, pool, predictor)]
    assert [answer if isinstance(answer, str) else "answer" for answer in answers] == [
        "answer", DIED, "answer", HUNG, "answer",
    ]  # fmt: skip


def test_a_first_answer_does_not_wait_for_the_last_file(predictor: Predictor, tmp_path: Path) -> None:
    (path,) = write_images(tmp_path, ["a"])
    taken = 0

    def endless() -> Iterator[Path]:
        nonlocal taken
        while True:
            taken += 1
            yield path

    with Pool(predictor.file.card.preparation, 1) as pool:
        seen = classify(endless(), pool, predictor)
        for _ in range(100):
            next(seen)
    assert taken < 250


def test_a_network_that_gives_no_number_is_told(predictor: Predictor, tmp_path: Path) -> None:
    paths = write_images(tmp_path, ["a"])
    predictor._outputs["logit"] = lambda: np.full((1, 1), np.nan, np.float32)
    with Pool(predictor.file.card.preparation, 1) as pool, pytest.raises(ModelError, match="not finite"):
        list(classify(paths, pool, predictor))
