"""Several brokers in the config: where the nodes meet when one goes, comes back, or only twitches."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from pneumod.broker.embedded import free_port
from pneumod.bus import Connection
from pneumod.core.events import Connected, Disconnected
from pneumod.demo.cluster import Broker
from pneumod.errors import BusError
from pneumod.messages import NO_TERM, Card
from pneumod.shell import link as link_module
from pneumod.shell.link import Link
from pneumod.work import Done
from tests.shell.movers import MARKER
from tests.shell.parts import LIMIT_S, Events, connection, new_broker, running, serving, wire
from tests.shell.parts import first as hear
from tests.shell.test_link import new_link, off_the_loop, started

NODES = (1, 2, 3)


@pytest.fixture
def brokers(tmp_path: Path) -> Iterator[tuple[Broker, Broker]]:
    """The first and the second of the config, both up."""
    with serving(new_broker(tmp_path / "first")) as first, serving(new_broker(tmp_path / "second")) as second:
        yield first, second


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "GRACE_S", 1.0)
    monkeypatch.setattr(link_module, "PROBE_S", 0.1)
    monkeypatch.setattr(link_module, "STEADY_S", 0.5)


@contextlib.asynccontextmanager
async def cluster(folder: Path, *ports: int) -> AsyncIterator[list[tuple[Link, Events]]]:
    """Three nodes that know these brokers, each connected to one."""
    nodes = [new_link(folder, node, *ports) for node in NODES]
    async with running(*(started(link) for link, _ in nodes)):
        for _, events in nodes:
            await events.until(Connected)
        yield nodes


async def meet(nodes: list[tuple[Link, Events]], broker: Broker) -> None:
    """Wait until every node is heard on this broker."""
    async with connection(broker.port, "op-watch-test") as watcher:
        await watcher.subscribe(["card"])
        waiting = asyncio.create_task(heard(watcher))
        async with asyncio.timeout(LIMIT_S):
            while not waiting.done():
                for link, _ in nodes:
                    link.send("card", NO_TERM, Card(f"connection {link.number}", "1", 1))
                await asyncio.wait({waiting}, timeout=0.1)
        await waiting


async def heard(watcher: Connection) -> None:
    """Until each node was heard; what the broker kept from before doesn't count."""
    missing = {str(node) for node in NODES}
    async for incoming in watcher.receive():
        if not incoming.retained:
            missing.discard(incoming.envelope.sender)
        if not missing:
            return


async def test_all_meet_on_the_second_when_the_first_stays_away_and_return_when_it_stands_again(
    tmp_path: Path, brokers: tuple[Broker, Broker], hurried: None
) -> None:
    first, second = brokers
    async with cluster(tmp_path, first.port, second.port) as nodes:
        await meet(nodes, first)
        await off_the_loop(first.stop)
        await meet(nodes, second)
        for link, events in nodes:
            assert (link.number, len(events.of(Disconnected))) == (2, 1), "they went there at once"
        await off_the_loop(first.start)
        await meet(nodes, first)
        for link, events in nodes:
            assert (link.number, len(events.of(Disconnected))) == (3, 2)


async def test_each_connection_says_whether_the_broker_is_of_the_nodes_site(
    tmp_path: Path, brokers: tuple[Broker, Broker], hurried: None
) -> None:
    """What may hold parts of images is dropped on the second, also what was meant for the first."""
    first, second = brokers
    link, events = new_link(tmp_path, 1, first.port, second.port)
    here, there = link.config.brokers
    link.config = replace(link.config, brokers=(replace(here, site=link.config.site), replace(there, site="elsewhere")))
    done = Done("batch-1", 3, b"pixels")
    async with running(started(link)), connection(second.port, "2") as other:
        await other.subscribe(["done", "chunk"])
        assert await events.until(Connected) == [Connected(1, True)]
        await off_the_loop(first.stop)
        await events.until(Disconnected)
        assert not link.at_home
        link.send("done", NO_TERM, done, "2")
        assert await events.until(Connected, 2) == [Connected(1, True), Connected(2, False)]
        link.send("done", NO_TERM, done, "2")
        with pytest.raises(BusError):
            await link.publish_bulk("done", NO_TERM, done, "2")
        await asyncio.sleep(0)  # what is sent without waiting goes first
        await link.publish_bulk("chunk", NO_TERM, MARKER, None)
        async with asyncio.timeout(LIMIT_S):
            assert (await anext(aiter(other.receive()))).envelope.message == MARKER, "nothing came before it"
        await off_the_loop(first.start)
        assert (await events.until(Connected, 3))[-1] == Connected(3, True)
        async with connection(first.port, "2") as back:
            await back.subscribe(["done"])
            link.send("done", NO_TERM, done, "2")
            assert (await hear(back, "done")).envelope.message == done


async def test_a_short_restart_of_the_first_scatters_nobody(tmp_path: Path, brokers: tuple[Broker, Broker]) -> None:
    first, second = brokers
    async with cluster(tmp_path, first.port, second.port) as nodes:
        await off_the_loop(first.stop)
        for _, events in nodes:
            await events.until(Disconnected)
        await asyncio.sleep(2.0)
        await off_the_loop(first.start)
        await meet(nodes, first)
        assert [link.number for link, _ in nodes] == [2, 2, 2], "without a stop on the second"


async def test_a_start_waits_for_the_first_and_then_takes_the_second(
    tmp_path: Path, brokers: tuple[Broker, Broker], hurried: None
) -> None:
    async with cluster(tmp_path, free_port(), brokers[1].port) as nodes:
        await meet(nodes, brokers[1])


async def test_nobody_returns_to_a_broker_that_does_not_stand(
    tmp_path: Path, brokers: tuple[Broker, Broker], hurried: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = brokers
    async with cluster(tmp_path, first.port, second.port) as nodes:
        await off_the_loop(first.stop)
        await meet(nodes, second)
        monkeypatch.setattr(link_module, "STEADY_S", 2.0)
        for _ in range(2):
            await off_the_loop(first.start)
            await asyncio.sleep(0.5)
            await off_the_loop(first.stop)
        await meet(nodes, second)
        assert [link.number for link, _ in nodes] == [2, 2, 2]


async def test_a_node_that_is_cut_off_stays_with_the_others(tmp_path: Path, brokers: tuple[Broker, Broker]) -> None:
    """On the second broker it would be alone."""
    first, second = brokers
    async with wire(first.port) as cable, connection(first.port, "op-watch-test") as watcher:
        link, events = new_link(tmp_path, 1, cable.port, second.port)
        async with running(started(link)):
            await events.until(Connected)
            cable.cut()
            await events.until(Connected, 2)
            await watcher.subscribe(["card"])
            link.send("card", NO_TERM, Card("north", "1", 1))
            await hear(watcher, "card")
