"""What must be true after every run, read from the disks and the logs of the nodes."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

from msgspec import Struct

from pneumod import wire
from pneumod.blobs import digest_of
from tests.chaos.cluster import Cluster


class Tally(Struct):
    """Of one run, as (node, round): how many there are, whose update no receipt counts, and who trained again."""

    updates: int
    lost: list[tuple[int, int]]
    twice: list[tuple[int, int]]


def check_run(
    cluster: Cluster,
    run: str,
    rounds: int,
    ended: str,
    absent: frozenset[int] = frozenset(),
) -> Tally:
    """Check that a run ended as asked, on all nodes alike, and count what was lost or done twice.

    Args:
        rounds: that trained.
        absent: nodes that were away for whole rounds: these need not count nor have every receipt.

    Raises:
        AssertionError: what does not hold.
    """
    _check_models(cluster, run, ended)
    headers = _check_receipts(cluster, run, absent)
    trained = trainings(cluster, run)
    counted = {(node, header["round"]) for header in headers for node, *_ in header["counted"]}
    due = [(node, number) for number in range(1, rounds + 1) for node in sorted(cluster.nodes - absent)]
    return Tally(
        len(due), [pair for pair in due if pair not in counted], [p for p, times in trained.items() if times > 1]
    )


def trainings(cluster: Cluster, run: str) -> Counter[tuple[int, int]]:
    """How often each (node, round) of a run was trained, by the logs."""
    found: Counter[tuple[int, int]] = Counter()
    for node in cluster.nodes:
        said = re.findall(rf" {run}: round (\d+) trained on", cluster.log(node))
        found.update((node, int(number)) for number in said)
    return found


def receipts(cluster: Cluster, node: int, run: str) -> dict[int, bytes]:
    """The receipts that a node keeps of a run, by round."""
    folder: Path = cluster.folder / f"state{node}" / "receipts" / run
    return {int(path.stem): path.read_bytes() for path in sorted(folder.glob("*.msgpack"))}


def _check_models(cluster: Cluster, run: str, ended: str) -> None:
    """Every node knows the same end of the run, and has the whole model on its disk."""
    seen = set()
    for node in sorted(cluster.nodes):
        durable = cluster.remembered(node)
        assert durable.closed is not None, f"node {node} has no model"
        assert durable.closed.run == run, f"node {node} is in run {durable.closed.run}"
        told = durable.closed.ended or "it goes on"
        assert told.startswith(ended), f"node {node} believes of the run: {told}"
        digest = durable.closed.model.digest
        assert digest_of(cluster.blob_path(node, digest).read_bytes()) == digest, f"node {node} has damaged bytes"
        seen.add((durable.closed.round, digest, durable.closed.receipt))
    assert len(seen) == 1, f"different ends: {seen}"


def _check_receipts(cluster: Cluster, run: str, absent: frozenset[int]) -> list[dict[str, Any]]:
    """The headers of the run's receipts, which are alike on all nodes and form one chain."""
    kept = {node: receipts(cluster, node, run) for node in sorted(cluster.nodes)}
    closed = cluster.remembered(min(cluster.nodes)).closed
    assert closed is not None
    whole: dict[int, bytes] = {}
    for node, mine in kept.items():
        for number, data in mine.items():
            assert whole.setdefault(number, data) == data, f"node {node} has another receipt of round {number}"
        wanted = {closed.round} if node in absent else set(range(1, closed.round + 1))
        assert wanted <= mine.keys(), f"node {node} lacks the receipts of rounds {sorted(wanted - mine.keys())}"
    previous, headers = None, []
    for number in range(1, closed.round + 1):
        assert number in whole, f"nobody has the receipt of round {number}"
        header = wire.decode_document(whole[number], "receipt").header
        assert (header["round"], header["previous"]) == (number, previous), f"the receipt of round {number} hangs loose"
        previous = digest_of(whole[number])
        headers.append(header)
    return headers
