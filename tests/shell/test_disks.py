"""Disks that are full, nearly full or read-only: one clear line, nothing lost, and on once there is space."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from pneumod.blobs import digest_of, refusal
from pneumod.core.actions import Durable
from pneumod.core.events import JobDone, JobFailed
from pneumod.core.jobs import Export, Prepare
from pneumod.demo import phantom
from pneumod.errors import PneumodError
from pneumod.learning.card import CURRENT, load_model
from pneumod.learning.export import write_export
from pneumod.messages import Best, BlobRef, RunSpec, Term
from pneumod.settings import RunSettings
from pneumod.shell.store import LEAST_FREE_BYTES, MIB, Store
from pneumod.shell.worker import Worker
from tests.disks import Disk, small_disk
from tests.shell.parts import Events, new_broker, running, serving
from tests.shell.test_daemon import STOP_S, daemon_process, line_with, written

DURABLE = Durable(Term(7, -3, 11))
ROOM_MIB = LEAST_FREE_BYTES // MIB + 8


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with small_disk(tmp_path / "disk", ROOM_MIB) as disk:
        yield disk


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    (folder,) = phantom.write_dataset(tmp_path_factory.mktemp("images"), 1, 0, 8, 4, 0)
    return folder


async def test_a_full_disk_loses_nothing(disk: Disk) -> None:
    store = Store(disk.folder)
    boot = store.load()[0]
    await store.persist(DURABLE)
    model = store.blobs.write(b"a model")
    disk.fill()
    with pytest.raises(PneumodError) as caught:
        await store.persist(Durable(Term(8, -3, 11)))
    assert str(caught.value) == f"{store.path}: No space left on device; free space or fix rights"
    big = os.urandom(MIB)
    with pytest.raises(PneumodError, match=f"{digest_of(big)}: No space left"):
        await store.in_writer(lambda: store.blobs.write(big))
    with pytest.raises(PneumodError, match=r"0\.0 MiB of the disk are free, and a node needs 16; free space"):
        store.check_disk()
    store.close()
    assert list(disk.folder.rglob("*.tmp")) == []

    store = Store(disk.folder)
    with pytest.raises(PneumodError, match="free space"):
        store.load()
    store.close()
    disk.free()
    store = Store(disk.folder)
    assert store.load() == (boot + 1, DURABLE, frozenset({model.digest}))
    store.close()


async def test_a_disk_without_room_for_one_more_model_is_told_and_keeps_a_node_from_starting(disk: Disk) -> None:
    store = Store(disk.folder)
    store.load()
    assert store.look() == frozenset()
    model = store.blobs.write(os.urandom(5 * MIB))
    with pytest.raises(PneumodError, match=r"MiB of the disk are free, and a node needs 21; free space"):
        store.look()
    store.check_disk()
    store.close()
    store = Store(disk.folder)
    with pytest.raises(PneumodError, match="a node needs 21"):
        store.load()
    store.blobs.keep(frozenset())
    assert store.load()[2] == frozenset()
    assert model.digest not in store.look()
    store.close()


async def test_a_read_only_disk_is_one_line_and_loses_nothing(disk: Disk) -> None:
    store = Store(disk.folder)
    store.load()
    await store.persist(DURABLE)
    store.close()
    disk.read_only(True)
    with pytest.raises(PneumodError) as caught:
        Store(disk.folder)
    assert str(caught.value) == f"{disk.folder}/lock: Read-only file system; free space or fix rights"
    disk.read_only(False)
    store = Store(disk.folder)
    assert store.load()[1] == DURABLE
    store.close()


async def test_a_job_that_meets_a_full_disk_fails_and_the_next_one_does_not(
    tmp_path: Path, images: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("pneumod"), "propagate", True)
    with small_disk(tmp_path / "disk", 1) as disk:
        config = written(tmp_path, images, 1883, state_dir=str(disk.folder))
        disk.fill()
        events = Events()
        child = Worker("pneumod.children.light", config.path, "preprocess", events.emit)
        async with running(asyncio.create_task(child.run())):
            child.submit(Prepare(128))
            (failed,) = await events.until(JobFailed)
            assert failed.why == "the disk refused it", "it may go on the bus: no path"
            (said,) = [text for record in caplog.records if "No space left" in (text := record.getMessage())]
            assert said.startswith(str(disk.folder))
            assert said.endswith(": No space left on device; free space or fix rights")
            assert list(disk.folder.rglob("*.tmp")) == []
            disk.free()
            child.submit(Prepare(128))
            await events.until(JobDone)


def test_an_export_that_does_not_fit_leaves_the_model_before_it(tmp_path: Path) -> None:
    best = Best(2, 0.9, 0.5, BlobRef("a" * 64, 10))
    spec = RunSpec(1, "run-b", "op-run-ann", 0, RunSettings())
    with small_disk(tmp_path / "disk", 1) as disk:
        folder = disk.folder / "models"
        write_export(folder, Export(spec, best, 1, 10, None), b"a model", {})
        disk.fill()
        with pytest.raises(OSError, match="No space left") as caught:
            write_export(folder, Export(spec, replace(best, round=3), 1, 10, None), os.urandom(MIB), {})
        assert refusal(caught.value, folder).startswith(f"{folder}/run-b-r3.tflite: ")
        assert load_model(folder / CURRENT).data == b"a model"
        assert sorted(path.name for path in folder.iterdir()) == [CURRENT, "run-b-r2.json", "run-b-r2.tflite"]


async def test_a_master_whose_disk_fills_up_ends_and_does_not_come_back_until_there_is_space(
    tmp_path: Path, images: Path, disk: Disk
) -> None:
    """It writes its term before it leads."""
    with serving(new_broker(tmp_path / "broker")) as broker:
        config = written(tmp_path, images, broker.port, state_dir=str(disk.folder))
        with daemon_process(config) as process:
            await line_with(process, "leads under term 1")
            disk.fill()
            broker.stop()
            await line_with(process, "steps down: the broker is out of reach")
            broker.start()
            line = await line_with(process, "pneumod: ")
            while "/log/" in line:  # the logs are on that disk too
                line = await line_with(process, "pneumod: ")
            assert line == f"pneumod: {disk.folder}/state.msgpack: No space left on device; free space or fix rights\n"
            assert process.wait(STOP_S) == 1
        with daemon_process(config) as process:
            assert "MiB of the disk are free, and a node needs 16; free space" in await line_with(process, "pneumod: ")
            assert process.wait(STOP_S) == 1
        disk.free()
        with daemon_process(config) as process:
            await line_with(process, "leads under term 2")
            process.send_signal(signal.SIGTERM)
            assert process.wait(STOP_S) == 0


async def test_a_daemon_ends_when_a_job_fails_on_a_full_disk(tmp_path: Path, images: Path, disk: Disk) -> None:
    with serving(new_broker(tmp_path / "broker")) as broker:
        config = written(tmp_path, images, broker.port, state_dir=str(disk.folder))
        with daemon_process(config) as process:
            await line_with(process, "starts")
            disk.fill()
            wanted = f"pneumod: {disk.folder}: 0.0 MiB of the disk are free, and a node needs 16; free space\n"
            assert await line_with(process, "MiB of the disk") == wanted
            assert process.wait(STOP_S) == 1


def test_a_read_only_state_directory_is_no_wrong_configuration(tmp_path: Path, images: Path, disk: Disk) -> None:
    """The exit code tells systemd to try again."""
    config = written(tmp_path, images, 1883, state_dir=str(disk.folder / "state"))
    disk.read_only(True)
    with daemon_process(config) as process:
        assert process.wait(30) == 1
        assert process.stderr is not None
        assert process.stderr.read() == (
            f"pneumod: {disk.folder}/state: Read-only file system; free space or fix rights\n"
        )
