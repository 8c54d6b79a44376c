"""The processes of the load benchmark, and what Linux says of them: one Mosquitto, one null daemon a node."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

import yaml

sys.path.append(str(Path(__file__).parents[1]))  # for the tests' Mosquitto, which runs the shipped configuration

from pneumod import config
from pneumod.broker.embedded import HOST
from pneumod.children.protocol import die_with_parent
from pneumod.config import NodeConfig
from pneumod.demo import phantom
from tests.integration.mosquitto import Mosquitto

HERE = Path(__file__).parent
STAGGER_S = 0.5  # between the starts of two daemons: each takes a core for so long
STOP_S = 10.0
KIB = 1024


class Cluster:
    """A broker and `nodes` daemons under `folder`; node 1 leads. Started on entry, stopped on exit."""

    def __init__(self, folder: Path, nodes: int, parameters: int) -> None:
        self.folder = folder
        self.parameters = parameters
        self.broker = Mosquitto(folder)
        self.nodes = range(1, nodes + 1)
        self.daemons: dict[int, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        (images,) = phantom.write_dataset(self.folder / "images", 1, 0, 8, 4, 0)
        self.broker.start()
        environment = {**os.environ, "PYTHONPATH": str(HERE), "PARAMETERS": str(self.parameters)}
        try:
            for node in self.nodes:
                self._write_config(node, images)
                self.daemons[node] = self._start(node, environment)
                time.sleep(STAGGER_S)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for daemon in self.daemons.values():
            daemon.terminate()
        for daemon in self.daemons.values():
            try:
                daemon.wait(STOP_S)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        self.broker.stop()

    def config(self, node: int) -> NodeConfig:
        return config.load(self._path(node))

    def children(self, node: int) -> dict[str, int]:
        """The pids of a daemon's children by module."""
        pid, found = self.daemons[node].pid, {}
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            command = Path(f"/proc/{child}/cmdline").read_text().split("\0")
            found[command[command.index("-m") + 1]] = int(child)
        return found

    def _path(self, node: int) -> Path:
        return self.folder / f"node{node}.yaml"

    def _write_config(self, node: int, images: Path) -> None:
        document = {
            "cluster": "load",
            "node": {"id": node, "name": f"node-{node}", "site": f"site-{node}"},
            "brokers": [{"host": HOST, "port": self.broker.port}],
            "state_dir": str(self.folder / f"state{node}"),
            "data": {"train": str(images / "train"), "val": str(images / "val")},
            "threads": 1,
        }
        self._path(node).write_text(yaml.safe_dump(document))

    def _start(self, node: int, environment: dict[str, str]) -> subprocess.Popen[bytes]:
        with (self.folder / f"node{node}.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, str(HERE / "null_node.py"), str(self._path(node))],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a Ctrl-C is for the benchmark, which then stops its daemons
                preexec_fn=die_with_parent,
                env=environment,
            )


def cpu_s(pid: int) -> float:
    """Seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_bytes(pid: int) -> tuple[int, int]:
    """Resident memory of a process: now, and at its peak."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    values = {key: value for key, _, value in (line.partition(":") for line in lines)}
    return int(values["VmRSS"].split()[0]) * KIB, int(values["VmHWM"].split()[0]) * KIB
