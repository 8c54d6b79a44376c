"""`pneumod predict` as a process: its start, its terminal, signals, and the pictures that it draws."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from pneumod.cli import main
from tests.learning.conftest import brightness_model  # noqa: F401 (a fixture)
from tests.test_predict_command import write_picture


def links(path: Path, folder: Path, count: int) -> Path:
    """A folder with many names of one file."""
    folder.mkdir()
    for index in range(count):
        os.link(path, folder / f"{index:04}{path.suffix}")
    return folder


def test_a_cold_process_answers_in_a_moment(brightness_model: Path, tmp_path: Path) -> None:  # noqa: F811
    """0.2 s where nothing else runs, here in processor time; TensorFlow alone would take 4 s."""
    image = write_picture(tmp_path / "x.jpg", 200)
    heavy = ("tensorflow", "keras", "sklearn", "yaml", "asyncio", "cv2", "pydicom", "PIL", "rich", "watchfiles")
    code = (
        "import sys; from pneumod.cli import main; main(sys.argv[1:]);"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", code, "predict", str(image), "--model", str(brightness_model), "--json"],
        capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    answer, imported = done.stdout.splitlines()
    assert json.loads(answer)["label"] == "PNEUMONIA"
    assert imported == "[]"
    assert done.stderr == ""
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.2


def test_results_stream_and_ctrl_c_ends_it_with_what_was_done(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1200, 1200), np.uint8)
    cv2.imwrite(str(tmp_path / "x.png"), noise)
    folder = links(tmp_path / "x.png", tmp_path / "many", 2000)
    process = subprocess.Popen(
        [sys.executable, "-m", "pneumod", "predict", str(folder), "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    first = json.loads(process.stdout.readline())
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the decoders too
    lines, err = process.stdout.read().splitlines(), process.stderr.read()
    assert process.wait(timeout=20) == 130
    assert [first["path"], *(json.loads(line)["path"] for line in lines)] == [
        str(folder / f"{index:04}.png") for index in range(len(lines) + 1)
    ]
    (told,) = (int(text.replace(",", "")) for text in re.findall(r"^stopped: ([\d,]+) images: ", err))
    assert told - len(lines) in (1, 2)  # it may come between an answer and its line
    assert err.count("\n") == 1
    assert len(lines) < 1900


def test_progress_is_for_a_terminal_and_never_on_stdout(tmp_path: Path) -> None:
    folder = links(write_picture(tmp_path / "x.png", 100, size=200), tmp_path / "many", 300)
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "pneumod", "predict", str(folder), "--json"]
    with (tmp_path / "out").open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=theirs, env={**os.environ, "TERM": "xterm"})
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # the end of a terminal
        while part := os.read(ours, 65536):
            shown += part
    os.close(ours)
    assert process.wait(timeout=20) == 0
    assert all("probability" in json.loads(line) for line in (tmp_path / "out").read_text().splitlines())
    assert b"/300" in shown
    assert b"images/s" in shown
    assert b"300 images: " in shown


def test_a_picture_shows_what_an_answer_rests_on(
    brightness_model: Path,  # noqa: F811
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    image = write_picture(tmp_path / "x" / "one.png", 200)
    words = ["predict", str(image), "--model", str(brightness_model), "--heatmap"]
    assert main([*words, str(tmp_path / "map.png")]) == 0
    picture = cv2.imread(str(tmp_path / "map.png"))
    assert picture is not None
    assert picture.shape[1] > picture.shape[0] > 400
    write_picture(tmp_path / "x" / "deep" / "one.png", 200)
    (tmp_path / "x" / "bad.png").write_text("text")
    words[1] = str(tmp_path / "x")
    assert main([*words, str(tmp_path / "map.png")]) == 2
    assert main([*words, str(tmp_path / "maps")]) == 1
    drawn = sorted(str(path.relative_to(tmp_path / "maps")) for path in (tmp_path / "maps").rglob("*.png"))
    assert drawn == ["deep/one.png.png", "one.png.png"]
    assert "--heatmap" in capfd.readouterr().err
    assert main([*words, str(tmp_path / "x" / "maps")]) == 2
    assert f"it lies in {tmp_path / 'x'}, and would be read too" in capfd.readouterr().err


def test_a_heat_map_takes_no_other_pictures_place(
    brightness_model: Path,  # noqa: F811
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    image = write_picture(tmp_path / "one.png", 200)
    before = image.read_bytes()
    words = ["predict", str(image), "--model", str(brightness_model), "--heatmap"]
    assert main([*words, str(image)]) == 1
    assert "it is there already, and no heat map" in capfd.readouterr().err
    assert image.read_bytes() == before
    assert [main([*words, str(tmp_path / "map.png")]) for _ in range(2)] == [0, 0]


def test_a_heat_map_that_can_not_be_written_is_one_line(
    brightness_model: Path,  # noqa: F811
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    image = write_picture(tmp_path / "one.png", 200)
    words = ["predict", str(image), "--model", str(brightness_model), "--heatmap", str(image / "maps")]
    assert main(words) == 1
    assert capfd.readouterr().err.startswith(f"pneumod: {image / 'maps' / 'one.png.png'}: can't be written: ")
