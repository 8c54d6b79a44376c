"""One blob in chunks: what is kept, what is asked for, what is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from pneumod.blobs import CHUNK_BYTES, BlobFolder, digest_of
from pneumod.shell.assembly import MAX_FRESH, SYNC_BYTES, Assembly, Pull, Spool
from tests.disks import small_disk

FULL = bytes(CHUNK_BYTES)
SIZE_BYTES = 2 * CHUNK_BYTES + 10  # of a blob of three chunks


def assembly(size_bytes: int | None = SIZE_BYTES, count: int = 3) -> Assembly:
    one = Assembly(count)
    if size_bytes is not None:
        one.expect(size_bytes)
    return one


@pytest.mark.parametrize(("index", "size_bytes"), [(0, 10), (1, CHUNK_BYTES - 1), (2, CHUNK_BYTES), (2, 9), (2, 0)])
def test_a_chunk_that_does_not_fit_its_place_is_refused(index: int, size_bytes: int) -> None:
    one = assembly()
    assert not one.add(index, bytes(size_bytes))
    assert list(one.missing()) == [0, 1, 2]
    assert not one.grew.is_set()


def test_chunks_that_came_before_the_size_was_known_are_checked_by_it() -> None:
    one = assembly(None)
    assert one.add(0, b"forged")
    assert one.add(1, FULL)
    one.expect(SIZE_BYTES)
    assert one.fresh == {1: FULL}
    assert list(one.missing()) == [0, 2]


def test_it_is_whole_once_all_that_came_was_taken() -> None:
    one = assembly()
    for index, data in enumerate((FULL, FULL, bytes(10))):
        one.add(index, data)
    assert not one.whole
    assert list(one.take()) == [0, 1, 2]
    assert one.whole
    assert one.add(1, FULL), "a repeated one is no fault"
    assert one.take() == {}


def test_a_part_is_asked_for_at_a_time_and_the_next_when_it_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pneumod.shell.assembly.WANT_CHUNKS", 2)
    one = assembly()
    pull = Pull(one, (7, 8), announced=False)
    assert pull.next() == ("7", (0, 1))
    one.add(0, FULL)
    assert pull.next() is None, "the other is on its way"
    one.add(1, FULL)
    assert pull.next() == ("7", (2,))
    pull.silence()
    assert pull.next() == ("8", (2,))
    one.add(2, bytes(10))
    assert pull.next() is None


def test_what_is_sent_to_all_is_asked_for_after_a_silence_only() -> None:
    pull = Pull(assembly(), (7,), announced=True)
    assert pull.next() is None
    pull.silence()
    assert pull.next() == ("7", (0, 1, 2))
    assert Pull(assembly(), (), announced=False).next() is None


def test_a_spooled_blob_is_adopted_only_with_its_digest(tmp_path: Path) -> None:
    blobs = BlobFolder(tmp_path)
    path, parts = tmp_path / ".one.tmp", [b"\x01" * CHUNK_BYTES, b"\x02" * CHUNK_BYTES, b"\x03" * 10]
    digest = digest_of(b"".join(parts))
    spool = Spool(path)
    spool.reserve(SIZE_BYTES)
    spool.write({2: parts[2], 0: parts[0]})
    spool.write({1: b"\xff" * CHUNK_BYTES})
    assert not blobs.adopt(path, digest)
    assert blobs.digests() == frozenset()
    spool.write({1: parts[1]})
    assert blobs.adopt(path, digest)
    assert blobs.read(digest) == b"".join(parts)
    assert not path.exists()


def test_what_is_spooled_is_synced_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    monkeypatch.setattr("os.fsync", synced.append)
    spool = Spool(tmp_path / "spool")
    spool.reserve(SIZE_BYTES)
    chunks = 2 * SYNC_BYTES // CHUNK_BYTES + 4
    for index in range(chunks):
        spool.write({index: FULL})
    assert len(synced) == 2


def test_what_waits_for_a_slow_disk_is_bounded_and_asked_for_again() -> None:
    one = Assembly(MAX_FRESH + 2)
    one.expect((MAX_FRESH + 2) * CHUNK_BYTES)
    assert [one.add(index, FULL) for index in range(MAX_FRESH + 2)] == MAX_FRESH * [True] + [False, False]
    assert len(one.fresh) == MAX_FRESH
    one.take()
    assert list(one.missing()) == [MAX_FRESH, MAX_FRESH + 1]
    assert one.add(MAX_FRESH, FULL)


def test_the_space_of_a_blob_is_taken_at_once_or_not_at_all(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1) as disk:
        spool = Spool(disk.folder / ".one.tmp")
        with pytest.raises(OSError, match="No space left"):
            spool.reserve(2 * 1024 * 1024)
        spool.remove()
        spool.remove()
        assert list(disk.folder.iterdir()) == []
        spool.reserve(SIZE_BYTES)
        assert spool.path.stat().st_blocks * 512 >= SIZE_BYTES
