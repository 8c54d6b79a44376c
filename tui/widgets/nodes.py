"""The nodes of the cluster, one line each."""

from __future__ import annotations

from typing import ClassVar

from rich.cells import cell_len, set_cell_size

from pneumod.news import plain
from pneumod.tui.widgets.live_table import Cell, Column, LiveTable, Row
from pneumod.view import ClusterView, NodeView

FIXED_CELLS = 63  # of a line but for the name and the bar, with six-digit image counts
QUIET = ("idle", "starting")  # activities without progress


class NodeTable(LiveTable):
    """Who is here, who leads, and what each node does."""

    columns_shown: ClassVar[tuple[Column, ...]] = (
        Column("id", right=True, cells=2),
        Column("name"),
        Column("role", cells=8),
        Column("state", cells=11),
        Column("progress"),
        Column("img/s", right=True),
        Column("images N/P", right=True),
        Column("beat", right=True, cells=6),
        Column("model", right=True),
    )

    def show(self, view: ClusterView, now_s: float) -> None:
        spare = self.scrollable_content_region.width - FIXED_CELLS
        name_cells = min(40, max(8, spare * 2 // 3))
        bar_cells = min(24, max(3, spare - name_cells))
        self.show_rows(
            {str(node.id): _node_row(view, node, now_s, name_cells, bar_cells) for node in view.nodes.values()}
        )


def _node_row(view: ClusterView, node: NodeView, now_s: float, name_cells: int, bar_cells: int) -> Row:
    beat, card, live = node.beat, node.card, node.is_live(now_s)
    counts = card.counts if card else None
    busy = live and beat is not None and beat.activity not in QUIET
    style = "" if live else "dim"
    return (
        Cell(str(node.id), style),
        Cell(_fit(plain(card.name) if card else "", name_cells), style),
        Cell(_role(view, node, now_s), "bold"),
        Cell(*_state(node, live)),
        Cell(progress_bar(beat.progress, bar_cells) if busy and beat else " " * (bar_cells + 5), style),
        Cell(f"{beat.samples_per_s:.0f}" if busy and beat and beat.samples_per_s else "", style),
        Cell(f"{counts.train_normal}/{counts.train_pneumonia}" if counts else "-", style),
        Cell(age(now_s - node.beat_at_s) if beat else "-", style),
        Cell(f"r{beat.round}" if beat and beat.model else "-", style),
    )


def _role(view: ClusterView, node: NodeView, now_s: float) -> str:
    if view.master(now_s) == node.id:
        return "★ master"
    heirs = view.beacon.heirs if view.beacon else ()
    return f"↑ heir {heirs.index(node.id) + 1}" if node.id in heirs else ""


def _state(node: NodeView, live: bool) -> tuple[str, str]:
    """What a node does, and the style to say it in. Dead nodes differ by word and sign, not by colour alone."""
    if live and node.beat is not None:
        return node.beat.activity, ""
    return ("✗ gone" if node.gone else "✗ silent" if node.beat else "✗ not heard"), "bold red"


def progress_bar(share: float, cells: int) -> str:
    """A share of 0 to 1 as a bar of `cells` characters and a percentage."""
    full = round(share * cells)
    return f"{'█' * full}{'░' * (cells - full)} {share:4.0%}"


def age(seconds: float) -> str:
    """The time since something, in the largest unit that fits."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min" if whole < 3600 else f"{whole // 3600} h"


def _fit(text: str, cells: int) -> str:
    """`text` in at most `cells` columns of the terminal."""
    return text if cell_len(text) <= cells else f"{set_cell_size(text, cells - 1).rstrip()}…"
