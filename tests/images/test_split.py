"""Training and validation apart by patient."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pneumod.errors import ConfigError
from pneumod.images.folders import LabelledFile, labelled_files
from pneumod.images.split import compile_pattern, patient_of, split


@pytest.mark.parametrize(
    ("name", "patient"),
    [
        ("person78_bacteria_378.jpeg", "person78"),
        ("person78_virus_140.jpeg", "person78"),
        ("person780_virus_1.jpeg", "person780"),
        ("IM-0115-0001.jpeg", "IM-0115"),
        ("NORMAL2-IM-0115-0001.jpeg", "NORMAL2-IM-0115"),
        ("NORMAL2-IM-1102-0001-0002.jpeg", "NORMAL2-IM-1102"),
        ("00000061_015.png", "00000061"),
        ("000000611_015.png", "000000611_015.png"),
        ("scan.png", "scan.png"),
    ],
)
def test_patients_that_the_default_pattern_knows(name: str, patient: str) -> None:
    assert patient_of(name, compile_pattern(None)) == patient


def test_an_own_pattern_gives_the_patient_by_its_group_or_its_whole() -> None:
    assert patient_of("site3-p17-b.png", compile_pattern(r"-p(\d+)-")) == "17"
    assert patient_of("site3-p17-b.png", compile_pattern(r"p\d+")) == "p17"
    with pytest.raises(ConfigError, match=r"data.patient_pattern: '\(' is not a regular expression"):
        compile_pattern("(")


# (patient, label) of each image; a patient may have images of both classes
IMAGES = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 1)), min_size=1, max_size=120)


@settings(max_examples=200, deadline=None)
@given(IMAGES, st.floats(0.05, 0.5), st.integers(0, 5))
def test_a_split_never_parts_a_patient_and_ignores_the_order(
    images: list[tuple[int, int]], fraction: float, seed: int
) -> None:
    files = [LabelledFile(Path(f"person{who}_{index}.png"), label) for index, (who, label) in enumerate(images)]
    is_val = split(files, fraction, seed=seed)
    sides = {(who, bool(side)) for (who, _), side in zip(images, is_val, strict=True)}
    assert len(sides) == len({who for who, _ in images})
    assert (split(files[::-1], fraction, seed=seed)[::-1] == is_val).all()


@settings(max_examples=100, deadline=None)
@given(st.integers(2, 9), st.integers(2, 9), st.floats(0.01, 0.5), st.integers(0, 5))
def test_both_sides_have_both_classes_where_there_are_two_patients(
    normal: int, pneumonia: int, fraction: float, seed: int
) -> None:
    files = [LabelledFile(Path(f"IM-{n:04}-0001.png"), 0) for n in range(normal)]
    files += [LabelledFile(Path(f"person{n}_virus_{image}.png"), 1) for n in range(pneumonia) for image in range(n + 1)]
    is_val = split(files, fraction, seed=seed)
    labels = np.array([file.label for file in files])
    for label in (0, 1):
        assert set(is_val[labels == label].tolist()) == {True, False}


def test_one_patient_stays_in_training() -> None:
    files = [LabelledFile(Path("person1_virus_1.png"), 1), LabelledFile(Path("IM-0001-0001.png"), 0)]
    assert not split(files, 0.15).any()


def test_another_seed_gives_another_split() -> None:
    files = [LabelledFile(Path(f"{n:08}_000.png"), n % 2) for n in range(100)]
    assert (split(files, 0.2, seed=1) != split(files, 0.2, seed=2)).any()
    assert (split(files, 0.2, seed=1) == split(files, 0.2, seed=1)).all()


@pytest.mark.parametrize("hospital", ["hospital_a", "hospital_b", "hospital_c", "hospital_d"])
def test_real_folders_are_split_by_the_patients_of_the_manifest(cxr: Path, hospital: str) -> None:
    with (cxr / "manifest.csv").open(newline="") as file:
        patients = {row["path"]: row["patient"] for row in csv.DictReader(file)}
    files = labelled_files(cxr / "hospitals" / hospital / "train")
    who = [patients[str(file.path.relative_to(cxr))] for file in files]
    assert all(who)
    is_val = split(files, 0.15)
    assert not set(np.array(who)[is_val]) & set(np.array(who)[~is_val])
    labels = np.array([file.label for file in files])
    for label in (0, 1):
        assert abs(is_val[labels == label].mean() - 0.15) < 0.02
