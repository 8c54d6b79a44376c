"""How jobs end in the daemon, and how it ends itself, whatever the disk does meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from pneumod.broker.embedded import free_port
from pneumod.config import NodeConfig
from pneumod.core import events as ev
from pneumod.core.actions import Action, Durable, Persist, Publish
from pneumod.core.jobs import Check, Checked, Fetch, Fetched
from pneumod.demo.cluster import Broker
from pneumod.errors import PneumodError
from pneumod.messages import NO_TERM, BlobRef, Term
from pneumod.shell.daemon import Daemon
from tests.examples import OPENED
from tests.integration.test_demo import processes_that_name
from tests.shell.bench import ROOT
from tests.shell.parts import LIMIT_S, Events, node_config, running
from tests.shell.test_daemon import STOP_S, images, line_with, written

__all__ = ["images"]

FETCH = Fetch(BlobRef("a" * 64, 400_000), (2,), False)
OTHER = Check(2, BlobRef("b" * 64, 10), 1, OPENED)


class Bench:
    """A daemon whose core only notes what it is fed, and whose writer thread can be held up."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.daemon = Daemon(node_config(folder, 3, free_port()))
        self.fed = Events()
        self.answer: list[Action] = []
        monkeypatch.setattr(self.daemon.node, "step", self._step)

    def _step(self, event: ev.Event, now_ms: int) -> list[Action]:
        self.fed.emit(event)
        return self.answer

    @contextlib.contextmanager
    def slow_disk(self) -> Iterator[None]:
        released = threading.Event()
        self.daemon.store.later(released.wait)
        try:
            yield
        finally:
            released.set()  # the writer thread would keep the process alive


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path, monkeypatch)
    yield bench
    bench.daemon.store.close()
    if bench.daemon._timer is not None:
        bench.daemon._timer.cancel()


def job_ends(bench: Bench) -> list[ev.Event]:
    return [event for event in bench.fed.seen if isinstance(event, ev.BlobsFound | ev.JobDone | ev.JobFailed)]


async def test_no_end_of_a_job_overtakes_another(bench: Bench) -> None:
    """The core would take the end of a fetch for that of an equal one which it cancelled before."""
    failed, done = ev.JobFailed(FETCH, "nobody sent it"), ev.JobDone(FETCH, Fetched())
    with bench.slow_disk():
        for end in (failed, done):
            bench.daemon.jobs.tell(end)
        async with running(asyncio.create_task(bench.daemon.jobs.tell_ends())):
            await asyncio.sleep(0.05)
            assert job_ends(bench) == [], "what is left on the disk is looked at first"
            bench.daemon.jobs.tell(ev.JobProgress(OTHER, "aggregating", 0.5, 0.0))
            assert len(bench.fed.of(ev.JobProgress)) == 1, "progress waits for no disk"


async def test_what_is_left_is_told_before_a_failure_and_not_after_a_later_end(bench: Bench) -> None:
    failed, done = ev.JobFailed(FETCH, "nobody sent it"), ev.JobDone(OTHER, Checked())
    model = bench.daemon.store.blobs.write(b"a model").digest
    async with running(asyncio.create_task(bench.daemon.jobs.tell_ends())):
        for end in (failed, done):
            bench.daemon.jobs.tell(end)
        await bench.fed.until(ev.JobDone)
        assert job_ends(bench) == [ev.BlobsFound(frozenset({model})), failed, done]


async def test_a_cancelled_job_waits_for_no_disk(bench: Bench) -> None:
    cancelled = ev.JobFailed(FETCH, "cancelled")
    bench.daemon.node.state.cancelled.append(FETCH)
    with bench.slow_disk():
        async with running(asyncio.create_task(bench.daemon.jobs.tell_ends())):
            bench.daemon.jobs.tell(cancelled)
            await bench.fed.until(ev.JobFailed)
    assert job_ends(bench) == [cancelled]


async def test_a_damaged_blob_is_told(bench: Bench) -> None:
    async with running(asyncio.create_task(bench.daemon.jobs.tell_ends())):
        bench.daemon.jobs.transfers.damaged()
        assert await bench.fed.until(ev.BlobsFound) == [ev.BlobsFound(frozenset())]


async def test_a_failed_job_on_a_disk_without_room_ends_the_daemon(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pneumod.shell.store.LEAST_FREE_BYTES", 2**60)
    bench.daemon.jobs.tell(ev.JobFailed(FETCH, "the disk refused it"))
    with pytest.raises(PneumodError, match="MiB of the disk are free, and a node needs"):
        await asyncio.wait_for(bench.daemon.jobs.tell_ends(), LIMIT_S)
    assert job_ends(bench) == []


async def test_a_master_whose_disk_is_slow_clears_its_beacon_before_the_write_ends(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[tuple[str, object]] = []
    monkeypatch.setattr("pneumod.shell.daemon.DISK_SLOW_S", 0.05)
    monkeypatch.setattr(bench.daemon.link, "send", lambda kind, term, message, *_: sent.append((kind, message)))
    bench.answer = [Publish("beacon", NO_TERM, None), Publish("closed", NO_TERM, None)]
    with bench.slow_disk():
        bench.daemon._actions.put_nowait(Persist(Durable(Term(4, -3, 1))))
        async with running(asyncio.create_task(bench.daemon._act())):
            await bench.fed.until(ev.DiskSlow)
            assert sent == [("beacon", None)], "all else waits for the write"
    bench.answer = []


async def test_a_daemon_that_ends_with_an_error_during_a_fetch_leaves_no_traceback(tmp_path: Path) -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
    daemon = Daemon(node_config(tmp_path, 3, free_port()))
    ending = asyncio.create_task(daemon.run())
    await asyncio.sleep(0.1)
    daemon.jobs.transfers.fetch(FETCH)
    await asyncio.sleep(0.1)
    daemon._halted.set_exception(PneumodError("the disk is full"))
    with pytest.raises(PneumodError, match="the disk is full"):
        await asyncio.wait_for(ending, LIMIT_S)
    await asyncio.sleep(0.1)
    gc.collect()
    assert complaints == []
    assert list(daemon.store.blobs.folder.iterdir()) == [], "nothing half-fetched stays"


HUNG = """
import sys, threading
from pathlib import Path
from pneumod import config, logs
from pneumod.shell.daemon import run_daemon
from pneumod.shell.store import Store

write, count = Store._write, 0

def hang(self, durable):
    global count
    count += 1
    if count > 1:
        print("it hangs", file=sys.stderr, flush=True)
        threading.Event().wait()
    write(self, durable)

Store._write = hang
node = config.load(Path(sys.argv[1]), need_data=False)
logs.setup(node.state_dir, node.log)
with logs.in_background():
    run_daemon(node)
"""


@contextlib.contextmanager
def hung_process(config: NodeConfig) -> Iterator[subprocess.Popen[str]]:
    """A daemon whose disk takes no second write."""
    command = [sys.executable, "-c", HUNG, str(config.path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("name", [signal.SIGTERM, signal.SIGINT])
async def test_a_stop_keeps_its_limit_where_the_disk_hangs(
    tmp_path: Path, images: Path, broker: Broker, name: signal.Signals
) -> None:
    config = written(tmp_path, images, broker.port, cluster=f"hung-{name}")
    with hung_process(config) as process:
        await line_with(process, "it hangs")  # the term that it would lead under
        process.send_signal(name)
        started_s = time.monotonic()
        await asyncio.to_thread(process.wait, 3 * STOP_S)
        assert time.monotonic() - started_s < STOP_S
    assert processes_that_name(str(config.path)) == []
