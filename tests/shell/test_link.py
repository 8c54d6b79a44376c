"""The link to a real broker: it comes, goes and comes back, and the Will speaks for who can't."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from pneumod.bus import Connection, Incoming
from pneumod.core.events import Connected, Disconnected, Received
from pneumod.demo.cluster import Broker
from pneumod.errors import BusError
from pneumod.messages import NO_TERM, Card, Gone
from pneumod.shell.link import FIRST_WAIT_S, Link
from tests.examples import MESSAGES
from tests.shell.parts import LIMIT_S, Events, connection, first, new_broker, node_config, running, serving, wire

BOOT = 77
CARD = Card("north", "0.1", 2)


def new_link(folder: Path, node: int, *ports: int) -> tuple[Link, Events]:
    """A link, and what it tells."""
    events = Events()

    def received(incoming: Incoming) -> None:
        events.emit(Received(incoming.address.kind.name, incoming.envelope, incoming.retained, incoming.correlation))

    link = Link(
        node_config(folder, node, *ports),
        BOOT,
        lambda *at: events.emit(Connected(*at)),
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
            await events.when(lambda: any(received.envelope.message == said for received in events.of(Received)))
            assert [received.envelope.sender for received in events.of(Received)] == ["1"]
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
        link.led = True
        async with running(started(link)):
            for number in (1, 2):
                await events.until(Connected, number)
                link.led = True
                assert (await first(watcher, "gone")).envelope.message == Gone(BOOT, number - 1, "lost")
                cable.cut()
                gone = await first(watcher, "gone")
                assert gone.envelope.sender == "1"
                assert gone.envelope.message == Gone(BOOT, number, "lost")
                await events.until(Disconnected, number)
            await events.until(Connected, 3)


@pytest.mark.parametrize("stopped", [False, True])
async def test_a_link_that_is_ended_says_so_once(tmp_path: Path, broker: Broker, stopped: bool) -> None:
    """The broker keeps the Will of a connection that ends in order to itself."""
    async with connection(broker.port, "op-watch-test") as watcher:
        link, events = new_link(tmp_path, 1, broker.port)
        async with running(started(link)):
            await events.until(Connected)
            await watcher.subscribe(["gone", "card"])
            if stopped:
                link.send("gone", NO_TERM, Gone(BOOT, 1, "stopped"))
                await link.drain(5.0)
        await watcher.publish("card", NO_TERM, CARD)
        heard = []
        async with asyncio.timeout(LIMIT_S):
            async for incoming in watcher.receive():
                if incoming.envelope.sender == "1":
                    heard.append(incoming.envelope.message)
                elif not incoming.retained:
                    break
        assert [message for message in heard if message != Gone(BOOT, 0)] == [
            Gone(BOOT, 1, "stopped" if stopped else "lost")
        ]


async def test_another_daemon_of_the_same_id_is_told_once(
    tmp_path: Path, broker: Broker, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("pneumod"), "propagate", True)
    told = "another daemon uses node id 9 in cluster lab: stop it, or give it an id of its own (node.id)"
    (one, events), (other, other_events) = (new_link(tmp_path, 9, broker.port) for _ in range(2))
    other.boot = BOOT + 1
    async with running(started(one)):
        await events.until(Connected)
        for _ in range(2):
            async with running(started(other)):
                await other_events.until(Connected)
        await events.when(lambda: sum(gone.envelope.message == Gone(BOOT + 1, 1) for gone in events.of(Received)) > 0)
    assert [record.getMessage() for record in caplog.records if "another daemon" in record.getMessage()] == [told]


async def test_what_was_said_before_a_restart_is_no_other_daemons(
    tmp_path: Path, broker: Broker, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("pneumod"), "propagate", True)
    link, events = new_link(tmp_path, 8, broker.port)
    async with running(started(link)), connection(broker.port, "8") as earlier:
        await events.until(Connected)
        await earlier.publish("gone", NO_TERM, Gone(BOOT - 1, 4))  # a Will comes late where a host went down
        await events.when(lambda: any(r.envelope.message == Gone(BOOT - 1, 4) for r in events.of(Received)))
        assert "another daemon" not in caplog.text
        monkeypatch.setattr("pneumod.shell.link.OLD_BOOT_S", 0.0)
        await earlier.publish("gone", NO_TERM, Gone(BOOT - 1, 5))
        await events.when(lambda: any(r.envelope.message == Gone(BOOT - 1, 5) for r in events.of(Received)))
        assert "another daemon" in caplog.text


async def test_the_last_wish_to_watch_holds_however_long_the_broker_takes(
    tmp_path: Path, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was to stop failed, and is tried again after the next reign began."""
    asked: list[str] = []
    link, events = new_link(tmp_path, 1, broker.port)
    done, slow = asyncio.Event(), asyncio.Event()

    async def unsubscribe(self: Connection, kinds: list[str]) -> None:
        asked.append("off")
        await slow.wait()
        raise BusError("no answer")

    async def subscribe(self: Connection, kinds: list[str]) -> None:
        asked.append("on")
        done.set()

    async with running(started(link)):
        await events.until(Connected)
        monkeypatch.setattr(Connection, "unsubscribe", unsubscribe)
        monkeypatch.setattr(Connection, "subscribe", subscribe)
        link.watch(False)
        await asyncio.sleep(0.01)
        link.watch(True)
        slow.set()
        async with asyncio.timeout(LIMIT_S):
            await done.wait()
        await asyncio.sleep(2 * FIRST_WAIT_S)
        assert asked[0] == "off"
        assert set(asked[1:]) == {"on"}


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
        await other.publish("gone", NO_TERM, Gone(1, 1))  # is heard after the broker has taken that
        await events.when(lambda: any(received.kind == "gone" for received in events.of(Received)))
        heard = len(events.of(Received))
        await other.publish("beat", NO_TERM, beat)
        await other.publish("gone", NO_TERM, Gone(1, 1))
        await events.when(lambda: len(events.of(Received)) > heard)
        assert [received.kind for received in events.of(Received)[heard:]] == ["gone"]
