"""The master's view of the others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pneumod.core.actions import Durable
from pneumod.core.election import SILENCE_MS
from pneumod.core.membership import MAX_HEIRS, Members
from pneumod.core.state import State
from pneumod.messages import Gone
from tests.core.pair import START_MS, beat, closed_of, master, reign, report, spec_of


@pytest.fixture
def members() -> Members:
    state = State(5, 0, 1, Durable(), frozenset())
    state.now_ms = START_MS
    return Members(state)


def live(members: Members) -> list[int]:
    members.refresh()
    return members.live


def test_a_master_alone_is_live_and_has_no_heirs(members: Members) -> None:
    assert live(members) == [5]
    assert members.heirs() == ()
    assert members.lost_ms(5) == 0


def test_a_node_lives_while_its_beats_come(members: Members) -> None:
    members.hear_beat(7, beat())
    assert live(members) == [5, 7]
    members.state.now_ms += SILENCE_MS - 1
    assert members.is_live(7)
    members.state.now_ms += 1
    assert live(members) == [5]
    assert members.lost_ms(7) == SILENCE_MS
    assert members.hear_beat(7, beat()) is False  # nothing new, but it is live again
    assert live(members) == [5, 7]


def test_the_will_of_the_current_connection_ends_a_nodes_life_and_a_beat_of_the_next_renews_it(
    members: Members,
) -> None:
    members.hear_beat(7, beat(2, 3))
    assert members.hear_gone(7, Gone(2, 2)) is False
    assert members.hear_gone(7, Gone(1, 9)) is False
    assert live(members) == [5, 7]
    assert members.hear_gone(7, Gone(2, 3)) is True
    assert live(members) == [5]
    assert members.hear_beat(7, beat(2, 4)) is True
    assert live(members) == [5, 7]


def test_a_late_beat_of_an_earlier_connection_says_nothing(members: Members) -> None:
    members.hear_beat(7, beat(2, 3))
    members.hear_gone(7, Gone(2, 3))
    assert members.hear_beat(7, beat(2, 2)) is False
    assert members.hear_beat(7, beat(1, 9)) is False
    assert live(members) == [5]


def test_the_will_of_a_stranger_is_ignored(members: Members) -> None:
    assert members.hear_gone(9, Gone(1, 1)) is False
    assert live(members) == [5]


def test_a_beat_tells_of_a_change_when_the_node_is_new_or_holds_another_model(members: Members) -> None:
    closed = closed_of(spec_of(), 1, reign(1, 5))
    assert members.hear_beat(7, beat()) is True
    assert members.hear_beat(7, beat()) is False
    assert members.hear_beat(7, beat(closed=closed)) is True
    assert members.holds(7, closed.model.digest, closed.checkpoint.digest)
    assert not members.holds(7, closed.model.digest, "f" * 64)
    assert not members.holds(8, closed.model.digest, closed.checkpoint.digest)


def test_a_report_belongs_to_one_life_of_its_node(members: Members) -> None:
    members.hear_beat(7, beat(boot=2))
    members.hear_report(7, report(boot=2))
    members.hear_report(7, report(spec_of(), boot=1))  # late
    members.refresh()
    assert members.reports() == {7: report(boot=2)}
    members.hear_beat(7, beat(boot=3))
    assert members.reports() == {}


def test_only_the_reports_of_live_nodes_count_ascending_by_id(members: Members) -> None:
    for node in (9, 3, 7):
        members.hear_beat(node, beat())
        members.hear_report(node, report())
    members.hear_gone(7, Gone(1, 1))
    members.refresh()
    assert list(members.reports()) == [3, 9]


def test_a_report_is_a_sign_of_life_before_the_first_beat(members: Members) -> None:
    members.hear_report(3, report())
    assert live(members) == [3, 5]
    members.state.now_ms += SILENCE_MS
    assert live(members) == [5]


def test_the_heirs_are_the_lowest_live_ids_but_the_masters_own(members: Members) -> None:
    for node in range(20, 0, -1):
        members.hear_beat(node, beat())
    members.refresh()
    assert members.heirs() == (1, 2, 3, 4, 6, 7, 8, 9)
    assert len(members.heirs()) == MAX_HEIRS


@given(st.lists(st.integers(0, 1000), max_size=30))
def test_the_digest_names_the_set_of_live_nodes_and_nothing_else(nodes: list[int]) -> None:
    def digest(order: list[int]) -> str:
        members = Members(State(5, 0, 1, Durable(), frozenset()))
        for node in order:
            members.hear_beat(node, beat())
        members.refresh()
        return members.live_digest

    assert digest(nodes) == digest(nodes[::-1])
    assert digest(nodes) != digest([*nodes, 1001])


def test_two_daemons_with_one_id_are_told_once_a_minute() -> None:
    solo = master(2)
    solo.forget()
    for _ in range(70):
        solo.hear(3, "beat", beat(boot=5))
        solo.hear(3, "beat", beat(boot=4))
        solo.advance(1_000)
    told = [text for text in solo.logged() if "two daemons use node id 3" in text]
    assert len(told) == 2


def test_a_late_beat_of_an_earlier_boot_is_no_second_daemon() -> None:
    solo = master(2)
    solo.hear(3, "beat", beat(boot=4))
    solo.hear(3, "beat", beat(boot=5))
    solo.hear(3, "beat", beat(boot=4))
    assert not [text for text in solo.logged() if "two daemons" in text]
