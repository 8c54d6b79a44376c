"""The watcher's view: who leads is known by live beacons only, and the word of an older term is not taken."""

from __future__ import annotations

import json
from io import StringIO

import pytest
from msgspec.structs import replace
from rich.console import Console

from pneumod import show
from pneumod.bus import Incoming
from pneumod.commands.status import as_json
from pneumod.messages import (
    NO_TERM,
    Beacon,
    Beat,
    BlobRef,
    Card,
    Envelope,
    Gone,
    LeftOut,
    Message,
    Metrics,
    RoundClosed,
    RunSpec,
    Summary,
    Takeover,
    Term,
)
from pneumod.settings import RunSettings
from pneumod.show import headline
from pneumod.topics import KINDS, Address
from pneumod.view import LATE_S, ClusterView, NodeView, asked_at

FIRST, SECOND = Term(5, -1, 100), Term(6, -2, 200)
BEACON = Beacon(1, (2,), 2, "a" * 64, "idle")
MODEL = BlobRef("b" * 64, 10)
LATE = "no answer by the deadline"
SUMMARY = Summary(
    3, (LeftOut(4, LATE), LeftOut(5, "a\x1bb"), LeftOut(6, LATE)), 3, 0.2, 4200, 3000, 1000,
    (Takeover(Term(4, -2, 9), FIRST, 2),), 42_000,
)  # fmt: skip


def spec(number: int) -> RunSpec:
    return RunSpec(number, f"run-{number}", "op-run-ann", 0, RunSettings())


def closed(number: int, round_: int, term: Term = FIRST, ended: str | None = None) -> RoundClosed:
    return RoundClosed(f"run-{number}", number, round_, term, MODEL, MODEL, (), ended=ended)


def beat(connection: int = 1, boot: int = 100) -> Beat:
    return Beat(boot, connection, "idle", 0.0, 0, None, None, NO_TERM)


class Bus:
    """Gives a view messages at a time that only grows."""

    def __init__(self) -> None:
        self.view = ClusterView()
        self.now_s = 1000.0

    def say(
        self, sender: int | str, kind: str, message: Message | None, term: Term = FIRST, retained: bool = False
    ) -> None:
        envelope = Envelope(str(sender), term if message is not None else NO_TERM, message)
        self.view.apply(Incoming(Address(str(sender), KINDS[kind]), envelope, retained, b""), self.now_s)

    @property
    def master(self) -> int | None:
        return self.view.master(self.now_s)


@pytest.fixture
def bus() -> Bus:
    return Bus()


def test_a_live_beacon_tells_the_master_until_it_is_late(bus: Bus) -> None:
    bus.say(1, "beacon", BEACON)
    assert bus.master == 1
    bus.now_s += LATE_S - 0.01
    assert bus.master == 1
    bus.now_s += 0.02
    assert bus.master is None


def test_a_retained_beacon_tells_the_term_and_no_master(bus: Bus) -> None:
    bus.say(1, "beacon", BEACON, retained=True)
    assert bus.master is None
    assert bus.view.term == FIRST


@pytest.mark.parametrize("retained", [True, False])
def test_another_word_of_a_newer_term_is_not_a_beacon_of_it(bus: Bus, retained: bool) -> None:
    bus.say(1, "beacon", BEACON)
    bus.say(2, "spec", spec(1), SECOND, retained)
    assert bus.master is None, "node 1's beacon says nothing of node 2"
    bus.say(2, "beacon", BEACON, SECOND)
    assert bus.master == 2


def test_stale_terms_are_not_taken(bus: Bus) -> None:
    bus.say(2, "beacon", BEACON, SECOND)
    bus.say(1, "beacon", replace(BEACON, phase="collecting"))
    bus.say(1, "spec", spec(9))
    bus.say(1, "closed", closed(9, 3))
    assert bus.master == 2
    assert bus.view.beacon == BEACON
    assert bus.view.spec is None
    assert bus.view.closed is None


