"""A daemon that was not run for a while (SIGSTOP, a paused machine) takes nobody's silence for its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pneumod.shell.patience import ends_within
from tests.shell.bench import ROOT

QUIET_S = 1.0
FROZEN_S = 2.5  # more than QUIET_S, and than what is left of the steady job

PARENT = f"""
import asyncio, sys
from pathlib import Path
from pneumod.core.jobs import Prepare
from pneumod.shell.worker import QUIET_S, Worker

child = {{"DO": 28, "STEADY": 34}}

async def main():
    worker = Worker("tests.shell.child", Path(sys.argv[1]), "train", lambda event: print(event, flush=True))
    worker.submit(Prepare(child["DO"]))  # starts the child, which takes its time
    QUIET_S[Prepare] = {QUIET_S}
    worker.submit(Prepare(child["STEADY"]))
    await worker.run()

asyncio.run(main())
"""


@contextlib.contextmanager
def small_daemon(log: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", PARENT, str(log)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_work_that_was_done_while_the_daemon_was_frozen_counts(tmp_path: Path) -> None:
    with small_daemon(tmp_path / "jobs") as daemon:
        assert daemon.stdout is not None
        lines = daemon.stdout
        assert any(line.startswith("JobDone") for line in lines), "the first job"
        assert lines.readline().startswith("JobProgress"), "the second one has begun"
        daemon.send_signal(signal.SIGSTOP)
        time.sleep(FROZEN_S)
        daemon.send_signal(signal.SIGCONT)
        end = next(line for line in lines if not line.startswith("JobProgress"))
        assert end.startswith("JobDone"), end
    pids = {line.split()[0] for line in (tmp_path / "jobs").read_text().splitlines()}
    assert len(pids) == 1, "its child lives on"


async def test_a_wait_has_its_limit() -> None:
    never = asyncio.get_running_loop().create_future()
    started_s = time.monotonic()
    assert not await ends_within(never, 0.2)
    assert 0.2 <= time.monotonic() - started_s < 5.0
    assert not never.done(), "the work goes on"


def freeze(frozen_s: float) -> None:
    """Don't run the event loop for a while."""
    time.sleep(frozen_s)


async def test_a_freeze_is_no_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pneumod.shell.patience.FROZEN_S", 0.2)
    loop = asyncio.get_running_loop()
    work = loop.create_future()
    waiting = asyncio.create_task(ends_within(work, 0.2))
    await asyncio.sleep(0.05)
    threading.Timer(0.5, loop.call_soon_threadsafe, [loop.call_later, 0.1, work.set_result, None]).start()
    freeze(0.6)
    assert await waiting, "its end was on its way"
