"""Likeness: ordinary images pass at the stated rate, others don't, and few validation images promise little."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from pneumod.learning.likeness import FALSE_ALARMS, Likeness, learn


def ordinary(random: np.random.Generator, count: int) -> NDArray[np.float32]:
    """Features that depend on each other, of very different sizes."""
    mixed = random.normal(size=(count, 6)) @ np.random.default_rng(7).normal(size=(6, 6))
    return (mixed * [1, 10, 100, 0.1, 1, 1] + [0, 5, -50, 1, 0, 0]).astype(np.float32)


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)


def test_the_distance_is_mahalanobis(random: np.random.Generator) -> None:
    train = ordinary(random, 5000)
    likeness = learn(train, ordinary(random, 100))
    assert likeness is not None
    features = ordinary(random, 20)
    away = features - train.mean(axis=0)
    expected = np.sqrt(np.einsum("ni,ij,nj->n", away, np.linalg.inv(np.cov(train.T)), away))
    np.testing.assert_allclose(likeness.distance(features), expected, rtol=0.05)


def test_ordinary_images_are_called_unlike_at_the_stated_rate() -> None:
    alarms = []
    for seed in range(100):
        random = np.random.default_rng(seed)
        likeness = learn(ordinary(random, 300), ordinary(random, 199))
        assert likeness is not None
        assert likeness.false_alarms == pytest.approx(FALSE_ALARMS)
        alarms.append(np.mean(likeness.distance(ordinary(random, 500)) > likeness.threshold))
    assert np.mean(alarms) == pytest.approx(FALSE_ALARMS, abs=0.002)


def test_few_validation_images_state_a_higher_rate(random: np.random.Generator) -> None:
    train = ordinary(random, 300)
    rates = [learn(train, ordinary(random, count)) for count in (1, 19, 98, 99, 100, 1000)]
    assert [likeness.one_in for likeness in rates if likeness is not None] == [2, 20, 99, 100, 101, 100]


def test_what_breaks_the_dependence_is_unlike(random: np.random.Generator) -> None:
    """Each feature alone is ordinary."""
    train = ordinary(random, 1000)
    likeness = learn(train, ordinary(random, 200))
    assert likeness is not None
    shuffled = np.stack([random.permutation(column) for column in ordinary(random, 200).T], axis=1)
    assert np.mean(likeness.distance(shuffled) > likeness.threshold) > 0.5


def test_an_idle_feature_neither_breaks_it_nor_outshines_the_others(random: np.random.Generator) -> None:
    train, val, new = (
        np.pad(ordinary(random, count), ((0, 0), (0, 1)), constant_values=3.0) for count in (500, 200, 200)
    )
    likeness = learn(train, val)
    assert likeness is not None
    new[:, -1] += 1e-4
    assert np.mean(likeness.distance(new) > likeness.threshold) < 0.05


def test_more_features_than_images_still_have_a_distance(random: np.random.Generator) -> None:
    train, val = (random.normal(size=(count, 60)).astype(np.float32) for count in (20, 20))
    likeness = learn(train, val)
    assert likeness is not None
    far = val + 10
    assert (likeness.distance(far) > likeness.threshold).all()


def test_without_images_there_is_none(random: np.random.Generator) -> None:
    features = ordinary(random, 10)
    assert learn(features[:1], features) is None
    assert learn(features, features[:0]) is None


def test_it_comes_back_from_a_card_as_it_was(random: np.random.Generator) -> None:
    likeness = learn(ordinary(random, 100), ordinary(random, 100))
    assert msgspec.json.decode(msgspec.json.encode(likeness), type=Likeness) == likeness


def test_damaged_statistics_are_refused(random: np.random.Generator) -> None:
    made = msgspec.to_builtins(learn(ordinary(random, 100), ordinary(random, 100)))
    with pytest.raises(msgspec.ValidationError, match="don't fit each other"):
        msgspec.convert({**made, "mean": made["mean"][:-8]}, Likeness)
