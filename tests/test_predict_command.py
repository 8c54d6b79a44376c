"""`pneumod predict IMAGE|DIR …` as an operator uses it."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest

from pneumod.blobs import write_atomic
from pneumod.cli import main
from pneumod.learning.card import load_model
from pneumod.learning.predict import PACKAGED
from pneumod.output import FIELDS
from tests.learning.conftest import brightness_model  # noqa: F401 (a fixture)

NOTICE = "For research only, not for diagnosis."


@pytest.fixture(autouse=True)
def no_other_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PNEUMOD_MODEL", raising=False)


def copy_of(model: Path, folder: Path) -> Path:
    """A copy of a model's folder, its `current.json` still a link."""
    return Path(shutil.copytree(model.parent, folder, symlinks=True)) / model.name


def state_of(model: Path, folder: Path) -> Path:
    """The YAML of a node that has `model` and logs."""
    copy_of(model, folder / "state" / "models")
    (folder / "state" / "log" / "predict").mkdir(parents=True)
    config = folder / "node.yaml"
    config.write_text(
        "cluster: lab\nnode: {id: 1, name: one, site: here}\nbrokers: [{host: 127.0.0.1}]\n"
        "state_dir: state\ndata: {train: images}\n"
    )
    return config


def expected(mean: float) -> float:
    """What the brightness model says."""
    return float(1 / (1 + np.exp(-(mean - 128) / 16)))