def test_only_the_holder_of_a_term_speaks_under_it(bus: Bus) -> None:
    bus.say(3, "beacon", BEACON, SECOND)
    bus.say("op-run-eve", "spec", spec(1), SECOND)
    assert bus.view.term == NO_TERM
    assert bus.view.spec is None
    assert bus.view.nodes == {}


def test_a_master_that_steps_down_is_no_master(bus: Bus) -> None:
    bus.say(1, "beacon", BEACON)
    bus.say(2, "beacon", None)
    assert bus.master == 1, "another's cleared beacon is nothing to it"
    bus.say(1, "beacon", None)
    assert bus.master is None


def test_a_node_is_live_while_its_beats_come(bus: Bus) -> None:
    bus.say(3, "card", Card("north", "0.1", 2))
    assert not bus.view.nodes[3].is_live(bus.now_s), "a card is retained: it says nothing of life"
    bus.say(3, "beat", beat())
    assert bus.view.nodes[3].is_live(bus.now_s)
    assert not bus.view.nodes[3].is_live(bus.now_s + LATE_S)
    bus.say(1, "beat", beat())
    assert list(bus.view.nodes) == [1, 3], "in the order of their ids"


def test_a_node_that_is_gone_comes_back_with_its_next_beat(bus: Bus) -> None:
    bus.say(1, "beacon", BEACON)
    bus.say(1, "beat", beat())
    bus.say(1, "gone", Gone(100, 1))
    assert not bus.view.nodes[1].is_live(bus.now_s)
    assert bus.master is None
    bus.say(1, "beat", beat(2))
    assert bus.view.nodes[1].is_live(bus.now_s)


@pytest.mark.parametrize("old", [Gone(100, 1), Gone(99, 7)])
def test_the_will_of_an_older_connection_is_ignored(bus: Bus, old: Gone) -> None:
    bus.say(1, "beacon", BEACON)
    bus.say(1, "beat", beat(2))
    bus.say(1, "gone", old)
    assert bus.view.nodes[1].is_live(bus.now_s)
    assert bus.master == 1


def test_a_new_run_begins_with_no_rounds(bus: Bus) -> None:
    bus.say(1, "spec", spec(1))
    for number in range(3):
        bus.say(1, "closed", closed(1, number))
    assert list(bus.view.rounds) == [0, 1, 2]
    assert bus.view.closed == closed(1, 2)
    bus.say(1, "spec", spec(2))
    assert bus.view.rounds == {}
    bus.say(1, "closed", closed(2, 0))
    assert bus.view.closed == closed(2, 0)


def test_the_end_of_the_run_before_is_not_the_end_of_this_one(bus: Bus) -> None:
    """Both are retained: whoever connects before the new run's first model hears the old run's end last."""
    bus.say(1, "beacon", BEACON)
    bus.say(1, "spec", spec(2), retained=True)
    bus.say(1, "closed", closed(1, 9, ended="all 9 rounds done"), retained=True)
    assert bus.view.closed is None
    assert "ended" not in headline(bus.view, bus.now_s)
    assert "run-2" in headline(bus.view, bus.now_s)


def test_what_the_master_knows_of_its_run_is_known_once_it_came(bus: Bus) -> None:
    def settled() -> bool:
        return bus.view.is_settled(bus.now_s)

    bus.say(1, "spec", spec(1), retained=True)
    bus.say(1, "closed", closed(1, 2), retained=True)
    assert not settled(), "no master is heard"
    bus.say(1, "beacon", replace(BEACON, phase="gathering", run="run-1"))
    assert not settled(), "a new master asks the nodes first"
    bus.say(1, "beacon", replace(BEACON, phase="waiting", run="run-2"))
    assert not settled(), "its run has not come yet"
    bus.say(1, "spec", spec(2))
    assert settled()
    assert bus.view.run_on == spec(2)
    bus.say(1, "beacon", replace(BEACON, run="run-2"))
    assert not settled(), "an idle master's run is over, but how is not known yet"
    bus.say(1, "closed", closed(2, 1, ended="stopped"))
    assert settled()
    assert bus.view.run_on is None


