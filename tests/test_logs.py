"""Component logs: each in its own file, all on stderr, rotated and kept as configured."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from pneumod import logs
from pneumod.config import LogConfig
from pneumod.logs import ROOT, Component, component, in_background, setup
from tests.disks import small_disk


@pytest.fixture(autouse=True)
def quiet_afterwards() -> Iterator[None]:
    yield
    for logger in (ROOT, *(component(name) for name in get_args(Component))):
        for handler in logger.handlers[:]:
            logger.removeHandler(handler)
            handler.close()
        logger.propagate = True
    ROOT.setLevel(logging.NOTSET)


def test_a_record_goes_to_its_components_file_and_to_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    setup(tmp_path, LogConfig())
    component("master").info("leads with term %d", 3)
    component("train").warning("slow")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[2:] for line in lines] == [
        ["INFO", "master", "leads", "with", "term", "3"],
        ["WARNING", "train", "slow"],
    ]
    assert (tmp_path / "log/master/master.log").read_text().splitlines() == lines[:1]
    assert (tmp_path / "log/train/train.log").read_text().splitlines() == lines[1:]


def test_folders_exist_at_once_and_files_only_when_written(tmp_path: Path) -> None:
    setup(tmp_path, LogConfig())
    component("worker").info("started")
    assert sorted(p.name for p in (tmp_path / "log").iterdir()) == sorted(get_args(Component))
    assert [p.name for p in (tmp_path / "log").glob("*/*")] == ["worker.log"]


def test_the_level_holds_for_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    setup(tmp_path, LogConfig(level="warning"))
    component("broker").info("unheard")
    assert capsys.readouterr().err == ""
    assert not (tmp_path / "log/broker/broker.log").exists()


def test_files_are_rotated_and_old_ones_dropped(tmp_path: Path) -> None:
    setup(tmp_path, LogConfig(max_mb=1, keep=2))
    for number in range(9):
        component("preprocess").info("%d %s", number, "x" * 600_000)
    files = sorted(p.name for p in (tmp_path / "log/preprocess").iterdir())
    assert files == ["preprocess.log", "preprocess.log.1", "preprocess.log.2"]


def test_setting_up_again_does_not_write_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    setup(tmp_path, LogConfig())
    setup(tmp_path, LogConfig())
    component("predict").info("once")
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert len((tmp_path / "log/predict/predict.log").read_text().splitlines()) == 1


def test_a_full_disk_is_said_once_until_it_takes_a_record_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with small_disk(tmp_path / "disk", 1) as disk:
        setup(disk.folder, LogConfig())
        file = disk.folder / "log/worker/worker.log"
        component("worker").info("before")
        disk.fill()
        for number in range(3):
            component("worker").info("%d %s", number, "x" * 8192)
        told = f"pneumod: {file}: No space left on device; its records are not kept until the disk takes them"
        lines = capsys.readouterr().err.splitlines()
        assert lines.count(told) == 1
        assert len(lines) == 5, "the records are on stderr, and no traceback"
        disk.free()
        component("worker").info("after")
        assert file.read_text().splitlines()[-1].endswith("after")
        disk.fill()
        component("worker").info("x" * 8192)
        assert told in capsys.readouterr().err, "another time is said again"
        disk.free()


class Stuck(logging.Handler):
    """A disk that writes nothing until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()
        self.writing = threading.Event()
        self.written: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.writing.set()
        self.go.wait()
        self.written.append(record.getMessage())


def test_who_logs_does_not_wait_for_the_disk_and_the_end_waits_for_the_last_record(tmp_path: Path) -> None:
    setup(tmp_path, LogConfig(), stderr=False)
    stuck = Stuck()
    ROOT.addHandler(stuck)

    @in_background()
    def daemon() -> None:
        component("worker").info("one")
        component("master").warning("two: %s", [2])
        assert stuck.writing.wait(10)
        assert stuck.written == [], "the disk hasn't written it, and we are here"
        stuck.go.set()
        raise KeyError("whatever ends a daemon")

    with pytest.raises(KeyError):
        daemon()
    assert stuck.written == ["one", "two: [2]"]
    assert (tmp_path / "log/master/master.log").read_text().split()[2:] == ["WARNING", "master", "two:", "[2]"]
    component("worker").info("three")
    assert stuck.written[2:] == ["three"], "as before"


def test_records_beyond_the_bound_are_dropped_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MAX_WAITING", 2)
    setup(tmp_path, LogConfig(), stderr=False)
    stuck = Stuck()
    ROOT.addHandler(stuck)
    loss = "{} log records were dropped: the disk of the log is slow"
    with in_background():
        component("worker").info("0")
        assert stuck.writing.wait(10)
        for number in range(1, 6):
            component("worker").info("%d", number)
        stuck.go.set()
    assert stuck.written == ["0", "1", "2", loss.format(3)], "said at the end at the latest"
    stuck.written.clear()
    stuck.go.clear()
    stuck.writing.clear()
    with in_background():
        component("worker").info("0")
        assert stuck.writing.wait(10)
        for number in range(1, 4):
            component("worker").info("%d", number)
        stuck.go.set()
        while len(stuck.written) < 3:
            stuck.writing.clear()
            stuck.writing.wait(0.01)
        component("worker").info("4")
    assert stuck.written == ["0", "1", "2", loss.format(1), "4"]
