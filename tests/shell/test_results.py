"""What came of a batch's items, on the disk: nothing that was synced is lost, and nothing torn is believed."""

from __future__ import annotations

from pathlib import Path

import pytest

from pneumod import desk
from pneumod.core.actions import Durable
from pneumod.desk import Came
from pneumod.shell.results import Results, _check
from pneumod.shell.store import Store
from tests.disks import small_disk

BATCH = "batch-1"
FIVE = [Came(item, bytes([item]) * 1000 * item, 2) for item in range(5)]


def told(results: Results) -> list[Came]:
    """All that a command would hear."""
    frames, start = bytearray(), 0
    while (part := results.read(start))[0]:
        frames += part[0]
        start = part[1]
    came = []
    while frames:
        (size,) = desk.HEADER.unpack(frames[:4])
        came.append(desk.unpack_frame(bytes(frames[4 : 4 + size])))
        del frames[: 4 + size]
    assert all(isinstance(one, Came) for one in came)
    return [one for one in came if isinstance(one, Came)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "results"


@pytest.fixture
def kept(folder: Path) -> Path:
    """The file of five items."""
    results = Results(folder)
    assert results.begin(BATCH, anew=True) == frozenset()
    for came in FIVE:
        results.append(came)
    results.sync()
    assert told(results) == FIVE
    return folder / BATCH


def test_what_was_appended_is_there_again(folder: Path, kept: Path) -> None:
    again = Results(folder)
    assert again.begin(BATCH, anew=False) == frozenset(range(5))
    again.append(Came(7, b"more", 3, "a reason"))
    assert told(again) == [*FIVE, Came(7, b"more", 3, "a reason")]
    again.end()
    assert list(folder.iterdir()) == []
    again.append(FIVE[0])
    assert told(again) == []


def test_a_torn_tail_is_cut_at_whichever_byte(folder: Path, kept: Path) -> None:
    whole = kept.read_bytes()
    four = len(whole) - len(desk.pack_frame(FIVE[4])) - 8
    for end in (four, four + 1, four + 8, four + 11, four + 12, four + 500, len(whole) - 1):
        kept.write_bytes(whole[:end])
        again = Results(folder)
        assert again.begin(BATCH, anew=False) == frozenset(range(4)), end
        again.append(FIVE[4])
        assert told(again) == FIVE, end


@pytest.mark.parametrize("damage", [bytes(500), b"\xff" * 500])
def test_a_tail_of_the_right_length_that_was_never_written_is_cut(folder: Path, kept: Path, damage: bytes) -> None:
    whole = kept.read_bytes()
    kept.write_bytes(whole[: -len(damage)] + damage)
    again = Results(folder)
    assert again.begin(BATCH, anew=False) == frozenset(range(4))
    assert told(again) == FIVE[:4]


def test_what_the_disk_refuses_leaves_all_as_it_was(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1) as disk:
        results = Results(disk.folder / "results")
        results.begin(BATCH, anew=True)
        results.append(FIVE[1])
        disk.filler.write_bytes(bytes(1024 * 1024 - 150_000))
        with pytest.raises(OSError, match="No space"):
            results.append(Came(7, bytes(190_000), 2))
        assert told(results) == [FIVE[1]]
        results.append(FIVE[2])
        results.sync()
        again = Results(disk.folder / "results")
        assert again.begin(BATCH, anew=False) == {1, 2}
        results.end()
        assert list((disk.folder / "results").iterdir()) == []


def test_another_batch_takes_the_place_of_the_first(folder: Path, kept: Path) -> None:
    again = Results(folder)
    assert again.begin("batch-2", anew=False) == frozenset()
    assert not kept.exists()
    assert again.begin("batch-2", anew=True) == frozenset()
    assert told(again) == []


def test_nobody_else_may_read_it(kept: Path) -> None:
    assert kept.parent.stat().st_mode & 0o077 == 0


async def test_what_came_is_synced_before_the_state_that_counts_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, order = Store(tmp_path), list[str]()
    sync, write = store.results.sync, store._write
    monkeypatch.setattr(store.results, "sync", lambda: (order.append("results"), sync()))
    monkeypatch.setattr(store, "_write", lambda durable: (order.append("state"), write(durable)))
    await store.persist(Durable())
    store.close()
    assert order == ["results", "state"]


def test_a_frame_of_another_version_is_where_a_batch_begins_anew(folder: Path, kept: Path) -> None:
    frame = desk.HEADER.pack(5) + b"other"
    with kept.open("ab") as file:
        file.write(_check(frame) + frame)
    again = Results(folder)
    assert again.begin(BATCH, anew=False) == frozenset(range(5))
    assert told(again) == FIVE
