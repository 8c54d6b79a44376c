"""What the demo says at its end, and that it says what went wrong."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from pneumod.client import Operator
from pneumod.demo import federation
from pneumod.demo.cluster import DemoCluster
from pneumod.demo.federation import Federation, Traffic
from pneumod.demo.report import print_report
from pneumod.demo.results import NodeResult
from pneumod.demo.sites import Site
from pneumod.errors import DataError, PneumodError
from pneumod.messages import Best, BlobRef, Card, ClassCounts, RoundClosed, RunSettings, Summary, Takeover, Term
from pneumod.view import ClusterView, NodeView

BLOB = BlobRef("a" * 64, 9)
OLD, NEW = Term(1, 1, 100), Term(2, 2, 100)
BEST = Best(1, 0.9, 0.4, BLOB)
COUNTS = ClassCounts(4, 4, 2, 2)


def closed(takeovers: tuple[Takeover, ...] = (), best: Best | None = BEST) -> RoundClosed:
    summary = Summary(2, (), 0, 0.5, 10, 9, 8, takeovers)
    return RoundClosed("run-a", 1, 1, NEW, BLOB, BLOB, (), best=best, summary=summary, ended="all 1 rounds done")


def report(last: RoundClosed, killed: int | None) -> str:
    out = Console(file=io.StringIO(), width=200)
    told = Federation("run-a", [last], {1: Traffic()}, ready_s=1.0, run_s=2.0, killed=killed)
    print_report(out, True, told, [NodeResult(1, "one", COUNTS, 0.8, 1.0, 0.9, "a" * 64)], None)
    return out.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def test_a_takeover_is_told_with_what_it_kept_and_no_more() -> None:
    text = report(closed((Takeover(OLD, NEW, 3),)), killed=1)
    assert "Takeover in round 1: term 1 -> 2, 3 updates kept.\n" in text
    assert "no round went through two masters" not in text


@pytest.mark.parametrize(("killed", "told"), [(1, True), (None, False)])
def test_a_killed_master_without_a_takeover_is_told(killed: int | None, told: bool) -> None:
    sentence = "Node 1 was killed as master, but no round went through two masters."
    assert (sentence in report(closed(), killed)) is told


class Watcher(Operator):
    """An operator whose view is as it is."""

    def __init__(self, view: ClusterView) -> None:
        self.view = view

    async def until(self, condition: Callable[[ClusterView], bool], limit_s: float) -> bool:
        return condition(self.view) or limit_s == 0

    async def request_run(self, settings: RunSettings) -> str:
        return "run-a"


def end_of_run(counts: ClassCounts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Follow a run on one node, which ends at once without a best model."""
    monkeypatch.setattr(federation, "_ready", lambda view, nodes: True)
    view = ClusterView({1: NodeView(1, Card("one", "1", 1, counts))}, rounds={1: closed(best=None)})
    cluster = DemoCluster(Path(), [Site(1, "one", Path(), None)], RunSettings())
    asyncio.run(federation._run(cluster, Watcher(view), False, {}, 0.0))


def test_a_run_without_a_model_says_why_it_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PneumodError, match=r"^the run ended without a model: all 1 rounds done$"):
        end_of_run(COUNTS, monkeypatch)


@pytest.mark.parametrize(
    ("counts", "lacking"), [(ClassCounts(4, 4, 0, 2), "NORMAL"), (ClassCounts(4, 4, 2, 0), "PNEUMONIA")]
)
def test_a_node_without_validation_images_of_a_class_is_named(
    counts: ClassCounts, lacking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match=rf"node 1 \(one\): no validation image of {lacking}; give it a val/ folder"):
        end_of_run(counts, monkeypatch)
