"""Scenarios by name, and how one is played."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from msgspec import Struct

from tests.chaos.cluster import Cluster
from tests.chaos.stage import Stage
from tests.integration.mosquitto import MOSQUITTO

LOG_LINES = 25  # of each node, shown when a scenario fails

Play = Callable[[Stage], Awaitable[None]]


class Scenario(Struct, frozen=True):
    """
    Attributes:
        short: it is part of the short form, which every change is tested with.
        spare: it needs a cluster with a second broker.
        disk_mib: it needs a cluster whose last node has a small disk of its own.
    """

    name: str
    play: Play
    short: bool
    spare: bool
    disk_mib: int | None

    @property
    def about(self) -> str:
        return (self.play.__doc__ or "").strip().partition("\n")[0]

    def unplayable(self) -> str | None:
        """Why this machine can't play it; None if it can."""
        if MOSQUITTO is None:
            return "Mosquitto is not installed (apt-get install mosquitto)"
        if self.disk_mib is not None and (os.geteuid() != 0 or not _may_mount()):
            return "a disk of its own for a node needs root and the right to mount"
        return None


CATALOG: dict[str, Scenario] = {}


def scenario(short: bool = False, spare: bool = False, disk_mib: int | None = None) -> Callable[[Play], Play]:
    """Put a function into the catalog under its name, with hyphens."""

    def add(play: Play) -> Play:
        name = play.__name__.replace("_", "-")
        CATALOG[name] = Scenario(name, play, short, spare, disk_mib)
        return play

    return add


class Theatre:
    """Plays scenarios on one cluster, one after the other; after a failure, on a new one.

    Args:
        folder: for images, states and logs; without one, a temporary folder, kept only if a scenario failed.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.temporary = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="pneumod-chaos-"))
        self.figures: dict[str, list[float]] = {}
        self._cluster: Cluster | None = None
        self._built = 0
        self._failed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._strike()
        if self.temporary and not self._failed:
            shutil.rmtree(self.folder, ignore_errors=True)

    def play(self, one: Scenario) -> None:
        """
        Raises:
            AssertionError: what did not hold, with the last lines of every node's log.
        """
        own = one.spare or one.disk_mib is not None
        if own or self._cluster is None:
            self._build(one)
        assert self._cluster is not None
        try:
            asyncio.run(self._on_stage(one, self._cluster))
        except Exception as error:
            self._failed = True
            told = "\n".join(_last_words(self._cluster, node) for node in sorted(self._cluster.nodes))
            folder = self._cluster.folder
            self._strike()
            raise AssertionError(f"{one.name}: {error!r}; the logs are in {folder}\n{told}") from error
        if own:
            self._strike()

    async def _on_stage(self, one: Scenario, cluster: Cluster) -> None:
        stage = Stage(cluster)
        try:
            async with stage.watch.watching():
                await one.play(stage)
        finally:
            for name, values in stage.figures.items():
                self.figures.setdefault(name, []).extend(values)

    def _build(self, one: Scenario) -> None:
        self._strike()
        self._built += 1
        folder = self.folder / f"cluster{self._built}"
        folder.mkdir()
        self._cluster = Cluster(folder, one.spare, one.disk_mib)
        self._cluster.__enter__()

    def _strike(self) -> None:
        cluster, self._cluster = self._cluster, None
        if cluster is not None:
            cluster.stop()


def _last_words(cluster: Cluster, node: int) -> str:
    lines = cluster.log(node).splitlines()[-LOG_LINES:]
    return "\n".join([f"--- node {node}", *lines])


def _may_mount() -> bool:
    """Whether this process holds CAP_SYS_ADMIN: root in a container often doesn't."""
    status = Path("/proc/self/status").read_text()
    held = int(status.partition("CapEff:")[2].split()[0], 16)
    return bool(held >> 21 & 1)
