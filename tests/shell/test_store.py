"""The state directory: what outlives a start, and what happens when the disk is wrong."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path

import pytest
from msgspec.structs import replace

from pneumod import wire
from pneumod.blobs import digest_of
from pneumod.core.actions import Durable
from pneumod.core.events import ReceiptMissing
from pneumod.errors import PneumodError
from pneumod.messages import BlobRef, RunSpec, Term
from pneumod.settings import RunSettings
from pneumod.shell.store import Store
from tests.examples import CLOSED

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
    assert boots == sorted(set(boots)), "each is above the one before"


def test_a_restored_backup_does_not_take_boots_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(tmp_path) as store:
        store.load()
    backup = {name: (tmp_path / name).read_bytes() for name in ("state.msgpack", "boot")}
    with opened(tmp_path) as store:
        last, _, _ = store.load()
    for name, data in backup.items():
        (tmp_path / name).write_bytes(data)
    now_s = time.time()
    monkeypatch.setattr(time, "time", lambda: now_s + 60)  # a backup is not restored within the second
    with opened(tmp_path) as store:
        assert store.load()[0] > last


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


@pytest.mark.parametrize("how", ["truncated", "garbage", "empty", "another form", "out of range", "a bad sector"])
async def test_a_damaged_state_file_is_set_aside_and_said(
    tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path) as store:
        first_boot = store.load()[0]
        await store.persist(DURABLE)
        kept = store.blobs.write(b"a model").digest
        whole = store.path.read_bytes()
        store.path.unlink()
        if how == "a bad sector":
            store.path.symlink_to("/proc/self/mem")  # reading it from its start is an I/O error
        else:
            store.path.write_bytes(
                {
                    "truncated": whole[:-5],
                    "garbage": b"\xff\x00" * 40,
                    "empty": b"",
                    "another form": checked(b"\x93\x01\x02\x03"),
                    "out of range": checked(whole[:-32].replace(b"rounds\x04", b"rounds\x00")),
                }[how]
            )
    monkeypatch.setattr(logging.getLogger("pneumod"), "propagate", True)
    with opened(tmp_path) as store:
        boot, durable, held = store.load()
        assert boot > first_boot
        assert (durable, held) == (Durable(), frozenset({kept})), "its blobs are no part of the damage"
        assert store.load()[1] == Durable(), "a good file stands in its place"
    (aside,) = [p for p in store.folder.iterdir() if p.name.startswith("state.msgpack.damaged-")]
    (record,) = [r for r in caplog.records if r.name.startswith("pneumod")]
    assert str(store.path) in record.getMessage()
    assert aside.name in record.getMessage()


def checked(body: bytes) -> bytes:
    return body + blake2b(body, digest_size=32).digest()


async def test_every_flipped_bit_of_the_state_file_is_noticed(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.load()
        await store.persist(DURABLE)
        whole = store.path.read_bytes()
        for place in range(0, 8 * len(whole), 7):
            flipped = bytearray(whole)
            flipped[place // 8] ^= 1 << place % 8
            store.path.write_bytes(flipped)
            assert store._read() is None


@pytest.mark.parametrize("lost", [["state.msgpack"], ["boot"], []])
def test_the_boot_number_grows_though_a_file_is_damaged_and_the_clock_goes_back(
    tmp_path: Path, lost: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path) as store:
        before = store.load()[0]
    for name in lost:
        (tmp_path / name).write_bytes(b"x")
    monkeypatch.setattr(time, "time", lambda: before - 2 * 86_400)
    with opened(tmp_path) as store:
        assert store.load()[0] == before + 1
    assert (tmp_path / "boot").read_bytes() == b"%d\n" % (before + 1)


def test_half_written_files_are_removed_at_a_start(tmp_path: Path) -> None:
    """Of writers that were killed: no other may be in here while the directory is locked."""
    with opened(tmp_path) as store:
        left = [store.blobs.folder / f".{'a' * 64}.17.tmp", tmp_path / ".state.msgpack.17.tmp"]
        (tmp_path / "models").mkdir()
        left.append(tmp_path / "models" / ".current.json.tmp")
        for path in left:
            path.write_bytes(b"half")
        store.load()
        assert [path for path in left if path.exists()] == []


def test_blobs_that_rotted_while_the_node_was_off_are_not_held_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("pneumod"), "propagate", True)
    with opened(tmp_path) as store:
        store.load()
        one, two, three = (store.blobs.write(text).digest for text in (b"one", b"two", b"three"))
        (store.blobs.folder / one).write_bytes(b"onE")
        (store.blobs.folder / three).unlink()
        (store.blobs.folder / three).symlink_to("/proc/self/mem")
    with opened(tmp_path) as store:
        assert store.load()[2] == {two}
        assert (store.blobs.folder / f"{one}.damaged").read_bytes() == b"onE"
    told = {f"{store.blobs.folder / digest} is damaged: set aside as {digest}.damaged" for digest in (one, three)}
    assert {record.getMessage() for record in caplog.records} == told


async def test_keep_deletes_what_is_not_named(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        one, two, three = (store.blobs.write(text).digest for text in (b"1", b"2", b"3"))
        await store.keep(frozenset({one, three, digest_of(b"elsewhere")}))
        assert store.load()[2] == {one, three}
        assert store.blobs.read(two) is None


def receipt(round_: int, previous: bytes | None) -> bytes:
    header = {"run": "run-b", "round": round_, "previous": None, "previous_bytes": None}
    if previous is not None:
        header |= {"previous": digest_of(previous), "previous_bytes": len(previous)}
    return wire.encode_document(wire.Document("receipt", header))


async def test_a_receipt_is_archived_and_outlives_keep(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.load()
        ref = store.blobs.write(receipt(12, None))
        await store.archive(ref.digest, "run-b", 12)
        await store.archive(digest_of(b"not here"), "run-b", 13)
        await store.keep(frozenset())
        assert store.blobs.read(ref.digest) is None
        assert await store.read(ref.digest) == receipt(12, None)
    assert [p.name for p in (tmp_path / "receipts" / "run-b").iterdir()] == ["00012.msgpack"]
    assert (tmp_path / "receipts" / "run-b" / "00012.msgpack").read_bytes() == receipt(12, None)


async def test_archiving_tells_what_is_missing_before_it(tmp_path: Path) -> None:
    first = receipt(1, None)
    with opened(tmp_path) as store:
        store.load()
        second = store.blobs.write(receipt(2, first)).digest
        missing = await store.archive(second, "run-b", 2)
        assert missing == ReceiptMissing(BlobRef(digest_of(first), len(first)), "run-b", 1)
        await store.persist(replace(DURABLE, closed=replace(CLOSED, receipt=BlobRef(second, 1))))
    with opened(tmp_path) as store:
        store.load()
        assert store.missing == missing, "also at the next start"
        store.blobs.write(first)
        assert await store.archive(missing.blob.digest, missing.run, missing.round) is None
        assert await store.archive(second, "run-b", 2) is None


async def test_a_crash_before_the_receipt_is_archived_is_made_up_for(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.load()
        newest = store.blobs.write(receipt(2, None))
        await store.persist(replace(DURABLE, closed=replace(CLOSED, run="run-b", round=2, receipt=newest)))
    with opened(tmp_path) as store:
        store.load()
        assert newest.digest in store.receipts
    assert (tmp_path / "receipts" / "run-b" / "00002.msgpack").read_bytes() == receipt(2, None)


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
        header = {"run": "run-b", "round": 1, "previous": None, "previous_bytes": None}
        ref = store.blobs.write(wire.encode_document(wire.Document("receipt", header)))
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
