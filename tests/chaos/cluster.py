"""The cluster that is hurt: daemons of phantom hospitals on Mosquitto, their children, their state files."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import msgspec
import yaml

from pneumod import wire
from pneumod.broker.embedded import HOST
from pneumod.core.actions import Durable
from pneumod.demo import phantom
from pneumod.demo.cluster import DemoCluster
from pneumod.demo.sites import Site
from pneumod.messages import RunSettings
from pneumod.shell.store import CHECK_BYTES, StateFile
from tests.disks import Disk
from tests.integration.mosquitto import Mosquitto

NODES = 3
TRAIN_IMAGES, VAL_IMAGES = 96, 20  # of the largest node
# So many epochs that a round takes seconds, as real ones do: otherwise it is over before anything can be hurt.
SETTINGS = RunSettings(rounds=2, local_epochs=30, image_size=48, min_nodes=NODES, patience=100)
SPARE = "spare"  # folder of the second broker
STOP_S = 5.0  # a clean stop takes no longer


class Cluster(DemoCluster):
    """Three daemons; `spare` adds a second broker to their configuration, which isn't started."""

    def __init__(self, folder: Path, spare: bool = False, disk_mib: int | None = None) -> None:
        """
        Args:
            disk_mib: the state of the last node is on a disk of its own, of this size; needs root.
        """
        made = phantom.write_dataset(folder / "images", NODES, 0, TRAIN_IMAGES, VAL_IMAGES, test_images=0)
        sites = [Site(number, f"site-{number}", one / "train", one / "val") for number, one in enumerate(made, 1)]
        for site in sites:
            _thin_out(site.train, site.node)
        self.mosquitto = Mosquitto(folder / "broker")
        self.spare = Mosquitto(folder / SPARE) if spare else None
        self.nodes = {site.node for site in sites}
        self.disk = Disk(folder / f"state{NODES}", disk_mib) if disk_mib is not None else None
        super().__init__(folder, sites, SETTINGS, self.mosquitto)
        if self.disk is not None:
            self.disk.mount()

    def stop(self) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)  # a stopped one would not hear that it is to end
        super().stop()
        if self.spare is not None:
            self.spare.stop()
        if self.disk is not None:
            self.disk.unmount()

    def is_up(self, node: int) -> bool:
        return self.processes[node].poll() is None

    def send(self, node: int, number: signal.Signals) -> None:
        """A signal for the daemon alone, not for its children."""
        os.kill(self.processes[node].pid, number)

    def terminate(self, node: int) -> tuple[int, float]:
        """A clean stop: its exit code, and how many seconds it took."""
        self._killed.add(node)
        started_s = time.monotonic()
        self.processes[node].terminate()
        code = self.processes[node].wait(2 * STOP_S)
        return code, time.monotonic() - started_s

    def child(self, node: int, name: str) -> int | None:
        """The process id of a daemon's child `name` (light, trainer); None if it has none now."""
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue  # it ended meanwhile
            if f"pneumod.children.{name}".encode() in words and str(self.config_path(node)).encode() in words:
                return int(entry.name) if state != "Z" else None
        return None

    def family(self, node: int) -> list[int]:
        """The process ids of a daemon and its children."""
        children = (self.child(node, name) for name in ("light", "trainer"))
        return [self.processes[node].pid, *(pid for pid in children if pid is not None)]

    def state_path(self, node: int) -> Path:
        return self.folder / f"state{node}" / "state.msgpack"

    def remembered(self, node: int) -> Durable:
        """What a node has on its disk now."""
        body = self.state_path(node).read_bytes()[:-CHECK_BYTES]
        return msgspec.convert(wire.unpack(body), StateFile).durable

    def blob_path(self, node: int, digest: str) -> Path:
        return self.folder / f"state{node}" / "blobs" / digest

    def log(self, node: int) -> str:
        """All that a node said, over all its lives."""
        return (self.folder / f"node{node}.log").read_text(errors="replace")

    def _write_config(self, site: Site) -> None:
        super()._write_config(site)
        if self.spare is not None:
            path = self.config_path(site.node)
            document: dict[str, Any] = yaml.safe_load(path.read_text())
            document["brokers"].append({"host": HOST, "port": self.spare.port})
            path.write_text(yaml.safe_dump(document, sort_keys=False))


def _thin_out(folder: Path, node: int) -> None:
    """Leave node n n of NODES parts of its images, so that the nodes end their trainings one after the other."""
    for number, path in enumerate(sorted(folder.rglob("*.png"))):
        if number % NODES >= node:
            path.unlink()
