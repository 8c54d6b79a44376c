"""What a master answers an operator who asks for a run."""

from __future__ import annotations

import pytest

from pneumod.core.actions import Broadcast
from pneumod.core.jobs import Initialise
from pneumod.messages import (
    Reply,
)
from tests.core.pair import (
    Solo,
    ask,
    beacon,
    master,
    reign,
    spec_of,
)


def replies(solo: Solo) -> list[tuple[str | None, Reply]]:
    return [(p.dest, p.message) for p in solo.published("reply") if isinstance(p.message, Reply)]


def test_a_request_starts_a_run_its_first_model_is_made_and_said_to_all() -> None:
    solo = master(2)
    solo.forget()
    ask(solo, rounds=3)
    assert solo.durable.spec == spec_of(rounds=3)
    assert solo.said("spec") == [spec_of(rounds=3)]
    assert replies(solo) == [("op-run-a", Reply(True, "run run-a is on"))]
    solo.finish(solo.running(Initialise))
    closed = solo.durable.closed
    assert closed is not None
    assert (closed.round, closed.term) == (0, solo.term)
    assert solo.said("closed")[-1] == closed
    assert {a.digest for a in solo.actions if isinstance(a, Broadcast)} == {
        closed.model.digest,
        closed.checkpoint.digest,
    }


def test_a_second_run_is_refused_with_who_asked_for_the_first() -> None:
    """Since when is in the retained spec, by the asker's clock."""
    solo = master(2)
    ask(solo)
    solo.forget()
    ask(solo, run="run-b", operator="op-run-b")
    text = "run run-a is on, asked for by op-run-a (making the first model); `pneumod train --stop` ends it"
    assert replies(solo) == [("op-run-b", Reply(False, text))]
    assert solo.durable.spec == spec_of()


def test_the_same_request_twice_is_one_run() -> None:
    solo = master(2)
    ask(solo)
    solo.forget()
    ask(solo)
    assert replies(solo) == [("op-run-a", Reply(True, "run run-a is on"))]
    assert solo.said("spec") == []
    assert solo.started(Initialise) == []


@pytest.mark.parametrize("operator", ["op-watch-a", "op-predict-a", "2"])
def test_only_an_operator_with_the_role_run_may_start_one(operator: str) -> None:
    solo = master(2)
    ask(solo, operator=operator)
    assert replies(solo) == [(operator, Reply(False, "only an operator with the role run may start or stop one"))]
    assert solo.durable.spec is None


def test_a_master_that_still_gathers_asks_for_patience() -> None:
    solo = Solo().prepared().connect()
    solo.advance(3_000)
    ask(solo)
    assert replies(solo) == [
        ("op-run-a", Reply(False, "the master has just taken over; ask again in a moment", again=True))
    ]


def test_a_node_that_does_not_lead_does_not_answer() -> None:
    solo = Solo(2, 1).prepared().connect()
    solo.hear(1, "beacon", beacon(2), reign(1, 1))
    ask(solo)
    assert replies(solo) == []


def test_the_reply_carries_the_correlation_of_the_request() -> None:
    solo = master()
    ask(solo)
    assert solo.published("reply")[0].correlation == b"c"
