"""The dashboard over a real broker, with nodes that really publish."""

from __future__ import annotations

import asyncio
import time

import pytest
from msgspec.structs import replace
from textual.widgets import Static

from pneumod.broker.embedded import EmbeddedBroker
from pneumod.config import NodeConfig
from pneumod.messages import (
    NO_TERM,
    Beacon,
    Beat,
    Best,
    BlobRef,
    Card,
    ClassCounts,
    LeftOut,
    Metrics,
    RoundClosed,
    RunSettings,
    RunSpec,
    Summary,
    Takeover,
    Term,
)
from pneumod.tui.app import PneumodApp
from pneumod.tui.widgets.lines import Banner, RoundLine
from pneumod.tui.widgets.nodes import NodeTable
from pneumod.tui.widgets.rounds import RoundTable
from pneumod.view import ClusterView, NodeView
from tests.tui.conftest import acting, until

COLLECTING = Beacon(
    1, heirs=(4,), live=2, members="a" * 64, phase="collecting", note="node 4 is slow", round=2, expected=2, accepted=1
)
BLOB = BlobRef("c" * 64, 10)
OUT = (LeftOut(3, "gone"), LeftOut(5, "[b]late\x1b"))


def row(app: PneumodApp, node: int) -> list[str]:
    """What stands in a node's line; nothing when it has none."""
    table = app.screen.query_one(NodeTable)
    return [cell.plain.strip() for cell in table.get_row(str(node))] if str(node) in table.rows else []


def text(app: PneumodApp, widget: type[Static]) -> str:
    return str(app.screen.query_one(widget).content)


@pytest.mark.parametrize("size", [(80, 24), (200, 60)])
async def test_nodes_appear_with_what_they_do(
    broker: EmbeddedBroker, config: NodeConfig, size: tuple[int, int]
) -> None:
    app = PneumodApp(config)
    async with app.run_test(size=size) as pilot, acting(broker.port, 1, "north", COLLECTING):
        async with acting(broker.port, 4, "south"):
            await until(pilot, lambda: row(app, 1)[2:3] == ["★ master"] and row(app, 4)[3:4] == ["training"])
            number, name, role, state, progress, rate, images, beat, model = row(app, 4)
            assert (number, name, role, state) == ("4", "south", "↑ heir 1", "training")
            assert progress.endswith(" 50%")
            assert (rate, images, beat, model) == ("87", "60/36", "0 s", "r2")
            table = app.screen.query_one(NodeTable)
            assert table.virtual_size.width <= table.size.width  # nothing to scroll to
        assert not app.screen.query_one(Banner).display


async def test_a_node_that_says_goodbye_is_marked_by_a_word(broker: EmbeddedBroker, config: NodeConfig) -> None:
    app = PneumodApp(config)
    async with app.run_test() as pilot:
        async with acting(broker.port, 4, "south"):
            await until(pilot, lambda: row(app, 4)[3:4] == ["training"])
        async with acting(broker.port, 4, "south") as actor:
            for _ in range(3):
                await actor.say_gone()
        await until(pilot, lambda: row(app, 4)[3:4] == ["✗ gone"])
        await until(pilot, lambda: row(app, 4)[7] == "1 s")  # the age of its last beat grows
        await until(pilot, lambda: row(app, 4)[7] == "2 s")


async def test_the_round_line_and_the_closed_rounds(broker: EmbeddedBroker, config: NodeConfig) -> None:
    app = PneumodApp(config)
    async with app.run_test(size=(80, 24)) as pilot, acting(broker.port, 1, "north", COLLECTING) as master:
        term = master.term
        spec = RunSpec(1, "run-a", "op-run-alice", 0, RunSettings(rounds=5))
        await master.connection.publish("spec", term, spec)
        await master.connection.publish("closed", term, closed(term, 1, auc=0.5, best=0))
        await master.connection.publish("closed", term, closed(term, 2, auc=0.912, best=1))
        rounds = app.screen.query_one(RoundTable)
        await until(pilot, lambda: rounds.row_count == 3)
        lines = text(app, RoundLine)
        assert "★ node 1 (north) leads · term 3 · 2 live" in lines
        assert "run run-a of alice · round 2 of 5" in lines
        assert "collecting · 1 of 2 accepted · best AUC 0.912 (model of round 1) · node 4 is slow" in lines
        newest, scored, first = ([cell.plain.strip() for cell in rounds.get_row_at(place)] for place in range(3))
        assert newest == ["2", "-", "-", "", "2", "2", "4.2", "42 s"]
        assert scored == ["1", "0.912", "0.300", "★ best", "2", "2", "4.2", "42 s"]
        assert first == ["0", "0.500", "0.300", "", "", "", "", ""]
        assert rounds.display
        last = (
            "round 2: taken over by node 4 from node 1, 1 update kept; without node 3: gone; without node 5: [b]late�"
        )
        assert lines.splitlines()[-1] == last


