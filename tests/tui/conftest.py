"""A broker, a node that beats, and the dashboard that watches both."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from textual.pilot import Pilot

from pneumod.broker.embedded import HOST, EmbeddedBroker
from pneumod.bus import Connection
from pneumod.config import BrokerConfig, NodeConfig, load
from pneumod.messages import Beacon, Beat, Card, ClassCounts, Gone, Term
from tests.learning.conftest import brightness_model  # noqa: F401 (a fixture)

CLUSTER = "ward"
BEAT_S = 0.2


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as broker:
        yield broker


@pytest.fixture
def config(broker: EmbeddedBroker, tmp_path: Path) -> NodeConfig:
    path = tmp_path / "node.yaml"
    path.write_text(
        f"cluster: {CLUSTER}\n"
        "node: {id: 1, name: north, site: s1}\n"
        f"brokers: [{{host: {HOST}, port: {broker.port}}}]\n"
        "state_dir: state\n"
        "data: {train: images}\n"
    )
    return load(path, need_data=False)


class Actor:
    """Speaks as one node; beats until it is left."""

    def __init__(self, port: int, node: int, name: str) -> None:
        self.node = node
        self.term = Term(3, -node, 1)
        self.name = name
        self.connection = Connection(BrokerConfig(HOST, port), CLUSTER, str(node), "control")

    async def say_card(self) -> None:
        card = Card(self.name, "0.1.0", 2, ClassCounts(train_normal=60, train_pneumonia=36))
        await self.connection.publish("card", self.term, card)

    async def lead(self, beacon: Beacon) -> None:
        while True:
            await self.connection.publish("beacon", self.term, beacon)
            await asyncio.sleep(BEAT_S)

    async def beat(self) -> None:
        model = "b" * 64
        beat = Beat(1, 1, "training", 0.5, 2, model, None, self.term, samples_per_s=87.0)
        while True:
            await self.connection.publish("beat", self.term, beat)
            await asyncio.sleep(BEAT_S)

    async def say_gone(self) -> None:
        await self.connection.publish("gone", self.term, Gone(1, 1, "stopped"))


@contextlib.asynccontextmanager
async def acting(port: int, node: int, name: str, beacon: Beacon | None = None) -> AsyncIterator[Actor]:
    """A node that is there until the block ends, and leads where it is given a beacon."""
    actor = Actor(port, node, name)
    async with actor.connection:
        await actor.say_card()
        tasks = [asyncio.create_task(actor.beat())]
        if beacon is not None:
            tasks.append(asyncio.create_task(actor.lead(beacon)))
        try:
            yield actor
        finally:
            for task in tasks:
                task.cancel()


async def until(pilot: Pilot[None], condition: Callable[[], bool], limit_s: float = 15.0) -> None:
    """Let the app run until `condition` holds."""
    async with asyncio.timeout(limit_s):
        while not condition():
            await pilot.pause(0.02)
