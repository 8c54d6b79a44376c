"""Local training and scoring: reproducible from a seed, it learns, and it counts every image."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from pneumod.errors import ModelError
from pneumod.learning.train import Trainer, Work, histogram
from pneumod.messages import RunSettings

SETTINGS = RunSettings(image_size=28, batch_size=8, local_epochs=2, learning_rate=2e-3, seed=1)
Arrays = list[NDArray[np.float32]]
Images = tuple[NDArray[np.uint8], NDArray[np.uint8]]


@pytest.fixture(scope="module")
def trainer() -> Trainer:
    return Trainer(SETTINGS)


@pytest.fixture(scope="module")
def start(trainer: Trainer) -> Arrays:
    return list(trainer.weights().values())


@pytest.fixture(scope="module")
def images() -> Images:
    """An easy set: fine stripes against coarse ones."""
    random = np.random.default_rng(0)
    labels = np.arange(40, dtype=np.uint8) % 2
    columns = np.arange(28)
    stripes = np.stack([columns // (4 if label else 1) % 2 * 80 for label in labels])[:, None, :]
    pixels = 80 + stripes + random.integers(0, 40, (40, 28, 28))
    return pixels.astype(np.uint8), labels


def work(
    trainer: Trainer,
    start: Arrays,
    images: Images,
    class_weights: tuple[float, float] = (1.0, 1.0),
    seed: tuple[int, ...] = (1, 2, 3),
) -> Work:
    trainer.set_weights(start)
    return trainer.train(*images, class_weights, seed)


def same(one: Work, other: Work) -> bool:
    return all(one.deltas[name].tobytes() == other.deltas[name].tobytes() for name in one.deltas)


def test_the_same_seed_gives_the_same_bits_whatever_was_trained_before(
    trainer: Trainer, start: Arrays, images: Images
) -> None:
    first = work(trainer, start, images)
    other = work(trainer, start, images, seed=(1, 2, 4))
    again = work(trainer, start, images)
    assert same(first, again)
    assert not same(first, other)


def test_deltas_are_what_training_changed(trainer: Trainer, start: Arrays, images: Images) -> None:
    done = work(trainer, start, images)
    assert done.samples == 40
    for before, delta, after in zip(start, done.deltas.values(), trainer.weights().values(), strict=True):
        np.testing.assert_allclose(before + delta, after, rtol=1e-6, atol=1e-7)


def test_training_lowers_the_loss_on_an_easy_set(trainer: Trainer, start: Arrays, images: Images) -> None:
    first = work(trainer, start, images).train_loss
    for number in range(5):
        last = trainer.train(*images, (1.0, 1.0), (1, 2, number)).train_loss
    assert last < 0.5 * first
    scores = trainer.score(*images)
    assert max(bin_ for bin_, _ in scores.normal) < min(bin_ for bin_, _ in scores.pneumonia)


def test_class_weights_count(trainer: Trainer, start: Arrays, images: Images) -> None:
    even = work(trainer, start, images)
    mean = {}
    for class_weights in ((4.0, 0.25), (0.25, 4.0)):
        assert not same(even, work(trainer, start, images, class_weights))
        mean[class_weights] = trainer.logits(images[0]).mean()
    assert mean[4.0, 0.25] < mean[0.25, 4.0]


def test_without_augmentation_the_images_are_used_as_they_are(start: Arrays, images: Images) -> None:
    plain = Trainer(msgspec.structs.replace(SETTINGS, augment=False, dropout=0.0))
    assert same(work(plain, start, images), work(plain, start, images))


def test_the_watcher_hears_of_every_step(trainer: Trainer, start: Arrays, images: Images) -> None:
    told: list[tuple[float, float]] = []
    trainer.set_weights(start)
    trainer.train(*images, (1.0, 1.0), (0,), lambda fraction, speed: told.append((fraction, speed)))
    fractions = [fraction for fraction, _ in told]
    assert len(told) == 10  # two epochs of five batches
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert all(speed > 0 for _, speed in told)


def test_scores_count_every_image_once(trainer: Trainer, start: Arrays, images: Images) -> None:
    trainer.set_weights(start)
    pixels, labels = np.concatenate([images[0]] * 4)[:-3], np.concatenate([images[1]] * 4)[:-3]
    scores = trainer.score(pixels, labels)
    assert sum(count for _, count in scores.normal) == int((labels == 0).sum())
    assert sum(count for _, count in scores.pneumonia) == int((labels == 1).sum())
    assert scores.loss is not None
    assert scores.loss > 0


def test_no_validation_images_give_empty_scores(trainer: Trainer) -> None:
    scores = trainer.score(np.zeros((0, 28, 28), np.uint8), np.zeros(0, np.uint8))
    assert (scores.normal, scores.pneumonia, scores.loss) == ((), (), None)


def test_histogram_puts_what_lies_outside_into_the_end_bins() -> None:
    logits = np.array([-50.0, -10.0, 0.0, 0.001, 9.999, 10.0, 50.0])
    assert histogram(logits) == ((0, 2), (512, 2), (1023, 3))


def test_a_model_with_nan_is_refused(trainer: Trainer, start: Arrays, images: Images) -> None:
    trainer.set_weights([np.full_like(array, np.nan) for array in start])
    with pytest.raises(ModelError, match="not finite"):
        trainer.score(*images)
    with pytest.raises(ModelError, match="lower learning_rate"):
        trainer.train(*images, (1.0, 1.0), (0,))
