"""A table whose rows are replaced as a whole, but redrawn only where a cell differs."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from rich.text import Text
from textual.widgets import DataTable


class Cell(NamedTuple):
    text: str
    style: str = ""


class Column(NamedTuple):
    label: str
    right: bool = False
    cells: int = 0  # at least, so that the columns don't move while their contents change


Row = tuple[Cell, ...]


class LiveTable(DataTable[Text]):
    """A DataTable of `columns` with one cell of space before each."""

    columns_shown: ClassVar[tuple[Column, ...]] = ()

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id, cursor_type="row", cell_padding=0)
        self._shown: dict[str, Row] = {}

    def on_mount(self) -> None:
        for column in self.columns_shown:
            label = f"{column.label:{'>' if column.right else '<'}{column.cells}}"
            self.add_column(_text(Cell(label), column), key=column.label)

    def show_rows(self, rows: dict[str, Row]) -> None:
        """Show these rows, by their key, in this order; the cursor stays on its row."""
        if list(rows) == list(self._shown):
            for key, row in rows.items():
                self._change_row(key, row)
        else:
            self._fill(rows)
        self._shown = rows

    def _change_row(self, key: str, row: Row) -> None:
        for column, cell, old in zip(self.columns_shown, row, self._shown[key], strict=True):
            if cell != old:
                self.update_cell(key, column.label, _text(cell, column), update_width=True)

    def _fill(self, rows: dict[str, Row]) -> None:
        keys, old = list(rows), list(self._shown)
        under_cursor = old[self.cursor_row] if self.cursor_row < len(old) else None
        self.clear()
        for key, row in rows.items():
            self.add_row(*(_text(cell, column) for column, cell in zip(self.columns_shown, row, strict=True)), key=key)
        if under_cursor in keys:
            self.move_cursor(row=keys.index(under_cursor))


def _text(cell: Cell, column: Column) -> Text:
    return Text(f" {cell.text}", cell.style, justify="right" if column.right else "left", no_wrap=True)
