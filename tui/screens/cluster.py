"""The one screen: nodes, rounds, and a field to classify an image."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, VerticalScroll
from textual.screen import Screen
from textual.widgets import Footer, Static

from pneumod.config import NodeConfig
from pneumod.tui.feed import Feed
from pneumod.tui.messages import ClusterStatus
from pneumod.tui.widgets.classifier import Classifier, PathField
from pneumod.tui.widgets.lines import Banner, RoundLine
from pneumod.tui.widgets.nodes import NodeTable
from pneumod.tui.widgets.rounds import RoundTable


class ClusterScreen(Screen[None]):
    """Shows each status that the feed posts."""

    AUTO_FOCUS = "#nodes"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (140, "-wide")]  # noqa: RUF012 (Screen declares it without ClassVar)
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "app.quit", "Quit"),
        Binding("d", "app.toggle_dark", "Dark/light"),
        Binding("p", "focus_path", "Path of an X-ray"),
    ]

    def __init__(self, config: NodeConfig) -> None:
        super().__init__()
        self._config = config

    def compose(self) -> ComposeResult:
        brokers = ", ".join(f"{broker.host}:{broker.port}" for broker in self._config.brokers)
        yield Static(f"pneumod · cluster {self._config.cluster} · {brokers}", markup=False, id="title")
        yield Banner()
        with VerticalScroll(id="lines", can_focus=False):
            yield RoundLine()
        with Container(id="tables"):
            yield NodeTable(id="nodes")
            yield RoundTable(id="rounds")
        yield Classifier(self._config.path)
        yield Footer(compact=True, show_command_palette=False)

    def on_mount(self) -> None:
        self.run_worker(Feed(self._config, self.post_message).run(), group="feed")

    @on(ClusterStatus)
    def _show(self, status: ClusterStatus) -> None:
        view = status.view
        self.query_one(Banner).show(status.lost, status.now_s)
        self.query_one(RoundLine).show(view, status.judged_s)
        self.query_one(NodeTable).show(view, status.judged_s)
        rounds = self.query_one(RoundTable)
        rounds.display = bool(view.round_numbers)
        rounds.show(view)

    def action_focus_path(self) -> None:
        self.query_one(PathField).focus()

    def action_focus_nodes(self) -> None:
        self.query_one(NodeTable).focus()
