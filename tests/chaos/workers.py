"""A worker or its training child is killed, hangs, is short of memory, slow, away, or has another time."""

from __future__ import annotations

import asyncio
import os
import resource
import time
from pathlib import Path
from signal import SIGKILL, SIGSTOP

from tests.chaos.cluster import STOP_S
from tests.chaos.scenario import scenario
from tests.chaos.stage import Stage

WORKER = 3  # the highest id: it leads only when the others are gone
LONG_EPOCHS = 60  # so that a beat tells of a training while it lasts
SLOW_SHARE = 0.05
FLAP_S = 2.5  # up, and as long away: too short to train anything
CLOCK_OFF_S = 2 * 86_400
# Loaded by Python at its start, before the program: the wall clock is two days ahead, monotonic time isn't.
CLOCK = f"""\
import datetime, time

_time, _time_ns, _datetime = time.time, time.time_ns, datetime.datetime
time.time = lambda: _time() + {CLOCK_OFF_S}
time.time_ns = lambda: _time_ns() + {CLOCK_OFF_S} * 10**9


class Shifted(_datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(time.time(), tz)


datetime.datetime = Shifted
"""


async def trainer(stage: Stage, node: int = WORKER) -> int:
    """The process id of a node's training child, as soon as it runs."""
    await stage.until_disk(lambda: stage.cluster.child(node, "trainer"), 30, f"node {node} has a training child")
    pid = stage.cluster.child(node, "trainer")
    assert pid is not None
    return pid


async def trainer_at_work(stage: Stage) -> int:
    """Start a run; the process id of the worker's training child, when it has done a part of its work."""
    await stage.begin(local_epochs=LONG_EPOCHS)
    await stage.opened(1)
    await stage.activity(WORKER, "training", least=0.01)
    return await trainer(stage)


def address_space_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")


@scenario(short=True)
async def kill_worker_training(stage: Stage) -> None:
    """A worker dies in training: it comes back, trains again, and counts."""
    await trainer_at_work(stage)
    stage.cluster.kill(WORKER)
    await stage.restart(WORKER)
    await stage.end()


@scenario()
async def kill_worker_sending(stage: Stage) -> None:
    """A worker dies the moment its result is on its disk: it comes back and sends it, and doesn't train again."""
    await stage.begin()

    def stored() -> bool:
        result = stage.cluster.remembered(WORKER).result
        return result is not None and (result.run, result.round) == (stage.run, 1)

    await stage.opened(1)
    await stage.until_disk(stored, 60, f"node {WORKER} stores its result")
    stage.cluster.kill(WORKER)
    await stage.restart(WORKER)
    await stage.end()


@scenario()
async def kill_worker_storing(stage: Stage) -> None:
    """A worker dies while it fetches and stores the new model."""
    await stage.begin()
    await stage.closed(1)
    stage.cluster.kill(WORKER)
    await stage.restart(WORKER)
    await stage.end()


@scenario()
async def kill_trainer(stage: Stage) -> None:
    """The training child dies: its daemon starts another, and the node counts."""
    os.kill(await trainer_at_work(stage), SIGKILL)
    await stage.end()
    assert "the child pneumod.children.trainer died (-9)" in stage.cluster.log(WORKER)


@scenario()
async def hang_trainer(stage: Stage) -> None:
    """The training child hangs: its daemon notices that nothing moves, starts another, and the node counts."""
    pid = await trainer_at_work(stage)
    os.kill(pid, SIGSTOP)
    await stage.end(limit_s=400)
    assert stage.cluster.child(WORKER, "trainer") != pid, "the hung child still runs"
    assert "hung" in stage.cluster.log(WORKER)


@scenario()
async def trainer_out_of_memory(stage: Stage) -> None:
    """The training child gets no more memory as it builds its network: another one takes its place, and counts."""
    await stage.ready()
    old = stage.cluster.child(WORKER, "trainer")
    if old is not None:
        os.kill(old, SIGKILL)  # the next one has everything still to allocate
    said = len(stage.cluster.log(WORKER))
    await stage.begin()
    await stage.activity(WORKER, "training")
    pid = await trainer(stage)
    used_bytes = address_space_bytes(pid)
    resource.prlimit(pid, resource.RLIMIT_AS, (used_bytes, used_bytes))

    def told() -> bool:
        return "train failed" in stage.cluster.log(WORKER)[said:]

    await stage.until_disk(told, 60, "the training fails")
    await stage.end()
    assert stage.cluster.child(WORKER, "trainer") != pid, "the child without memory still runs"


@scenario()
async def slow_node(stage: Stage) -> None:
    """A node twenty times slower gets the longer deadline, and counts in every round."""
    await stage.begin(rounds=1)  # its trainer is up after that
    await stage.end()
    async with stage.slowed(lambda: stage.cluster.family(WORKER), SLOW_SHARE):
        await stage.begin(rounds=2)
        await stage.over(limit_s=400)
    await stage.end()
    closed = stage.watch.view.rounds[1]
    assert closed.summary is not None
    again = await stage.opened(2)
    assert again.deadline_ms > closed.summary.slowest_train_ms, "the deadline leaves the slow node its time"


@scenario()
async def coming_and_going(stage: Stage) -> None:
    """A node that comes and goes every 5 s doesn't hold up the others for ever; in the end it has the model too."""
    await stage.begin(rounds=3, min_nodes=2)
    await stage.opened(1)

    async def flap() -> None:
        while True:
            stage.cluster.kill(WORKER)
            await asyncio.sleep(FLAP_S)
            stage.cluster.start(WORKER)
            await asyncio.sleep(FLAP_S)

    flapping = asyncio.create_task(flap())
    try:
        await stage.over(limit_s=240)
    finally:
        flapping.cancel()
        await asyncio.wait({flapping})
    if not stage.cluster.is_up(WORKER):
        stage.cluster.start(WORKER)
    await stage.end(absent={WORKER})


@scenario()
async def clock_two_days_off(stage: Stage) -> None:
    """The master's wall clock is two days ahead of the others'."""
    await stage.ready()
    master, before = min(stage.cluster.nodes), os.environ.get("PYTHONPATH")
    folder = stage.cluster.folder / "clock"
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(CLOCK)
    stage.cluster.terminate(master)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), *([before] if before else [])])
    try:
        stage.cluster.start(master)
    finally:
        os.environ.pop("PYTHONPATH")
        if before:
            os.environ["PYTHONPATH"] = before
    said = len(stage.cluster.log(master))
    await stage.begin()
    await stage.end()
    ahead = time.strftime("%Y-%m-%d", time.localtime(time.time() + CLOCK_OFF_S))
    assert ahead in stage.cluster.log(master)[said:], "the clock was not off"
    stage.cluster.terminate(master)
    stage.cluster.start(master)
    await stage.ready()


@scenario(short=True)
async def sigterm_in_training(stage: Stage) -> None:
    """A clean stop in mid-training takes under 5 s and loses nothing: the node rejoins, and counts."""
    await trainer_at_work(stage)
    code, took_s = stage.cluster.terminate(WORKER)
    assert code == 0
    assert took_s < STOP_S, f"a clean stop took {took_s:.1f} s"
    stage.figures["clean stop in training, s"].append(took_s)
    assert stage.cluster.child(WORKER, "trainer") is None, "its child outlives it"
    await stage.restart(WORKER)
    await stage.end()
