"""The network: the same bits from the same settings, grey levels standardised inside, a small LiteRT twin."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from pneumod.learning.model import Explanations, build, explain, export_litert, weights_of
from pneumod.messages import RunSettings

SETTINGS = RunSettings(image_size=32, seed=5)


@pytest.fixture(scope="module")
def pixels() -> NDArray[np.float32]:
    """Noise, from grains of one pixel to coarse blocks."""
    random = np.random.default_rng(0)
    cells = (1, 2, 4, 8, 16)
    images = [np.kron(random.integers(0, 256, (32 // cell, 32 // cell)), np.ones((cell, cell))) for cell in cells]
    return np.stack(images)[..., None].astype(np.float32)


@pytest.fixture(scope="module")
def model() -> keras.Model:
    """As after training: moving variances that fit, so that images of another kind have other logits."""
    made = build(SETTINGS)
    made.set_weights(
        [np.full_like(w, 0.5) if name.endswith("moving_variance") else w for name, w in weights_of(made).items()]
    )
    return made


def test_the_same_seed_gives_the_same_bits_and_another_seed_others() -> None:
    first, again = weights_of(build(SETTINGS)), weights_of(build(SETTINGS))
    other = weights_of(build(RunSettings(image_size=32, seed=6)))
    assert list(first) == list(again) == list(other)
    assert all(first[name].tobytes() == again[name].tobytes() for name in first)
    assert any(first[name].tobytes() != other[name].tobytes() for name in first)


def test_weights_are_float32_with_the_moving_statistics_among_them() -> None:
    weights = weights_of(build(SETTINGS))
    assert all(array.dtype == np.float32 for array in weights.values())
    assert any(name.endswith("moving_mean") for name in weights)
    assert any(name.endswith("moving_variance") for name in weights)


def test_weights_come_back_as_they_were_set() -> None:
    made, other = build(SETTINGS), build(RunSettings(image_size=32, seed=6))
    weights = weights_of(other)
    made.set_weights(list(weights.values()))
    assert all(weights[name].tobytes() == array.tobytes() for name, array in weights_of(made).items())


def test_exposure_and_contrast_of_a_whole_image_do_not_matter(model: keras.Model, pixels: NDArray[np.float32]) -> None:
    logits = model(pixels)
    assert np.ptp(logits) > 0.01
    np.testing.assert_allclose(model(0.5 * pixels + 40.0), logits, atol=1e-3)


def run_litert(litert: bytes, pixels: NDArray[np.float32]) -> Explanations:
    """The outputs of a LiteRT file, told apart by their shapes."""
    interpreter = Interpreter(model_content=litert)
    details = interpreter.get_input_details()[0]
    interpreter.resize_tensor_input(details["index"], pixels.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(details["index"], pixels)
    interpreter.invoke()
    outputs = [interpreter.get_tensor(one["index"]) for one in interpreter.get_output_details()]
    (cam,) = (one for one in outputs if one.ndim == 3)
    (logit,) = (one for one in outputs if one.ndim == 2 and one.shape[1] == 1)
    (features,) = (one for one in outputs if one.ndim == 2 and one.shape[1] > 1)
    return Explanations(logit[:, 0], cam, features)


def test_litert_gives_what_keras_gives_for_any_number_of_images(
    model: keras.Model, pixels: NDArray[np.float32]
) -> None:
    litert = export_litert(model)
    assert len(litert) < 500_000
    expected = explain(model, pixels[..., 0].astype(np.uint8))
    np.testing.assert_allclose(expected.logit, model(pixels)[:, 0], atol=1e-5)
    for count in (1, 5):
        for found, wanted in zip(run_litert(litert, pixels[:count]), expected, strict=True):
            np.testing.assert_allclose(found, wanted[:count], atol=1e-4)


@pytest.mark.parametrize("size", [28, 33, 96, 100, 256])
def test_the_mean_of_the_map_is_the_logit_at_any_size(model: keras.Model, size: int) -> None:
    """Also where the last pooling leaves out a row."""
    made = build(RunSettings(image_size=size))
    made.set_weights(model.get_weights())
    pixels = np.random.default_rng(1).integers(0, 256, (3, size, size), np.uint8)
    explained = explain(made, pixels)
    np.testing.assert_allclose(explained.cam.mean(axis=(1, 2)), explained.logit, atol=1e-4)
    found = run_litert(export_litert(made), pixels[..., None].astype(np.float32))
    assert [part.shape for part in found] == [part.shape for part in explained]
    np.testing.assert_allclose(found.cam, explained.cam, atol=1e-3)


def test_the_map_shows_where_the_evidence_is(model: keras.Model) -> None:
    """A spot in one quarter changes the map there most."""
    made = build(RunSettings(image_size=96))
    made.set_weights(model.get_weights())
    noise = np.random.default_rng(2).normal(128, 4, (1, 96, 96))
    with_spot = noise.copy()
    with_spot[:, 60:76, 12:28] += np.random.default_rng(3).normal(60, 40, (16, 16))
    cams = explain(made, np.concatenate([noise, with_spot]).clip(0, 255).astype(np.uint8)).cam
    change = np.abs(cams[1] - cams[0])
    row, column = np.unravel_index(change.argmax(), change.shape)
    assert 60 <= 8 * row + 4 <= 76
    assert 12 <= 8 * column + 4 <= 28


def test_a_baseline_moves_evidence_about_and_leaves_the_logit(model: keras.Model, pixels: NDArray[np.float32]) -> None:
    baseline = np.random.default_rng(4).normal(3, 1, (4, 4)).astype(np.float32)
    plain, told = run_litert(export_litert(model), pixels), run_litert(export_litert(model, baseline), pixels)
    np.testing.assert_allclose(told.logit, plain.logit, atol=1e-5)
    np.testing.assert_allclose(told.cam, plain.cam - (baseline - baseline.mean()), atol=1e-4)
    np.testing.assert_allclose(told.cam.mean(axis=(1, 2)), told.logit, atol=1e-4)


def test_the_weights_have_the_same_shapes_at_any_image_size() -> None:
    weights = weights_of(build(RunSettings(image_size=256)))
    assert {name: array.shape for name, array in weights.items()} == {
        name: array.shape for name, array in weights_of(build(SETTINGS)).items()
    }
