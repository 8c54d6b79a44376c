"""The cluster as text: tables of a ClusterView for `status`, `train` and the demo."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pneumod.messages import Summary
from pneumod.news import left_out_lines, plain, takeover_lines
from pneumod.view import ClusterView, NodeView


def headline(view: ClusterView, now_s: float) -> str:
    """Who leads, and where the run stands, in one line."""
    master = view.master(now_s)
    if master is None or view.beacon is None:
        return "no master is heard"
    beacon, spec = view.beacon, view.spec
    text = f"master: node {master} (term {view.term.counter}), {beacon.live} live"
    if spec is None:
        return f"{text} · no run"
    if view.ended is not None:
        return f"{text} · {spec.run} has ended: {view.ended}"
    text += f" · {spec.run}, round {beacon.round} of {spec.settings.rounds}, {beacon.phase}"
    if beacon.expected:
        text += f" {beacon.accepted}/{beacon.expected}"
    return f"{text}: {beacon.note}" if beacon.note else text


def nodes_table(view: ClusterView, now_s: float) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("node", "name", "role", "state", "progress", "img/s", "images N/P", "beat"):
        table.add_column(name, justify="right" if name in ("node", "img/s", "images N/P", "beat") else "left")
    for node in view.nodes.values():
        table.add_row(*_node_row(view, node, now_s))
    return table


def _node_row(view: ClusterView, node: NodeView, now_s: float) -> list[RenderableType]:
    live, beat, counts = node.is_live(now_s), node.beat, node.card.counts if node.card else None
    role = "master" if view.master(now_s) == node.id else "heir" if view.beacon and node.id in view.beacon.heirs else ""
    images = f"{counts.train_normal}/{counts.train_pneumonia}" if counts else "-"
    age = f"{now_s - node.beat_at_s:.0f} s" if beat else "-"
    busy = live and beat is not None and beat.activity not in ("idle", "starting")
    bar: RenderableType = ProgressBar(total=1.0, completed=beat.progress, width=20) if busy and beat else ""
    rate = f"{beat.samples_per_s:.0f}" if busy and beat and beat.samples_per_s else ""
    state = beat.activity if live and beat else "gone"
    name = Text(plain(node.card.name) if node.card else "")
    return [str(node.id), name, role, Text(state, style="" if live else "red"), bar, rate, images, age]


def rounds_table(view: ClusterView, last: int = 12) -> Table:
    """One line a closed round, the newest at once: its model is scored in the round after it."""
    table = Table(box=None, pad_edge=False)
    for name in ("round", "AUC", "loss", "", "nodes", "seconds", "deadline", "update KB", "takeovers, left out"):
        table.add_column(name, justify="left" if name in ("", "takeovers, left out") else "right")
    for number in view.round_numbers[-last:]:
        closed = view.rounds.get(number)
        table.add_row(*_score_cells(view, number), *_summary_cells(closed.summary if closed else None))
    return table


def _score_cells(view: ClusterView, number: int) -> list[str]:
    scored, best = view.score_of(number), view.closed.best if view.closed else None
    auc = f"{scored.auc:.3f}" if scored and scored.auc is not None else "-"
    loss = f"{scored.loss:.3f}" if scored and scored.loss is not None else "-"
    if best is not None and best.round == number:
        return [str(number), auc, loss, "best"]
    return [str(number), auc, loss, "scored only" if view.only_scored(number) else ""]


def _summary_cells(summary: Summary | None) -> list[RenderableType]:
    if summary is None:
        return [""] * 5
    deadline = f"{summary.deadline_ms / 1000:.0f} s" if summary.deadline_ms else "-"
    kilobytes = f"{summary.update_bytes / 1000:.0f}" if summary.update_bytes else "-"
    notes = Text("\n".join((*takeover_lines(summary), *left_out_lines(summary))))
    return [str(summary.counted), f"{summary.duration_ms / 1000:.1f}", deadline, kilobytes, notes]


def cluster(view: ClusterView, now_s: float) -> Group:
    """All of it, for a live display."""
    parts: list[RenderableType] = [Text(plain(headline(view, now_s)), style="bold"), "", nodes_table(view, now_s)]
    if view.round_numbers:
        parts += ["", rounds_table(view)]
    return Group(*parts)


@contextmanager
def live(console: Console, view: ClusterView) -> Iterator[None]:
    """Show the cluster as it changes, as long as the context lasts."""
    try:
        with Live(console=console, refresh_per_second=4, get_renderable=lambda: cluster(view, time.monotonic())):
            yield
    finally:
        if not console.is_terminal:
            console.line()  # rich leaves the last line open there
