"""Terms: who may speak as a master, and what becomes of those who may not."""

from __future__ import annotations

import pytest

from pneumod.core.actions import Durable, Persist, Watch
from pneumod.core.jobs import Fetch, Train
from pneumod.messages import NO_TERM, Beat, Gone, Message, Term
from tests.core.pair import Solo, beacon, beat, closed_of, master, open_of, reign, report, result_of, spec_of

TERM = reign(5, 1)


def follower() -> Solo:
    """Node 2, that obeys node 1 under term 5."""
    solo = Solo(2, 1).prepared().connect()
    solo.hear(1, "beacon", beacon(2), TERM)
    solo.forget()
    return solo


def masters_words(term: Term) -> dict[str, Message]:
    """One message of each kind that only a master says."""
    spec = spec_of(number=3)
    closed = closed_of(spec, 1, term)
    opened = open_of(spec, closed, (2,), term)
    return {"beacon": beacon(2), "spec": spec, "open": opened, "reopen": opened, "closed": closed}


def test_terms_are_ordered_by_counter_then_by_the_lower_id_then_by_boot() -> None:
    assert reign(2, 9) > reign(1, 1)
    assert reign(2, 1) > reign(2, 9)
    assert reign(2, 1, boot=4) > reign(2, 1, boot=3)
    assert reign(0, 0) > NO_TERM


@pytest.mark.parametrize("kind", ["beacon", "spec", "open", "reopen", "closed"])
@pytest.mark.parametrize("stale", [reign(4, 1), reign(5, 3), reign(5, 1, boot=0)])
def test_a_stale_term_is_refused_whatever_is_said_and_counted(kind: str, stale: Term) -> None:
    solo = follower()
    before = solo.durable
    solo.hear(stale.node, kind, masters_words(stale)[kind], stale)
    assert solo.durable == before
    assert solo.node.leader == 1
    assert solo.node.dropped == {"stale term": 1}


@pytest.mark.parametrize("kind", ["beacon", "spec", "open", "reopen", "closed"])
def test_a_sender_that_is_not_the_master_of_its_term_is_refused(kind: str) -> None:
    solo = follower()
    before = solo.durable
    solo.hear(3, kind, masters_words(reign(9, 1))[kind], reign(9, 1))
    assert solo.durable == before
    assert solo.node.dropped == {"not the master of its term": 1}


def test_a_higher_term_is_refused_while_a_live_master_is_heard() -> None:
    solo = follower()
    solo.hear(3, "beacon", beacon(), reign(6, 3))
    assert (solo.term, solo.node.leader) == (TERM, 1)
    assert solo.node.dropped == {"a live master is heard": 1}


def test_a_higher_term_of_the_live_master_itself_is_obeyed() -> None:
    solo = follower()
    solo.hear(1, "beacon", beacon(2), reign(7, 1, boot=2))
    assert solo.term == reign(7, 1, boot=2)


def test_a_higher_term_is_accepted_after_the_master_has_cleared_its_beacon() -> None:
    solo = follower()
    solo.hear(1, "beacon", beacon(3, 2), TERM)
    solo.hear(1, "beacon", None)
    solo.hear(3, "beacon", beacon(2), reign(6, 3))
    assert (solo.term, solo.node.leader) == (reign(6, 3), 3)


def test_a_higher_term_is_accepted_after_the_masters_silence_by_ones_own_clock() -> None:
    solo = follower()
    solo.hear(1, "beacon", beacon(3, 2), TERM)
    solo.advance(5_000)
    solo.hear(3, "beacon", beacon(2), reign(6, 3))
    assert solo.node.leader == 3


def test_a_term_is_persisted_before_anything_else_is_done_under_it() -> None:
    solo = follower()
    solo.hear(1, "gone", Gone(1, 1))
    solo.forget()
    solo = Solo(3, 2).prepared().connect()
    solo.forget()
    solo.hear(1, "beacon", beacon(3), TERM)
    assert isinstance(solo.actions[0], Persist)
    assert solo.actions[0].durable.term == TERM
    assert solo.published("report")[0].term == TERM


