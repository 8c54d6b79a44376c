"""The link to a real broker: it comes, goes and comes back, and the Will speaks for who can't."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from pneumod.broker.embedded import free_port
from pneumod.bus import Incoming
from pneumod.core.events import Connected, Disconnected, Received
from pneumod.demo.cluster import Broker
from pneumod.messages import NO_TERM, Card, Gone
from pneumod.shell.link import Link
from tests.examples import MESSAGES
from tests.shell.parts import Events, connection, first, new_broker, node_config, running, serving, wire

BOOT = 77
CARD = Card("north", "0.1", 2)


def new_link(folder: Path, node: int, *ports: int) -> tuple[Link, Events]:
    events = Events()

    def received(incoming: Incoming) -> None:
        events.emit(Received(incoming.address.kind.name, incoming.envelope, incoming.retained, incoming.correlation))

    link = Link(
        node_config(folder, node, *ports),
        BOOT,
        lambda number: events.emit(Connected(number)),
        lambda: events.emit(Disconnected()),
        received,
    )
    return link, events


def started(link: Link) -> asyncio.Task[None]:
    return asyncio.create_task(link.run())


async def off_the_loop(work: Callable[[], None]) -> None:
    """Start or stop a broker while the link goes on."""
    await asyncio.get_running_loop().run_in_executor(None, work)


async def test_the_broker_goes_and_comes_back_on_the_same_port(tmp_path: Path) -> None:
    broker = new_broker(tmp_path / "broker")
    link, events = new_link(tmp_path, 1, broker.port)
    with serving(broker):
        async with running(started(link)):
            assert await events.until(Connected) == [Connected(1)]
            for number in (2, 3):
                await off_the_loop(broker.stop)
                await events.until(Disconnected, number - 1)
                link.send("card", NO_TERM, CARD)  # to nobody: dropped without an error
                await off_the_loop(broker.start)
                assert (await events.until(Connected, number))[-1] == Connected(number)
            link.send("card", NO_TERM, CARD)
            await events.until(Received)
    order = [type(event).__name__ for event in events.seen if not isinstance(event, Received)]
    assert order == ["Connected", "Disconnected"] * 3, "also at its own end"


async def test_it_connects_when_the_broker_appears(tmp_path: Path) -> None:
    broker = new_broker(tmp_path / "broker")
    link, events = new_link(tmp_path, 1, broker.port)
    async with running(started(link)):
        await asyncio.sleep(0.3)  # more than one attempt
        assert events.seen == []
        with serving(broker):
            assert await events.until(Connected) == [Connected(1)], "an attempt that failed has no number"


async def test_what_is_said_is_heard_by_the_others_and_counted(tmp_path: Path, broker: Broker) -> None:
    (one, one_events), (two, events) = new_link(tmp_path, 1, broker.port), new_link(tmp_path, 2, broker.port)
    async with running(started(two)):
        await events.until(Connected)
        async with running(started(one)):
            await one_events.until(Connected)
            said = Gone(1, 1, "stopped")
            one.send("gone", NO_TERM, said)
            await events.when(lambda: any(not received.retained for received in events.of(Received)))
            received = events.of(Received)[-1]
            assert received.kind == "gone"
            assert (received.envelope.sender, received.envelope.message) == ("1", said)
            await one.drain(5.0)
            assert one.totals()[0] > 0
            assert two.totals()[1] >= one.totals()[0]
            assert one.totals()[2] == two.totals()[2] == 0
            while_it_stood = one.totals()
        assert one.totals() == while_it_stood, "the count outlives the connection"


async def test_the_will_names_the_boot_and_the_connection_that_was_cut(tmp_path: Path, broker: Broker) -> None:
    async with wire(broker.port) as cable, connection(broker.port, "op-watch-test") as watcher:
        await watcher.subscribe(["gone"])
        link, events = new_link(tmp_path, 1, cable.port)
        async with running(started(link)):
            for number in (1, 2):
                await events.until(Connected, number)
                cable.cut()
                gone = await first(watcher, "gone")
                assert gone.envelope.sender == "1"
                assert gone.envelope.message == Gone(BOOT, number, "lost")
                await events.until(Disconnected, number)
            await events.until(Connected, 3)


async def test_the_second_broker_is_taken_when_the_first_is_not_there(tmp_path: Path, broker: Broker) -> None:
    link, events = new_link(tmp_path, 1, free_port(), broker.port)
    async with running(started(link)):
        assert await events.until(Connected) == [Connected(1)]


async def test_a_node_that_is_cut_off_goes_back_to_the_first_broker(tmp_path: Path, broker: Broker) -> None:
    """Where the other nodes are: on the second it would be alone."""
    with serving(new_broker(tmp_path / "second")) as second:
        async with wire(broker.port) as cable, connection(broker.port, "op-watch-test") as watcher:
            await watcher.subscribe(["card"])
            link, events = new_link(tmp_path, 1, cable.port, second.port)
            async with running(started(link)):
                await events.until(Connected)
                cable.cut()
                await events.until(Connected, 2)
                link.send("card", NO_TERM, CARD)
                await first(watcher, "card")


async def test_beats_are_heard_only_while_they_are_watched(tmp_path: Path, broker: Broker) -> None:
    beat = next(message for kind, message in MESSAGES if kind == "beat")
    link, events = new_link(tmp_path, 1, broker.port)
    async with running(started(link)), connection(broker.port, "2") as other:
        await events.until(Connected)
        link.watch(True)
        async with asyncio.timeout(10):
            while not any(received.kind == "beat" for received in events.of(Received)):
                await other.publish("beat", NO_TERM, beat)
                await asyncio.sleep(0.02)
        link.watch(False)
        await asyncio.gather(*link._subscribing)
        heard = len(events.of(Received))
        await other.publish("beat", NO_TERM, beat)
        await other.publish("gone", NO_TERM, Gone(1, 1))
        await events.when(lambda: any(received.kind == "gone" for received in events.of(Received)))
        assert [received.kind for received in events.of(Received)[heard:]] == ["gone"]
