"""The demo's processes: an embedded broker and one daemon a node, each with its YAML and state directory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import IO, Protocol, Self

import msgspec
import yaml

from pneumod import config
from pneumod.broker.embedded import HOST, EmbeddedBroker
from pneumod.children.protocol import die_with_parent
from pneumod.config import NodeConfig
from pneumod.demo.sites import Site
from pneumod.errors import PneumodError
from pneumod.messages import RunSettings

CLUSTER = "demo"
STOP_S = 8.0


class Broker(Protocol):
    """A broker on loopback that the cluster starts and stops."""

    port: int

    def start(self) -> None: ...

    def stop(self) -> None: ...


class DemoCluster:
    """Started on entry, stopped on exit, however that comes."""

    def __init__(self, folder: Path, sites: list[Site], settings: RunSettings, broker: Broker | None = None) -> None:
        self.folder = folder
        self.sites = sites
        self.settings = settings
        self.broker = broker or EmbeddedBroker()
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self._killed: set[int] = set()  # by `kill`, and not started again
        self._logs: list[IO[bytes]] = []

    def __enter__(self) -> Self:
        self.broker.start()
        try:
            for site in self.sites:
                self._write_config(site)
                self.start(site.node)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def config_path(self, node: int) -> Path:
        return self.folder / f"node{node}.yaml"

    def config(self, node: int) -> NodeConfig:
        return config.load(self.config_path(node))

    def start(self, node: int) -> None:
        """Start a node's daemon, also again after `kill`."""
        log = (self.folder / f"node{node}.log").open("ab")
        self._logs.append(log)
        self._killed.discard(node)
        self.processes[node] = subprocess.Popen(
            [sys.executable, "-m", "pneumod", "run", "--config", str(self.config_path(node))],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # the terminal's Ctrl-C is for the demo, which then stops its daemons
            preexec_fn=die_with_parent,
        )

    def kill(self, node: int) -> None:
        """SIGKILL: the daemon gets no chance to say anything."""
        self._killed.add(node)
        self.processes[node].kill()
        self.processes[node].wait()

    def check(self) -> None:
        """
        Raises:
            PneumodError: a daemon ended, and not by `kill`.
        """
        for node, process in self.processes.items():
            code = process.poll()
            if code is None or node in self._killed:
                continue
            if code < 0:
                raise PneumodError(f"the daemon of node {node} was ended by {signal.Signals(-code).name}")
            lines = (self.folder / f"node{node}.log").read_text(errors="replace").strip().splitlines()
            raise PneumodError(f"the daemon of node {node} ended: {lines[-1] if lines else 'without a word'}")

    def stop(self) -> None:
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.broker.stop()
        for log in self._logs:
            log.close()

    def _write_config(self, site: Site) -> None:
        cores = os.cpu_count() or 1
        document = {
            "cluster": CLUSTER,
            "node": {"id": site.node, "name": site.name, "site": site.name},
            "brokers": [{"host": HOST, "port": self.broker.port}],
            "state_dir": str(self.folder / f"state{site.node}"),
            "data": {"train": str(site.train), **({"val": str(site.val)} if site.val else {})},
            "threads": max(1, cores // len(self.sites)),
            "run": msgspec.to_builtins(self.settings),
        }
        self.config_path(site.node).write_text(yaml.safe_dump(document, sort_keys=False))
