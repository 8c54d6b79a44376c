"""Prepared pixels on the disk: what a crash, a full disk or a rotten file leaves is whole, or made anew."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pneumod.images import cache as module
from pneumod.images.cache import Busy, Cache, open_cache
from pneumod.images.pool import DIED, HUNG
from pneumod.settings import Preparation
from tests.disks import small_disk

SMALL = Preparation(28)

# Fills the cache in argv[1] with the files argv[2:], whose pixels follow from their names.
FILLER = """
import os, signal, sys; from pathlib import Path; import numpy as np
from pneumod.images import cache as module
from pneumod.images.cache import open_cache
from pneumod.settings import Preparation
module.GROUP = 5
{before}
with open_cache(Path(sys.argv[1]), Preparation(28), print) as cache:
    cache.see(map(Path, sys.argv[2:]))
    for path in cache.index.missing():
        cache.add(path, np.full((28, 28), int(path.name), np.uint8))
        print(path.name, flush=True)
    cache.flush()
"""


def nothing_said(text: str) -> None:
    raise AssertionError(text)


def opened(folder: Path, say: Callable[[str], None] = nothing_said) -> Cache:
    return open_cache(folder, SMALL, say)


def make_files(folder: Path, count: int) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number}" for number in range(count)]
    for path in paths:
        path.touch()
    return paths


def put(cache: Cache, paths: list[Path], within: Path | None = None) -> list[str]:
    """Fill what is missing; the names of these."""
    cache.see(paths, within)
    missing = list(cache.index.missing())
    for path in missing:
        cache.add(path, np.full((28, 28), int(path.name) % 256, np.uint8))
    cache.flush()
    return [path.name for path in missing]


def whole(cache: Cache) -> set[str]:
    """The names of the files in the cache; each has its own pixels."""
    array, names = cache.array(), set()
    for entry in cache.index.entries():
        assert entry.row is not None
        assert (array[entry.row] == int(entry.path.name) % 256).all()
        assert zlib.crc32(array[entry.row].data) == entry.crc
        names.add(entry.path.name)
    return names


def test_what_was_kept_is_there_when_it_is_opened_again(tmp_path: Path) -> None:
    paths = make_files(tmp_path / "x", 10)
    with opened(tmp_path / "c") as cache:
        assert len(put(cache, paths)) == 10
    with opened(tmp_path / "c") as cache:
        assert put(cache, paths) == []
        assert whole(cache) == {path.name for path in paths}


def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    for folder in (tmp_path / "c", tmp_path / "new"):
        with opened(folder) as cache:
            put(cache, make_files(tmp_path / "x", 3))
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "c").iterdir()} == {0o600}


def test_a_kill_between_the_pixels_and_the_index_leaves_what_was_before(tmp_path: Path) -> None:
    paths = make_files(tmp_path / "x", 20)
    before = (
        "real = os.fdatasync; calls = []\n"
        "def sync(descriptor):\n"
        "    calls.append(real(descriptor))\n"
        "    if len(calls) == 3: os.kill(os.getpid(), signal.SIGKILL)\n"
        "os.fdatasync = sync"
    )
    command = [sys.executable, "-c", FILLER.format(before=before), tmp_path / "c", *paths]
    assert subprocess.run(command, stdout=subprocess.DEVNULL).returncode == -signal.SIGKILL
    assert (tmp_path / "c" / "28.0.u8").stat().st_size == 15 * 28**2, "three groups of pixels were written"
    with opened(tmp_path / "c") as cache:
        cache.see(paths)
        assert len(whole(cache)) == 10, "of which the index names two"
        assert len(put(cache, paths)) == 10
        assert len(whole(cache)) == 20
    assert (tmp_path / "c" / "28.0.u8").stat().st_size == 20 * 28**2


def test_kills_at_any_moment_lose_no_more_than_a_group(tmp_path: Path) -> None:
    paths = make_files(tmp_path / "x", 120)
    command = [sys.executable, "-c", FILLER.format(before=""), tmp_path / "c", *paths]
    done = 0
    for after in (1, 4, 5, 6, 11, 20):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for _ in range(after):
                process.stdout.readline()
            process.kill()
            added = after + len(process.stdout.readlines())
        with opened(tmp_path / "c") as cache:
            cache.see(paths)
            names = whole(cache)
        assert len(names) >= done + added - 5 - 1
        done = len(names)
    assert done < 120
    with opened(tmp_path / "c") as cache:
        assert len(put(cache, paths)) == 120 - done
        assert len(whole(cache)) == 120


DAMAGES: dict[str, tuple[str, Callable[[bytes], bytes | None], str]] = {
    "index cut off": ("28.sqlite", lambda data: data[: len(data) // 2], "malformed"),
    "index of zeros": ("28.sqlite", lambda data: bytes(len(data)), "file is not a database"),
    "index empty": ("28.sqlite", lambda data: b"", "of another version"),
    "index overwritten": ("28.sqlite", lambda data: data[:5000] + bytes(4000) + data[9000:], "malformed|damaged"),
    "array cut off": ("28.0.u8", lambda data: data[:-1], "its array is cut off or missing"),
    "array missing": ("28.0.u8", lambda data: None, "its array is cut off or missing"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_cache_is_made_anew_and_it_says_so(tmp_path: Path, damage: str) -> None:
    paths = make_files(tmp_path / "x", 200)
    with opened(tmp_path / "c") as cache:
        put(cache, paths)
    name, change, why = DAMAGES[damage]
    file = tmp_path / "c" / name
    data = change(file.read_bytes())
    file.unlink() if data is None else file.write_bytes(data)
    said: list[str] = []
    with opened(tmp_path / "c", said.append) as cache:
        assert len(put(cache, paths)) == len(whole(cache)) == 200
    (line,) = said
    assert line.startswith(f"{tmp_path}/c/28.sqlite: ")
    assert line.endswith("; the cache is made anew")
    assert any(part in line for part in why.split("|"))


def test_a_second_process_is_told_who_has_the_cache(tmp_path: Path) -> None:
    with opened(tmp_path / "c"):
        with pytest.raises(Busy) as refusal, opened(tmp_path / "c"):
            pass
        assert str(refusal.value) == (f"{tmp_path}/c: process {os.getpid()} is at work on this cache; let it end first")
        with open_cache(tmp_path / "c", Preparation(32), nothing_said):
            pass  # another preparation is another cache
    with opened(tmp_path / "c"):
        pass


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FILLER.format(before=""), tmp_path / "c", *make_files(tmp_path / "x", 50)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(Busy, match=f"process {process.pid} is at work"), opened(tmp_path / "c"):
            pass
        process.kill()
        process.wait()
    with opened(tmp_path / "c"):
        pass


def test_only_what_lies_in_the_folder_is_forgotten_when_only_it_was_looked_through(tmp_path: Path) -> None:
    inside, beside = make_files(tmp_path / "x" / "train", 3), make_files(tmp_path / "x" / "train2", 3)
    with opened(tmp_path / "c") as cache:
        put(cache, inside + beside)
        cache.see(inside[:1], within=tmp_path / "x" / "train")
        cache.see(inside + beside)
        assert list(cache.index.missing()) == inside[1:]
        cache.see(beside)
        cache.see(inside + beside)
        assert list(cache.index.missing()) == inside


def test_a_folder_that_is_empty_for_now_forgets_nothing(tmp_path: Path) -> None:
    paths = make_files(tmp_path / "x", 3)
    with opened(tmp_path / "c") as cache:
        put(cache, paths)
        assert cache.see([], within=tmp_path / "x") == 0
        assert put(cache, paths) == []


def test_an_array_that_is_mostly_holes_is_copied_without_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEAST_HOLES", 10)
    paths = make_files(tmp_path / "x", 100)
    with opened(tmp_path / "c") as cache:
        put(cache, paths)
        cache.see(paths[60:])
        assert (tmp_path / "c" / "28.1.u8").stat().st_size == 40 * 28**2
        assert len(whole(cache)) == 40
        assert len(put(cache, paths)) == 60
        assert len(whole(cache)) == 100
    with opened(tmp_path / "c") as cache:
        assert put(cache, paths) == []
        assert len(whole(cache)) == 100
    assert sorted(file.name for file in (tmp_path / "c").glob("*.u8")) == ["28.1.u8"]


def test_a_copy_that_was_cut_off_is_removed(tmp_path: Path) -> None:
    paths = make_files(tmp_path / "x", 3)
    with opened(tmp_path / "c") as cache:
        put(cache, paths)
    (tmp_path / "c" / "28.1.u8").write_bytes(b"half")
    with opened(tmp_path / "c") as cache:
        cache.see(paths)
        assert len(whole(cache)) == 3
    assert not (tmp_path / "c" / "28.1.u8").exists()


def test_reasons_are_told_again_and_passing_ones_tried_again(tmp_path: Path) -> None:
    paths = make_files(tmp_path / "x", 4)
    reasons = ["the file is empty", "can't be read: Permission denied", DIED, HUNG]
    with opened(tmp_path / "c") as cache:
        cache.see(paths)
        for path, reason in zip(paths, reasons, strict=True):
            cache.add(path, reason)
        cache.flush()
        assert [entry.reason for entry in cache.index.entries()] == reasons
    with opened(tmp_path / "c") as cache:
        cache.see(paths)
        assert [entry.reason for entry in cache.index.entries()] == reasons[:1]
        assert list(cache.index.missing()) == paths[1:]


def test_a_full_disk_is_an_error_that_loses_nothing(tmp_path: Path) -> None:
    paths = make_files(tmp_path / "x", 1000)
    with small_disk(tmp_path / "disk", 1) as disk:
        folder = disk.folder / "c"
        with opened(folder) as cache:
            assert len(put(cache, paths[:100])) == 100
        disk.fill()
        with opened(folder) as cache:
            cache.see(paths[:100])
            assert len(whole(cache)) == 100, "what is there can be read"
        with pytest.raises(OSError, match="No space left") as refusal, opened(folder) as cache:
            put(cache, paths[:200])
        assert refusal.value.filename == str(folder)
        disk.free()
        with opened(folder) as cache:
            assert len(put(cache, paths[:200])) == 100
            assert len(whole(cache)) == 200


def test_a_folder_that_cannot_be_written_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "28.sqlite").mkdir()
    with pytest.raises(OSError, match="unable to open database file") as refusal, opened(tmp_path / "c"):
        pass
    assert refusal.value.filename == str(tmp_path / "c")
    assert isinstance(refusal.value.__cause__, sqlite3.Error)
