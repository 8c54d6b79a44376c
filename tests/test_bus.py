"""One connection to a real broker: what comes in is validated, what goes out is within the limits."""

from __future__ import annotations

import asyncio
import logging
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiomqtt
import pytest
from msgspec.structs import replace
from paho.mqtt import client as mqtt

from pneumod import wire
from pneumod.broker.embedded import HOST, free_port
from pneumod.bus import ACK_TIMEOUT_S, Connection
from pneumod.config import BrokerConfig, TlsConfig
from pneumod.demo.cluster import Broker
from pneumod.errors import BusError
from pneumod.messages import NO_TERM, BlobWant, Card, Chunk, Gone, Reply
from tests.integration.mosquitto import MOSQUITTO, Mosquitto
from tests.shell.parts import CLUSTER, LIMIT_S, connection, first, new_broker, serving
from tests.shell.parts import wire as relayed

ROOT = f"pneumod/v1/{CLUSTER}/from"
CARD = Card("north", "0.1", 2)
GONE = Gone(3, 4)
DIGEST = "a" * 64

needs_mosquitto = pytest.mark.skipif(MOSQUITTO is None, reason="Mosquitto is not installed")


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with serving(new_broker(tmp_path_factory.mktemp("broker"))) as broker:
        yield broker


@pytest.fixture
async def me(broker: Broker) -> AsyncIterator[Connection]:
    async with connection(broker.port, "1") as one:
        yield one


async def publish_raw(port: int, *messages: tuple[str, bytes]) -> None:
    async with aiomqtt.Client(HOST, port, protocol=aiomqtt.ProtocolVersion.V5) as client:
        for topic, payload in messages:
            await client.publish(topic, payload, qos=1)


async def test_invalid_payloads_are_dropped_and_counted_and_the_next_message_comes(
    broker: Broker, me: Connection
) -> None:
    good = wire.encode("2", NO_TERM, GONE)
    await me.subscribe(["gone", "card"])
    await publish_raw(
        broker.port,
        (f"{ROOT}/2/gone", b"\xff\xff not msgpack"),
        (f"{ROOT}/2/gone", good[:-3]),
        (f"{ROOT}/2/gone", good + b"\x00"),
        (f"{ROOT}/2/gone", b"\x91" * 900),
        (f"{ROOT}/2/gone", bytes(2000)),
        (f"{ROOT}/2/gone", wire.pack({"v": 99, "from": "2", "term": NO_TERM, "body": GONE})),
        (f"{ROOT}/2/gone", wire.encode("2", NO_TERM, CARD)),
        (f"{ROOT}/x y/gone", wire.encode("x y", NO_TERM, GONE)),
        (f"{ROOT}/2/gone", good),
    )
    assert (await first(me, "gone")).envelope.message == GONE
    assert sum(me.dropped.values()) == 8
    assert me.dropped == {"not msgpack": 4, "too long": 1, "another version": 1, "bad gone": 2}


async def test_a_sender_that_is_not_the_topics_is_dropped(broker: Broker, me: Connection) -> None:
    await me.subscribe(["gone"])
    await publish_raw(broker.port, (f"{ROOT}/2/gone", wire.encode("3", NO_TERM, GONE)))
    async with connection(broker.port, "2") as other:
        await other.publish("gone", NO_TERM, GONE)
    assert (await first(me, "gone")).envelope.sender == "2"
    assert me.dropped == {"sender is not the topic's": 1}


async def test_the_counters_names_are_few_whatever_a_sender_writes(broker: Broker, me: Connection) -> None:
    await me.subscribe(["gone"])
    forged = [wire.pack({"v": 1, "from": "2", "term": NO_TERM, "body": {"boot": 1, "why": f"w{i}"}}) for i in range(50)]
    forged += [wire.pack({"v": 1, "from": "2", "term": i, "body": GONE}) for i in range(50)]
    await publish_raw(broker.port, *((f"{ROOT}/2/gone", payload) for payload in forged))
    async with connection(broker.port, "2") as other:
        await other.publish("gone", NO_TERM, GONE)
    await first(me, "gone")
    assert me.dropped == {"bad gone": 100}


async def test_a_cleared_topic_is_a_message_without_content(broker: Broker, me: Connection) -> None:
    await me.subscribe(["beacon"])
    async with connection(broker.port, "2") as other:
        await other.publish("beacon", NO_TERM, None)
    assert (await first(me, "beacon")).envelope.message is None


