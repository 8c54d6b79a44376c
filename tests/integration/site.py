"""Four daemons on a real Mosquitto: nodes 1 to 3 are of one site, node 4 is of another; and who hears everything."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import aiomqtt
import cv2
import numpy as np
import yaml
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from pneumod.broker.embedded import HOST
from pneumod.demo import phantom
from pneumod.demo.cluster import CLUSTER, DemoCluster
from pneumod.demo.sites import Site
from pneumod.messages import Beacon, RunSettings
from pneumod.topics import Topics
from pneumod.wire import decode
from tests.images.dicoms import PATIENT, dataset, written
from tests.integration.mosquitto import Mosquitto

HOSPITAL = "hospital-a"
ROSTER = {1: HOSPITAL, 2: HOSPITAL, 3: HOSPITAL, 4: "hospital-b"}
SIDE = 1280  # pixels of a test image: decoding it takes longer than sending it
LIMIT_S = 60.0
LOOK_S = 1.0  # where nothing is heard
PERIOD_S = 0.2  # of `slowed`


class SiteCluster(DemoCluster):
    """Daemons of the roster's nodes."""

    def __init__(
        self, folder: Path, broker_site: str | None = HOSPITAL, nodes: Iterable[int] = ROSTER, line: int | None = None
    ) -> None:
        """
        Args:
            broker_site: the site that nodes 1 to 3 take their broker to be of; node 4 takes it to be of its own.
            line: the port at which node 2 finds the broker.
        """
        made = phantom.write_dataset(folder / "own", 1, 0, train_images=4, val_images=4, test_images=0)[0]
        sites = [Site(node, ROSTER[node], made / "train", made / "val") for node in nodes]
        self.broker_site, self.line = broker_site, line
        super().__init__(folder, sites, RunSettings(image_size=48), Mosquitto(folder / "broker"))

    def _write_config(self, site: Site) -> None:
        super()._write_config(site)
        path = self.config_path(site.node)
        document: dict[str, Any] = yaml.safe_load(path.read_text())
        document["roster"] = ROSTER
        if self.broker_site is not None:
            document["brokers"][0]["site"] = self.broker_site if site.name == HOSPITAL else site.name
        if self.line is not None and site.node == 2:
            document["brokers"][0]["port"] = self.line
        path.write_text(yaml.safe_dump(document, sort_keys=False))

    def tree(self, node: int) -> list[int]:
        """The process ids of a daemon, its children and theirs."""
        return list(_descendants(self.processes[node].pid))


class Heard(NamedTuple):
    sender: str
    kind: str
    dest: str | None
    payload: bytes


class Spy:
    """Hears what goes over the broker; files of items, which may take long to hear, only where `files` is set."""

    def __init__(self, cluster: DemoCluster, files: bool = False) -> None:
        self.cluster = cluster
        kinds = ("beacon", "to/+/grant", "to/+/done")
        self.topics = ["#"] if files else [f"pneumod/v1/{CLUSTER}/from/+/{kind}" for kind in kinds]
        self.heard: list[Heard] = []
        self._changed = asyncio.Event()

    def count(self, kind: str, sender: int | None = None, dest: int | None = None) -> int:
        return sum(
            one.kind == kind and sender in (None, int(one.sender)) and dest in (None, int(one.dest or -1))
            for one in self.heard
        )

    async def until(self, condition: Callable[[], object], what: str) -> None:
        end_s = time.monotonic() + LIMIT_S
        while not condition():
            self.cluster.check()
            assert time.monotonic() < end_s, f"not within {LIMIT_S:.0f} s: {what}"
            self._changed.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), LOOK_S)

    async def all_up(self, nodes: int = len(ROSTER)) -> None:
        """All nodes live, and the lowest leads."""

        def condition() -> bool:
            beacons = [one for one in self.heard if one.kind == "beacon" and one.payload]
            return bool(beacons) and beacons[-1].sender == "1" and _beacon(beacons[-1]).live == nodes

        await self.until(condition, "all nodes are up, and the lowest leads")

    async def listen(self, ready: asyncio.Event) -> None:
        async with aiomqtt.Client(HOST, self.cluster.broker.port, protocol=aiomqtt.ProtocolVersion.V5) as me:
            await me.subscribe([(topic, 0) for topic in self.topics])
            ready.set()
            async for message in me.messages:
                if message.retain:
                    continue  # of an earlier time
                parts = str(message.topic).split("/")
                assert parts[:4] == ["pneumod", "v1", CLUSTER, "from"]
                dest = parts[6] if parts[5] == "to" else None
                assert isinstance(message.payload, bytes)
                self.heard.append(Heard(parts[4], parts[-1], dest, message.payload))
                self._changed.set()


