"""The scored rounds of a run, the newest first."""

from __future__ import annotations

from typing import ClassVar

from pneumod.messages import RoundClosed
from pneumod.tui.widgets.live_table import Cell, Column, LiveTable, Row
from pneumod.view import ClusterView


class RoundTable(LiveTable):
    """One line a model that was scored: the model of round r is scored in round r + 1."""

    columns_shown: ClassVar[tuple[Column, ...]] = (
        Column("model of round", right=True),
        Column("AUC", right=True),
        Column("loss", right=True),
        Column("best"),
        Column("trained by"),
        Column("seconds", right=True),
    )

    def show(self, view: ClusterView) -> None:
        scored = [closed for closed in view.rounds.values() if closed.scored is not None]
        newest_first = sorted(scored, key=lambda closed: -closed.round)
        self.show_rows({f"{closed.run} {closed.round}": _round_row(view, closed) for closed in newest_first})


def _round_row(view: ClusterView, closed: RoundClosed) -> Row:
    number = closed.round - 1
    made_by = view.rounds.get(number)
    summary = made_by.summary if made_by else None
    best = view.closed.best if view.closed else None
    return (
        Cell(str(number)),
        Cell(_score(closed.scored.auc if closed.scored else None)),
        Cell(_score(closed.scored.loss if closed.scored else None)),
        Cell("★ best" if best is not None and best.round == number else ""),
        Cell(f"{summary.counted} nodes" if summary else ""),
        Cell(f"{summary.duration_ms / 1000:.1f}" if summary else ""),
    )


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
