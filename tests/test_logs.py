"""Component logs: each in its own file, all on stderr, rotated and kept as configured."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from pneumod.config import LogConfig
from pneumod.logs import ROOT, Component, component, setup


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
