"""Pooled figures from histograms, against scikit-learn on the same binned scores."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve

from pneumod.core.scores import auc_of, metrics_of, pool, threshold_of
from pneumod.messages import BIN_COUNT, LOGIT_LIMIT, Scores

Bins = list[int]
some_bins = st.lists(st.integers(0, BIN_COUNT - 1), min_size=1, max_size=60)
close_bins = st.lists(st.integers(500, 510), min_size=1, max_size=60)  # many ties


def histogram(bins: Bins) -> list[int]:
    counts = [0] * BIN_COUNT
    for one in bins:
        counts[one] += 1
    return counts


def sparse(bins: Bins) -> tuple[tuple[int, int], ...]:
    return tuple((b, bins.count(b)) for b in sorted(set(bins)))


def edge_of(threshold: float) -> float:
    """The bin edge, perhaps between two, that a threshold stands for."""
    logit = math.log(threshold / (1 - threshold))
    return (logit + LOGIT_LIMIT) * BIN_COUNT / (2 * LOGIT_LIMIT)


@given(st.one_of(some_bins, close_bins), st.one_of(some_bins, close_bins))
def test_the_auc_is_scikit_learns_on_the_same_bins(normal: Bins, pneumonia: Bins) -> None:
    expected = roc_auc_score([0] * len(normal) + [1] * len(pneumonia), normal + pneumonia)
    assert auc_of(histogram(normal), histogram(pneumonia)) == pytest.approx(expected, abs=1e-12)


@given(st.one_of(some_bins, close_bins), st.one_of(some_bins, close_bins))
def test_the_threshold_maximises_youdens_j(normal: Bins, pneumonia: Bins) -> None:
    specificity_fall, sensitivity, _ = roc_curve([0] * len(normal) + [1] * len(pneumonia), normal + pneumonia)
    best = max(sensitivity - specificity_fall)
    edge = round(edge_of(threshold_of(histogram(normal), histogram(pneumonia))), 6)  # the inverse is not exact
    got = sum(b >= edge for b in pneumonia) / len(pneumonia) - sum(b >= edge for b in normal) / len(normal)
    assert got == pytest.approx(best)


def test_two_equally_good_thresholds_are_not_averaged_into_a_bad_one() -> None:
    assert edge_of(threshold_of(histogram([100, 300]), histogram([200, 400]))) == pytest.approx((101 + 200) / 2)


def test_ties_count_half() -> None:
    assert auc_of(histogram([7, 7]), histogram([7, 7, 7])) == 0.5
    assert auc_of(histogram([7, 8]), histogram([8, 9])) == (1 + 0.5 + 1 + 1) / 4


def test_classes_that_are_apart_or_the_wrong_way_round() -> None:
    assert auc_of(histogram([1, 2]), histogram([3, 4])) == 1.0
    assert auc_of(histogram([3, 4]), histogram([1, 2])) == 0.0


def test_without_images_of_one_class_there_is_no_auc_and_the_threshold_is_a_half() -> None:
    for normal, pneumonia in (([], [5]), ([5], []), ([], [])):
        assert auc_of(histogram(normal), histogram(pneumonia)) is None
        assert threshold_of(histogram(normal), histogram(pneumonia)) == 0.5


def test_the_threshold_lies_in_the_middle_of_a_gap() -> None:
    assert edge_of(threshold_of(histogram([400]), histogram([599]))) == pytest.approx((401 + 599) / 2)


@given(st.lists(st.tuples(some_bins, some_bins), min_size=1, max_size=4))
def test_pooling_is_one_big_histogram_in_any_order(nodes: list[tuple[Bins, Bins]]) -> None:
    scores = [Scores(sparse(normal), sparse(pneumonia)) for normal, pneumonia in nodes]
    together = ([b for n, _ in nodes for b in n], [b for _, p in nodes for b in p])
    expected = (histogram(together[0]), histogram(together[1]))
    assert pool(scores) == pool(scores[::-1]) == expected


def test_the_loss_is_weighted_by_images_and_missing_ones_are_left_out() -> None:
    scores = [
        Scores(((1, 1),), ((2, 1),), loss=1.0),
        Scores(((1, 2),), ((2, 4),), loss=0.2),
        Scores(((1, 9),), (), loss=None),
    ]
    metrics, threshold = metrics_of(scores)
    assert metrics.images == 17
    assert metrics.loss == pytest.approx((2 * 1.0 + 6 * 0.2) / 8)
    assert metrics.auc == 1.0
    assert 0 < threshold < 0.5


def test_no_scores_at_all() -> None:
    metrics, threshold = metrics_of([])
    assert (metrics.auc, metrics.loss, metrics.images, threshold) == (None, None, 0, 0.5)
