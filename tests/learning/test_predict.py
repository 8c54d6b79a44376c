"""Finding a model, and what it answers."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from pneumod.blobs import digest_of
from pneumod.errors import ModelError
from pneumod.learning import likeness, predict
from pneumod.learning.card import load_model
from pneumod.learning.predict import Predictor, find_model
from pneumod.maps import Maps

SIZE = 32


@pytest.fixture(autouse=True)
def no_other_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PNEUMOD_MODEL", raising=False)
    monkeypatch.setattr(predict, "PACKAGED", tmp_path / "packaged" / "provisional.json")


@contextlib.contextmanager
def ordinary_user() -> Iterator[None]:
    """Not root, who may do everything."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


def copy_of(model: Path, folder: Path) -> Path:
    """A copy of a model's folder, its `current.json` still a link."""
    return Path(shutil.copytree(model.parent, folder, symlinks=True)) / model.name


def expected(mean: float) -> float:
    return float(1 / (1 + np.exp(-(mean - 128) / 16)))


def test_a_probability_is_the_sigmoid_of_the_networks_logit(brightness_model: Path) -> None:
    predictor = Predictor(load_model(brightness_model))
    levels = np.array([0, 64, 120, 128, 140, 255], np.uint8)
    pixels = np.broadcast_to(levels[:, None, None], (6, SIZE, SIZE))
    assert np.allclose(predictor.probability(pixels), [expected(level) for level in levels.tolist()], rtol=1e-5)


def test_batches_of_any_size_give_the_same_answers(brightness_model: Path) -> None:
    predictor = Predictor(load_model(brightness_model))
    pixels = np.random.default_rng(0).integers(0, 256, (150, SIZE, SIZE), np.uint8)
    together = predictor.probability(pixels)
    alone = [predictor.probability(image[None])[0] for image in pixels[::25]]
    assert np.allclose(together[::25], alone, rtol=1e-5)
    assert predictor.probability(pixels[:0]).shape == (0,)


def test_an_answer_has_a_map_and_its_mean_is_the_logit(brightness_model: Path) -> None:
    predictor = Predictor(load_model(brightness_model))
    pixels = np.random.default_rng(1).integers(0, 256, (5, SIZE, SIZE), np.uint8)
    scored = predictor.answers(pixels)
    assert predictor.gives_maps
    assert scored.cam is not None
    assert scored.cam.ndim == 3
    assert np.allclose(1 / (1 + np.exp(-scored.cam.mean((1, 2)))), scored.probability, rtol=1e-4)


def test_a_distance_is_told_where_the_card_knows_the_training_images(brightness_model: Path) -> None:
    file = load_model(brightness_model)
    pixels = np.random.default_rng(1).integers(0, 256, (40, SIZE, SIZE), np.uint8)
    assert Predictor(file).answers(pixels).distance is None
    network = Interpreter(model_content=file.data)
    network.resize_tensor_input(network.get_input_details()[0]["index"], (40, SIZE, SIZE, 1))
    network.allocate_tensors()
    network.set_tensor(network.get_input_details()[0]["index"], pixels[..., None].astype(np.float32))
    network.invoke()
    (place,) = (one["index"] for one in network.get_output_details() if len(one["shape"]) == 2 and one["shape"][1] > 1)
    features = network.get_tensor(place)
    known = likeness.learn(features[:30], features[30:])
    assert known is not None
    knowing = msgspec.structs.replace(file, card=msgspec.structs.replace(file.card, likeness=known))
    distance = Predictor(knowing).answers(pixels).distance
    assert distance is not None
    assert np.allclose(distance, known.distance(features), rtol=1e-3)


def test_a_file_with_a_logit_alone_still_answers(brightness_model: Path, tmp_path: Path) -> None:
    """As earlier versions exported them."""
    tf = pytest.importorskip("tensorflow")

    def logit(x: Any) -> Any:
        return tf.reduce_mean(x, (1, 2)) / 16 - 8

    traced = tf.function(logit, input_signature=[tf.TensorSpec((None, SIZE, SIZE, 1))]).get_concrete_function()
    data = tf.lite.TFLiteConverter.from_concrete_functions([traced]).convert()
    file = load_model(brightness_model)
    old = Predictor(msgspec.structs.replace(file, data=data))
    pixels = np.random.default_rng(1).integers(0, 256, (3, SIZE, SIZE), np.uint8)
    scored = old.answers(pixels)
    assert (scored.distance, scored.cam, old.gives_maps) == (None, None, False)
    assert np.allclose(scored.probability, Predictor(file).probability(pixels), rtol=1e-5)
    with pytest.raises(ModelError, match="the model gives no maps"):
        Maps(tmp_path / "x.png", [tmp_path / "x.jpg"], old, force=False)


