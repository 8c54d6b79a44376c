"""One federated run on the demo's cluster, watched over the bus as any operator would."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from rich.console import Console

from pneumod import show
from pneumod.client import Operator, operator
from pneumod.config import CLASSES
from pneumod.demo.cluster import DemoCluster
from pneumod.errors import DataError, PneumodError
from pneumod.messages import Best, RoundClosed
from pneumod.view import ClusterView

READY_S = 120.0  # all daemons are up and have prepared their images by then
RESTART_S = 2.0  # a killed daemon comes back, as under systemd


@dataclass
class Traffic:
    """What one node counted, summed over its lives."""

    lives: dict[int, tuple[int, int, int]] = field(default_factory=dict)  # boot -> sent, received bytes, trained ms

    @property
    def sent_bytes(self) -> int:
        return sum(sent for sent, _, _ in self.lives.values())

    @property
    def received_bytes(self) -> int:
        return sum(received for _, received, _ in self.lives.values())

    @property
    def trained_s(self) -> float:
        return sum(trained for _, _, trained in self.lives.values()) / 1000


@dataclass
class Federation:
    """What a run came to."""

    run: str
    rounds: list[RoundClosed]
    traffic: dict[int, Traffic]
    ready_s: float  # from the start of the daemons until all had prepared their images
    run_s: float
    killed: int | None  # the master that was killed in the middle of a round

    @property
    def last(self) -> RoundClosed:
        return self.rounds[-1]

    @property
    def best(self) -> Best:
        best = self.last.best
        assert best is not None, "a run without a best model is no Federation"
        return best

    @property
    def training_s(self) -> float:
        """The slowest node's training, summed over the rounds: what a perfect system would need."""
        return sum(c.summary.slowest_train_ms for c in self.rounds if c.summary) / 1000


def federate(cluster: DemoCluster, kill_master: bool, console: Console) -> Federation:
    """Start a run on all nodes and follow it to its end.

    Raises:
        DataError: a node's validation images have one class only.
        PneumodError: the nodes didn't come up, a daemon ended by itself, or the run brought no model.
    """
    return asyncio.run(_federate(cluster, kill_master, console))


async def _federate(cluster: DemoCluster, kill_master: bool, console: Console) -> Federation:
    started_s = time.monotonic()
    node = cluster.config(cluster.sites[0].node)
    async with operator(node, "run", "demo") as me:
        traffic = {site.node: Traffic() for site in cluster.sites}
        async with me.following(lambda: _count(me.view, traffic)):
            with show.live(console, me.view):
                return await _run(cluster, me, kill_master, traffic, started_s)


async def _run(
    cluster: DemoCluster, me: Operator, kill_master: bool, traffic: dict[int, Traffic], started_s: float
) -> Federation:
    nodes = {site.node for site in cluster.sites}
    await _until(cluster, me, lambda view: _ready(view, nodes), READY_S)
    ready_s = time.monotonic() - started_s
    _check_validation(me.view, nodes)
    run = await me.request_run(cluster.settings)
    asked_s = time.monotonic()
    killed = await _kill_in_a_round(cluster, me) if kill_master else None
    await _until(cluster, me, lambda view: view.end_of(run) is not None, float("inf"))
    run_s = time.monotonic() - asked_s
    last = me.view.closed
    if last is None or last.best is None:
        raise PneumodError(f"the run ended without a model: {me.view.end_of(run)}")
    # All nodes have exported the best model before the daemons are stopped.
    await _until(cluster, me, lambda view: _idle(view, nodes, last), READY_S)
    return Federation(run, list(me.view.rounds.values()), traffic, ready_s, run_s, killed)


async def _kill_in_a_round(cluster: DemoCluster, me: Operator) -> int | None:
    """SIGKILL the master when some, not all, updates of a round are in; start it again. None: the run ended first."""

    def halfway(view: ClusterView) -> bool:
        beacon, closed = view.beacon, view.closed
        over = closed is not None and closed.ended is not None
        return over or (beacon is not None and beacon.phase == "collecting" and 0 < beacon.accepted < beacon.expected)

    await _until(cluster, me, halfway, float("inf"))
    master = me.view.master(time.monotonic())
    if master is None or (me.view.closed is not None and me.view.closed.ended is not None):
        return None
    cluster.kill(master)
    await asyncio.sleep(RESTART_S)
    cluster.start(master)
    return master


async def _until(cluster: DemoCluster, me: Operator, condition: Callable[[ClusterView], bool], limit_s: float) -> None:
    end_s = time.monotonic() + limit_s
    while not await me.until(condition, min(1.0, max(0.0, end_s - time.monotonic()))):
        cluster.check()
        if me.lost is not None:
            raise PneumodError(me.lost.why)
        if time.monotonic() >= end_s:
            raise PneumodError(f"the nodes are not ready after {limit_s:.0f} s; their logs are in {cluster.folder}")


def _ready(view: ClusterView, nodes: set[int]) -> bool:
    """Everyone is there with its images counted, and somebody leads."""
    prepared = {n.id for n in view.nodes.values() if n.card is not None and n.card.counts is not None and not n.gone}
    master = view.master(time.monotonic())
    return nodes <= prepared and master == min(nodes)


def _check_validation(view: ClusterView, nodes: set[int]) -> None:
    """
    Raises:
        DataError: a node has no AUC to compare by, as its validation images have one class only.
    """
    for node in sorted(nodes):
        card = view.nodes[node].card
        assert card is not None and card.counts is not None
        for name, images in zip(CLASSES, (card.counts.val_normal, card.counts.val_pneumonia), strict=True):
            if images == 0:
                raise DataError(
                    f"node {node} ({card.name}): no validation image of {name}; "
                    f"give it a val/ folder with both classes, or images of two patients or more of {name}"
                )


def _idle(view: ClusterView, nodes: set[int], last: RoundClosed) -> bool:
    """Everyone knows that the run is over, holds its last model and has nothing left to do."""
    beats = [view.nodes[n].beat for n in nodes if n in view.nodes]
    return len(beats) == len(nodes) and all(
        b is not None and (b.activity, b.round, b.model) == ("idle", last.round, last.model.digest) for b in beats
    )


def _count(view: ClusterView, traffic: dict[int, Traffic]) -> None:
    for node, counted in traffic.items():
        beat = view.nodes[node].beat if node in view.nodes else None
        if beat is not None:
            counted.lives[beat.boot] = (beat.sent_bytes, beat.received_bytes, beat.trained_ms)
