"""`pneumod predict --watch` as it runs at a site: files that arrive slowly, kills, restarts, folders that vanish."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pneumod.cli import main
from pneumod.demo import phantom
from pneumod.errors import DataError
from pneumod.images.arrivals import Arrivals, stamp_of
from pneumod.learning.card import load_model
from pneumod.learning.predict import PACKAGED
from pneumod.results import ResultsFile

SETTLE_S = 0.5


@pytest.fixture(scope="module")
def pictures() -> list[bytes]:
    """Files of chest phantoms."""
    random = np.random.default_rng(7)
    look = phantom.site(random, 0, 1)
    drawn = [phantom.draw(random, look, index % 2 == 1).pixels for index in range(12)]
    return [cv2.imencode(".png", pixels)[1].tobytes() for pixels in drawn]


class Watch:
    """A `pneumod predict --watch` that runs."""

    def __init__(self, folder: Path, out: Path, *more: str) -> None:
        words = ["--watch", str(folder), "--out", str(out), "--settle", str(SETTLE_S), "--json", *more]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pneumod", "predict", *words],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip

    def next(self) -> dict[str, Any]:
        """The next result, which is on the disk by now."""
        assert self.process.stdout is not None
        told: dict[str, Any] = json.loads(self.process.stdout.readline())
        return told

    def stop(self) -> str:
        """Ctrl-C; what was said on stderr."""
        self.process.send_signal(signal.SIGINT)
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        more, err = self.process.stdout.read(), self.process.stderr.read()
        assert (self.process.wait(timeout=20), more) == (0, "")
        return err


@contextmanager
def watching(folder: Path, out: Path, *more: str) -> Iterator[Watch]:
    watch = Watch(folder, out, *more)
    try:
        yield watch
    finally:
        watch.process.kill()
        watch.process.communicate()


def rows(out: Path) -> list[dict[str, str]]:
    with out.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "scans"
    path.mkdir()
    return path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "results.csv"


def test_what_is_there_and_what_comes_is_classified_once(folder: Path, out: Path, pictures: list[bytes]) -> None:
    (folder / "a.png").write_bytes(pictures[0])
    (folder / "notes.txt").write_text("not an image")
    with watching(folder, out) as watch:
        assert watch.next()["path"] == "a.png"
        (folder / "upload.tmp").write_bytes(pictures[1])
        (folder / "upload.tmp").rename(folder / "b.png")
        assert watch.next()["path"] == "b.png"
        (folder / "new" / "deeper").mkdir(parents=True)
        (folder / "new" / "deeper" / "c.png").write_bytes(pictures[2])
        told = watch.next()
        assert (told["path"], told["label"] in ("NORMAL", "PNEUMONIA")) == ("new/deeper/c.png", True)
        said = watch.stop()
    assert "3 images" in said
    about = load_model(PACKAGED).card.about
    assert f"The model was trained on: {about}\n" in said
    found = rows(out)
    assert found[0]["about"] == about
    assert [row["path"] for row in found] == ["a.png", "b.png", "new/deeper/c.png"]
    assert float(found[2]["probability"]) == pytest.approx(told["probability"], abs=1e-6)
    assert found[0]["notice"] == "For research only, not for diagnosis."


@pytest.mark.parametrize("more", [(), ("--poll", "0.2")])
def test_a_file_that_is_still_written_is_not_classified(
    folder: Path, out: Path, pictures: list[bytes], more: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """It takes three times as long as a file must stand still; it would be a truncated one at every moment before."""
    (folder / "first.png").write_bytes(pictures[1])
    with watching(folder, out, *more) as watch:
        assert watch.next()["path"] == "first.png"
        with (folder / "slow.png").open("wb", buffering=0) as file:
            for part in np.array_split(np.frombuffer(pictures[0], np.uint8), 10):
                file.write(part.tobytes())
                time.sleep(SETTLE_S / 3)
        told = watch.next()
        watch.stop()
    assert [row["path"] for row in rows(out)] == ["first.png", "slow.png"]
    main(["predict", str(folder / "slow.png"), "--json"])
    assert told["probability"] == json.loads(capsys.readouterr().out)["probability"]


def test_a_kill_in_the_middle_repeats_and_skips_nothing(folder: Path, out: Path, pictures: list[bytes]) -> None:
    names = [f"{index:03}.png" for index in range(120)]
    for index, name in enumerate(names):
        (folder / name).write_bytes(pictures[index % len(pictures)])
    for kill_after in (5, 40):
        with watching(folder, out) as watch:
            for _ in range(kill_after):
                watch.next()
            os.killpg(watch.process.pid, signal.SIGKILL)
    with out.open("ab") as file:  # what a power cut leaves of a line
        file.write(b"099.png,2217,2026-01-01T00:00:00.0000")
    before = len(out.read_text().splitlines()) - 2
    assert before >= 45
    (folder / "late.png").write_bytes(pictures[0])
    with watching(folder, out) as watch:
        for _ in range(len(names) + 1 - before):
            watch.next()
        assert f"{before} files are done" in watch.stop()
    assert sorted(row["path"] for row in rows(out)) == [*names, "late.png"]
    with watching(folder, out) as watch:
        (folder / "last.png").write_bytes(pictures[0])
        assert watch.next()["path"] == "last.png"


def test_a_file_that_is_replaced_is_classified_again(folder: Path, out: Path, pictures: list[bytes]) -> None:
    path = folder / "a.png"
    path.write_bytes(pictures[0])
    with watching(folder, out) as watch:
        first = watch.next()
        path.write_bytes(pictures[1])
        second = watch.next()
        watch.stop()
        assert first["probability"] != second["probability"]
    os.utime(path, ns=(1, 10**18))
    with watching(folder, out) as watch:
        assert watch.next() == second
        watch.stop()
    assert [row["path"] for row in rows(out)] == ["a.png"] * 3


def test_what_can_not_be_answered_is_recorded_with_the_reason(folder: Path, out: Path, pictures: list[bytes]) -> None:
    (folder / "a.png").write_bytes(pictures[0][:900])
    (folder / "b.png").write_bytes(cv2.imencode(".png", np.full((200, 200), 90, np.uint8))[1].tobytes())
    os.mkfifo(folder / "c.png")
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "d.png").write_bytes(pictures[0])
    with watching(folder, out, "--abstain") as watch:
        told = [watch.next() for _ in range(2)]
        assert "2 images: 0 NORMAL, 0 PNEUMONIA, 1 without an answer, 1 failed" in watch.stop()
    assert [one["path"] for one in told] == ["a.png", "b.png"]
    assert [(row["label"], row["error"] == "") for row in rows(out)] == [("", False)] * 2
    assert rows(out)[1]["error"].startswith("no answer: ")


@pytest.mark.parametrize("more", [(), ("--poll", "0.2")])
def test_a_folder_that_vanishes_is_one_line(
    folder: Path, out: Path, pictures: list[bytes], more: tuple[str, ...]
) -> None:
    (folder / "a.png").write_bytes(pictures[0])
    with watching(folder, out, *more) as watch:
        watch.next()
        shutil.rmtree(folder)
        folder.mkdir()  # as the mount point of a share that was unmounted
        _, err = watch.process.communicate(timeout=20)
        assert watch.process.returncode == 1
    assert err.splitlines()[-1:] == [f"pneumod: {folder}: the folder is gone (another is in its place)"]


def test_names_that_are_not_utf_8_hold_nothing_up(folder: Path, out: Path, pictures: list[bytes]) -> None:
    odd = folder / os.fsdecode(b"a\xff.png")
    odd.write_bytes(pictures[0])
    with watching(folder, out) as watch:
        assert watch.next()["path"] == r"a\xff.png"
        shutil.copy2(odd, odd.with_name(os.fsdecode(b"a\xfe.png")))  # of the same size and time
        (folder / "a\n.png").write_bytes(pictures[1])
        (folder / r"a\xff.png").write_bytes(pictures[2])
        names = {r"a\xfe.png", r"a\n.png", r"a\\xff.png"}
        assert {watch.next()["path"] for _ in names} == names
        watch.stop()
    with watching(folder, out) as watch:
        (folder / "d.png").write_bytes(pictures[3])
        assert watch.next()["path"] == "d.png"


def test_two_do_not_write_the_same_results(folder: Path, out: Path, pictures: list[bytes]) -> None:
    (folder / "a.png").write_bytes(pictures[0])
    with watching(folder, out) as watch:
        watch.next()
        with pytest.raises(DataError, match="another pneumod writes to it"):
            ResultsFile(out)


def test_a_file_that_changes_while_it_is_read_comes_again(folder: Path, pictures: list[bytes]) -> None:
    path = folder / "a.png"
    path.write_bytes(pictures[0])
    arrivals = Arrivals(folder, 0.2, None, lambda arrival: False, pytest.fail)
    due = arrivals.complete()
    assert [one.path for one in next(due)] == [path]
    with path.open("ab") as file:
        file.write(b"more")
    arrivals.look(path, touched=True)
    started_s = time.monotonic()
    (again,) = next(due)
    assert again.stamp == stamp_of(path)
    assert time.monotonic() - started_s >= 0.2


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--watch", "."], "--watch DIR and --out FILE need each other"),
        (["x.png", "--out", "o.csv"], "--watch DIR and --out FILE need each other"),
        (["--watch", ".", "--out", "o.csv", "--csv", "c.csv"], "with --watch the results go to --out"),
    ],
)
def test_options_that_do_not_go_together(words: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", *words]) == 2
    assert why in capsys.readouterr().err
