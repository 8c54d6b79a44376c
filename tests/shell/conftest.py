"""One broker for the tests of a module that don't stop it, and one worker for each test that needs it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from pneumod.demo.cluster import Broker
from tests.shell.bench import ROOT, Bench
from tests.shell.parts import new_broker, running, serving


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with serving(new_broker(tmp_path_factory.mktemp("broker"))) as broker:
        yield broker


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(logging.getLogger("pneumod"), "propagate", True)
    bench = Bench(tmp_path / "jobs")
    async with running(asyncio.create_task(bench.worker.run())):
        yield bench