def test_a_master_without_a_run_is_known_to_have_none(bus: Bus) -> None:
    bus.say(1, "beacon", BEACON)
    assert bus.view.is_settled(bus.now_s)
    assert bus.view.run_on is None


def test_a_year_that_no_calendar_has_is_no_error() -> None:
    assert asked_at(replace(spec(1), asked_at_s=2**40)) == "a time that is none"


def said_of_rounds(bus: Bus) -> str:
    console = Console(width=140, record=True, file=StringIO())
    console.print(show.cluster(bus.view, bus.now_s))
    return console.export_text()


def test_the_newest_closed_round_is_shown_at_once_and_scored_later(bus: Bus) -> None:
    """Who was left out of it and why, the masters it went through, the deadline it had."""
    bus.say(1, "spec", spec(1))
    bus.say(1, "closed", replace(closed(1, 2), summary=SUMMARY))
    rows = [" ".join(line.split()) for line in said_of_rounds(bus).splitlines()]
    assert rows[-3:] == [
        "2 - - 3 4.2 42 s 1 taken over by node 1 from node 2, 2 updates kept",
        "without nodes 4, 6: no answer by the deadline",
        "without node 5: a\ufffdb",
    ]
    bus.say(1, "closed", replace(closed(1, 3), summary=SUMMARY, scored=Metrics(0.875, 0.5, 10)))
    rows = [" ".join(line.split()) for line in said_of_rounds(bus).splitlines()]
    assert [row for row in rows if row.startswith("2 0.875 0.500 3 ")]


def test_the_last_round_only_scores(bus: Bus) -> None:
    bus.say(
        1, "closed", replace(closed(1, 3), summary=Summary(2, (), 0, None, 1000, 0, 0, (Takeover(FIRST, FIRST, 2),)))
    )
    rows = [" ".join(line.split()) for line in said_of_rounds(bus).splitlines()]
    assert rows[-1] == "3 - - scored only 2 1.0 - - node 1 leads again, 2 updates kept"


def test_a_long_note_is_wrapped_and_not_cut(bus: Bus) -> None:
    note = " ".join(f"word{number}" for number in range(50))
    bus.say(1, "beacon", replace(BEACON, note=note, phase="waiting", run="run-1"))
    bus.say(1, "spec", spec(1))
    assert note in " ".join(said_of_rounds(bus).split())


def test_status_tells_programs_what_became_of_the_newest_round(bus: Bus) -> None:
    bus.say(1, "spec", spec(1))
    told = as_json(bus.view, bus.now_s)
    assert (told["left_out"], told["takeovers"], told["deadline_ms"]) == ([], [], None)
    bus.say(1, "beacon", replace(BEACON, note="waiting for node 4"))
    bus.say(1, "closed", replace(closed(1, 2), summary=SUMMARY))
    told = json.loads(json.dumps(as_json(bus.view, bus.now_s)))
    assert told["note"] == "waiting for node 4"
    assert (told["closed_round"], told["deadline_ms"], told["left_out_total"]) == (2, 42_000, 3)
    assert told["left_out"][1] == {"node": 5, "why": "a\x1bb"}
    (takeover,) = told["takeovers"]
    assert takeover == {"old_master": 2, "new_master": 1, "old_term": 4, "new_term": 5, "updates_kept": 2}


def test_the_headline_without_a_master(bus: Bus) -> None:
    assert headline(bus.view, bus.now_s) == "no master is heard"
    bus.say(1, "beacon", BEACON)
    assert headline(bus.view, bus.now_s) == "master: node 1 (term 5), 2 live · no run"


def test_a_hostile_name_neither_breaks_the_table_nor_reaches_the_terminal_raw() -> None:
    view = ClusterView()
    view.nodes[1] = NodeView(1, Card("rad[/]\x1b[2J", "0", 1))
    console = Console(width=100, record=True, file=StringIO())
    console.print(show.cluster(view, 0.0))
    text = console.export_text()
    assert "rad[/]\ufffd[2J" in text
    assert "\x1b" not in text
