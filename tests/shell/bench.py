"""A worker with a real child of the tests, and what its jobs came to."""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from pathlib import Path

from pneumod.core.events import JobDone, JobFailed
from pneumod.core.jobs import Job, Prepare, Prepared, Train
from pneumod.shell.worker import Worker
from tests.examples import OPENED
from tests.shell import child
from tests.shell.parts import LIMIT_S, Events

ROOT = Path(__file__).parents[2]
TRAIN = Train(OPENED)
DO = Prepare(child.DO)


class Bench:
    """A worker that runs, the events it told, and the jobs that its children began."""

    def __init__(self, log: Path, module: str = "tests.shell.child") -> None:
        self.events = Events()
        self.log = log
        self.worker = Worker(module, log, "train", self.events.emit)

    def begun(self) -> list[str]:
        return self.log.read_text().splitlines()

    def submit(self, *jobs: Job) -> None:
        for job in jobs:
            self.worker.submit(job)

    async def ends(self, count: int) -> list[JobDone | JobFailed]:
        return await self.events.until(JobDone | JobFailed, count)  # type: ignore[arg-type]


def gone(pid: int) -> Callable[[], bool]:
    """Whether a process has ended, waiting for it up to the limit."""
    end = os.pidfd_open(pid)

    def wait() -> bool:
        poll = select.poll()
        poll.register(end, select.POLLIN)
        ended = bool(poll.poll(LIMIT_S * 1000))
        os.close(end)
        return ended

    return wait


def pid_of(event: JobDone | JobFailed) -> int:
    """The child that did the job."""
    assert isinstance(event, JobDone)
    assert isinstance(event.outcome, Prepared)
    return event.outcome.counts.val_pneumonia
