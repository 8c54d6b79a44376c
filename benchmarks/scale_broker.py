"""What one real Mosquitto carries: deliveries and bytes a second of its own processor time, connections, bursts.

Mosquitto works in one thread, so that a second of its processor time is what one core can do in a second, and
the figures hold on a machine that does other things too.
"""

from __future__ import annotations

import asyncio
import resource
import selectors
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from load_cluster import cpu_s, memory_bytes
from mqtt_packet import TOPICS, connect_packet, packet_id_at, packet_of, puback_packet, subscribe_packet
from msgspec import Struct

from pneumod.blobs import CHUNK_BYTES
from pneumod.broker.embedded import HOST
from pneumod.bus import Connection
from pneumod.config import BrokerConfig
from pneumod.messages import Beacon, Beat, BlobRef, Chunk, ClassCounts, Message, Report, RoundOpen, Term
from pneumod.settings import RunSettings
from pneumod.shell.link import BULK, CONTROL
from pneumod.topics import KINDS
from tests.integration.mosquitto import Mosquitto

DIGEST = "ab" * 32
TERM = Term(7, -1, 1_700_000_000)
BEAT = Beat(1_700_000_000, 1, "training", 0.5, 3, DIGEST, DIGEST, TERM, 0.3, 55.0, 10**7, 10**7, 0, 10**6)
BEACON = Beacon(1, tuple(range(1_001, 1_009)), 5_000, DIGEST, "collecting", "", "run-scale", 3, 5_000, 2_500)
REPORT = Report(1_700_000_000, ClassCounts(300, 300, 50, 50), None, None, (DIGEST, DIGEST))
CHUNK = Chunk(DIGEST, 0, 7, b"\x5a" * CHUNK_BYTES)
OPEN = RoundOpen(
    "run-scale", 1, 3, BlobRef(DIGEST, 10**6), True, tuple(range(1, 5_001)), 60_000, (1.0, 1.0), (20,) * 60,
    RunSettings(), (TERM,),
)  # fmt: skip
BEATS, BURST, LINK_BEATS, LINK_PIECES = 400_000, 5_000, 20_000, 300
READERS, BEACONS, OPENS = 400, 600, 150
CHUNK_READERS, CHUNKS = 20, 600
LONE_NODES = 2_000
QUIET_S = 3.0
MB = 1e6


