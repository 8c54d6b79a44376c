"""A disk that is full or read-only, and files that were damaged on it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from pneumod.errors import ModelError
from pneumod.learning.card import CURRENT, load_model
from tests.chaos.scenario import scenario
from tests.chaos.stage import Stage

HURT = 3  # the node whose disk it is
DISK_MIB = 96
ENDS_S = 60.0  # a daemon that can't write ends within that


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGES: tuple[Callable[[Path], None], ...] = (truncate, flip_bit)


async def ends_by_itself(stage: Stage, what: str) -> None:
    """The daemon of the hurt disk says in its last line what it can't do, and ends; then it is left alone."""
    process = stage.cluster.processes[HURT]
    await stage.until_disk(lambda: process.poll() is not None, ENDS_S, f"the daemon of a {what} disk ends")
    said = stage.cluster.log(HURT)
    last = said.strip().splitlines()[-1]
    assert process.returncode == 1, f"exit code {process.returncode}"
    assert f"state{HURT}" in last, f"its last line names no file: {last}"
    assert "free space" in last or "writable" in last, f"its last line says nothing to do: {last}"
    assert "Traceback" not in said, "a traceback for a fault of the machine"


@scenario(disk_mib=DISK_MIB)
async def full_disk(stage: Stage) -> None:
    """A disk fills up in training: the daemon says so and ends; with space again, it comes back and counts."""
    assert stage.cluster.disk is not None
    await stage.begin()
    await stage.opened(2)
    stage.cluster.disk.fill()
    await ends_by_itself(stage, "full")
    stage.cluster.disk.free()
    await stage.restart(HURT)
    await stage.end()


@scenario(disk_mib=DISK_MIB)
async def read_only_disk(stage: Stage) -> None:
    """A machine comes back with a read-only disk: its daemon says so and ends; writable again, it counts."""
    assert stage.cluster.disk is not None
    await stage.begin()
    await stage.opened(2)
    stage.cluster.terminate(HURT)
    stage.cluster.disk.read_only(True)
    await stage.restart(HURT)
    await ends_by_itself(stage, "read-only")
    stage.cluster.disk.read_only(False)
    await stage.restart(HURT)
    await stage.end()


@scenario(short=True)
async def damaged_state(stage: Stage) -> None:
    """A state file is truncated, then one bit of it is flipped: set aside and said; the node learns all again."""
    folder = stage.cluster.state_path(HURT).parent
    before = set(folder.glob("state.msgpack.damaged-*"))
    await stage.begin(rounds=2)
    for number, damage in enumerate(DAMAGES, 1):
        await stage.closed(number)
        await stop_and_damage(stage, lambda: stage.cluster.state_path(HURT), damage)
    await stage.end()
    aside = set(folder.glob("state.msgpack.damaged-*")) - before
    assert len(aside) == len(DAMAGES), f"kept aside: {aside}"


@scenario()
async def damaged_model(stage: Stage) -> None:
    """The file of the newest model is truncated, then one bit of it is flipped: set aside, and fetched from a peer."""
    await stage.begin(rounds=1)
    await stage.end()

    def model() -> Path:
        closed = stage.cluster.remembered(HURT).closed
        assert closed is not None
        return stage.cluster.blob_path(HURT, closed.model.digest)

    for damage in DAMAGES:
        await stop_and_damage(stage, model, damage)
        await stage.end()
        model().with_name(f"{model().name}.damaged").unlink()  # it was kept aside


@scenario()
async def damaged_export(stage: Stage) -> None:
    """The exported model is truncated, then a bit of it is flipped: `predict` refuses it, the daemon makes it anew."""
    await stage.begin(rounds=1)
    await stage.end()
    folder = stage.cluster.folder / f"state{HURT}" / "models"
    image = next((stage.cluster.folder / "images").rglob("val/PNEUMONIA/*.png"))

    def exported() -> Path:
        return folder / load_model(folder / CURRENT).card.file

    def whole() -> bool:
        try:
            return exported().exists()
        except ModelError:
            return False

    for damage in DAMAGES:
        await stop_and_damage(stage, exported, damage, start=False)
        command = [sys.executable, "-m", "pneumod", "predict", str(image), "--config"]
        done = await asyncio.create_subprocess_exec(
            *command, str(stage.cluster.config_path(HURT)), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        _, errors = await done.communicate()
        assert done.returncode not in (0, None)
        assert errors.decode().count("\n") == 1, errors
        assert b"digest differs" in errors
        stage.cluster.start(HURT)
        await stage.until_disk(whole, 60, "the model is exported again")


async def stop_and_damage(
    stage: Stage, path: Callable[[], Path], damage: Callable[[Path], None], start: bool = True
) -> None:
    """Stop a node, damage one of its files, and start it again: it says that in one line, without a traceback."""
    said = len(stage.cluster.log(HURT))
    stage.cluster.terminate(HURT)
    damage(path())
    if not start:
        return
    stage.cluster.start(HURT)

    def told() -> bool:
        return "damaged" in stage.cluster.log(HURT)[said:]

    await stage.until_disk(told, 30, f"node {HURT} says that {path().name} is damaged")
    assert "Traceback" not in stage.cluster.log(HURT)[said:]
