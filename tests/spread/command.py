"""A command that spreads a folder of small images."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np

from pneumod.errors import DataError
from pneumod.parcel import Head
from pneumod.spread.batch import Batch
from pneumod.spread.ledger import Outcome
from pneumod.spread.leg import Task
from tests.spread.desk import PIXELS, PREPARATION, Script, Talk, answer, desk


class Command:
    """What the command did: which files at home, what it said."""

    def __init__(self, folder: Path, files: int) -> None:
        self.paths = [folder / f"{number:03}.png" for number in range(files)]
        for number, path in enumerate(self.paths):
            cv2.imwrite(str(path), np.full((40, 30), number % 256, np.uint8))
        self.socket = folder / "desk.sock"
        self.said: list[str] = []
        self.at_home: list[Path] = []
        self.batch: Batch

    def home(self, paths: Iterable[Path]) -> Iterator[Outcome]:
        for path in paths:
            self.at_home.append(path)
            yield outcome(path)

    async def run(self) -> list[Outcome]:
        task = Task("preprocess", Head(PREPARATION), PIXELS, self.home)
        self.batch = Batch(self.paths, task, 3, self.socket, self.said.append)
        return await asyncio.to_thread(lambda: list(self.batch.outcomes()))

    async def against(self, *scripts: Script) -> list[Talk]:
        """Run against a daemon; what comes of the files is what would come of them at home."""
        async with desk(self.socket, scripts) as talks:
            assert await self.run() == [outcome(path) for path in self.paths]
        return talks


def outcome(path: Path) -> Outcome:
    try:
        return answer(path)
    except DataError as error:
        return str(error)


def each(talk: Talk) -> range:
    return range(talk.bring.items)
