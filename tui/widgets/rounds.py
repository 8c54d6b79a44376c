"""The closed rounds of a run, the newest first."""

from __future__ import annotations

from typing import ClassVar

from pneumod.tui.widgets.live_table import Cell, Column, LiveTable, Row
from pneumod.view import ClusterView


class RoundTable(LiveTable):
    """One line a closed round, the newest at once: its model is scored in the round after it."""

    columns_shown: ClassVar[tuple[Column, ...]] = (
        Column("round", right=True),
        Column("AUC", right=True),
        Column("loss", right=True),
        Column("best"),
        Column("nodes", right=True),
        Column("out", right=True),
        Column("seconds", right=True),
        Column("deadline", right=True),
    )

    def show(self, view: ClusterView) -> None:
        run = view.closed.run if view.closed else ""
        self.show_rows({f"{run} {number}": _round_row(view, number) for number in reversed(view.round_numbers)})


def _round_row(view: ClusterView, number: int) -> Row:
    closed, scored = view.rounds.get(number), view.score_of(number)
    summary = closed.summary if closed else None
    best = view.closed.best if view.closed else None
    return (
        Cell(str(number)),
        Cell(_score(scored.auc if scored else None)),
        Cell(_score(scored.loss if scored else None)),
        Cell("★ best" if best is not None and best.round == number else "scored" if view.only_scored(number) else ""),
        Cell(str(summary.counted) if summary else ""),
        Cell(str(summary.left_out_total) if summary else ""),
        Cell(f"{summary.duration_ms / 1000:.1f}" if summary else ""),
        Cell(f"{summary.deadline_ms / 1000:.0f} s" if summary and summary.deadline_ms else "-" if summary else ""),
    )


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
