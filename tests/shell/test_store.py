"""The state directory: what outlives a start, and what happens when the disk is wrong."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pneumod.blobs import digest_of
from pneumod.core.actions import Durable
from pneumod.errors import PneumodError
from pneumod.messages import RunSpec, Term
from pneumod.settings import RunSettings
from pneumod.shell.store import Store

DURABLE = Durable(Term(7, -3, 11), RunSpec(2, "run-b", "op-run-ann", 1_700_000_000, RunSettings(rounds=4)))


@contextmanager
def opened(folder: Path) -> Iterator[Store]:
    store = Store(folder)
    try:
        yield store
    finally:
        store.close()


def test_a_new_store_boots_at_unix_seconds_and_the_number_grows_with_each_start(tmp_path: Path) -> None:
    before = int(time.time())
    boots = []
    for _ in range(3):
        with opened(tmp_path) as store:
            boots.append(store.load()[0])
    assert before <= boots[0] <= time.time()
    assert boots == [boots[0], boots[0] + 1, boots[0] + 2]


async def test_what_was_persisted_comes_back(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        assert store.load()[1:] == (Durable(), frozenset())
        await store.persist(DURABLE)
        ref = store.blobs.write(b"a model")
    with opened(tmp_path) as store:
        assert store.load()[1:] == (DURABLE, frozenset({ref.digest}))


def test_a_second_daemon_on_the_same_directory_is_refused_in_one_line(tmp_path: Path) -> None:
    code = f"from pathlib import Path; from pneumod.shell.store import Store; Store(Path({str(tmp_path)!r}))"
    with opened(tmp_path) as store:
        store.load()
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    *_, last = done.stderr.splitlines()
    assert done.returncode != 0
    assert last == f"pneumod.errors.PneumodError: {tmp_path}: another daemon uses this state directory; stop it first"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0, "the lock goes with its holder"


@pytest.mark.parametrize("how", ["truncated", "garbage", "empty", "another form", "out of range"])
async def test_a_damaged_state_file_is_set_aside_and_said(
    tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path) as store:
        first_boot = store.load()[0]
        await store.persist(DURABLE)
        whole = store.path.read_bytes()
        damaged = {
            "truncated": whole[:-5],
            "garbage": b"\xff\x00" * 40,
            "empty": b"",
            "another form": b"\x93\x01\x02\x03",
            "out of range": whole.replace(b"rounds\x04", b"rounds\x00"),
        }[how]
        assert damaged != whole
        store.path.write_bytes(damaged)
    monkeypatch.setattr(logging.getLogger("pneumod"), "propagate", True)
    with opened(tmp_path) as store:
        boot, durable, _ = store.load()
        assert durable == Durable()
        assert boot >= first_boot
        assert store.load()[1] == Durable(), "a good file stands in its place"
    (aside,) = [p for p in store.folder.iterdir() if p.name.startswith("state.msgpack.damaged-")]
    assert aside.read_bytes() == damaged
    (record,) = [r for r in caplog.records if r.name.startswith("pneumod")]
    assert str(store.path) in record.getMessage()
    assert aside.name in record.getMessage()


async def test_keep_deletes_what_is_not_named(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        one, two, three = (store.blobs.write(text).digest for text in (b"1", b"2", b"3"))
        await store.keep(frozenset({one, three, digest_of(b"elsewhere")}))
        assert store.load()[2] == {one, three}
        assert store.blobs.read(two) is None


async def test_a_receipt_is_archived_and_outlives_keep(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        ref = store.blobs.write(b"a receipt")
        await store.archive(ref.digest, "run-b", 12)
        await store.archive(digest_of(b"not here"), "run-b", 13)
        await store.keep(frozenset())
    assert [p.name for p in (tmp_path / "receipts" / "run-b").iterdir()] == ["00012.msgpack"]
    assert (tmp_path / "receipts" / "run-b" / "00012.msgpack").read_bytes() == b"a receipt"


@pytest.mark.parametrize("place", [".", "below"])
def test_a_file_in_place_of_the_folder_is_one_line(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / place
    with pytest.raises(PneumodError) as caught:
        Store(folder)
    assert str(tmp_path / "file") in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_a_disk_that_refuses_is_one_line(tmp_path: Path) -> None:
    """Folders in the way: root may write anywhere, but not over these."""
    with opened(tmp_path) as store:
        store.load()
        ref = store.blobs.write(b"a receipt")
        store.path.unlink()
        store.path.mkdir()
        (tmp_path / "receipts").touch()
        (store.blobs.folder / ("a" * 64)).mkdir()
        with pytest.raises(PneumodError, match=r"state\.msgpack"):
            await store.persist(DURABLE)
        with pytest.raises(PneumodError, match="receipts"):
            await store.archive(ref.digest, "run-b", 1)
        with pytest.raises(PneumodError, match="a" * 64):
            await store.keep(frozenset())
        with pytest.raises(PneumodError, match=r"state\.msgpack"):
            store.load()


async def test_a_blob_that_rots_on_the_disk_is_set_aside(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        digest = store.blobs.write(b"a model").digest
        path = store.blobs.folder / digest
        path.write_bytes(b"a nodel")
        assert await store.in_writer(lambda: store.blobs.read(digest)) is None
        assert store.load()[2] == frozenset()
        assert path.with_name(f"{digest}.damaged").read_bytes() == b"a nodel"
        store.blobs.write(b"a model")
        assert store.blobs.read(digest) == b"a model"