def _beacon(heard: Heard) -> Beacon:
    topics = Topics(CLUSTER)
    beacon = decode(topics.parse(topics.topic(heard.sender, "beacon")), heard.payload).message
    assert isinstance(beacon, Beacon)
    return beacon


@asynccontextmanager
async def spying(cluster: DemoCluster, files: bool = False) -> AsyncIterator[Spy]:
    spy, ready = Spy(cluster, files), asyncio.Event()
    task = asyncio.create_task(spy.listen(ready))
    await ready.wait()
    try:
        yield spy
    finally:
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled():
            task.result()


@contextmanager
def killed(cluster: DemoCluster, node: int) -> Iterator[None]:
    """A node is dead meanwhile."""
    cluster.kill(node)
    try:
        yield
    finally:
        cluster.start(node)


@asynccontextmanager
async def slowed(pids: Callable[[], Iterable[int]], share: float) -> AsyncIterator[None]:
    """Let processes run only a share of the time, by SIGSTOP and SIGCONT."""

    def tell(number: signal.Signals) -> None:
        for pid in pids():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    async def beat() -> None:
        while True:
            tell(signal.SIGSTOP)
            await asyncio.sleep(PERIOD_S * (1 - share))
            tell(signal.SIGCONT)
            await asyncio.sleep(PERIOD_S * share)

    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})
        tell(signal.SIGCONT)


@asynccontextmanager
async def slow_line(port: int, bytes_per_s: int) -> AsyncIterator[int]:
    """A port that leads to another, with so many bytes a second on each connection towards it."""

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pace: float) -> None:
        while data := await reader.read(16 * 1024):
            await asyncio.sleep(len(data) * pace)
            writer.write(data)
            await writer.drain()
        writer.close()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_connection(HOST, port)
        with suppress(ConnectionError):
            await asyncio.gather(pass_on(reader, forth, 1 / bytes_per_s), pass_on(back, writer, 0.0))

    connections: set[asyncio.Task[None]] = set()
    server = await asyncio.start_server(
        lambda reader, writer: connections.add(asyncio.create_task(connect(reader, writer))), HOST, 0
    )
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)


def write_images(folder: Path, count: int) -> Path:
    """Large phantoms, some in folders inside; two name the PATIENT, one is a DICOM file, and one more is no image."""
    random = np.random.default_rng(0)
    look = phantom.site(random, 0, 1)
    for number in range(count):
        small = phantom.draw(random, look, number % 2 == 0).pixels
        path = folder / ("a", "b")[number % 2] / f"{number:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        large = cv2.resize(small, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
        if number == 0:
            path.with_suffix(".dcm").write_bytes(written(dataset(large, 8)))
        elif number == 1:
            Image.fromarray(large).save(path, pnginfo=_text("Name", PATIENT))
        else:
            cv2.imwrite(str(path), large)
    (folder / "b" / "damaged.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return folder


def _text(key: str, value: str) -> PngInfo:
    info = PngInfo()
    info.add_text(key, value)
    return info


def pneumod(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "pneumod", *map(str, arguments)]


def run_alone(*arguments: str | Path) -> bytes:
    """The standard output of a command on this machine alone."""
    return subprocess.run(pneumod(*arguments), capture_output=True, check=False, timeout=LIMIT_S).stdout


class Said(NamedTuple):
    code: int
    out: bytes
    err: str


class Running(NamedTuple):
    """A command that was started."""

    process: asyncio.subprocess.Process

    @property
    def is_on(self) -> bool:
        return self.process.returncode is None

    async def end(self) -> Said:
        async with asyncio.timeout(LIMIT_S):
            out, err = await self.process.communicate()
        assert self.process.returncode is not None
        return Said(self.process.returncode, out, err.decode())


async def begin(*arguments: str | Path) -> Running:
    pipe = asyncio.subprocess.PIPE
    return Running(await asyncio.create_subprocess_exec(*pneumod(*arguments), stdout=pipe, stderr=pipe))


def _descendants(pid: int) -> Iterator[int]:
    yield pid
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = task.read_text().split()
        except OSError:
            continue  # it ended meanwhile
        for child in children:
            yield from _descendants(int(child))
