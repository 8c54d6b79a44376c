"""FedAvg in fixed point."""

from __future__ import annotations

import math
import random as python_random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pneumod.errors import DataError
from pneumod.learning.aggregate import Q_LIMIT, Fold, check, exponents_of, quantise
from pneumod.learning.weights import Array

SHAPES = ((2, 3), (), (4,), (0,))
Updates = list[tuple[list[Array], int]]


@st.composite
def rounds(draw: st.DrawFn) -> tuple[list[Array], Updates]:
    """A base model, and updates with their samples."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    scale = draw(st.sampled_from([1e-6, 1.0, 1e4]))
    base = [np.asarray(random.normal(0, scale, shape), np.float32) for shape in SHAPES]
    counts = draw(st.lists(st.integers(1, 100_000), min_size=1, max_size=8))
    reaches = [math.ldexp(Q_LIMIT, -exponent) for exponent in exponents_of(base)]
    return base, [
        ([np.asarray(random.uniform(-reach, reach, shape) * 0.999, np.float32)
          for shape, reach in zip(SHAPES, reaches, strict=True)], samples)
        for samples in counts
    ]  # fmt: skip


def fold(base: list[Array], updates: Updates) -> list[Array]:
    total = Fold(base, exponents_of(base))
    for deltas, samples in updates:
        total.add(deltas, samples)
    return total.apply()


def as_bytes(arrays: list[Array]) -> list[bytes]:
    return [array.tobytes() for array in arrays]


@settings(max_examples=100, deadline=None)
@given(rounds(), st.randoms(use_true_random=False))
def test_the_order_of_updates_does_not_change_a_bit(
    work: tuple[list[Array], Updates], random: python_random.Random
) -> None:
    base, updates = work
    shuffled = list(updates)
    random.shuffle(shuffled)
    assert as_bytes(fold(base, shuffled)) == as_bytes(fold(base, updates))


@settings(max_examples=100, deadline=None)
@given(rounds())
def test_the_new_model_is_the_weighted_mean_within_the_rounding(work: tuple[list[Array], Updates]) -> None:
    base, updates = work
    total = sum(samples for _, samples in updates)
    for index, (new, exponent) in enumerate(zip(fold(base, updates), exponents_of(base), strict=True)):
        mean = sum((deltas[index].astype(np.float64) * samples for deltas, samples in updates), 0.0) / total
        expected = base[index].astype(np.float64) + mean
        allowed = 2.0 ** -(exponent + 1) + np.abs(expected) * 2.0**-24 + 1e-12  # of a delta, and of float32
        assert new.dtype == np.float32
        assert new.shape == base[index].shape
        assert (np.abs(new - expected) <= allowed).all()


def test_an_update_with_more_samples_weighs_more() -> None:
    base = [np.zeros(3, np.float32)]
    up, down = [np.full(3, 1.0, np.float32)], [np.full(3, -1.0, np.float32)]
    assert fold(base, [(up, 300), (down, 100)])[0].tolist() == [0.5, 0.5, 0.5]
    assert fold(base, [(up, 100), (down, 300)])[0].tolist() == [-0.5, -0.5, -0.5]
    assert fold(base, [(up, 7)])[0].tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("largest", "exponent"),
    [(0.0, 24), (1.0, 24), (np.nextafter(np.float32(1), np.float32(2)), 23), (2.0, 23), (2.1, 22), (1024.0, 14)],
)
def test_the_range_is_the_least_power_of_two_over_64_times_the_largest_weight(largest: float, exponent: int) -> None:
    assert exponents_of([np.array([0.0, -largest], np.float32)]) == (exponent,)
    reach = math.ldexp(Q_LIMIT, -exponent)
    assert reach / 2 < 64 * max(1.0, largest) <= reach


@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38])
def test_a_diverged_model_has_no_exponents(value: float) -> None:
    with pytest.raises(DataError, match=r"not finite|diverged"):
        exponents_of([np.array([value], np.float32)])


def test_a_change_at_the_edge_of_the_range_passes_and_one_beyond_is_refused() -> None:
    edge = np.array([64.0, -64.0], np.float32)
    assert quantise(edge, 24).tolist() == [Q_LIMIT, -Q_LIMIT]
    with pytest.raises(DataError, match="beyond ±64 or not finite"):
        quantise(np.nextafter(edge, np.float32(np.inf)), 24)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 64.1, -3e38])
def test_a_bad_update_is_refused_and_leaves_the_sums_alone(value: float) -> None:
    base = [np.zeros(2, np.float32), np.zeros(2, np.float32)]
    total = Fold(base, exponents_of(base))
    total.add([np.ones(2, np.float32)] * 2, 5)
    with pytest.raises(DataError):
        total.add([np.ones(2, np.float32), np.array([0.0, value], np.float32)], 5)
    assert [array.tolist() for array in total.apply()] == [[1.0, 1.0], [1.0, 1.0]]


@pytest.mark.parametrize(
    ("deltas", "exponents"),
    [
        ([np.zeros(3, np.float32)], (24,)),
        ([np.zeros((2, 1), np.float32)], (24,)),
        ([], (24,)),
        ([np.zeros(2, np.float32)] * 2, (24,)),
        ([np.zeros(2, np.float32)], ()),
    ],
)
def test_another_shape_or_number_of_tensors_is_refused(deltas: list[Array], exponents: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=r"shape|tensors"):
        check(deltas, [np.zeros(2, np.float32)], exponents)


def test_sums_never_overflow() -> None:
    base = [np.zeros(1, np.float32)]
    total = Fold(base, (24,))
    edge = [np.array([64.0], np.float32)]
    for _ in range(4):
        total.add(edge, 2**31 - 1)
    with pytest.raises(DataError, match="don't fit the sums"):
        total.add(edge, 2**31 - 1)
    assert total.apply()[0].tolist() == [64.0]
    with pytest.raises(DataError, match="don't fit"):
        total.add(edge, 0)


def test_no_update_and_an_overflowing_model_are_refused() -> None:
    with pytest.raises(DataError, match="no update"):
        Fold([], ()).apply()
    total = Fold([np.array([3e38], np.float32)], (-98,))
    total.add([np.array([3e38], np.float32)], 1)
    with pytest.raises(DataError, match="not finite"):
        total.apply()
