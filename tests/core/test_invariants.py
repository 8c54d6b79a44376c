"""Each invariant fires on a node that was broken by hand."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from pneumod.core.actions import Watch
from pneumod.core.invariants import check
from pneumod.core.jobs import Check, Train
from tests.core.pair import Solo, in_round, result_of


def lead_without_election(solo: Solo) -> None:
    solo.node.election.leading = False


def lead_without_a_broker(solo: Solo) -> None:
    solo.node.state.connected = False


def lead_under_anothers_term(solo: Solo) -> None:
    state = solo.node.state
    state.durable = msgspec.structs.replace(state.durable, term=state.durable.term._replace(neg_node=-7))


def forget_the_run(solo: Solo) -> None:
    solo.node.state.durable = msgspec.structs.replace(solo.node.state.durable, spec=None)


def train_twice(solo: Solo) -> None:
    job = solo.running(Train)
    solo.node.state.running[Train(msgspec.structs.replace(job.opened, round=9))] = None


def train_again(solo: Solo) -> None:
    state = solo.node.state
    result = result_of(1, solo.running(Train).opened)
    state.durable = msgspec.structs.replace(state.durable, result=result)
    state.held |= {result.update.digest} if result.update else set()


def hear_a_stranger(solo: Solo) -> None:
    collector = solo.node.conductor.collector  # type: ignore[union-attr]
    collector.results[99] = result_of(99, solo.running(Train).opened)  # type: ignore[union-attr]


def accept_what_never_came(solo: Solo) -> None:
    collector = solo.node.conductor.collector  # type: ignore[union-attr]
    collector.accepted[2] = result_of(2, solo.running(Train).opened)  # type: ignore[union-attr]


def accept_and_refuse(solo: Solo) -> None:
    accept_what_never_came(solo)
    collector = solo.node.conductor.collector  # type: ignore[union-attr]
    collector.results[2] = collector.accepted[2]  # type: ignore[union-attr]
    collector.refused[2] = "both"  # type: ignore[union-attr]


def wait_for_nothing(solo: Solo) -> None:
    opened = solo.running(Train).opened
    update = result_of(2, opened).update
    assert update is not None
    solo.node.conductor.collector.pending[Check(2, update, 1, opened)] = 2  # type: ignore[union-attr]


def leave_an_action(solo: Solo) -> None:
    solo.node.state.actions.append(Watch(True))


@pytest.mark.parametrize(
    ("break_it", "text"),
    [
        (lead_without_election, "disagree on leading"),
        (lead_without_a_broker, "leads without a broker"),
        (lead_under_anothers_term, "leads under another's term"),
        (forget_the_run, "a closed round of no run"),
        (train_twice, "trains two things at once"),
        (train_again, "trains what it has trained"),
        (hear_a_stranger, "a node outside the round"),
        (accept_what_never_came, "accepted without a result"),
        (accept_and_refuse, "accepted and refused"),
        (wait_for_nothing, "a job that doesn't run"),
        (leave_an_action, "actions that nobody took"),
    ],
)
def test_a_broken_node_is_found(break_it: Callable[[Solo], None], text: str) -> None:
    solo, _ = in_round(2)
    check(solo.node)
    break_it(solo)
    with pytest.raises(AssertionError, match=text):
        check(solo.node)
