"""FedAvg in fixed point: the same updates give the same model bit for bit, in whatever order they come.

A delta d of tensor t becomes the integer q = rint(d * 2**e_t). The sums of q * samples are exact in int64,
so their order can't matter; only the last step rounds. (FedAvg: McMahan et al. 2017, arXiv 1602.05629.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pneumod.errors import DataError
from pneumod.learning.weights import Array

Q_BITS = 30
Q_LIMIT = 2**Q_BITS  # the largest |q|
# The range of a delta, in units of the tensor's largest weight (at least 1). A moving variance of BatchNormalization
# starts at 1 and moves by 10 and more in its first round; the price of a wide range is rounding, here below 6e-8.
HEADROOM = 64.0
EXPONENT_LIMIT = 64  # what a RoundOpen may carry
INT64_MAX = 2**63 - 1


def exponents_of(base: Sequence[Array]) -> tuple[int, ...]:
    """One exponent e a tensor: deltas in [-2**k, 2**k], the least 2**k >= 64 * max(1, max|w|), with e = 30 - k.

    Args:
        base: float32 arrays of any shape.

    Raises:
        DataError: a weight isn't finite, or so large that its exponent leaves [-64, 64].
    """
    exponents = []
    for index, array in enumerate(base):
        largest = float(np.max(np.abs(array), initial=1.0))
        if not math.isfinite(largest):
            raise DataError(f"tensor {index} of the model has values that are not finite")
        fraction, power = math.frexp(HEADROOM * largest)  # fraction in [0.5, 1): exact, unlike a logarithm
        exponent = Q_BITS - (power - 1 if fraction == 0.5 else power)
        if exponent < -EXPONENT_LIMIT:
            raise DataError(f"tensor {index} of the model has a weight of {largest:g}: it diverged")
        exponents.append(exponent)
    return tuple(exponents)


def quantise(delta: Array, exponent: int) -> NDArray[np.int64]:
    """q = rint(delta * 2**exponent), int64 of delta's shape, |q| <= 2**30. The error of a delta is <= 2**-(e + 1).

    Raises:
        DataError: a value isn't finite, or is out of range.
    """
    scaled = np.rint(np.ldexp(delta.astype(np.float64), exponent))
    if not np.all(np.abs(scaled) <= Q_LIMIT):  # false for NaN too
        raise DataError(f"a change of a weight is beyond ±{math.ldexp(Q_LIMIT, -exponent):g} or not finite")
    return scaled.astype(np.int64)


def check(deltas: Sequence[Array], base: Sequence[Array], exponents: Sequence[int]) -> None:
    """Raise DataError unless `deltas` can be folded: shapes as in `base`, finite, in the exponents' range."""
    if not len(deltas) == len(base) == len(exponents):
        raise DataError(f"{len(deltas)} tensors and {len(exponents)} exponents for a model of {len(base)}")
    for index, (delta, array, exponent) in enumerate(zip(deltas, base, exponents, strict=True)):
        if delta.shape != array.shape:
            raise DataError(f"tensor {index} has shape {delta.shape} in place of {array.shape}")
        quantise(delta, exponent)


class Fold:
    """The sums of one round, O(model) in memory: add updates one at a time, then apply the mean to the base."""

    def __init__(self, base: Sequence[Array], exponents: Sequence[int]) -> None:
        self.base = base
        self.exponents = exponents
        self.samples = 0
        self._sums = [np.zeros(array.shape, np.int64) for array in base]

    def add(self, deltas: Sequence[Array], samples: int) -> None:
        """Add one update, learnt from `samples` images (>= 1).

        Raises:
            DataError: the update doesn't fit (see `check`), or the sums could overflow. Nothing was added then.
        """
        check(deltas, self.base, self.exponents)
        if samples < 1 or (self.samples + samples) * Q_LIMIT > INT64_MAX:
            raise DataError(f"{samples} more samples after {self.samples} don't fit the sums")
        for total, delta, exponent in zip(self._sums, deltas, self.exponents, strict=True):
            total += quantise(delta, exponent) * samples
        self.samples += samples

    def apply(self) -> list[Array]:
        """The new model: float32(base + mean), the mean weighted by samples, in elementwise float64.

        Raises:
            DataError: nothing was added, or a weight of the new model isn't finite.
        """
        if self.samples == 0:
            raise DataError("no update to apply")
        model = []
        for array, total, exponent in zip(self.base, self._sums, self.exponents, strict=True):
            mean = np.ldexp(total.astype(np.float64) / self.samples, -exponent)
            with np.errstate(over="ignore"):
                new = (array.astype(np.float64) + mean).astype(np.float32)
            if not np.isfinite(new).all():
                raise DataError("a weight of the new model is not finite")
            model.append(new)
        return model
