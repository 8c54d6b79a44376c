"""`pneumod preprocess`: what is new is prepared, the rest is there; Ctrl-C and damage lose nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pneumod.cli import main
from pneumod.config import load
from pneumod.images.dataset import prepare
from pneumod.settings import Preparation

# The command with a decoder that does what the files' names say (tests/images/wild.py).
WILD = (
    "import sys; from pneumod.cli import main; from pneumod.images.pool import Pool\n"
    "Pool.decoder = 'tests.images.wild'; sys.exit(main(sys.argv[1:]))"
)


def write_images(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True)
    random = np.random.default_rng(1)
    for name in names:
        cv2.imwrite(str(folder / f"{name}.png"), random.integers(0, 256, (40, 50), np.uint8))


def summary(capsys: pytest.CaptureFixture[str], *options: object) -> dict[str, Any]:
    main(["preprocess", "--json", *map(str, options)])
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def counts(found: dict[str, Any]) -> list[int]:
    return [found[name] for name in ("images", "prepared", "already_there")]


def test_a_folder_of_any_shape_is_prepared_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_images(tmp_path / "x", ["a", "b", ".hidden"])
    write_images(tmp_path / "x" / "NORMAL" / "deep", ["c"])
    (tmp_path / "x" / "notes.txt").write_text("no image")
    command = ["preprocess", str(tmp_path / "x"), "--out", str(tmp_path / "c")]
    assert main(command) == 0
    first, where = capsys.readouterr().out.splitlines()
    assert first.startswith("3 images: 3 prepared (")
    assert first.endswith(" images/s), 0 already there, 0 set aside")
    assert where == f"  kept in {tmp_path}/c"
    assert main(command) == 0
    assert capsys.readouterr().out.startswith("3 images: 0 prepared (0 images/s), 3 already there, 0 set aside")
    assert counts(summary(capsys, tmp_path / "x", "--out", tmp_path / "c")) == [3, 0, 3]
    assert counts(summary(capsys, tmp_path / "x", "--out", tmp_path / "c", "--clahe")) == [3, 3, 0]
    assert counts(summary(capsys, tmp_path / "x", "--out", tmp_path / "c", "--image-size", 32)) == [3, 3, 0]
    os.utime(tmp_path / "x" / "a.png", (1, 1))
    assert counts(summary(capsys, tmp_path / "x", "--out", tmp_path / "c")) == [3, 1, 2]


def test_reasons_of_files_set_aside_are_told_every_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_images(tmp_path / "x", ["a"])
    (tmp_path / "x" / "empty.dcm").touch()
    (tmp_path / "x" / "red\x1b[31m\n.png").touch()
    for prepared in (1, 0):
        assert main(["preprocess", str(tmp_path / "x"), "--out", str(tmp_path / "c")]) == 1
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].startswith(f"3 images: {prepared} prepared")
        assert lines[2] == f"  set aside: {tmp_path}/x/red\\x1b[31m\\n.png: the file is empty"
        assert lines[1] == f"  set aside: {tmp_path}/x/empty.dcm: the file is empty"
    found = summary(capsys, tmp_path / "x", "--out", tmp_path / "c")
    assert found["set_aside"][:1] == [{"path": f"{tmp_path}/x/empty.dcm", "reason": "the file is empty"}]


def test_the_default_cache_is_the_users(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    for name in ("one/x", "two/x"):
        write_images(tmp_path / name, ["a"])
    one, two = (Path(summary(capsys, tmp_path / name)["cache"]) for name in ("one/x", "two/x"))
    assert one != two
    assert one.parent == two.parent == tmp_path / "home" / "pneumod"
    monkeypatch.chdir(tmp_path / "one")
    assert counts(summary(capsys, "x")) == [1, 0, 1]


def test_a_nodes_cache_is_filled_so_that_its_daemon_has_nothing_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for label in ("NORMAL", "PNEUMONIA"):
        write_images(tmp_path / "x" / label, [f"{i}" for i in range(4)])
    node = tmp_path / "node.yaml"
    node.write_text(
        "{cluster: c, node: {id: 1, name: n, site: s}, brokers: [{host: h}], state_dir: state, data: {train: x}, "
        "run: {image_size: 32, clahe: true}}"
    )
    assert counts(summary(capsys, tmp_path / "x", "--config", node)) == [8, 8, 0]
    reports: list[float] = []
    dataset = prepare(load(node), Preparation(32, clahe=True), lambda fraction, _: reports.append(fraction))
    assert reports == []
    assert dataset.train.pixels.shape[1:] == (32, 32)
    assert main(["preprocess", str(tmp_path / "x"), "--config", str(node), "--force"]) == 2
    assert "--force: a node's own cache takes chest X-rays only" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "code", "line"),
    [
        (["--out", "{0}/c"], 1, "pneumod: {0}/x: no image in it"),
        (["--out", "{0}/file"], 1, "pneumod: {0}/file: File exists; free space or fix rights"),
        (["--config", "{0}/none.yaml"], 2, "pneumod: {0}/none.yaml: can't be read"),
        (["--cluster"], 2, "pneumod: --cluster: name this machine's node with --config"),
        (["--config", "a", "--out", "b"], 2, "not allowed with argument"),
    ],
)
def test_a_mistake_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], code: int, line: str
) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "file").touch()
    assert main(["preprocess", str(tmp_path / "x"), *(option.format(tmp_path) for option in options)]) == code
    (error,) = capsys.readouterr().err.splitlines()
    assert line.format(tmp_path) in error


def wait_for(path: Path) -> None:
    deadline_s = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def start_slow(folder: Path, target: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WILD, "preprocess", folder, "--out", target, "--processes", "2", "--json"]
    return subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_after_ctrl_c_the_same_command_goes_on(tmp_path: Path) -> None:
    folder, target = tmp_path / "x", tmp_path / "c"
    write_images(folder, [f"{i:03}_slow" for i in range(99)] + ["099_mark"] + [f"{i}_slow" for i in range(100, 200)])
    with start_slow(folder, target) as process:
        wait_for(folder / "099_mark.seen")
        decoders = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=30)
        assert (process.returncode, out) == (130, "")
    assert len(decoders) == 2
    assert not any(Path("/proc", pid).exists() for pid in decoders)
    (line,) = error.splitlines()
    word, done, *rest = line.split()
    assert (word, " ".join(rest)) == ("stopped:", "of 200 images are done; the same command goes on from there")
    assert 80 <= int(done) < 200
    with start_slow(folder, target) as process:
        found = json.loads(process.communicate(timeout=60)[0])
        assert process.returncode == 0
    assert counts(found) == [200, 200 - int(done), int(done)]


def test_a_file_that_kills_its_decoder_is_set_aside_alone(tmp_path: Path) -> None:
    write_images(tmp_path / "x", ["a", "b_die", "c"])
    with start_slow(tmp_path / "x", tmp_path / "c") as process:
        found = json.loads(process.communicate(timeout=60)[0])
        assert process.returncode == 1
    assert counts(found) == [3, 2, 0]
    assert found["set_aside"] == [{"path": f"{tmp_path}/x/b_die.png", "reason": "the decoder died on it"}]


def test_a_second_command_on_the_same_cache_is_told_of_the_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path / "x", ["0_mark", *(f"{i}_slow" for i in range(1, 200))])
    with start_slow(tmp_path / "x", tmp_path / "c") as process:
        wait_for(tmp_path / "x" / "0_mark.seen")
        assert main(["preprocess", str(tmp_path / "x"), "--out", str(tmp_path / "c")]) == 1
        assert capsys.readouterr().err == (
            f"pneumod: {tmp_path}/c: process {process.pid} is at work on this cache; let it end first\n"
        )
        process.terminate()
        assert process.wait(timeout=30) == -signal.SIGTERM


def test_a_folder_that_is_gone_and_comes_back_is_prepared_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path / "x" / "y", ["a", "b"])
    write_images(tmp_path / "x" / "z", ["c"])
    assert counts(summary(capsys, tmp_path / "x", "--out", tmp_path / "c")) == [3, 3, 0]
    shutil.move(tmp_path / "x" / "y", tmp_path / "y")
    assert counts(summary(capsys, tmp_path / "x", "--out", tmp_path / "c")) == [1, 0, 1]
    shutil.move(tmp_path / "y", tmp_path / "x" / "y")
    assert counts(summary(capsys, tmp_path / "x", "--out", tmp_path / "c")) == [3, 2, 1]


def test_real_x_rays_and_dicom_files(cxr: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = summary(capsys, cxr / "dicom", "--out", tmp_path / "c")
    forced = summary(capsys, cxr / "dicom", "--out", tmp_path / "c", "--force")
    assert found["images"] == forced["images"]
    assert forced["prepared"] > found["prepared"] > 0, "--force takes more, in a cache of its own"
    assert counts(summary(capsys, cxr / "dicom", "--out", tmp_path / "c"))[1:] == [0, found["prepared"]]
