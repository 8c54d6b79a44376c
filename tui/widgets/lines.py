"""The lines above the tables: whether a broker is there, who leads, and where the run stands."""

from __future__ import annotations

from datetime import datetime, timedelta

from textual.widgets import Static

from pneumod.client import Loss
from pneumod.news import left_out_lines, plain, takeover_lines
from pneumod.tui.widgets.nodes import age
from pneumod.view import ClusterView

SEPARATOR = " · "


class Banner(Static):
    """Shown only while no broker is connected."""

    def __init__(self) -> None:
        super().__init__(markup=False, id="banner")
        self.display = False

    def show(self, lost: Loss | None, now_s: float) -> None:
        self.display = lost is not None
        if lost is not None:
            for_s = now_s - lost.at_s
            since = f"{datetime.now() - timedelta(seconds=for_s):%H:%M:%S} ({age(for_s)})"
            self.update(f"No broker since {since}, the last state is shown. Trying again.\n{plain(lost.why)}")


class RoundLine(Static):
    """Who leads in which term; which run is on; what its round does; what became of the round before."""

    def __init__(self) -> None:
        super().__init__("Connecting to the broker …", markup=False, id="round")

    def show(self, view: ClusterView, now_s: float) -> None:
        lines = (_leader(view, now_s), _run(view), _round(view, now_s), _closed(view))
        self.update("\n".join(SEPARATOR.join(parts) for parts in lines if parts))


def _leader(view: ClusterView, now_s: float) -> list[str]:
    master, beacon = view.master(now_s), view.beacon
    if master is None or beacon is None:
        return ["No master is heard."]
    node = view.nodes.get(master)
    name = f" ({plain(node.card.name)})" if node is not None and node.card is not None else ""
    return [f"★ node {master}{name} leads", f"term {view.term.counter}", f"{beacon.live} live"]


def _run(view: ClusterView) -> list[str]:
    spec, beacon = view.spec, view.beacon
    if spec is None:
        return ["no run"]
    parts = [f"run {spec.run} of {plain(spec.asked_by.removeprefix('op-run-'))}"]
    if view.ended is not None:
        parts.append(f"ended: {plain(view.ended)}")
    elif beacon is not None:
        parts.append(f"round {beacon.round} of {spec.settings.rounds}")
    return parts


def _round(view: ClusterView, now_s: float) -> list[str]:
    closed, beacon = view.closed, view.beacon
    parts: list[str] = []
    if beacon is not None and view.master(now_s) is not None:
        parts.append(beacon.phase)
        if beacon.expected:
            parts.append(f"{beacon.accepted} of {beacon.expected} accepted")
    if closed is not None and closed.best is not None:
        parts.append(f"best AUC {closed.best.auc:.3f} (model of round {closed.best.round})")
    if beacon is not None and beacon.note:
        parts.append(plain(beacon.note))
    return parts


def _closed(view: ClusterView) -> list[str]:
    """Takeovers of the newest closed round, and who was left out of it."""
    closed = view.closed
    notes = (*takeover_lines(closed.summary), *left_out_lines(closed.summary)) if closed and closed.summary else ()
    return [f"round {closed.round}: {'; '.join(notes)}"] if closed and notes else []