def test_a_node_remembers_the_term_across_a_restart() -> None:
    solo = Solo(2, durable=Durable(TERM), boot=2).connect()
    solo.hear(1, "beacon", beacon(2), reign(4, 1))
    assert solo.node.dropped == {"stale term": 1}
    solo.advance(3_000)
    assert solo.term == reign(6, 2, boot=2)


def test_a_master_that_hears_a_higher_term_steps_down_and_clears_what_it_retained() -> None:
    solo = master(2)
    mine = solo.term
    solo.forget()
    solo.hear(3, "beacon", beacon(1), reign(8, 3))
    assert not solo.leads
    assert (solo.term, solo.node.leader) == (reign(8, 3), 3)
    cleared = {p.kind: p.term for p in solo.actions if hasattr(p, "message") and p.message is None}
    assert cleared == {"beacon": mine, "spec": mine, "closed": mine}
    assert Watch(False) in solo.actions


def test_of_two_masters_of_one_counter_the_higher_id_steps_down() -> None:
    low, high = master(node_id=1), master(node_id=3)
    assert low.term.counter == high.term.counter
    high.hear(1, "beacon", beacon(), low.term)
    low.hear(3, "beacon", beacon(), reign(1, 3))
    assert (low.leads, high.leads) == (True, False)
    assert low.node.dropped == {"stale term": 1}


def test_a_beat_with_a_higher_term_teaches_the_master_that_it_is_stale() -> None:
    solo = master(2)
    solo.hear(2, "beat", beat(top_term=reign(9, 3)))
    assert not solo.leads
    assert "steps down: node 2 heard a higher term" in solo.logged()
    solo.peers.clear()
    solo.advance(10_000)
    assert solo.term == reign(10, 1)


def test_reports_and_results_are_for_the_master_of_the_very_term() -> None:
    spec = spec_of()
    result = result_of(2, open_of(spec, closed_of(spec, 0, TERM), (1, 2), TERM))
    solo = master(2)
    solo.hear(2, "report", report(spec, closed_of(spec, 0, TERM)), reign(0, 2))
    solo.hear(2, "result", result, reign(9, 3))
    assert solo.durable.spec is None
    assert solo.leads
    assert solo.node.dropped == {"not for my term": 2}
    other = follower()
    other.hear(3, "report", report(), TERM)  # the right term, but not the master's node
    assert other.node.dropped == {"not for my term": 1}


def test_what_was_refused_is_told_with_the_next_beat() -> None:
    solo = follower()
    for _ in range(3):
        solo.hear(4, "open", masters_words(reign(1, 4))["open"], reign(1, 4))
    solo.advance(1_000)
    last = solo.said("beat")[-1]
    assert isinstance(last, Beat)
    assert last.dropped == 3


def test_ones_own_leftovers_are_cleared_from_the_broker() -> None:
    solo = Solo(1, durable=Durable(reign(3, 1)), boot=2).connect()
    solo.forget()
    for kind, message in masters_words(reign(3, 1)).items():
        if kind in ("beacon", "spec", "closed"):
            solo.hear(1, kind, message, reign(3, 1), retained=True)
    assert {p.kind for p in solo.actions if hasattr(p, "message") and p.message is None} == {"beacon", "spec", "closed"}


def test_an_unheard_of_master_is_followed_from_its_first_live_word_only() -> None:
    """A live order under a higher term is obeyed, its sender counts as the master from its beacon on."""
    solo = Solo(2).prepared().connect()
    words = masters_words(TERM)
    solo.hear(1, "spec", words["spec"], TERM)
    solo.hear(1, "open", words["open"], TERM)
    assert solo.durable.opened == words["open"]
    assert not solo.runs(Train)
    assert not solo.runs(Fetch)  # nobody is known to hold the model
    solo.hear(1, "beacon", beacon(2), TERM)
    assert solo.running(Fetch).holders == (1,)
