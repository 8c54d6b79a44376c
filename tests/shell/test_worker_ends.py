"""What ends a job before its time: it is cancelled, or its child hangs."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import get_args

import pytest

from pneumod.core.events import Event, JobDone, JobFailed, JobProgress
from pneumod.core.jobs import Fetch, Job, Prepare, Train
from pneumod.shell.worker import QUIET_S
from tests.shell import child
from tests.shell.bench import DO, ROOT, TRAIN, Bench, pid_of
from tests.shell.parts import LIMIT_S, running


async def test_a_cancelled_training_ends_at_once_and_fails(bench: Bench) -> None:
    bench.submit(TRAIN, DO)
    await bench.events.until(JobProgress)
    bench.worker.cancel(TRAIN)
    failed, done = await bench.ends(2)
    assert failed == JobFailed(TRAIN, "cancelled")
    assert isinstance(done, JobDone)


async def test_a_training_that_is_cancelled_while_its_child_starts_ends_too(bench: Bench) -> None:
    bench.submit(TRAIN)
    for _ in range(3):
        await asyncio.sleep(0)
    assert bench.worker.current == TRAIN
    assert bench.worker._process is None, "its child is being started"
    bench.worker.cancel(TRAIN)
    assert await bench.ends(1) == [JobFailed(TRAIN, "cancelled")]


async def test_a_training_asked_for_again_while_the_cancelled_one_ends_is_run(bench: Bench) -> None:
    bench.submit(TRAIN)
    await bench.events.until(JobProgress)
    bench.worker.cancel(TRAIN)
    bench.submit(TRAIN)
    await bench.events.until(JobProgress, 2)
    assert await bench.ends(1) == [JobFailed(TRAIN, "cancelled")]
    bench.worker.cancel(TRAIN)
    assert await bench.ends(2) == 2 * [JobFailed(TRAIN, "cancelled")]


async def test_jobs_that_pile_up_are_a_broken_invariant(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pneumod.shell.worker.MAX_JOBS", 2)
    bench.submit(DO, DO)
    with pytest.raises(AssertionError, match="pile up"):
        bench.submit(DO)


async def test_a_cancelled_job_that_waits_is_never_run(bench: Bench) -> None:
    bench.submit(TRAIN, DO, Prepare(child.SLOW))
    await bench.events.until(JobProgress)
    bench.worker.cancel(DO)
    bench.worker.cancel(TRAIN)
    cancelled, training, done = await bench.ends(3)
    assert cancelled == JobFailed(DO, "cancelled")
    assert training == JobFailed(TRAIN, "cancelled")
    assert isinstance(done, JobDone)
    assert [line.split(maxsplit=1)[1] for line in bench.begun()] == ["Train 0", f"Prepare {child.SLOW}"]


async def test_a_job_asked_for_again_after_its_cancelling_is_run(bench: Bench) -> None:
    bench.submit(Prepare(child.SLOW), DO)
    bench.worker.cancel(DO)
    bench.submit(DO)
    cancelled, _, done = await bench.ends(3)
    assert cancelled == JobFailed(DO, "cancelled")
    assert isinstance(done, JobDone)
    assert done.job == DO


async def test_a_cancelling_that_comes_after_the_end_is_not_kept_for_the_next(bench: Bench) -> None:
    bench.submit(DO)
    await bench.ends(1)
    bench.worker.cancel(DO)
    bench.submit(DO)
    assert [type(event) for event in await bench.ends(2)] == [JobDone, JobDone]


def test_every_job_of_a_child_has_a_limit() -> None:
    assert set(QUIET_S) == set(get_args(Job)) - {Fetch}


async def test_a_child_that_hangs_is_ended_and_the_next_job_gets_a_new_one(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(QUIET_S, Train, 0.3)
    bench.submit(TRAIN, DO)
    hung, after = await bench.ends(2)
    assert hung == JobFailed(TRAIN, "the child hung", again=True)
    assert isinstance(after, JobDone)


async def test_a_frozen_child_that_does_not_even_read_its_job_is_ended(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.submit(DO)
    (done,) = await bench.ends(1)
    os.kill(pid_of(done), signal.SIGSTOP)
    monkeypatch.setitem(QUIET_S, Prepare, 0.3)
    monkeypatch.setattr("pneumod.shell.worker.START_S", LIMIT_S)
    bench.submit(DO, DO)
    _, hung, after = await bench.ends(3)
    assert hung == JobFailed(DO, "the child hung", again=True)
    assert pid_of(after) != pid_of(done)


async def test_a_child_that_shows_progress_may_take_its_time(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(QUIET_S, Prepare, 0.5)
    bench.submit(Prepare(child.STEADY))
    assert isinstance((await bench.ends(1))[0], JobDone)
    assert len(bench.events.of(JobProgress)) == 1 + child.STEPS


HASTY = """
import sys
from pneumod.children import protocol
while header := sys.stdin.buffer.read(4):
    sys.stdin.buffer.read(protocol.HEADER.unpack(header)[0])
    done = protocol.Failed("at once")
    sys.stdout.buffer.write(protocol.pack_frame(protocol.Progress("training", 0.5)) + protocol.pack_frame(done))
    sys.stdout.buffer.flush()
"""


async def test_a_training_that_is_cancelled_as_it_ends_costs_the_next_job_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hasty.py").write_text(HASTY)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
    bench = Bench(tmp_path / "jobs", "hasty")

    def emit(event: Event) -> None:
        bench.events.emit(event)
        if isinstance(event, JobProgress):
            bench.worker.cancel(TRAIN)  # its end is in the pipe already

    bench.worker.emit = emit
    async with running(asyncio.create_task(bench.worker.run())):
        bench.submit(TRAIN, DO)
        assert (await bench.ends(2))[1] == JobFailed(DO, "at once"), "no child that is dead"
