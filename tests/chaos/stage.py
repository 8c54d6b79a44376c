"""Where a scenario plays: a cluster, what is heard of it, one run after the other, and the verdict."""

from __future__ import annotations

import asyncio
import os
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from signal import SIGCONT, SIGSTOP

import msgspec

from pneumod.client import operator
from pneumod.messages import RoundOpen
from tests.chaos.cluster import SETTINGS, Cluster
from tests.chaos.verdict import check_run
from tests.chaos.watcher import Watcher

READY_S = 60.0
RUN_S = 120.0
SETTLE_S = 20.0  # after a run: exports, and the last receipts
RESTART_S = 2.0  # a killed daemon comes back, as under systemd
SLICE_S = 0.05  # that a slowed process runs at once


class Stage:
    """What the scenarios do and wait for. `figures`: name -> what was measured."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.watch = Watcher(cluster.config(min(cluster.nodes)))
        self.figures: dict[str, list[float]] = defaultdict(list)
        self.run = ""
        self.rounds = 0

    async def ready(self) -> None:
        """All nodes live and have nothing to do; the lowest leads."""

        def condition() -> bool:
            now_s, nodes = time.monotonic(), self.watch.view.nodes
            live = {
                n for n, v in nodes.items() if v.is_live(now_s) and v.beat is not None and v.beat.activity == "idle"
            }
            return self.cluster.nodes <= live and self.watch.master == min(self.cluster.nodes)

        await self.until(condition, READY_S, "all nodes up, and the lowest leads")

    async def begin(self, rounds: int = SETTINGS.rounds, **settings: int) -> None:
        """Start a run on a cluster that is ready."""
        await self.ready()
        self.rounds = rounds
        async with operator(self.watch.config, "run", "chaos") as me, me.following():
            self.run = await me.request_run(msgspec.structs.replace(SETTINGS, rounds=rounds, **settings))

    async def until(self, condition: Callable[[], object], limit_s: float = RUN_S, what: str = "the condition") -> None:
        await self.watch.until(condition, limit_s, what)

    async def opened(self, number: int) -> RoundOpen:
        """The first RoundOpen of a round of the run, as soon as it is heard."""

        def heard() -> list[RoundOpen]:
            return [one for _, one in self.watch.opened if (one.run, one.round) == (self.run, number)]

        await self.until(heard, what=f"round {number} opens")
        return heard()[0]

    async def opened_after(self, since_s: float) -> float:
        """When the first RoundOpen after `since_s` is heard."""

        def heard() -> list[float]:
            return [at_s for at_s, one in self.watch.opened if at_s > since_s and one.run == self.run]

        await self.until(heard, what="a round opens")
        return heard()[0]

    async def closed(self, number: int) -> None:
        await self.until(lambda: (self.run, number) in self.watch.closed_at_s, what=f"round {number} closes")

    async def collecting(self, number: int, least: int = 1) -> None:
        """Some, not all, updates of a round are in."""

        def condition() -> bool:
            beacon = self.watch.view.beacon
            return (
                beacon is not None
                and (beacon.run, beacon.round, beacon.phase) == (self.run, number, "collecting")
                and least <= beacon.accepted < beacon.expected
            )

        await self.until(condition, what=f"{least} updates of round {number} are in, not all")

    async def activity(self, node: int, name: str, least: float = 0.0) -> None:
        """A node says that it does this, and has done this share of it."""

        def condition() -> bool:
            beat = self.watch.view.nodes[node].beat
            return beat is not None and beat.activity == name and beat.progress >= least

        await self.until(condition, what=f"node {node} is {name}")

    async def until_disk(self, condition: Callable[[], object], limit_s: float, what: str) -> None:
        """Wait for something that only a disk or a process table tells, so closely that a kill hits the moment."""
        end_s = time.monotonic() + limit_s
        while not condition():
            assert time.monotonic() < end_s, f"not within {limit_s:.0f} s: {what}"
            await asyncio.sleep(0.005)

    async def restart(self, node: int, after_s: float = RESTART_S) -> None:
        await asyncio.sleep(after_s)
        self.cluster.start(node)

    async def next_beacon(self, since_s: float, limit_s: float, what: str) -> float:
        """Seconds from `since_s` to the first beacon of a term that began after it; noted as a figure."""

        def fresh() -> list[float]:
            return [at_s for at_s in self.watch.beacon_at_s.values() if at_s > since_s]

        await self.until(fresh, RUN_S, what)
        took_s = min(fresh()) - since_s
        self.figures[f"{what}, s"].append(took_s)
        assert took_s < limit_s, f"{what} after {took_s:.2f} s"
        return took_s

    @asynccontextmanager
    async def slowed(self, pids: Callable[[], Iterable[int]], share: float = 0.05) -> AsyncIterator[None]:
        """Let processes run only a share of the time, by SIGSTOP and SIGCONT."""

        async def beat() -> None:
            while True:
                _signal(pids(), SIGSTOP)
                await asyncio.sleep(SLICE_S * (1 / share - 1))
                _signal(pids(), SIGCONT)
                await asyncio.sleep(SLICE_S)

        task = asyncio.create_task(beat())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})
            _signal(pids(), SIGCONT)

    async def over(self, limit_s: float = RUN_S) -> None:
        """The run has ended."""

        def condition() -> bool:
            closed = self.watch.view.closed
            return closed is not None and closed.run == self.run and closed.ended is not None

        await self.until(condition, limit_s, f"the run {self.run} ends")

    async def end(self, ended: str = "", absent: Iterable[int] = (), limit_s: float = RUN_S) -> None:
        """Wait for the run's end, and judge it."""
        await self.over(limit_s)
        await self.until(self._settled, SETTLE_S, "every node holds the last model and rests")
        end_s = time.monotonic() + SETTLE_S
        while True:
            try:
                text = ended or f"all {self.rounds} rounds done"
                tally = check_run(self.cluster, self.run, self.rounds, text, frozenset(absent))
                break
            except AssertionError:
                if time.monotonic() >= end_s:
                    raise
                await asyncio.sleep(1)  # the last writes are under way
        self.figures["updates"].append(tally.updates)
        self.figures["updates lost"].append(len(tally.lost))
        self.figures["trained twice"].append(len(tally.twice))
        assert not tally.lost, f"updates that no receipt counts, as (node, round): {tally.lost}"
        assert not tally.twice, f"trained again, as (node, round): {tally.twice}"

    def _settled(self) -> bool:
        closed, nodes, now_s = self.watch.view.closed, self.watch.view.nodes, time.monotonic()
        if closed is None or not all(n in nodes and nodes[n].is_live(now_s) for n in self.cluster.nodes):
            return False
        beats = [nodes[n].beat for n in sorted(self.cluster.nodes)]
        return all(b is not None and (b.activity, b.model) == ("idle", closed.model.digest) for b in beats)


def _signal(pids: Iterable[int], number: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