def write_picture(path: Path, level: int, size: int = 40, contrast: int = 20) -> Path:
    """A picture of that mean level; `contrast` is the standard deviation of its levels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stripes = np.tile(np.array([[level - contrast, level + contrast]], np.uint8), (size, size // 2))
    cv2.imwrite(str(path), stripes)
    return path


def predicted(capfd: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, list[dict[str, Any]], str]:
    """Exit code, the JSON lines and what was said on stderr."""
    code = main(["predict", *map(str, words), "--json"])
    out, err = capfd.readouterr()
    return code, [json.loads(line) for line in out.splitlines()], err


def test_one_json_object_a_line(brightness_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    bright = write_picture(tmp_path / "bright.png", 136)
    dark = write_picture(tmp_path / "dark.png", 120, size=20, contrast=1)
    code, (one, two), err = predicted(capfd, bright, dark, "--model", brightness_model)
    assert (code, err) == (0, "")
    assert one.pop("probability") == pytest.approx(expected(136), rel=1e-5)
    assert one == {
        "path": str(bright),
        "label": "PNEUMONIA",
        "threshold": 0.6,
        "model": "run-a-r3",
        "warnings": [],
        "about": load_model(brightness_model).card.about,
        "notice": NOTICE,
    }
    assert two["label"] == "NORMAL"
    assert two["warnings"] == [
        "the image has hardly any contrast",
        "the image is smaller than the 32 pixels that the model looks at",
    ]


def test_a_folder_is_walked_in_sorted_order(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    names = ["a/2.png", "a/b/1.png", "a/c.png", "b.png", "z/1.jpg"]
    for name in reversed(names):
        write_picture(tmp_path / "scans" / name, 100, size=200)
    (tmp_path / "scans" / "notes.txt").write_text("no image")
    write_picture(tmp_path / "scans" / ".thumbs" / "x.png", 100)
    single = write_picture(tmp_path / "single.png", 100)
    code, lines, err = predicted(capfd, tmp_path / "scans", single)
    assert code == 0
    assert [line["path"] for line in lines] == [*(str(tmp_path / "scans" / name) for name in names), str(single)]
    assert err.startswith("6 images: ")
    assert "images/s" in err


def test_many_files_come_out_in_order_whatever_the_batch(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    levels = np.random.default_rng(3).integers(40, 200, 70).tolist()
    for index, level in enumerate(levels):
        write_picture(tmp_path / "x" / f"{index:02}.png", level, size=[96, 1200][index % 7 == 0])
    told = [predicted(capfd, tmp_path / "x", "--batch", str(batch))[1] for batch in (1, 16, 64)]
    assert [line["path"] for line in told[0]] == [str(tmp_path / "x" / f"{index:02}.png") for index in range(70)]
    for other in told[1:]:
        assert [line["path"] for line in other] == [line["path"] for line in told[0]]
        assert np.allclose(*([line["probability"] for line in lines] for lines in (told[0], other)), rtol=1e-5)


def test_the_threshold_is_the_cards_or_the_one_that_is_given(
    brightness_model: Path,  # noqa: F811
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    image = write_picture(tmp_path / "x.png", 132)  # probability 0.56: above one half, below 0.6
    for more, label, threshold in (([], "NORMAL", 0.6), (["--threshold", "0.5"], "PNEUMONIA", 0.5)):
        _, (line,), _ = predicted(capfd, image, "--model", brightness_model, *more)
        assert (line["label"], line["threshold"]) == (label, threshold)


def test_one_bad_file_fails_the_command_and_not_the_others(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.png").write_text("text")
    write_picture(tmp_path / "b.png", 200)
    os.mkfifo(tmp_path / "c.png")
    paths = [str(tmp_path / name) for name in ("a.png", "b.png", "c.png", "d.png")]
    code, lines, _ = predicted(capfd, *paths)
    assert code == 1
    assert [(line["path"], line.get("error")) for line in lines[1:]] == [
        (paths[1], None), (paths[2], "not a file but a pipe or a device"), (paths[3], "no such file"),
    ]  # fmt: skip
    assert lines[0].keys() == {"path", "error"}


def test_a_doubtful_image_gets_no_answer_when_that_is_asked_for(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_picture(tmp_path / "x" / "flat.png", 100, size=200, contrast=0)
    cv2.imwrite(str(tmp_path / "x" / "tall.png"), np.tile(np.arange(0, 200, 1, np.uint8), (1000, 1)))
    code, lines, err = predicted(capfd, tmp_path / "x", "--abstain")
    assert code == 3
    for line, why in zip(lines, ("hardly any contrast", "200 x 1000 pixels is no usual shape"), strict=True):
        assert line.keys() == {"path", "error", "abstained"}
        assert why in line["error"]
    assert "2 without an answer" in err
    (tmp_path / "x" / "bad.png").write_text("text")
    assert predicted(capfd, tmp_path / "x", "--abstain")[0] == 1
    (tmp_path / "x" / "bad.png").unlink()
    code, lines, _ = predicted(capfd, tmp_path / "x")
    assert code == 0
    assert all(len(line["warnings"]) > 1 for line in lines)


def test_a_csv_file_is_written_as_results_come(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_picture(tmp_path / "x" / 'a, "b".png', 100, size=200)
    (tmp_path / "x" / "c.png").write_text("text")
    out = tmp_path / "o.csv"
    assert main(["predict", str(tmp_path / "x"), "--csv", str(out)]) == 1
    assert capfd.readouterr().out == ""
    assert main(["predict", str(tmp_path / "x"), "--csv", "-"]) == 1
    assert capfd.readouterr().out == out.read_text()
    with out.open(newline="") as file:
        first, second = csv.DictReader(file)
    assert tuple(first) == FIELDS
    assert (first["path"], first["notice"], first["error"]) == (str(tmp_path / "x" / 'a, "b".png'), NOTICE, "")
    assert (second["label"], second["probability"]) == ("", "")
    assert second["error"] != ""
    picture = tmp_path / "x" / 'a, "b".png'
    before = picture.read_bytes()
    assert main(["predict", str(tmp_path / "x"), "--csv", str(picture)]) == 1  # as --csv *.png says it
    assert "holds something else than results" in capfd.readouterr().err
    assert picture.read_bytes() == before
    assert main(["predict", str(tmp_path / "x"), "--json", "--csv", "-"]) == 2
    assert main(["predict", str(tmp_path / "x"), "--csv", str(tmp_path)]) == 1
    assert capfd.readouterr().err.splitlines()[-1].startswith(f"pneumod: {tmp_path}: can't be written: ")


def test_a_disk_that_is_full_is_one_line(tmp_path: Path) -> None:
    image = write_picture(tmp_path / "x.png", 100)
    for more, name in (["--csv", "/dev/full"], "/dev/full"), (["--json"], "standard output"):
        command = [sys.executable, "-m", "pneumod", "predict", str(image), *more]
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
        assert done.returncode == 1
        assert done.stderr == f"pneumod: {name}: can't be written: No space left on device\n"


def test_a_folder_without_images_is_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert predicted(capfd, tmp_path)[:2] == (1, [])
    main(["predict", str(tmp_path)])
    assert capfd.readouterr().err.startswith(f"pneumod: {tmp_path}: no image in it (.jpg")


def test_words_end_with_what_the_model_is_about_and_the_notice(
    brightness_model: Path,  # noqa: F811
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    copied = copy_of(brightness_model, tmp_path / "models")
    card = json.loads(copied.read_text())
    copied.write_text(json.dumps({**card, "status": "provisional", "about": "children"}))
    image = write_picture(tmp_path / "x\n.png", 200)
    assert main(["predict", str(image), "--model", str(copied)]) == 0
    out, err = capfd.readouterr()
    assert out == (
        f"{tmp_path}/x\\n.png: PNEUMONIA, probability of pneumonia 0.989 "
        "(threshold 0.600, model run-a-r3; the model is provisional)\n"
    )
    assert err == f"The model was trained on: children\n{NOTICE}\n"


def test_ages_that_the_model_has_not_seen_are_told_and_no_tag_is(
    cxr: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import pydicom

    (source, *_) = sorted((cxr / "dicom" / "chest").glob("1.3.6*.dcm"))
    card = msgspec.structs.replace(load_model(PACKAGED).card, ages_years=(1.0, 5.0), about="Trained on children.")
    (tmp_path / card.file).write_bytes(load_model(PACKAGED).data)
    write_atomic(tmp_path / "provisional.json", msgspec.json.encode(card))
    dataset = pydicom.dcmread(source)
    dataset.PatientName, dataset.PatientID = "Secret^Name", "SECRET-ID"
    for age, warned in (("071Y", True), ("004Y", False), ("", False)):
        dataset.PatientAge = age
        dataset.save_as(tmp_path / "x.dcm")
        code, (line,), err = predicted(capfd, tmp_path / "x.dcm", "--model", tmp_path / "provisional.json")
        assert (code, err) == (0, "")
        assert any("1 to 5 years" in warning for warning in line["warnings"]) == warned
        assert "71" not in json.dumps({**line, "path": "", "probability": 0, "threshold": 0})
        assert "secret" not in json.dumps(line).lower()
        assert line["about"] == "Trained on children."


def test_a_line_without_names_goes_to_the_nodes_log(brightness_model: Path, tmp_path: Path) -> None:  # noqa: F811
    config = state_of(brightness_model, tmp_path)
    assert main(["predict", str(write_picture(tmp_path / "secret.png", 200)), "--config", str(config)]) == 0
    (line,) = (tmp_path / "state/log/predict/predict.log").read_text().splitlines()
    assert line.endswith("1 images, 0 failed, model run-a-r3")


@pytest.mark.parametrize("obstacle", ["the file", "the folder", "the other folders"])
def test_a_log_that_cannot_be_written_is_left_alone(
    brightness_model: Path,  # noqa: F811
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    obstacle: str,
) -> None:
    config, log = state_of(brightness_model, tmp_path), tmp_path / "state" / "log"
    if obstacle == "the file":
        (log / "predict" / "predict.log").mkdir()
    elif obstacle == "the folder":
        (log / "predict").rmdir()
        (log / "predict").touch()
    else:
        (log / "master").touch()
    assert predicted(capfd, write_picture(tmp_path / "x.png", 200), "--config", config)[2] == ""


def test_the_configuration_is_read_once(
    brightness_model: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config, read = state_of(brightness_model, tmp_path), []
    text = Path.read_text
    monkeypatch.setattr(Path, "read_text", lambda path, *rest, **more: read.append(path) or text(path, *rest, **more))
    assert main(["predict", str(write_picture(tmp_path / "x.png", 200)), "--config", str(config)]) == 0
    assert read == [config]


def test_no_model_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(tmp_path / "x.png"), "--model", str(tmp_path / "no.tflite")]) == 1
    assert capsys.readouterr().err.count("\n") == 1
