"""A virtual cluster of any size on the real core: its messages and bytes by kind, at rest and in a round."""

from __future__ import annotations

import time
from collections import Counter

from mqtt_packet import TOPICS, packet, wire_bytes
from msgspec import Struct

from pneumod import wire
from pneumod.messages import Envelope, StartRun
from pneumod.settings import RunSettings
from pneumod.sim import transfers
from pneumod.sim.bus import Bus, Topic
from pneumod.sim.world import World
from pneumod.topics import KINDS

START_MS = 10_000  # the cluster starts and elects
IDLE_MS = 60_000
RUN_LIMIT_MS = 900_000
TAKEOVER_MS = 5_000
OPERATOR = "op-run-scale"
transfers.FETCH_MS = (1, 4)  # what blobs take on a real network is worked out by hand


class Traffic(Struct):
    """What went through the broker in `seconds`, by kind of message."""

    seconds: float
    published: Counter[str]
    delivered: Counter[str]
    bytes_in: Counter[str]  # to the broker
    bytes_out: Counter[str]  # from it
    masters_in: int  # bytes that the master received
    masters_out: int


class Meter(Bus):
    """The virtual broker, which counts the bytes that each message would take on a real wire."""

    master = "1"

    def begin(self) -> None:
        self.since_ms = self.clock.now_ms
        self.published, self.delivered = Counter(), Counter()
        self.bytes_in: Counter[str] = Counter()
        self.bytes_out: Counter[str] = Counter()
        self.masters_in = self.masters_out = 0

    def publish(self, topic: Topic, envelope: Envelope, correlation: bytes = b"") -> None:
        kind, before = KINDS[topic.kind], self.delivered[topic.kind]
        super().publish(topic, envelope, correlation)
        payload = b"" if envelope.message is None else wire.encode(envelope.sender, envelope.term, envelope.message)
        name = TOPICS.topic(topic.sender, topic.kind, topic.dest)
        size = wire_bytes(len(packet(name, payload, kind.qos, kind.expiry_s, correlation)), kind.qos)
        self.bytes_in[kind.name] += size
        self.bytes_out[kind.name] += size * (self.delivered[kind.name] - before)
        heard = topic.dest == self.master if topic.dest is not None else kind.name != "card"
        self.masters_in += size * heard
        self.masters_out += size * (topic.sender == self.master)

    def traffic(self) -> Traffic:
        """Since `begin`."""
        seconds = (self.clock.now_ms - self.since_ms) / 1_000
        return Traffic(
            seconds=seconds,
            published=Counter(self.published),
            delivered=Counter(self.delivered),
            bytes_in=Counter(self.bytes_in),
            bytes_out=Counter(self.bytes_out),
            masters_in=self.masters_in,
            masters_out=self.masters_out,
        )


def seconds_of(nodes: int) -> tuple[float, float]:
    """Processor and wall-clock seconds in which a cluster starts, elects and idles for a virtual minute."""
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    world = World(1, range(1, nodes + 1))
    for node in world.machines:
        world.start(node)
    world.run(IDLE_MS)
    assert world.leaders() == [1]
    return time.process_time() - cpu_s, time.perf_counter() - wall_s


class Cluster:
    """One metered virtual cluster; node 1 leads."""

    def __init__(self, nodes: int) -> None:
        self.world = World(1, range(1, nodes + 1))
        self.meter = Meter(self.world, self.world.random, self.world.bus.weather)
        self.world.bus = self.meter
        self.meter.begin()
        for machine in self.world.machines.values():
            machine.link.bus = self.meter
            machine.start()

    def start(self) -> Traffic:
        self.world.run(START_MS)
        return self.meter.traffic()

    def idle(self) -> Traffic:
        self.meter.begin()
        self.world.run(self.world.now_ms + IDLE_MS)
        return self.meter.traffic()

    def round(self) -> Traffic:
        """One round that trains: from its opening to its end. The run goes on to its end."""
        world = self.world
        settings = RunSettings(rounds=2, patience=9)
        self.meter.connect(OPERATOR, world._hear_reply)
        world.ask(OPERATOR, 1, StartRun("run-scale", 0, settings))
        self._until(0)
        self.meter.begin()
        self._until(1)
        return self.meter.traffic()

    def takeover(self) -> Traffic:
        """The master is killed in a round."""
        world = self.world
        self.meter.begin()
        self.meter.master = "2"
        world.crash(1)
        world.run(world.now_ms + TAKEOVER_MS)
        assert world.leaders() == [2]
        return self.meter.traffic()

    def _until(self, round_: int) -> None:
        """Until the master has closed a round."""

        def closed() -> bool:
            durable = self.world.machines[1].durable
            return durable.closed is not None and durable.closed.round >= round_

        assert self.world.run_until(closed, RUN_LIMIT_MS), f"round {round_} was not closed"
