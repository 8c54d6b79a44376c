"""Content-addressed blobs on a disk."""

from __future__ import annotations

import os
import shutil
import subprocess
from errno import EIO
from hashlib import blake2b
from pathlib import Path

import pytest

from pneumod.blobs import CHUNK_BYTES, BlobFolder, chunk_count, digest_of, refusal, write_atomic
from pneumod.messages import BlobRef
from tests.disks import small_disk


@pytest.fixture
def blobs(tmp_path: Path) -> BlobFolder:
    return BlobFolder(tmp_path / "state" / "blobs")


def test_a_blob_is_named_by_its_bytes(blobs: BlobFolder) -> None:
    reference = blobs.write(b"weights")
    assert reference == BlobRef(blake2b(b"weights", digest_size=32).hexdigest(), 7)
    assert blobs.read(reference.digest) == b"weights"
    assert blobs.digests() == {reference.digest}


def test_a_blob_that_is_not_here_reads_as_none(blobs: BlobFolder) -> None:
    assert blobs.read("0" * 64) is None


def test_writing_the_same_twice_writes_once(blobs: BlobFolder) -> None:
    first = blobs.write(b"weights")
    before = (blobs.folder / first.digest).stat()
    assert blobs.write(b"weights") == first
    assert (blobs.folder / first.digest).stat().st_ino == before.st_ino


def test_a_damaged_blob_is_set_aside_and_may_be_written_again(blobs: BlobFolder) -> None:
    reference = blobs.write(b"weights")
    (blobs.folder / reference.digest).write_bytes(b"weightz")
    assert blobs.read(reference.digest) is None
    assert (blobs.folder / f"{reference.digest}.damaged").read_bytes() == b"weightz"
    assert blobs.digests() == frozenset()
    blobs.write(b"weights")
    assert blobs.read(reference.digest) == b"weights"


def test_keep_deletes_what_is_not_named(blobs: BlobFolder) -> None:
    kept, gone = blobs.write(b"kept"), blobs.write(b"gone")
    blobs.keep(frozenset({kept.digest, "f" * 64}))
    assert blobs.digests() == {kept.digest}
    assert blobs.read(gone.digest) is None


def test_keep_deletes_what_a_killed_process_had_half_written(blobs: BlobFolder) -> None:
    killed = subprocess.Popen(["true"])
    killed.wait()
    forsaken = blobs.folder / f".{'a' * 64}.{killed.pid}.tmp"
    wanted = [blobs.folder / name for name in (f".{'b' * 64}.{os.getpid()}.tmp", f".{'c' * 64}-3.tmp")]
    for path in (forsaken, *wanted):
        path.touch()
    blobs.keep(frozenset())
    assert sorted(blobs.folder.iterdir()) == wanted, "what is being written, and fetched, stays"


def test_a_crash_in_the_middle_of_a_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.msgpack"
    write_atomic(path, b"old")

    def power_cut(_: int) -> None:
        raise OSError(EIO, "power cut")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", power_cut)
        with pytest.raises(OSError, match="power cut"):
            write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"


def test_a_write_that_fails_leaves_nothing_and_names_its_file(tmp_path: Path) -> None:
    """What is half written would keep the space that a full disk lacks."""
    with small_disk(tmp_path / "disk", 1) as disk:
        path = disk.folder / "model"
        write_atomic(path, b"old")
        with pytest.raises(OSError, match="No space left") as caught:
            write_atomic(path, bytes(2**21))
        assert refusal(caught.value, tmp_path) == f"{path}: No space left on device; free space or fix rights"
        assert [(p.name, p.read_bytes()) for p in disk.folder.iterdir()] == [("model", b"old")]
        assert shutil.disk_usage(disk.folder).free > 2**19


def test_a_damaged_blob_is_replaced_by_a_write(blobs: BlobFolder) -> None:
    reference = blobs.write(b"weights")
    (blobs.folder / reference.digest).write_bytes(b"weightz")
    assert blobs.write(b"weights") == reference
    assert blobs.read(reference.digest) == b"weights"


def test_a_bad_sector_is_damage(blobs: BlobFolder) -> None:
    whole, bad = blobs.write(b"whole").digest, "0" * 64
    (blobs.folder / bad).symlink_to("/proc/self/mem")  # reading it from its start is an I/O error
    assert blobs.whole() == {whole}
    assert blobs.digests() == {whole}
    assert (blobs.folder / f"{bad}.damaged").is_symlink()


def test_half_written_files_are_no_blobs(blobs: BlobFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def power_cut(_: int) -> None:
        raise OSError(EIO, "power cut")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", power_cut)
        with pytest.raises(OSError, match="power cut"):
            blobs.write(b"weights")
    assert blobs.digests() == frozenset()
    assert blobs.read(digest_of(b"weights")) is None


def test_the_bytes_are_on_the_disk_before_the_name_appears(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "blob"
    seen: list[bool] = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (seen.append(path.exists()), fsync(descriptor))[1])
    write_atomic(path, b"data")
    assert seen == [False, True]  # the file, then the folder with its new name
    assert [p.name for p in tmp_path.iterdir()] == ["blob"]


@pytest.mark.parametrize(
    ("size_bytes", "chunks"), [(0, 1), (1, 1), (CHUNK_BYTES, 1), (CHUNK_BYTES + 1, 2), (10 * CHUNK_BYTES, 10)]
)
def test_chunks_of_a_blob(size_bytes: int, chunks: int) -> None:
    assert chunk_count(size_bytes) == chunks
