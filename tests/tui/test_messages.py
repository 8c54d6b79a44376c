"""A slow screen sees the newest status, not every one."""

from __future__ import annotations

from textual import on
from textual.app import App

from pneumod.tui.messages import ClusterStatus
from pneumod.view import ClusterView


class Listener(App[None]):
    def __init__(self) -> None:
        super().__init__()
        self.heard: list[float] = []

    @on(ClusterStatus)
    def _hear(self, status: ClusterStatus) -> None:
        self.heard.append(status.now_s)


async def test_a_newer_status_takes_the_place_of_one_that_waits() -> None:
    app = Listener()
    async with app.run_test() as pilot:
        for moment_s in (1.0, 2.0, 3.0):
            app.post_message(ClusterStatus(ClusterView(), moment_s, None))
        await pilot.pause()
        assert app.heard == [3.0]