async def test_correlation_data_goes_along(broker: Broker, me: Connection) -> None:
    await me.subscribe(["reply", "gone"])
    async with connection(broker.port, "2") as other:
        await other.publish("reply", NO_TERM, Reply(True, "yes"), "1", b"\x00tag\xff")
        await other.publish("gone", NO_TERM, GONE)
    reply = await first(me, "reply")
    assert (reply.correlation, reply.address.dest) == (b"\x00tag\xff", "1")
    assert (await first(me, "gone")).correlation == b""


async def test_what_is_for_another_is_not_heard(broker: Broker, me: Connection) -> None:
    await me.subscribe(["reply", "gone"])
    async with connection(broker.port, "2") as other:
        await other.publish("reply", NO_TERM, Reply(True, "yours"), "3")
        await other.publish("gone", NO_TERM, GONE)
    async with asyncio.timeout(LIMIT_S):
        assert (await anext(me.receive())).address.kind.name == "gone"


@needs_mosquitto
async def test_ones_own_chunks_do_not_come_back_but_ones_own_beacon_does(broker: Broker, me: Connection) -> None:
    await me.subscribe(["chunk", "beacon"])
    async with connection(broker.port, "2") as other:
        await me.publish("chunk", NO_TERM, Chunk(DIGEST, 0, 2, b"mine"))
        await me.publish("beacon", NO_TERM, None)
        await other.publish("chunk", NO_TERM, Chunk(DIGEST, 1, 2, b"another's"))
        heard = [await anext(me.receive()) for _ in range(2)]
        assert {(one.envelope.sender, one.address.kind.name) for one in heard} == {("1", "beacon"), ("2", "chunk")}


async def test_the_retained_flag_tells_old_from_new(broker: Broker, me: Connection) -> None:
    async with connection(broker.port, "2") as other:
        await other.publish("card", NO_TERM, CARD)
        await me.subscribe(["card"])
        assert (await first(me, "card")).retained
        await other.publish("card", NO_TERM, replace(CARD, cores=3))
        live = await first(me, "card")
        assert (live.retained, live.envelope.message) == (False, replace(CARD, cores=3))
        await other.publish("card", NO_TERM, None)


async def test_an_oversize_message_is_refused_before_it_is_sent(me: Connection) -> None:
    with pytest.raises(BusError, match=r"a want of \d+ bytes is over the limit"):
        await me.publish("want", NO_TERM, BlobWant(DIGEST, tuple(range(40_000))), "2")
    assert me.sent_bytes == 0
    me.send("want", NO_TERM, BlobWant(DIGEST, tuple(range(40_000))), "2")
    await me.drain(LIMIT_S)
    assert me.dropped == {"not sent": 1}
    await me.publish("gone", NO_TERM, GONE)
    await me.publish("chunk", NO_TERM, Chunk(DIGEST, 0, 1, bytes(192 * 1024)))


async def test_messages_sent_without_waiting_keep_their_order(broker: Broker, me: Connection) -> None:
    await me.subscribe(["gone"])
    async with connection(broker.port, "2") as other:
        for number in range(300):
            other.send("gone", NO_TERM, Gone(1, number))
        await other.drain(LIMIT_S)
        assert other.dropped == {}
        received = me.receive()
        async with asyncio.timeout(LIMIT_S):
            heard = [(await anext(received)).envelope.message for _ in range(300)]
    assert heard == [Gone(1, number) for number in range(300)]


