"""The app: it chooses the screen, and nothing else."""

from __future__ import annotations

from textual.app import App

from pneumod.config import NodeConfig
from pneumod.tui.screens.cluster import ClusterScreen


class PneumodApp(App[None]):
    """The dashboard of the cluster that a node's configuration names."""

    TITLE = "pneumod"
    CSS_PATH = "app.tcss"
    ENABLE_COMMAND_PALETTE = False

    def __init__(self, config: NodeConfig) -> None:
        super().__init__()
        self._config = config

    def get_default_screen(self) -> ClusterScreen:
        return ClusterScreen(self._config)
