"""Scores of a model on labelled images."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from pneumod.cli import main
from pneumod.errors import DataError
from pneumod.images.folders import LabelledFile, labelled_files
from pneumod.learning.card import load_model
from pneumod.learning.evaluate import evaluate
from pneumod.learning.predict import Predictor

LEVELS = {"NORMAL": (100, 110, 120, 140), "PNEUMONIA": (115, 130, 150, 160, 170)}  # the threshold is at 134.5


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Flat images, a text and an empty file."""
    for name, levels in LEVELS.items():
        (tmp_path / name).mkdir()
        for level in levels:
            cv2.imwrite(str(tmp_path / name / f"{level}.png"), np.full((40, 40), level, np.uint8))
    (tmp_path / "NORMAL" / "text.png").write_text("text")
    (tmp_path / "PNEUMONIA" / "empty.jpg").touch()
    return tmp_path


def test_the_scores_are_those_counted_by_hand(brightness_model: Path, images: Path) -> None:
    result = evaluate(Predictor(load_model(brightness_model)), labelled_files(images))
    assert result.images == 9
    # Of 20 pairs, 115 stands under 120 and 140, and 130 under 140.
    assert result.auc == pytest.approx(17 / 20)
    assert result.sensitivity == pytest.approx(3 / 5)
    assert result.specificity == pytest.approx(3 / 4)
    assert result.accuracy == pytest.approx(6 / 9)
    assert (result.threshold, result.model) == (0.6, "run-a-r3")


def test_the_command_prints_json_with_what_was_set_aside(
    brightness_model: Path, images: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "--data", str(images), "--model", str(brightness_model), "--json"]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    result = json.loads(out)
    assert list(result) == [
        "images", "auc", "accuracy", "sensitivity", "specificity", "threshold", "model", "skipped",
    ]  # fmt: skip
    assert result["skipped"] == [
        {"path": str(images / "NORMAL" / "text.png"), "reason": "not a JPEG, PNG, TIFF, BMP or DICOM file"},
        {"path": str(images / "PNEUMONIA" / "empty.jpg"), "reason": "the file is empty"},
    ]


def test_the_command_prints_a_table(brightness_model: Path, images: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--data", str(images), "--model", str(brightness_model)]) == 0
    out, err = capfd.readouterr()
    assert "AUC          0.850" in out
    assert "set aside: " in out
    assert err == "For research only, not for diagnosis.\n"


def test_a_folder_of_other_folders_is_refused(
    brightness_model: Path, images: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "--data", str(images.parent), "--model", str(brightness_model)]) == 1
    assert "no folder NORMAL in it" in capfd.readouterr().err


def test_scores_need_both_classes(brightness_model: Path, images: Path) -> None:
    files = [*labelled_files(images)[:2], LabelledFile(images / "PNEUMONIA" / "empty.jpg", 1)]
    with pytest.raises(DataError, match="no image of PNEUMONIA could be read"):
        evaluate(Predictor(load_model(brightness_model)), files)
