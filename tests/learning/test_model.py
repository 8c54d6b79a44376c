"""The network: the same bits from the same settings, grey levels standardised inside, a small LiteRT twin."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from pneumod.learning.model import build, export_litert, weights_of
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


def test_litert_gives_what_keras_gives_for_any_number_of_images(
    model: keras.Model, pixels: NDArray[np.float32]
) -> None:
    litert = export_litert(model)
    assert len(litert) < 500_000
    interpreter = Interpreter(model_content=litert)
    details = interpreter.get_input_details()[0]
    for count in (1, 5):
        interpreter.resize_tensor_input(details["index"], (count, 32, 32, 1))
        interpreter.allocate_tensors()
        interpreter.set_tensor(details["index"], pixels[:count])
        interpreter.invoke()
        logits = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
        np.testing.assert_allclose(logits, model(pixels[:count]), atol=1e-4)


def test_the_weights_have_the_same_shapes_at_any_image_size() -> None:
    weights = weights_of(build(RunSettings(image_size=256)))
    assert {name: array.shape for name, array in weights.items()} == {
        name: array.shape for name, array in weights_of(build(SETTINGS)).items()
    }
