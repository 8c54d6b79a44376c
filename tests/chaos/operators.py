"""Operators: a run that nobody follows, one that is followed from elsewhere, one that is stopped."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE, Process

from tests.chaos.scenario import scenario
from tests.chaos.stage import Stage

ANSWER_S = 60.0
LEAST_ROUNDS = 1  # that are closed before somebody stops the run


async def train(stage: Stage, node: int, *options: str) -> Process:
    """`pneumod train` on a node's machine."""
    words = ["-m", "pneumod", "train", "--config", str(stage.cluster.config_path(node)), *options]
    return await asyncio.create_subprocess_exec(sys.executable, *words, stdout=PIPE, stderr=PIPE)


async def answer(process: Process, limit_s: float = ANSWER_S) -> str:
    """What a command printed; it must end well."""
    printed, errors = await asyncio.wait_for(process.communicate(), limit_s)
    assert process.returncode == 0, errors.decode()
    return printed.decode()


@scenario()
async def detach_and_follow(stage: Stage) -> None:
    """A run is started and left; another machine follows it, across a takeover, to its end."""
    await stage.ready()
    stage.rounds = 2
    stage.run = (await answer(await train(stage, 2, "--detach", "--rounds", "2"))).strip()
    await stage.opened(1)
    following = await train(stage, 3, "--follow", stage.run)
    try:
        await stage.collecting(2)
        master = stage.watch.master
        assert master is not None
        stage.cluster.kill(master)
        await stage.restart(master)
        await stage.end()
        told = await answer(following)
    finally:
        if following.returncode is None:
            following.kill()
    assert f"{stage.run} has ended: all 2 rounds done" in told
    assert "takeover" in told or "leads" in told, f"the takeover is not told:\n{told}"


@scenario()
async def stop_run(stage: Stage) -> None:
    """A run is stopped from another machine, while it is followed: the nodes keep its last model, and rest."""
    await stage.begin(rounds=50)
    following = await train(stage, 3, "--follow")
    try:
        await stage.closed(LEAST_ROUNDS)
        await stage.opened(LEAST_ROUNDS + 1)
        told = await answer(await train(stage, 2, "--stop"))
        assert f"{stage.run} has ended" in told
        closed = stage.watch.view.closed
        assert closed is not None
        stage.rounds = closed.round
        await stage.end(ended="stopped")
        assert "has ended" in await answer(following)
    finally:
        if following.returncode is None:
            following.kill()
    await stage.begin(rounds=1)  # and the next run may start
    await stage.end()