async def test_unacknowledged_messages_are_bounded(me: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pneumod.bus.MAX_UNACKNOWLEDGED", 10)
    want = BlobWant(DIGEST, (0,))
    for _ in range(15):
        me.send("want", NO_TERM, want, "2")
    assert me.dropped == {"too many unacknowledged": 5}
    me.send("beacon", NO_TERM, None)
    me.send("gone", NO_TERM, GONE)
    assert me.dropped == {"too many unacknowledged": 5}, "a sign of life is never dropped"
    await me.drain(LIMIT_S)
    me.send("want", NO_TERM, want, "2")
    await me.drain(LIMIT_S)
    assert me.dropped == {"too many unacknowledged": 5}


async def test_the_end_of_the_broker_ends_receiving_and_sending(tmp_path: Path) -> None:
    with serving(new_broker(tmp_path / "broker")) as broker:
        async with connection(broker.port, "1") as me:
            await me.subscribe(["gone"])
            await asyncio.get_running_loop().run_in_executor(None, broker.stop)
            with pytest.raises(BusError, match=f"the connection to {HOST}:{broker.port} is lost"):
                await first(me, "gone")
            with pytest.raises(BusError):
                await me.publish("gone", NO_TERM, GONE)
    with pytest.raises(BusError, match="not connected"):
        await me.publish("gone", NO_TERM, GONE)


@needs_mosquitto
async def test_a_publish_fails_at_once_when_its_connection_is_lost(tmp_path: Path) -> None:
    broker = Mosquitto(tmp_path)
    with serving(broker):
        async with relayed(broker.port) as line, connection(line.port, "1") as me:
            receiving = asyncio.create_task(first(me, "card"))
            assert broker._process is not None
            broker._process.send_signal(signal.SIGSTOP)  # nothing is acknowledged any more
            publishing = [asyncio.create_task(me.publish("card", NO_TERM, CARD)) for _ in range(3)]
            await asyncio.sleep(0.1)
            assert not any(task.done() for task in publishing)
            line.cut()
            async with asyncio.timeout(ACK_TIMEOUT_S / 5):
                for ended in await asyncio.gather(receiving, *publishing, return_exceptions=True):
                    assert isinstance(ended, BusError)
            broker._process.send_signal(signal.SIGCONT)


async def test_messages_that_nobody_takes_are_bounded(me: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pneumod.bus.MAX_QUEUED_BYTES", 5_000)
    for _ in range(10):
        message = mqtt.MQTTMessage(topic=f"{ROOT}/2/gone".encode())
        message.payload = wire.encode("2", NO_TERM, GONE)
        me._take(None, None, message)
    assert 4 <= len(me._came) <= 5
    assert me.dropped["too many came"] == 10 - len(me._came)


@pytest.mark.parametrize("host", [HOST, "no-such-host.invalid", "a..b", "x" * 80])
async def test_no_broker_is_one_line(host: str) -> None:
    port = free_port()
    with pytest.raises(BusError) as caught:
        await Connection(BrokerConfig(host, port), CLUSTER, "1").__aenter__()
    assert str(caught.value).startswith(f"no broker at {host}:{port}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("made", [False, True], ids=["missing", "not PEM"])
async def test_certificates_that_cannot_be_used_are_one_line(tmp_path: Path, broker: Broker, made: bool) -> None:
    files = [tmp_path / name for name in ("ca.pem", "node.pem", "node.key")]
    if made:
        for file in files:
            file.write_text("no certificate")
    with pytest.raises(BusError, match=r"the certificates for .* can't be used"):
        await Connection(BrokerConfig(HOST, broker.port, tls=TlsConfig(*files)), CLUSTER, "1").__aenter__()


@pytest.fixture
def strict_port(tmp_path: Path) -> Iterator[int]:
    """A Mosquitto that lets anyone read, lets node 1 only say its card, and takes packets of 20 kB."""
    port = free_port()
    acl, conf = tmp_path / "acl", tmp_path / "mosquitto.conf"
    acl.write_text(f"topic read pneumod/#\ntopic readwrite {ROOT}/1/card\n")
    acl.chmod(0o600)
    conf.write_text(
        f"listener {port} {HOST}\nuser root\nallow_anonymous true\nacl_file {acl}\nmax_packet_size 20000\n"
        "log_dest stderr\nlog_type information\nlog_type notice\n"
    )
    assert MOSQUITTO is not None
    with subprocess.Popen([MOSQUITTO, "-c", str(conf)], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert any(" running" in line for line in process.stderr)
        yield port
        process.terminate()


@needs_mosquitto
async def test_a_publish_that_the_broker_refuses_is_counted_and_logged(
    strict_port: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("pneumod"), "propagate", True)
    async with connection(strict_port, "1") as me:
        await me.subscribe(["card", "gone"])
        me.send("gone", NO_TERM, GONE)
        await me.drain(LIMIT_S)
        assert me.dropped == {"refused by the broker": 1}
        assert any("refused" in r.getMessage() and "Not authorized" in r.getMessage() for r in caplog.records)
        await me.publish("card", NO_TERM, CARD)
        assert (await first(me, "card")).envelope.message == CARD


@needs_mosquitto
async def test_the_brokers_own_maximum_holds(strict_port: int) -> None:
    async with connection(strict_port, "1") as me:
        assert me.max_packet_bytes == 20_000
        with pytest.raises(BusError, match="over the limit"):
            await me.publish("chunk", NO_TERM, Chunk(DIGEST, 0, 1, bytes(19_500)))
        await me.publish("card", NO_TERM, CARD)
