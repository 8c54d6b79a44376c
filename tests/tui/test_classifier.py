"""A path is typed, and `pneumod predict` answers in a process of its own."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from textual.widgets import Input, Static

from pneumod import RESEARCH_ONLY
from pneumod.config import NodeConfig
from pneumod.errors import DataError
from pneumod.tui.app import PneumodApp
from pneumod.tui.prediction import predict
from tests.tui.conftest import until


@pytest.fixture
def model(brightness_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PNEUMOD_MODEL", str(brightness_model))
    return brightness_model


@pytest.fixture
def bright(tmp_path: Path) -> Path:
    """An image with a mean of 200: the model's logit is 4.5."""
    path = tmp_path / "bright [x].png"
    cv2.imwrite(str(path), np.tile(np.array([[190, 210]], np.uint8), (40, 20)))
    return path


def answer(app: PneumodApp) -> str:
    return str(app.screen.query_one("#answer", Static).content)


def children() -> set[str]:
    """Process ids of this process's children (Linux)."""
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


@pytest.mark.usefixtures("model")
async def test_a_path_is_answered(config: NodeConfig, bright: Path) -> None:
    app = PneumodApp(config)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("p")
        app.screen.query_one(Input).value = f"'{bright}'"
        await pilot.press("enter")
        await until(pilot, lambda: "PNEUMONIA" in answer(app))
        assert answer(app).startswith("PNEUMONIA · probability of pneumonia 0.989 ≥ threshold 0.600")
        assert f"{bright} · model run-a-r3" in answer(app)
        assert answer(app).endswith(RESEARCH_ONLY)


@pytest.mark.usefixtures("model")
async def test_a_file_that_is_missing_is_told(config: NodeConfig, tmp_path: Path) -> None:
    app = PneumodApp(config)
    async with app.run_test() as pilot:
        await pilot.press("p", *"/none.png", "enter")
        await until(pilot, lambda: "No answer" in answer(app))
        assert answer(app) == f"No answer: /none.png: no such file\n{RESEARCH_ONLY}"


@pytest.mark.usefixtures("model")
async def test_a_folder_is_not_answered(config: NodeConfig, tmp_path: Path) -> None:
    app = PneumodApp(config)
    async with app.run_test() as pilot:
        await pilot.press("p")
        app.screen.query_one(Input).value = str(tmp_path)
        await pilot.press("enter")
        await until(pilot, lambda: "No answer" in answer(app))
        assert answer(app) == f"No answer: {tmp_path}: a folder; name one image\n{RESEARCH_ONLY}"


@pytest.mark.usefixtures("model")
async def test_a_second_path_ends_the_first(config: NodeConfig, bright: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "endless.png")  # opening it waits for a writer that never comes
    before = children()
    app = PneumodApp(config)
    async with app.run_test() as pilot:
        field = app.screen.query_one(Input)
        await pilot.press("p")
        field.value = str(tmp_path / "endless.png")
        await pilot.press("enter")
        await until(pilot, lambda: len(children() - before) == 1)
        first = children() - before
        assert "Classifying endless.png" in answer(app)
        field.value = str(bright)
        await pilot.press("enter")
        await until(pilot, lambda: "PNEUMONIA" in answer(app))
        assert children().isdisjoint(first)


async def test_a_configuration_that_is_wrong_by_now_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no-such"):
        await asyncio.wait_for(predict(tmp_path / "no-such.yaml", tmp_path / "x.png"), 20)
