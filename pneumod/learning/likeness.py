"""Is an image like those that a model learnt from? The Mahalanobis distance of its features, and where doubt begins.

(Lee et al. 2018, arXiv 1807.03888, with the shrunk covariance of Ledoit and Wolf 2004.) What is kept are sums over a
node's own training images: they stay in its card, which never leaves its site.
"""

from __future__ import annotations

from fractions import Fraction
from functools import cached_property
from typing import Annotated

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

FALSE_ALARMS = 0.01  # of images of the training images' own kind, at most
# A feature that hardly varied counts as if it had varied by this share of the features' median deviation, or a spark of
# an idle one would outshine all others.
LEAST_DEVIATION = 0.01

Features = NDArray[np.float32]  # [N, C]


class Likeness(Struct, frozen=True, dict=True):  # dict: for cached properties
    """The training images' place among features."""

    mean: bytes  # float32 [C]
    whitening: bytes  # float32 [C (C + 1) / 2], the rows of an upper triangle: features to deviations of one unit
    threshold: Annotated[float, Meta(ge=0.0)]  # distances above it are unlike the training images
    false_alarms: Annotated[float, Meta(gt=0.0, le=1.0)]  # expected share above it of images of their own kind
    val_images: Annotated[int, Meta(ge=1)]  # that the threshold was measured on

    def __post_init__(self) -> None:
        count = len(self.mean) // 4
        if 4 * count != len(self.mean) or 2 * count * (count + 1) != len(self.whitening):
            raise ValueError("a mean and a whitening that don't fit each other")

    def distance(self, features: Features) -> NDArray[np.float64]:
        """Of each image from the training images, [N], in standard deviations; features [N, C]."""
        mean, whitening = self._arrays
        distance: NDArray[np.float64] = np.linalg.norm((features - mean) @ whitening.T, axis=1)
        return distance

    @cached_property
    def _arrays(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The mean [C] and the whitening [C, C], unpacked."""
        mean = np.frombuffer(self.mean, "<f4").astype(np.float64)
        whitening = np.zeros((len(mean), len(mean)))
        whitening[np.triu_indices(len(mean))] = np.frombuffer(self.whitening, "<f4")
        return mean, whitening

    @property
    def one_in(self) -> int:
        """One of so many ordinary images is called unlike, at most."""
        return int(1 / Fraction(self.false_alarms).limit_denominator(10**6))


def learn(train: Features, val: Features) -> Likeness | None:
    """The likeness of training images, [N, C], with a threshold by validation images, [M, C].

    The threshold is the k-th highest validation distance with k / (M + 1) <= FALSE_ALARMS: so often, in the mean, does
    an image exchangeable with them lie above it (split conformal prediction, Papadopoulos et al. 2002). Fewer than 99
    validation images can't tell so rare an alarm: then it is the highest, and the share stated is 1 / (M + 1).

    Returns:
        None where there are no validation images, or fewer than two to learn from.
    """
    from sklearn.covariance import ledoit_wolf

    if len(train) < 2 or len(val) < 1:
        return None
    mean, deviation = train.mean(axis=0, dtype=np.float64), train.std(axis=0, dtype=np.float64)
    deviation = np.maximum(deviation, max(LEAST_DEVIATION * np.median(deviation), 1e-12))
    covariance, _ = ledoit_wolf((train - mean) / deviation, assume_centered=True)
    # With precision = L L', the distance of z is |L' z|; L' is upper triangular, and so is it by a diagonal.
    whitening = np.linalg.cholesky(np.linalg.inv(covariance)).T / deviation
    packed = whitening[np.triu_indices(len(mean))].astype("<f4").tobytes()
    rank = max(1, int(FALSE_ALARMS * (len(val) + 1)))
    made = Likeness(mean.astype("<f4").tobytes(), packed, 0.0, rank / (len(val) + 1), len(val))
    threshold = float(np.sort(made.distance(val))[-rank])
    return Likeness(made.mean, made.whitening, threshold, made.false_alarms, made.val_images)
