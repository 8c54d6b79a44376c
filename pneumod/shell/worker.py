"""One child process and its queue of jobs: started when first needed, started again when it dies."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections import deque
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TypeVar

import msgspec

from pneumod.children import protocol
from pneumod.core.events import Event, JobDone, JobFailed, JobProgress
from pneumod.core.jobs import Check, Close, Export, Initialise, Job, Prepare, Train, Work
from pneumod.errors import WireError
from pneumod.logs import Component, component
from pneumod.shell.patience import ends_within, look_away

Emit = Callable[[Event], None]
T = TypeVar("T")
STOP_S = 2.0
LAST_WORDS_S = 0.2  # what a child printed at its end is read until then
PRINTED_BYTES = 64 * 1024  # read at once
MAX_REASON = 200  # characters of a child's last line that the log names

MAX_JOBS = 20_000  # that wait: a master checks an update of every node
# A child that sends no frame for so long hangs. Train, Prepare, Close and Work report their progress; Check,
# Initialise and Export are silent until they end. The limits leave room for a machine that is 20 times slower.
QUIET_S: dict[type[Job], float] = {
    Prepare: 120.0, Train: 120.0, Work: 120.0, Check: 120.0, Close: 300.0, Initialise: 300.0, Export: 600.0,
}  # fmt: skip
START_S = 180.0  # more for the first job of a child, which imports its libraries


class Worker:
    """Runs jobs in a child, one after the other; each ends as exactly one JobDone or JobFailed.

    Args:
        idle_s: a child that has nothing to do for so long is ended.

    Attributes:
        began_s: when the child got the job that it is at, or was at last.
    """

    def __init__(
        self,
        module: str,
        config: Path,
        logs: Component,
        emit: Emit,
        idle_s: float | None = None,
    ) -> None:
        self.module = module
        self.config = config
        self.log = component(logs)
        self.emit = emit
        self.idle_s = idle_s
        self.began_s = 0.0
        self.waiting: deque[tuple[Job, bytes]] = deque()  # with the frame that the child gets
        self.current: Job | None = None
        self._came = asyncio.Event()  # a job
        self._unwanted = False  # the current job was cancelled
        self._process: Process | None = None
        self._last_line = ""  # that the child printed
        self._stderr: asyncio.Task[None] | None = None

    @property
    def load(self) -> int:
        """Jobs that it has."""
        return len(self.waiting) + (self.current is not None)

    def submit(self, job: Job, frame: bytes | None = None) -> None:
        """Have a job done; `frame` is what the child gets, where that is more than the job."""
        assert len(self.waiting) < MAX_JOBS, "the jobs pile up"
        self.waiting.append((job, protocol.pack_frame(job) if frame is None else frame))
        self._came.set()

    def cancel(self, job: Job) -> None:
        """Drop a job that waits; end the child for one that trains, since nothing else stops it.

        Without effect on a job that has ended: its end and the wish to cancel it may cross.
        """
        place = next((place for place, (waits, _) in enumerate(self.waiting) if waits == job), None)
        if place is not None:
            del self.waiting[place]
            self.emit(JobFailed(job, "cancelled"))
        elif job == self.current and isinstance(job, Train):
            self._unwanted = True
            if self._process is not None:
                _kill(self._process)

    async def run(self) -> None:
        """Serve the queue until cancelled."""
        try:
            while True:
                while not self.waiting:
                    self._came.clear()
                    try:
                        async with asyncio.timeout(self.idle_s):
                            await self._came.wait()
                    except TimeoutError:
                        await self._end()
                (self.current, frame), self._unwanted = self.waiting.popleft(), False
                event = await self._do(self.current, frame)
                if self._unwanted:
                    await self._end()  # it was killed, also where its job had just ended
                self.current = None
                self.emit(event)
        finally:
            await self._end()

    async def _do(self, job: Job, frame: bytes) -> JobDone | JobFailed:
        limit_s = QUIET_S[type(job)]
        try:
            if self._process is not None and self._process.returncode is not None:
                await self._end()  # it died while it had nothing to do
            if self._process is None:
                limit_s += START_S
                await self._spawn()
            return await self._ask(job, frame, limit_s)
        except TimeoutError:
            await self._end()
            self.log.warning("the child %s sent nothing for %.0f s: it was ended", self.module, limit_s)
            return JobFailed(job, "the child hung", again=True)
        except (OSError, asyncio.IncompleteReadError, WireError, msgspec.ValidationError) as error:
            code = await self._end()
            if self._unwanted:
                return JobFailed(job, "cancelled")
            self.log.warning("the child %s died (%s): %s", self.module, code, self._last_line or error)
            return JobFailed(job, f"the child died ({code})", again=True)  # may go on the bus: no words of the child's

    async def _ask(self, job: Job, order: bytes, limit_s: float) -> JobDone | JobFailed:
        """Hand a job to the child and read frames until its end.

        Raises:
            TimeoutError: no frame came for `limit_s`; the second one for the job's QUIET_S.
            OSError, IncompleteReadError, WireError, ValidationError: the child died, or doesn't speak as it should.
        """
        process = self._process
        assert process is not None
        if self._unwanted:
            _kill(process)
        assert process.stdin is not None
        self.began_s = time.monotonic()
        process.stdin.write(order)
        await _within(limit_s, process.stdin.drain())
        while True:
            frame = await _within(limit_s, self._frame(process))
            limit_s = QUIET_S[type(job)]
            match frame:
                case protocol.Progress(activity=activity, fraction=fraction, samples_per_s=rate):
                    self.emit(JobProgress(job, activity, fraction, rate))
                case protocol.Note(component=name, level=level, text=text):
                    getattr(component(name), level)(text)
                case protocol.Done(outcome=outcome):
                    return JobDone(job, outcome)
                case protocol.Failed(why=why, ends=ends):
                    if ends:
                        await self._end()
                    return JobFailed(job, why)

    async def _frame(self, process: Process) -> protocol.Frame:
        assert process.stdout is not None
        (size,) = protocol.HEADER.unpack(await process.stdout.readexactly(protocol.HEADER.size))
        if size > protocol.MAX_FRAME_BYTES:
            raise OSError(f"a frame of {size} bytes")
        return protocol.unpack_frame(await process.stdout.readexactly(size))

    async def _spawn(self) -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", self.module, "--config", str(self.config),
            stdin=PIPE, stdout=PIPE, stderr=PIPE, start_new_session=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        self._process, self._last_line = process, ""
        self._stderr = asyncio.get_running_loop().create_task(self._log_stderr(process))

    async def _log_stderr(self, process: Process) -> None:
        """What a library prints goes to the component's log, however long its lines are."""
        assert process.stderr is not None
        while data := await process.stderr.read(PRINTED_BYTES):
            for line in filter(None, map(str.rstrip, data.decode(errors="replace").splitlines())):
                self.log.debug("%s", line)
                self._last_line = line[:MAX_REASON]

    async def _end(self) -> int | None:
        """End the child; its exit code."""
        process, self._process = self._process, None
        if process is None:
            return None
        if process.stdin is not None:
            process.stdin.close()
        try:
            async with asyncio.timeout(STOP_S if self.current is None else 0.1):
                await process.wait()
        except TimeoutError:
            _kill(process)
            await process.wait()
        if self._stderr is not None:
            await asyncio.wait({self._stderr}, timeout=LAST_WORDS_S)
            self._stderr.cancel()
        return process.returncode


async def _within(limit_s: float, work: Coroutine[None, None, T]) -> T:
    """What `work` comes to. TimeoutError: it took longer, a freeze of this process not counted."""
    task = asyncio.ensure_future(work)
    task.add_done_callback(look_away)
    try:
        if not await ends_within(task, limit_s):
            raise TimeoutError
        return task.result()
    finally:
        task.cancel()


def _kill(process: Process) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has just ended
        process.kill()
