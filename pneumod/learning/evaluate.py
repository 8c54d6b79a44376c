"""Scores of a model on labelled images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pneumod.config import CLASSES
from pneumod.errors import DataError
from pneumod.images.folders import LabelledFile
from pneumod.images.pool import Pool
from pneumod.learning.classify import classify
from pneumod.learning.predict import Predictor


@dataclass(frozen=True)
class Evaluation:
    """Shares in [0, 1]; PNEUMONIA is the positive class, decided at the card's threshold."""

    images: int
    auc: float
    accuracy: float
    sensitivity: float
    specificity: float
    threshold: float
    model: str
    skipped: tuple[tuple[Path, str], ...]  # files that were set aside, and why


def evaluate(
    predictor: Predictor, files: Sequence[LabelledFile], show: Callable[[int], None] = lambda done: None
) -> Evaluation:
    """Score the images that can be read.

    Args:
        show: is told how many files are done.

    Raises:
        DataError: no image of one of the classes could be read.
    """
    from sklearn.metrics import confusion_matrix, roc_auc_score

    card = predictor.file.card
    labels, probability, skipped = [], [], []
    with Pool(card.preparation) as pool:
        answered = classify((file.path for file in files), pool, predictor)
        for done, (file, seen) in enumerate(zip(files, answered, strict=True), 1):
            if isinstance(seen.answer, str):
                skipped.append((file.path, seen.answer))
            else:
                labels.append(file.label)
                probability.append(seen.answer.probability)
            show(done)
    for label, name in enumerate(CLASSES):
        if label not in labels:
            raise DataError(f"no image of {name} could be read; scores need both classes")
    predicted = np.array(probability) >= card.threshold
    (negative, false_positive), (false_negative, positive) = confusion_matrix(labels, predicted, labels=[0, 1]).tolist()
    return Evaluation(
        images=len(labels),
        auc=float(roc_auc_score(labels, probability)),
        accuracy=(negative + positive) / len(labels),
        sensitivity=positive / (positive + false_negative),
        specificity=negative / (negative + false_positive),
        threshold=card.threshold,
        model=card.name,
        skipped=tuple(skipped),
    )
