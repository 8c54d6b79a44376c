"""The embedded broker, with real MQTT 5 clients: what the daemon needs of any broker."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
from aiomqtt import Client, Message, ProtocolVersion, Will

from pneumod.broker.embedded import HOST, EmbeddedBroker, free_port
from pneumod.errors import BusError

# A process that connects with a Will, says so, and waits to be killed.
VICTIM = """
import asyncio, sys
from aiomqtt import Client, ProtocolVersion, Will

async def main():
    will = Will("test/gone", b"lost", qos=1)
    async with Client(sys.argv[1], int(sys.argv[2]), protocol=ProtocolVersion.V5, will=will):
        print("connected", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""

# A process that starts a broker, says its port, and waits to be killed.
OWNER = """
import signal
from pneumod.broker.embedded import EmbeddedBroker
with EmbeddedBroker() as broker:
    print(broker.port, flush=True)
    signal.pause()
"""


@pytest.fixture(scope="module")
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as broker:
        yield broker


def client(broker: EmbeddedBroker, will: Will | None = None) -> Client:
    return Client(HOST, broker.port, protocol=ProtocolVersion.V5, timeout=10, will=will)


async def next_message(client: Client) -> Message:
    async with asyncio.timeout(10):
        return await anext(client.messages)


async def test_a_retained_message_reaches_a_later_subscriber_until_it_is_cleared(broker: EmbeddedBroker) -> None:
    async with client(broker) as talker:
        await talker.publish("test/card", b"one", qos=1, retain=True)
        async with client(broker) as listener:
            await listener.subscribe("test/+", qos=1)
            message = await next_message(listener)
            assert (message.payload, message.retain) == (b"one", True)
        await talker.publish("test/card", b"", qos=1, retain=True)
        async with client(broker) as listener:
            await listener.subscribe("test/+", qos=1)
            await talker.publish("test/other", b"live", qos=1)
            assert (await next_message(listener)).payload == b"live"


async def test_a_killed_clients_will_is_published(broker: EmbeddedBroker) -> None:
    async with client(broker) as listener:
        await listener.subscribe("test/gone", qos=1)
        victim = await asyncio.create_subprocess_exec(
            sys.executable, "-c", VICTIM, HOST, str(broker.port), stdout=asyncio.subprocess.PIPE
        )
        assert victim.stdout is not None
        assert await victim.stdout.readline() == b"connected\n"
        victim.send_signal(signal.SIGKILL)
        await victim.wait()
        assert (await next_message(listener)).payload == b"lost"


async def test_large_messages_of_qos_1_arrive_whole_and_in_order(broker: EmbeddedBroker) -> None:
    payloads = [number.to_bytes(2, "big") * 100_000 for number in range(50)]
    async with client(broker) as listener, client(broker) as talker:
        await listener.subscribe("test/chunk", qos=1)
        for payload in payloads:
            await talker.publish("test/chunk", payload, qos=1)
        for payload in payloads:
            message = await next_message(listener)
            assert message.qos == 1
            assert message.payload == payload


def test_a_port_in_use_is_one_clear_line(broker: EmbeddedBroker) -> None:
    with pytest.raises(BusError, match=rf"^port {broker.port} of {HOST} is in use; choose another"):
        EmbeddedBroker(broker.port).start()


def test_stop_frees_the_port_and_may_be_repeated() -> None:
    broker = EmbeddedBroker()
    broker.start()
    assert broker.is_running
    broker.stop()
    broker.stop()
    assert not broker.is_running
    with EmbeddedBroker(broker.port) as again:
        assert again.is_running


def test_the_broker_dies_with_the_process_that_started_it() -> None:
    with subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        port = int(owner.stdout.readline())
        with socket.create_connection((HOST, port), timeout=10) as connection:
            owner.kill()
            with contextlib.suppress(ConnectionResetError):  # the other way in which the broker's end shows
                assert connection.recv(1) == b""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_it_is_stopped(number: signal.Signals) -> None:
    port = free_port()
    command = [sys.executable, "-m", "pneumod", "broker", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert f"{HOST}:{port}" in process.stdout.readline()
        second = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert second.returncode == 1
        assert second.stderr.splitlines() == [f"pneumod: port {port} of {HOST} is in use; choose another with --port"]
        process.send_signal(number)
        assert process.wait(timeout=20) == 0
        assert process.stderr.read() == ""
