"""One child process and its queue of jobs: started when first needed, started again when it dies."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from pathlib import Path

import msgspec

from pneumod.children import protocol
from pneumod.core.events import Event, JobDone, JobFailed, JobProgress
from pneumod.core.jobs import Check, Close, Export, Initialise, Job, Train
from pneumod.errors import WireError
from pneumod.logs import Component, component

Emit = Callable[[Event], None]
STOP_S = 2.0
LAST_WORDS_S = 0.2  # what a child printed at its end is read until then
PRINTED_BYTES = 64 * 1024  # read at once
MAX_REASON = 200  # characters of a child's last line that the log names


LIMITS_S: dict[type[Job], float] = {Check: 120.0, Close: 900.0, Initialise: 300.0, Export: 300.0}  # a child may hang


class Worker:
    """Runs jobs in a child, one after the other; each ends as exactly one JobDone or JobFailed."""

    def __init__(self, module: str, config: Path, logs: Component, emit: Emit) -> None:
        self.module = module
        self.config = config
        self.log = component(logs)
        self.emit = emit
        self.queue: asyncio.Queue[Job] = asyncio.Queue()
        self.waiting: list[Job] = []  # what `queue` holds
        self.cancelled: list[Job] = []  # of those
        self.current: Job | None = None
        self._process: Process | None = None
        self._last_line = ""  # that the child printed
        self._stderr: asyncio.Task[None] | None = None

    def submit(self, job: Job) -> None:
        self.waiting.append(job)
        self.queue.put_nowait(job)

    def cancel(self, job: Job) -> None:
        """Drop a job that waits; end the child for one that trains, since nothing else stops it.

        Without effect on a job that has ended: its end and the wish to cancel it may cross.
        """
        if job == self.current:
            if isinstance(job, Train) and self._process is not None:
                self._process.kill()
        elif job in self.waiting:
            self.cancelled.append(job)

    async def run(self) -> None:
        """Serve the queue until cancelled."""
        try:
            while True:
                job = await self.queue.get()
                self.waiting.remove(job)
                if job in self.cancelled:
                    self.cancelled.remove(job)
                    self.emit(JobFailed(job, "cancelled"))
                    continue
                self.current = job
                event = await self._do(job)
                self.current = None
                self.emit(event)
        finally:
            await self._end()

    async def _do(self, job: Job) -> JobDone | JobFailed:
        try:
            if self._process is not None and self._process.returncode is not None:
                await self._end()  # it died while it had nothing to do
            process = self._process or await self._spawn()
            assert process.stdin is not None
            process.stdin.write(protocol.pack_frame(job))
            await process.stdin.drain()
            async with asyncio.timeout(LIMITS_S.get(type(job))):
                return await self._answer(process, job)
        except TimeoutError:
            process.kill()
            await self._end()
            return JobFailed(job, f"the child hung: no answer in {LIMITS_S[type(job)]:.0f} s")
        except (OSError, asyncio.IncompleteReadError, WireError, msgspec.ValidationError) as error:
            code = await self._end()
            self.log.warning("the child %s died (%s): %s", self.module, code, self._last_line or error)
            return JobFailed(job, f"the child died ({code})")  # may go on the bus: no words of the child's

    async def _answer(self, process: Process, job: Job) -> JobDone | JobFailed:
        """Read frames until the job's end."""
        assert process.stdout is not None
        while True:
            (size,) = protocol.HEADER.unpack(await process.stdout.readexactly(protocol.HEADER.size))
            if size > protocol.MAX_FRAME_BYTES:
                raise OSError(f"a frame of {size} bytes")
            match protocol.unpack_frame(await process.stdout.readexactly(size)):
                case protocol.Progress(activity=activity, fraction=fraction, samples_per_s=rate):
                    self.emit(JobProgress(job, activity, fraction, rate))
                case protocol.Note(component=name, level=level, text=text):
                    getattr(component(name), level)(text)
                case protocol.Done(outcome=outcome):
                    return JobDone(job, outcome)
                case protocol.Failed(why=why):
                    return JobFailed(job, why)

    async def _spawn(self) -> Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", self.module, "--config", str(self.config),
            stdin=PIPE, stdout=PIPE, stderr=PIPE, start_new_session=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        self._process, self._last_line = process, ""
        self._stderr = asyncio.get_running_loop().create_task(self._log_stderr(process))
        return process

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
            await asyncio.wait_for(process.wait(), STOP_S if self.current is None else 0.1)
        except TimeoutError:
            process.kill()
            await process.wait()
        if self._stderr is not None:
            await asyncio.wait({self._stderr}, timeout=LAST_WORDS_S)
            self._stderr.cancel()
        return process.returncode
