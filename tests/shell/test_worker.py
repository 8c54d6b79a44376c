"""Jobs in a real child process: each ends as exactly one event, whatever becomes of the child."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pneumod.children import protocol
from pneumod.core.events import JobDone, JobFailed, JobProgress
from pneumod.core.jobs import Prepare
from tests.shell import child
from tests.shell.bench import DO, ROOT, TRAIN, Bench, gone, pid_of
from tests.shell.parts import running


async def test_jobs_end_in_their_order_each_once_in_one_child(bench: Bench) -> None:
    jobs = [Prepare(child.SLOW), DO, Prepare(child.MISTAKE), DO]
    bench.submit(*jobs)
    ends = await bench.ends(4)
    assert [event.job for event in ends] == jobs
    assert [type(event) for event in ends] == [JobDone, JobDone, JobFailed, JobDone]
    assert {line.split()[0] for line in bench.begun()} == {str(pid_of(ends[0]))}
    assert len(bench.events.of(JobDone)) + len(bench.events.of(JobFailed)) == 4


async def test_no_child_is_started_before_it_is_needed(bench: Bench) -> None:
    await asyncio.sleep(0)
    assert not bench.log.exists()
    assert bench.worker._process is None


async def test_a_mistake_is_a_failure_with_its_reason_and_the_child_lives_on(bench: Bench) -> None:
    bench.submit(DO, Prepare(child.MISTAKE), DO)
    first, mistake, last = await bench.ends(3)
    assert mistake == JobFailed(Prepare(child.MISTAKE), "no image in there")
    assert pid_of(first) == pid_of(last)


async def test_a_fault_that_nobody_foresaw_fails_its_job_in_one_line_and_the_next_gets_a_new_child(
    bench: Bench,
) -> None:
    bench.submit(DO, Prepare(child.BUG), DO)
    first, bug, last = await bench.ends(3)
    assert bug == JobFailed(Prepare(child.BUG), "a fault of the child (ZeroDivisionError)"), "no library's words"
    assert pid_of(first) != pid_of(last)


async def test_progress_and_notes_arrive_before_the_end(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.submit(DO)
    await bench.ends(1)
    assert bench.events.seen[0] == JobProgress(DO, "preparing", 0.25, 7.5)
    assert [type(event) for event in bench.events.seen] == [JobProgress, JobDone]
    notes = [r for r in caplog.records if r.getMessage() == "one was set aside"]
    assert [(r.name, r.levelname) for r in notes] == [("pneumod.preprocess", "WARNING")]


async def test_a_child_that_dies_fails_its_job_and_the_next_gets_a_new_one(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.submit(DO, Prepare(child.DIE), DO)
    before, died, after = await bench.ends(3)
    assert died == JobFailed(Prepare(child.DIE), "the child died (-9)", again=True), "a reason may go on the bus"
    assert any("the last words" in record.getMessage() for record in caplog.records), "the node's log says more"
    assert pid_of(before) != pid_of(after)


async def test_a_child_that_died_while_idle_costs_no_job(bench: Bench) -> None:
    bench.submit(DO)
    (first,) = await bench.ends(1)
    process = bench.worker._process
    assert process is not None
    process.kill()
    await process.wait()
    bench.submit(DO)
    _, second = await bench.ends(2)
    assert pid_of(second) != pid_of(first)


async def test_a_child_that_cannot_start_says_why(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(tmp_path / "jobs", "pneumod.no_such_child")
    async with running(asyncio.create_task(bench.worker.run())):
        bench.submit(DO)
        (failed,) = await bench.ends(1)
    assert failed == JobFailed(DO, "the child died (1)", again=True)
    assert any("No module named pneumod.no_such_child" in record.getMessage() for record in caplog.records)


async def test_a_frame_that_is_none_fails_the_job_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "babbler.py").write_text("import os; os.write(1, b'\\x05\\0\\0\\0hello'); input()")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    bench = Bench(tmp_path / "jobs", "babbler")
    async with running(asyncio.create_task(bench.worker.run())):
        bench.submit(DO, DO)
        ends = await bench.ends(2)
    assert [type(event) for event in ends] == [JobFailed, JobFailed]


async def test_the_daemon_goes_before_its_children(bench: Bench) -> None:
    bench.submit(DO)
    (done,) = await bench.ends(1)
    mine, childs = (os.getpriority(os.PRIO_PROCESS, pid) for pid in (0, pid_of(done)))
    assert childs == min(19, mine + protocol.NICENESS)


async def test_what_a_library_prints_does_not_harm_the_frames(bench: Bench) -> None:
    bench.submit(Prepare(child.NOISE), DO)
    ends = await bench.ends(2)
    assert [type(event) for event in ends] == [JobDone, JobDone]
    assert pid_of(ends[0]) == pid_of(ends[1])


async def test_the_child_ends_with_the_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    bench = Bench(tmp_path / "jobs")
    async with running(asyncio.create_task(bench.worker.run())):
        bench.submit(DO)
        (done,) = await bench.ends(1)
        ended = gone(pid_of(done))
    assert ended()


PARENT = """
import asyncio, sys
from pathlib import Path
from pneumod.shell.worker import QUIET_S, Worker
from tests.examples import OPENED
from pneumod.core.jobs import Train

async def main():
    worker = Worker("tests.shell.child", Path(sys.argv[1]), "train", lambda event: print(event, flush=True))
    worker.submit(Train(OPENED))
    await worker.run()

asyncio.run(main())
"""


def test_the_child_dies_with_a_daemon_that_is_killed_even_in_the_middle_of_a_job(tmp_path: Path) -> None:
    jobs = tmp_path / "jobs"
    command = [sys.executable, "-c", PARENT, str(jobs)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline().startswith("JobProgress")
        pid = int(jobs.read_text().split()[0])
        ended = gone(pid)
        parent.kill()
        assert parent.wait() == -signal.SIGKILL
    try:
        assert ended()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("value", [protocol.Progress("idle", 0.5), protocol.Note("train", "info", "é")])
def test_a_frame_is_its_length_and_its_body(value: protocol.Frame) -> None:
    packed = protocol.pack_frame(value)
    (size,) = protocol.HEADER.unpack(packed[:4])
    assert size == len(packed) - 4
    assert protocol.unpack_frame(packed[4:]) == value


def test_a_job_keeps_its_type_on_the_way() -> None:
    for job in (DO, TRAIN):
        assert protocol.unpack_job(protocol.pack_frame(job)[protocol.HEADER.size :]) == job
