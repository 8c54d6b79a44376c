"""Figures of many takeovers in one long run: in every third round something happens to the master."""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from statistics import median

from tests.chaos.masters import freeze, kill_and_restart
from tests.chaos.scenario import scenario
from tests.chaos.stage import Stage

WARM_ROUNDS = 2  # the children start, and build the network
TIMES = 20
CYCLE = ("quiet", "hurt", "handed back")  # the lowest id leads again from the round after
LATEST = 0.9  # of a quiet round's duration: until then the moment is drawn


@scenario()
async def figures_killed(stage: Stage) -> None:
    """20 takeovers in one run: in every third round the master is killed at a drawn moment, and comes back."""
    await _hurt_every_third_round(stage, kill_and_restart, "killed")


@scenario()
async def figures_frozen(stage: Stage) -> None:
    """20 takeovers in one run: in every third round the master is stopped at a drawn moment until another leads."""
    await _hurt_every_third_round(stage, freeze, "frozen")


async def _hurt_every_third_round(stage: Stage, hurt: Callable[[Stage], Awaitable[int]], how: str) -> None:
    draw = random.Random(how)
    took_s: dict[str, list[float]] = defaultdict(list)
    await stage.begin(rounds=WARM_ROUNDS + TIMES * len(CYCLE))
    await stage.closed(WARM_ROUNDS)
    for number in range(WARM_ROUNDS + 1, stage.rounds + 1):
        kind = CYCLE[(number - WARM_ROUNDS - 1) % len(CYCLE)]
        await stage.opened(number)
        if kind == "hurt":
            await asyncio.sleep(draw.uniform(0.0, LATEST) * median(took_s["quiet"]))
            hurt_s = time.monotonic()
            await hurt(stage)
            opened_s = await stage.opened_after(hurt_s)
            stage.figures[f"master {how}: round open again, s"].append(opened_s - hurt_s)
        await stage.closed(number)
        took_s[kind].append(stage.watch.closed_at_s[stage.run, number] - stage.watch.closed_at_s[stage.run, number - 1])
    await stage.end()
    usual_s = median(took_s["quiet"])
    stage.figures[f"master {how}: a quiet round of that run, s"] += took_s["quiet"]
    stage.figures[f"master {how}: the round loses, s"] += [s - usual_s for s in took_s["hurt"]]
    back_s = [s - usual_s for s in took_s["handed back"]]
    stage.figures[f"master {how}: the next round loses, as the lowest id leads again, s"] += back_s
