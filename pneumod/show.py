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

from pneumod.messages import RoundClosed
from pneumod.view import ClusterView, NodeView


def plain(text: str) -> str:
    """Text from the bus with every character that isn't printable as U+FFFD: no escape reaches the terminal."""
    return "".join(char if char.isprintable() else "\ufffd" for char in text)


def headline(view: ClusterView, now_s: float) -> str:
    """Who leads, and where the run stands, in one line."""
    master = view.master(now_s)
    if master is None or view.beacon is None:
        return "no master is heard"
    beacon, spec = view.beacon, view.spec
    text = f"master: node {master} (term {view.term.counter}), {beacon.live} live"
    closed = view.closed
    if spec is None:
        return f"{text} · no run"
    if closed is not None and closed.ended is not None:
        return f"{text} · {spec.run} has ended: {closed.ended}"
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
    """One line a model that was scored: the model of round r is scored in round r + 1."""
    table = Table(box=None, pad_edge=False)
    for name in ("model of round", "AUC", "loss", "", "trained by", "seconds", "update KB", "left out"):
        table.add_column(name, justify="left" if name in ("", "left out") else "right")
    scored = [closed for closed in view.rounds.values() if closed.scored is not None]
    for closed in scored[-last:]:
        table.add_row(*_round_row(view, closed))
    return table


def _round_row(view: ClusterView, closed: RoundClosed) -> list[RenderableType]:
    number, made_by = closed.round - 1, view.rounds.get(closed.round - 1)
    auc = f"{closed.scored.auc:.3f}" if closed.scored and closed.scored.auc is not None else "-"
    loss = f"{closed.scored.loss:.3f}" if closed.scored and closed.scored.loss is not None else "-"
    newest = view.closed
    mark = "best" if newest and newest.best and newest.best.round == number else ""
    summary = made_by.summary if made_by else None
    if summary is None:
        return [str(number), auc, loss, mark, "", "", "", ""]
    out = Text(", ".join(f"{one.node}: {plain(one.why)}" for one in summary.left_out))
    kilobytes = f"{summary.update_bytes / 1000:.0f}"
    return [
        str(number), auc, loss, mark, f"{summary.counted} nodes", f"{summary.duration_ms / 1000:.1f}", kilobytes, out,
    ]  # fmt: skip


def cluster(view: ClusterView, now_s: float) -> Group:
    """All of it, for a live display."""
    parts: list[RenderableType] = [Text(plain(headline(view, now_s)), style="bold"), "", nodes_table(view, now_s)]
    if any(closed.scored for closed in view.rounds.values()):
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
