"""The master is killed or frozen, at every step of a round."""

from __future__ import annotations

import asyncio
import time
from signal import SIGCONT, SIGSTOP

from tests.chaos.scenario import scenario
from tests.chaos.stage import Stage

NEXT_S = 1.0  # a killed master's next beacon
FROZEN_NEXT_S = 8.0
KILLED = "master killed: next beacon"
FROZEN = "master frozen: next beacon"


async def kill_and_restart(stage: Stage) -> int:
    """SIGKILL the master now; the next leads within a second. It comes back as under systemd."""
    master = stage.watch.master
    assert master is not None
    killed_s = time.monotonic()
    stage.cluster.kill(master)
    await stage.next_beacon(killed_s, NEXT_S, KILLED)
    await stage.restart(master)
    return master


def went_through_two_masters(stage: Stage, number: int) -> None:
    """What the receipt says of the round."""
    summary = stage.watch.view.rounds[number].summary
    assert summary is not None
    assert summary.takeovers, f"round {number} was not taken over"


@scenario()
async def kill_master_preparing(stage: Stage) -> None:
    """The master dies while it makes the first model of a run."""
    await stage.begin()
    await kill_and_restart(stage)
    await stage.end()


@scenario()
async def kill_master_opening(stage: Stage) -> None:
    """The master dies the moment its RoundOpen is heard, before anyone answered."""
    await stage.begin()
    await stage.opened(1)
    await kill_and_restart(stage)
    await stage.end()


@scenario(short=True)
async def kill_master_collecting(stage: Stage) -> None:
    """The master dies when some, not all, updates of a round are in."""
    await stage.begin()
    await stage.collecting(2)
    await kill_and_restart(stage)
    await stage.end()
    went_through_two_masters(stage, 2)


@scenario()
async def kill_master_checking(stage: Stage) -> None:
    """The master dies while its child checks an update. The child is stopped, so that the moment is hit."""
    await stage.begin()
    await stage.opened(2)
    master = stage.watch.master
    assert master is not None

    def light() -> list[int]:
        pid = stage.cluster.child(master, "light")
        return [] if pid is None else [pid]

    async with stage.slowed(light, share=0.01):
        await stage.activity(master, "aggregating")
        await kill_and_restart(stage)
    await stage.end()


@scenario(short=True)
async def kill_master_aggregating(stage: Stage) -> None:
    """The master dies while its child folds the updates. The child is slowed, so that the moment is hit."""
    await stage.begin()
    await stage.collecting(2, least=2)
    master = stage.watch.master
    assert master is not None

    def light() -> list[int]:
        pid = stage.cluster.child(master, "light")
        return [] if pid is None else [pid]

    def closing() -> bool:
        beacon = stage.watch.view.beacon
        return beacon is not None and (beacon.phase, beacon.run) == ("closing", stage.run)

    async with stage.slowed(light):
        await stage.until(closing, what="the master folds the updates")
        assert (stage.run, 2) not in stage.watch.closed_at_s, "the moment was missed"
        await kill_and_restart(stage)
    await stage.end()
    went_through_two_masters(stage, 2)


@scenario(short=True)
async def kill_master_closing(stage: Stage) -> None:
    """The master dies the moment its RoundClosed is heard: the heirs still fetch the new model."""
    await stage.begin()
    await stage.closed(1)
    await kill_and_restart(stage)
    await stage.end()


async def freeze(stage: Stage, least_s: float = 0.0) -> int:
    """SIGSTOP the master until another leads, at least for so long; on waking it must not lead on."""
    master = stage.watch.master
    assert master is not None
    frozen_s, said = time.monotonic(), len(stage.cluster.log(master))
    stage.cluster.send(master, SIGSTOP)
    try:
        await stage.next_beacon(frozen_s, FROZEN_NEXT_S, FROZEN)
        heir = stage.watch.view.term
        await asyncio.sleep(max(0.0, frozen_s + least_s - time.monotonic()))
    finally:
        stage.cluster.send(master, SIGCONT)
    await stage.until(lambda: "steps down" in stage.cluster.log(master)[said:], 5, "the woken master steps down")
    late = [term for term in stage.watch.beacon_at_s if term.node == master and term < heir]
    before = {term for term, at_s in stage.watch.beacon_at_s.items() if at_s < frozen_s}
    assert set(late) <= before, "the woken master still led under its old term"
    return master


@scenario(short=True)
async def freeze_master(stage: Stage) -> None:
    """The master is stopped until another leads; on waking it steps down without harm."""
    await stage.begin()
    await stage.collecting(1)
    await freeze(stage)
    await stage.end()
    went_through_two_masters(stage, 1)


@scenario()
async def freeze_master_long(stage: Stage) -> None:
    """The master is stopped for half a minute: the broker has given up its connections when it wakes."""
    await stage.begin()
    await stage.opened(2)
    await freeze(stage, least_s=30)
    await stage.end()