async def test_a_long_note_is_wrapped_and_not_cut(broker: EmbeddedBroker, config: NodeConfig) -> None:
    note = " ".join(f"word{number}" for number in range(50)) + " the end"
    app = PneumodApp(config)
    async with app.run_test(size=(80, 24)) as pilot, acting(broker.port, 1, "north", replace(COLLECTING, note=note)):
        line = app.screen.query_one(RoundLine)
        await until(pilot, lambda: "the end" in text(app, RoundLine) and line.size.height > 5)
        shown = "".join("".join(part.text for part in line.render_line(y)) for y in range(line.size.height))
        assert [word for word in note.split() if word not in shown] == []
        assert line.size.height == line.container_size.height, "nothing of it is hidden"
        assert app.screen.query_one(NodeTable).size.height >= 4


def closed(term: Term, number: int, auc: float, best: int) -> RoundClosed:
    return RoundClosed(
        run="run-a",
        number=1,
        round=number,
        term=term,
        model=BLOB,
        checkpoint=BLOB,
        exponents=(),
        scored=Metrics(auc, 0.3, 40),
        best=Best(best, auc, 0.5, BLOB),
        summary=Summary(2, OUT, 2, 0.2, 4200, 3000, 1000, (Takeover(Term(2, -1, 1), Term(3, -4, 1), 1),), 42_000),
    )


async def test_the_broker_goes_and_comes_back(broker: EmbeddedBroker, config: NodeConfig) -> None:
    app = PneumodApp(config)
    async with app.run_test() as pilot:
        banner = app.screen.query_one(Banner)
        async with acting(broker.port, 1, "north", COLLECTING):
            await until(pilot, lambda: row(app, 1)[2:3] == ["★ master"])
            broker.stop()
            await until(pilot, lambda: banner.display)
        assert "No broker since" in text(app, Banner)
        await until(pilot, lambda: "(1 s)" in text(app, Banner))
        assert row(app, 1)[2:4] == ["★ master", "training"]  # the last state stays
        broker.start()
        await until(pilot, lambda: not banner.display)
        async with acting(broker.port, 5, "east"):
            await until(pilot, lambda: row(app, 5)[3:4] == ["training"])


async def test_without_a_broker_it_starts_and_waits(broker: EmbeddedBroker, config: NodeConfig) -> None:
    broker.stop()
    app = PneumodApp(config)
    async with app.run_test() as pilot:
        banner = app.screen.query_one(Banner)
        await until(pilot, lambda: banner.display)
        assert f"no broker at 127.0.0.1:{broker.port}" in text(app, Banner)
        broker.start()
        await until(pilot, lambda: not banner.display)


async def test_many_nodes_with_long_names_fit_the_width_of_a_terminal(config: NodeConfig) -> None:
    view, now_s = ClusterView(), time.monotonic()
    for number in range(100):
        card = Card("radiology-" + "x" * 50, "0.1.0", 2, ClassCounts(train_normal=12345, train_pneumonia=6789))
        beat = Beat(1, 1, "aggregating", 1.0, 12, "b" * 64, None, NO_TERM, samples_per_s=12345.0)
        view.nodes[number] = NodeView(number, card, beat, now_s)
    app = PneumodApp(config)
    async with app.run_test(size=(80, 24)) as pilot:
        table = app.screen.query_one(NodeTable)
        for _ in range(2):  # with the second the vertical scrollbar is there
            table.show(view, now_s)
            await pilot.pause()
        assert table.row_count == 100
        assert table.show_vertical_scrollbar
        assert not table.show_horizontal_scrollbar


async def test_a_name_cannot_write_to_the_terminal(broker: EmbeddedBroker, config: NodeConfig) -> None:
    app = PneumodApp(config)
    async with app.run_test(size=(200, 60)) as pilot, acting(broker.port, 4, "\x1b[2J[red]x"):
        await until(pilot, lambda: row(app, 4)[1:2] == ["�[2J[red]x"])


async def test_the_keys(config: NodeConfig) -> None:
    app = PneumodApp(config)
    async with app.run_test() as pilot:
        theme = app.theme
        await pilot.press("d")
        assert app.theme != theme
        await pilot.press("p", "q", "d")
        assert app.focused is not None
        assert (app.focused.id, app.focused.value) == ("path", "qd")  # in the field letters are letters
        await pilot.press("escape")
        assert app.focused.id == "nodes"
        await pilot.press("q")
        await asyncio.sleep(0)
    assert app.return_code == 0