class Client:
    """A connection of raw packets: no library between the load and the broker."""

    def __init__(self, port: int, name: str, filters: list[tuple[str, int]] | None = None) -> None:
        self.socket = socket.create_connection((HOST, port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(connect_packet(name))
        try:
            self.accepted = self.socket.recv(256)[3:4] == b"\0"
        except ConnectionResetError:
            self.accepted = False
        if filters and self.accepted:
            self.socket.sendall(subscribe_packet(filters))
            self.socket.recv(256)
        self.rest = b""

    def close(self) -> None:
        self.socket.close()

    def take(self, size: int, id_at: int | None) -> int:
        """Read and acknowledge packets of one size; how many were whole."""
        self.rest += self.socket.recv(1 << 20)
        whole = len(self.rest) // size
        if id_at is not None and whole:
            ids = [self.rest[i * size + id_at : i * size + id_at + 2] for i in range(whole)]
            self.socket.sendall(b"".join(map(puback_packet, ids)))
        self.rest = self.rest[whole * size :]
        return whole


class Rate(Struct):
    """What the broker did, a second of its processor time."""

    deliveries: float
    megabytes: float  # out


@contextmanager
def broker() -> Iterator[tuple[Mosquitto, int]]:
    """A Mosquitto with the shipped configuration, and its pid."""
    with tempfile.TemporaryDirectory(prefix="pneumod-scale-") as folder:
        server = Mosquitto(Path(folder))
        server.start()
        assert server._process is not None
        try:
            yield server, server._process.pid
        finally:
            server.stop()


def rate(published: bytes, kind: str, readers: int, count: int, senders: int = 1) -> Rate:
    """Publish one packet `count` times to `readers` subscribers."""
    qos = KINDS[kind].qos
    id_at = packet_id_at(published) if qos else None
    with broker() as (server, pid):
        listening = [Client(server.port, f"r{i}", [(TOPICS.topic("+", kind), qos)]) for i in range(readers)]
        sending = [Client(server.port, f"s{i}") for i in range(senders)]
        before_s = cpu_s(pid)
        threads = [threading.Thread(target=_send, args=(one, published, count // senders, qos)) for one in sending]
        for thread in threads:
            thread.start()
        got = _drain(listening, len(published), id_at, count * readers)
        for thread in threads:
            thread.join()
        spent_s = cpu_s(pid) - before_s
        for client in (*listening, *sending):
            client.close()
    return Rate(got / spent_s, got * len(published) / spent_s / MB)


def _send(client: Client, published: bytes, count: int, qos: int) -> None:
    """As fast as the broker takes them; of QoS 1 one after the other, each acknowledged."""
    for _ in range(count):
        client.socket.sendall(published)
        if qos:
            client.socket.recv(64)


def _drain(clients: list[Client], size: int, id_at: int | None, wanted: int) -> int:
    """Read until all has come, or nothing more does: of QoS 0 the broker drops what a reader is too slow for."""
    got = 0
    with selectors.DefaultSelector() as selector:
        for client in clients:
            selector.register(client.socket, selectors.EVENT_READ, client)
        while got < wanted:
            ready = selector.select(QUIET_S)
            if not ready:
                break
            got += sum(key.data.take(size, id_at) for key, _ in ready)
    return got


def connections_taken() -> int:
    """How many connections the shipped configuration takes."""
    with broker() as (server, _):
        clients: list[Client] = []
        while not clients or clients[-1].accepted:
            clients.append(Client(server.port, f"c{len(clients)}"))
        for client in clients:
            client.close()
    return len(clients) - 1


def kilobytes_a_node() -> tuple[float, float]:
    """Memory of the broker and its processor time in ms for one more node: two connections and what they hear."""
    with broker() as (server, pid):
        resident, _ = memory_bytes(pid)
        before_s, clients = cpu_s(pid), []
        for node in range(LONE_NODES):
            control, bulk = TOPICS.filters(str(node), CONTROL), TOPICS.filters(str(node), BULK)
            clients += [Client(server.port, f"{node}-c", control), Client(server.port, f"{node}-b", bulk)]
        grown, spent_s = memory_bytes(pid)[0] - resident, cpu_s(pid) - before_s
        for client in clients:
            client.close()
    return grown / LONE_NODES / 1_000, 1_000 * spent_s / LONE_NODES


def masters_link(kind: str, message: Message, count: int, senders: int) -> tuple[int, float]:
    """How many of `count` messages that are said at once reach a master's connection, and its processor µs for each."""
    with broker() as (server, _):
        dest = "1" if KINDS[kind].scope == "to" else None
        packets = [packet_of(str(100 + i), kind, message, dest, TERM) for i in range(senders)]
        sending = [Client(server.port, f"s{i}") for i in range(senders)]

        def say_all() -> None:
            threads = [
                threading.Thread(target=_burst, args=(one, packets[i], count // senders))
                for i, one in enumerate(sending)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        came, spent_s = asyncio.run(_listen(server.port, kind, say_all))
        for client in sending:
            client.close()
    return came, 1e6 * spent_s / came


def _burst(client: Client, published: bytes, count: int) -> None:
    """Many messages at once, as from many nodes: nobody waits for an acknowledgement."""
    for _ in range(count):
        client.socket.sendall(published)


async def _listen(port: int, kind: str, say_all: Callable[[], None]) -> tuple[int, float]:
    came, spent_s = 0, 0.0
    async with Connection(BrokerConfig(HOST, port), "lab", "1") as connection:
        await connection.subscribe([kind])
        thread = threading.Thread(target=say_all)
        before_s = time.thread_time()
        thread.start()
        messages = aiter(connection.receive())
        while True:
            try:
                await asyncio.wait_for(anext(messages), QUIET_S)
            except TimeoutError:
                break
            came, spent_s = came + 1, time.thread_time() - before_s
        thread.join()
    return came, spent_s


class Figures(Struct):
    """What one broker and one master's link carry."""

    beats: Rate  # QoS 0, to one reader
    beacons: Rate  # QoS 1, to 400
    opens: Rate  # RoundOpen of 5,000 nodes, to 400
    broadcast: Rate  # chunks to 20
    piece: Rate  # chunks to one
    connections: int
    node_kb: float  # of the broker's memory
    node_connect_ms: float
    link_beat_us: float  # of a master's processor, to receive and decode one
    link_piece_us: float  # the same for a chunk of 192 KiB
    burst_came: int  # of BURST reports at once


def measure() -> Figures:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # for the broker and its thousands of clients
    chunk, opened = packet_of("1", "chunk", CHUNK), packet_of("1", "open", OPEN, None, TERM)
    beat, beacon = packet_of("17", "beat", BEAT, None, TERM), packet_of("1", "beacon", BEACON, None, TERM)
    node_kb, connect_ms = kilobytes_a_node()
    return Figures(
        beats=rate(beat, "beat", 1, BEATS, 4),
        beacons=rate(beacon, "beacon", READERS, BEACONS),
        opens=rate(opened, "open", READERS, OPENS),
        broadcast=rate(chunk, "chunk", CHUNK_READERS, CHUNKS),
        piece=rate(chunk, "chunk", 1, CHUNKS * CHUNK_READERS // 2),
        connections=connections_taken(),
        node_kb=node_kb,
        node_connect_ms=connect_ms,
        link_beat_us=masters_link("beat", BEAT, LINK_BEATS, 4)[1],
        link_piece_us=masters_link("piece", CHUNK, LINK_PIECES, 4)[1],
        burst_came=masters_link("report", REPORT, BURST, 50)[0],
    )
