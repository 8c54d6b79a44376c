"""The receipts that a node keeps: found by digest, chained, and never trusted to be whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from pneumod import wire
from pneumod.blobs import digest_of
from pneumod.core.events import ReceiptMissing
from pneumod.messages import BlobRef
from pneumod.shell.receipts import MAX_RECEIPT_BYTES, Receipts

RUN = "run-b"


def chain(count: int) -> list[bytes]:
    """Receipts of the rounds 1, 2, …, each naming the one before."""
    made: list[bytes] = []
    for number in range(1, count + 1):
        before = made[-1] if made else None
        header = {"run": RUN, "round": number, "previous": None, "previous_bytes": None}
        if before is not None:
            header |= {"previous": digest_of(before), "previous_bytes": len(before)}
        made.append(wire.encode_document(wire.Document("receipt", header)))
    return made


def kept(folder: Path, receipts: list[bytes]) -> Receipts:
    found = Receipts(folder)
    for number, data in enumerate(receipts, 1):
        found.add(data, RUN, number)
    return found


def scanned(folder: Path) -> Receipts:
    found = Receipts(folder)
    found.scan()
    return found


def test_receipts_are_found_by_their_digests_also_after_a_start(tmp_path: Path) -> None:
    made = chain(3)
    for receipts in (kept(tmp_path, made), scanned(tmp_path)):
        assert [receipts.read(digest_of(data)) for data in made] == made
        assert digest_of(b"another") not in receipts
        assert receipts.read(digest_of(b"another")) is None
        assert receipts.gap(digest_of(made[-1])) is None
    assert [p.name for p in sorted((tmp_path / RUN).iterdir())] == ["00001.msgpack", "00002.msgpack", "00003.msgpack"]


def test_a_gap_is_the_first_that_is_missing_on_the_way_back(tmp_path: Path) -> None:
    made = chain(5)
    kept(tmp_path, made)
    for number in (2, 3):
        (tmp_path / RUN / f"{number:05}.msgpack").unlink()
    receipts = scanned(tmp_path)
    newest = digest_of(made[4])
    for number in (3, 2):
        data = made[number - 1]
        assert receipts.gap(newest) == ReceiptMissing(BlobRef(digest_of(data), len(data)), RUN, number)
        receipts.add(data, RUN, number)
    assert receipts.gap(newest) is None


@pytest.mark.parametrize("how", ["truncated", "flipped"])
def test_a_damaged_receipt_shows_as_a_gap_and_gives_way_to_a_good_one(tmp_path: Path, how: str) -> None:
    made = chain(3)
    kept(tmp_path, made)
    damaged = made[1][:-3] if how == "truncated" else made[1].replace(b"run-b", b"run-c")
    (tmp_path / RUN / "00002.msgpack").write_bytes(damaged)
    receipts = scanned(tmp_path)
    gap = receipts.gap(digest_of(made[2]))
    assert gap is not None
    assert gap.blob.digest == digest_of(made[1])
    receipts.add(made[1], RUN, 2)
    assert receipts.gap(digest_of(made[2])) is None
    assert (tmp_path / RUN / "00002.msgpack").read_bytes() == made[1]
    assert (tmp_path / RUN / "00002.msgpack.damaged").read_bytes() == damaged


def test_one_that_rots_while_the_node_runs_is_not_served(tmp_path: Path) -> None:
    made = chain(2)
    receipts = kept(tmp_path, made)
    (tmp_path / RUN / "00001.msgpack").write_bytes(made[1])
    assert receipts.read(digest_of(made[0])) is None
    assert digest_of(made[0]) not in receipts
    assert receipts.gap(digest_of(made[1])) is not None


@pytest.mark.parametrize(
    "wrong",
    [
        {"previous_bytes": 2**53},
        {"previous_bytes": MAX_RECEIPT_BYTES + 1},
        {"previous_bytes": 0},
        {"previous": "../../etc/passwd"},
        {"previous": "F" * 64},
        {"round": 0},
    ],
)
def test_what_is_no_receipt_is_not_kept(tmp_path: Path, wrong: dict[str, object]) -> None:
    """A size from a peer would be fetched, whatever memory that takes."""
    header = {"run": RUN, "round": 2, "previous": "f" * 64, "previous_bytes": 10} | wrong
    data = wire.encode_document(wire.Document("receipt", header))
    receipts = kept(tmp_path, [data])
    assert digest_of(data) not in receipts
    assert list(tmp_path.rglob("*.*")) == []
    path = tmp_path / RUN / "00002.msgpack"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    assert digest_of(data) not in scanned(tmp_path)
    assert [p.name for p in path.parent.iterdir()] == ["00002.msgpack.damaged"]


def test_a_receipt_that_gave_way_is_forgotten_and_asking_for_it_leaves_the_good_one(tmp_path: Path) -> None:
    """Two masters closed the round; a peer may still want the receipt that isn't of the chain."""
    of_another = wire.encode_document(
        wire.Document("receipt", {"run": RUN, "round": 1, "previous": None, "previous_bytes": None, "metrics": 1})
    )
    (good,) = chain(1)
    receipts = kept(tmp_path, [of_another])
    receipts.add(good, RUN, 1)
    assert digest_of(of_another) not in receipts
    assert receipts.read(digest_of(of_another)) is None
    assert receipts.read(digest_of(good)) == good
