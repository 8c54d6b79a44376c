"""Scores of a model on labelled images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pneumod.config import CLASSES
from pneumod.errors import DataError
from pneumod.images.batch import Skipped, load_all
from pneumod.images.folders import LabelledFile
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
    skipped: tuple[Skipped, ...]


def evaluate(predictor: Predictor, files: Sequence[LabelledFile]) -> Evaluation:
    """Score the images that can be read.

    Raises:
        DataError: no image of one of the classes could be read.
    """
    from sklearn.metrics import confusion_matrix, roc_auc_score

    card = predictor.file.card
    loaded = load_all([file.path for file in files], card.preparation)
    labels = np.array([files[index].label for index in loaded.kept], np.uint8)
    for label, name in enumerate(CLASSES):
        if not (labels == label).any():
            raise DataError(f"no image of {name} could be read; scores need both classes")
    probability = predictor.probability(loaded.pixels)
    (negative, false_positive), (false_negative, positive) = confusion_matrix(
        labels, probability >= card.threshold, labels=[0, 1]
    ).tolist()
    return Evaluation(
        images=len(labels),
        auc=float(roc_auc_score(labels, probability)),
        accuracy=(negative + positive) / len(labels),
        sensitivity=positive / (positive + false_negative),
        specificity=negative / (negative + false_positive),
        threshold=card.threshold,
        model=card.name,
        skipped=loaded.skipped,
    )
