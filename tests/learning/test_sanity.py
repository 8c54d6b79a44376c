"""Warnings about an image: each fires on its own reason, and none on an ordinary chest X-ray."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from pneumod.images.load import read_picture
from pneumod.learning.card import CardMetrics, ModelCard
from pneumod.learning.likeness import Likeness
from pneumod.learning.sanity import warnings
from pneumod.parcel import Facts

FACTS = Facts(height=1024, width=1024, colour=0.0, contrast=55.0)
LIKENESS = Likeness(b"", b"", threshold=20.0, false_alarms=1 / 53, val_images=52)
CARD = ModelCard(
    status="run", digest="a" * 64, file="m-r1.tflite", file_digest="a" * 64, run="m", round=1, nodes=1,
    train_images=None, val_images=52, metrics=CardMetrics(0.9), threshold=0.5, image_size=96, versions={},
    ages_years=(1.0, 5.0), likeness=LIKENESS,
)  # fmt: skip


def changed(**facts: float) -> Facts:
    return msgspec.structs.replace(FACTS, **facts)


def test_an_ordinary_x_ray_has_none() -> None:
    assert warnings(FACTS, CARD, 19.9, 3.0) == []
    assert warnings(FACTS, CARD, None, None) == []


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        (changed(colour=20.0), "the image is in colour"),
        (changed(contrast=2.0), "the image has hardly any contrast"),
        (changed(height=95), "smaller than the 96 pixels"),
        (changed(width=300), "300 x 1024 pixels is no usual shape"),
        (changed(height=300), "1024 x 300 pixels is no usual shape"),
    ],
)
def test_each_fact_has_its_warning(facts: Facts, text: str) -> None:
    assert any(text in warning for warning in warnings(facts, CARD, None, None))


@pytest.mark.parametrize("distance", [20.1, float("inf"), float("nan")])
def test_a_far_image_is_told_with_the_rate_of_false_alarms(distance: float) -> None:
    (warning,) = warnings(FACTS, CARD, distance, None)
    assert "unlike those that the model learnt from" in warning
    assert "1 in 53 " in warning


def test_a_card_without_likeness_or_ages_says_nothing_of_them() -> None:
    card = msgspec.structs.replace(CARD, likeness=None, ages_years=None)
    assert warnings(FACTS, card, 1e9, 90.0) == []


@pytest.mark.parametrize(("age_years", "inside"), [(0.9, False), (1.0, True), (5.9, True), (6.0, False), (71.0, False)])
def test_a_patient_of_another_age_is_told_without_the_age(age_years: float, inside: bool) -> None:
    found = warnings(FACTS, CARD, None, age_years)
    assert len(found) == (not inside)
    assert all("1 to 5 years" in warning and f"{age_years:g}" not in warning.replace("1 to 5", "") for warning in found)


def test_real_chest_x_rays_pass_and_photographs_do_not(cxr: Path) -> None:
    """At their own size, where the shape is still theirs."""
    chests = [*sorted((cxr / "native_samples").rglob("*.jpeg")), *sorted((cxr / "dicom" / "chest").iterdir())]
    assert [warnings(read_picture(path).facts, CARD, None, None) for path in chests] == [[]] * len(chests)
    for name in ("hopper_orientation_6.jpg", "jpeg_ff00_header.jpg", "p_16.png", "pil_sample_cmyk.jpg"):
        assert warnings(read_picture(cxr / "odd_files" / name).facts, CARD, None, None), name
