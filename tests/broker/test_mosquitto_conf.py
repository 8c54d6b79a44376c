"""The shipped configuration, served by a real Mosquitto."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiomqtt import Client, MqttError, ProtocolVersion, Will

from pneumod.broker.embedded import HOST, free_port
from pneumod.topics import MAX_PACKET_BYTES

ROOT = Path(__file__).parents[2]
CONF = ROOT / "broker" / "mosquitto.conf"
MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")

pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="Mosquitto is not installed (apt-get install mosquitto)")


@pytest.fixture
async def port(tmp_path: Path) -> AsyncIterator[int]:
    """The port of a Mosquitto with the shipped file; only its port, its folder and its user are changed."""
    port = free_port()
    text = CONF.read_text().replace("listener 1883\n", f"listener {port} {HOST}\nuser root\n")
    text = text.replace("/var/lib/pneumod-broker/", f"{tmp_path}/")
    path = tmp_path / "mosquitto.conf"
    path.write_text(text)
    assert MOSQUITTO is not None
    process = await asyncio.create_subprocess_exec(MOSQUITTO, "-c", str(path), stderr=asyncio.subprocess.PIPE)
    assert process.stderr is not None
    try:
        async with asyncio.timeout(10):
            await process.stderr.readuntil(b" running")
        yield port
    finally:
        process.terminate()
        await process.communicate()


def client(port: int, will: Will | None = None) -> Client:
    return Client(HOST, port, protocol=ProtocolVersion.V5, timeout=2, will=will)


async def send(port: int, payloads: list[bytes]) -> None:
    async with client(port, Will("test/will", b"cut off", qos=1)) as talker:
        for payload in payloads:
            await talker.publish("test/a", payload, qos=1)


async def test_the_largest_packet_passes_and_a_larger_one_cuts_its_sender_off(port: int) -> None:
    room = MAX_PACKET_BYTES - 5 - 2 - len("test/a") - 2 - 1  # fixed header, topic, packet id, no properties
    async with client(port) as listener:
        await listener.subscribe("test/#", qos=1)
        with pytest.raises(MqttError):
            await send(port, [bytes(room), bytes(room + 16)])
        async with asyncio.timeout(10):
            messages = [await anext(listener.messages) for _ in range(2)]
    assert [(str(m.topic), len(bytes(m.payload))) for m in messages] == [("test/a", room), ("test/will", 7)]


async def test_a_retained_message_outlives_the_connection(port: int) -> None:
    async with client(port) as talker:
        await talker.publish("test/card", b"one", qos=1, retain=True)
    async with client(port) as listener:
        await listener.subscribe("test/card", qos=1)
        async with asyncio.timeout(10):
            assert (await anext(listener.messages)).payload == b"one"