def test_the_card_says_where_a_model_comes_from(brightness_model: Path) -> None:
    card = load_model(brightness_model).card
    assert (card.status, card.name, card.nodes, card.threshold, card.image_size) == ("run", "run-a-r3", 4, 0.6, SIZE)
    assert card.metrics.auc == 0.9
    assert card.train_images is not None
    assert (card.train_images.normal, card.train_images.pneumonia) == (100, 200)
    assert card.notice == "For research only, not for diagnosis."


def test_a_model_may_be_named_by_either_file_or_by_the_link(brightness_model: Path) -> None:
    names = (brightness_model, brightness_model.with_suffix(".tflite"), brightness_model.parent / "current.json")
    assert len({load_model(path).data for path in names}) == 1


def test_models_are_looked_for_in_order(
    brightness_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, named, other = tmp_path / "state", tmp_path / "named", tmp_path / "other"
    with pytest.raises(ModelError, match=r"no model in .*current.json, \$PNEUMOD_MODEL, .*provisional.json; train one"):
        find_model(None, state)
    copy_of(brightness_model, predict.PACKAGED.parent).rename(predict.PACKAGED)
    assert find_model(None, state).path == predict.PACKAGED
    monkeypatch.setenv("PNEUMOD_MODEL", str(copy_of(brightness_model, named)))
    assert find_model(None, state).path.parent == named
    copy_of(brightness_model, state / "models")
    assert find_model(None, state).path == state / "models" / "current.json"
    assert find_model(None, None).path.parent == named
    assert find_model(copy_of(brightness_model, other), state).path.parent == other


def test_a_model_that_was_named_and_is_not_there_is_an_error(
    brightness_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelError, match=r"x.tflite: no model here: .*x.json doesn't exist"):
        find_model(tmp_path / "x.tflite", None)
    copied = copy_of(brightness_model, tmp_path / "state" / "models")
    copied.unlink()
    with pytest.raises(ModelError, match=r"current\.json"):
        find_model(None, tmp_path / "state")
    monkeypatch.setenv("PNEUMOD_MODEL", str(tmp_path / "y.json"))
    with pytest.raises(ModelError, match=r"y\.json"):
        find_model(None, None)


def test_a_state_directory_of_another_user_is_one_line_with_the_remedy(tmp_path: Path) -> None:
    closed = tmp_path / "state"
    closed.mkdir(mode=0)
    with (
        ordinary_user(),
        pytest.raises(ModelError, match=r"current.json: Permission denied; run this as the node's user, or give --mo"),
    ):
        find_model(None, closed)


def test_a_state_directory_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    with pytest.raises(ModelError, match=r"state/models/current.json: Not a directory; "):
        find_model(None, tmp_path / "state")


def test_a_damaged_model_is_refused(brightness_model: Path, tmp_path: Path) -> None:
    copied = copy_of(brightness_model, tmp_path / "models")
    network = copied.with_suffix(".tflite")
    network.write_bytes(network.read_bytes()[:-1] + b"\xa5")
    with pytest.raises(ModelError, match=r"run-a-r3.tflite: not the file of run-a-r3.json: its digest differs"):
        load_model(copied)


@pytest.mark.parametrize(
    ("key", "value"),
    [("format", 2), ("file", "../x.tflite"), ("threshold", 1.5), ("status", "best"), ("run", None), ("file", "x.h5")],
)
def test_a_card_that_is_none_is_refused(brightness_model: Path, tmp_path: Path, key: str, value: object) -> None:
    copied = copy_of(brightness_model, tmp_path / "models")
    copied.write_text(json.dumps({**json.loads(copied.read_text()), key: value}))
    with pytest.raises(ModelError, match=rf"run-a-r3.json: not a model's card: .*{key}"):
        load_model(copied)


def test_a_network_of_another_size_or_no_network_is_refused(brightness_model: Path, tmp_path: Path) -> None:
    copied = copy_of(brightness_model, tmp_path / "models")
    card = json.loads(copied.read_text())
    copied.write_text(json.dumps({**card, "image_size": 64}))
    with pytest.raises(ModelError, match="the network doesn't take 64 x 64 grey levels"):
        Predictor(load_model(copied))
    copied.with_suffix(".tflite").write_bytes(b"noise")
    copied.write_text(json.dumps({**card, "file_digest": digest_of(b"noise")}))
    with pytest.raises(ModelError, match="LiteRT refuses the model"):
        Predictor(load_model(copied))
