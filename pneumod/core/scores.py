"""Pooled figures from histograms of logits: exact integer counts, so every master computes the same."""

from __future__ import annotations

import math
from collections.abc import Iterable

from pneumod.messages import BIN_COUNT, LOGIT_LIMIT, Metrics, Scores


def pool(scores: Iterable[Scores]) -> tuple[list[int], list[int]]:
    """Images a bin of the NORMAL and of the PNEUMONIA images, over all nodes."""
    normal, pneumonia = [0] * BIN_COUNT, [0] * BIN_COUNT
    for one in scores:
        for bin_, count in one.normal:
            normal[bin_] += count
        for bin_, count in one.pneumonia:
            pneumonia[bin_] += count
    return normal, pneumonia


def auc_of(normal: list[int], pneumonia: list[int]) -> float | None:
    """Area under the ROC curve, ties counted half (Mann-Whitney U). None where a class has no image."""
    negatives, positives = sum(normal), sum(pneumonia)
    if negatives == 0 or positives == 0:
        return None
    below = twice_u = 0
    for n, p in zip(normal, pneumonia, strict=True):
        twice_u += p * (2 * below + n)
        below += n
    return twice_u / (2 * negatives * positives)


def threshold_of(normal: list[int], pneumonia: list[int]) -> float:
    """The probability at the bin edge that maximises Youden's J = sensitivity + specificity - 1 (Youden 1950).

    The middle of the first run of best edges, where several are equally good; 0.5 where a class has no image.
    """
    negatives, positives = sum(normal), sum(pneumonia)
    if negatives == 0 or positives == 0:
        return 0.5
    best, edges = -1, [BIN_COUNT // 2]
    true_negatives, missed = 0, 0
    for edge in range(BIN_COUNT + 1):
        youden = true_negatives * positives - missed * negatives  # J scaled by both class sizes
        if youden > best:
            best, edges = youden, [edge]
        elif youden == best and edge == edges[-1] + 1:
            edges.append(edge)
        if edge < BIN_COUNT:
            true_negatives += normal[edge]
            missed += pneumonia[edge]
    logit = -LOGIT_LIMIT + 2 * LOGIT_LIMIT * (edges[0] + edges[-1]) / 2 / BIN_COUNT
    return 1 / (1 + math.exp(-logit))


def metrics_of(scores: list[Scores]) -> tuple[Metrics, float]:
    """Pooled metrics and the threshold. The loss is the mean over nodes, weighted by their images."""
    normal, pneumonia = pool(scores)
    weighted, images = 0.0, 0
    for one in scores:
        count = sum(c for _, c in one.normal) + sum(c for _, c in one.pneumonia)
        if one.loss is not None:
            weighted += one.loss * count
            images += count
    loss = weighted / images if images else None
    total = sum(normal) + sum(pneumonia)
    return Metrics(auc_of(normal, pneumonia), loss, total), threshold_of(normal, pneumonia)
