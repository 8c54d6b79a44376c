"""Training and validation images apart by patient: nobody is on both sides."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from pneumod.config import CLASSES
from pneumod.errors import ConfigError
from pneumod.images.folders import LabelledFile

# Guangzhou (Kermany et al. 2018): person78_bacteria_378.jpeg, IM-0115-0001.jpeg, NORMAL2-IM-0115-0001.jpeg.
# Bacteria and virus are numbered apart, so person78 may be two children; one is the safe reading.
# NIH ChestX-ray14: 00000061_012.png.
DEFAULT_PATTERN = r"^(?:person\d+|(?:NORMAL2-)?IM-\d{4}|\d{8}(?=_))"


def compile_pattern(pattern: str | None) -> re.Pattern[str]:
    """The pattern of patients in file names; None: the default.

    Raises:
        ConfigError: not a regular expression.
    """
    try:
        return re.compile(DEFAULT_PATTERN if pattern is None else pattern)
    except re.error as error:
        raise ConfigError(f"data.patient_pattern: {pattern!r} is not a regular expression: {error}") from error


def patient_of(name: str, pattern: re.Pattern[str]) -> str:
    """The patient in a file's name: the pattern's first group, or all that it matched.

    A name that doesn't match is a patient of its own.
    """
    match = pattern.search(name)
    if match is None:
        return name
    return (match.group(1) if pattern.groups else None) or match.group(0) or name


def split(
    files: Sequence[LabelledFile], val_fraction: float, pattern: str | None = None, seed: int = 0
) -> NDArray[np.bool_]:
    """Which files are for validation: bool [len(files)].

    Patients come in an order that only the seed and their names decide, and each goes to validation if that
    brings the classes' shares there nearer to `val_fraction`. Each class has a patient on each side where it
    has two.

    Raises:
        ConfigError: `pattern` is not a regular expression.
    """
    compiled = compile_pattern(pattern)
    patients = [patient_of(file.path.name, compiled) for file in files]
    images: dict[str, NDArray[np.int64]] = defaultdict(lambda: np.zeros(len(CLASSES), np.int64))  # by class
    for patient, file in zip(patients, files, strict=True):
        images[patient][file.label] += 1
    order = sorted(images, key=lambda patient: blake2b(os.fsencode(f"{seed}/{patient}")).digest())
    chosen = _choose(order, images, val_fraction)
    for label in range(len(CLASSES)):
        _give_each_side_one(order, images, chosen, label)
    return np.array([patient in chosen for patient in patients], bool)


def _choose(order: list[str], images: dict[str, NDArray[np.int64]], val_fraction: float) -> set[str]:
    """The patients for validation, taken one by one."""
    totals = np.maximum(sum(images.values()), 1)
    missing = np.full(len(CLASSES), val_fraction)  # share of each class that validation still lacks
    chosen = set()
    for patient in order:
        left = missing - images[patient] / totals
        if np.abs(left).sum() < np.abs(missing).sum():
            missing = left
            chosen.add(patient)
    return chosen


def _give_each_side_one(order: list[str], images: dict[str, NDArray[np.int64]], chosen: set[str], label: int) -> None:
    """Move the patient with the fewest images to a side that has nobody of a class, where the other side has two."""
    for here in (True, False):
        there = [p for p in order if images[p][label] and (p in chosen) is not here]
        if len(there) >= 2 and not any(images[p][label] and (p in chosen) is here for p in order):
            # One with images of both classes would change the other class too.
            smallest = min(there, key=lambda p: (np.count_nonzero(images[p]), images[p].sum()))
            chosen.symmetric_difference_update({smallest})
