"""Who leads, as one node sees it."""

from __future__ import annotations

import pytest

from pneumod.core import events as ev
from pneumod.core.actions import Durable, Halt, Persist, Publish, Watch
from pneumod.core.election import ABSTAIN_MS
from pneumod.messages import MAX_COUNTER, Gone
from tests.core.pair import Solo, beacon, beat, closed_of, joined, master, reign, report, spec_of


def follower(node_id: int = 2, place: int = 1, *heirs: int, term_boot: int = 1, connection: int = 1) -> Solo:
    """A node that hears the beacons of node 1, which leads under term 5."""
    solo = Solo(node_id, place).prepared().connect()
    solo.hear(1, "beacon", beacon(*heirs, connection=connection), reign(5, 1, term_boot))
    solo.forget()
    return solo


def leads_after_ms(solo: Solo, limit_ms: int = 60_000) -> int | None:
    """For how long the node waits until it claims; None if it doesn't."""
    start_ms = solo.now_ms
    while solo.now_ms < start_ms + limit_ms:
        if solo.leads:
            return solo.now_ms - start_ms
        solo.advance(10)
    return None


# ---- a cold node ----


@pytest.mark.parametrize(("place", "expected_ms"), [(0, 3_000), (1, 3_500), (4, 5_000)])
def test_a_cold_node_listens_3_s_and_half_a_second_more_a_place(place: int, expected_ms: int) -> None:
    assert leads_after_ms(Solo(place=place).connect()) == expected_ms


def test_a_claim_is_persisted_before_it_is_used() -> None:
    solo = Solo().connect()
    solo.advance(3_000)
    persisted = next(i for i, a in enumerate(solo.actions) if isinstance(a, Persist) and a.durable.term == reign(1, 1))
    used = next(i for i, a in enumerate(solo.actions) if isinstance(a, Publish) and a.term == reign(1, 1))
    assert persisted < used


def test_a_claim_is_one_above_every_counter_heard_also_above_those_of_retained_and_refused_beacons() -> None:
    solo = Solo(2).connect()
    solo.hear(9, "beacon", beacon(), reign(7, 9), retained=True)
    solo.hear(4, "beat", beat(top_term=reign(11, 4)))
    assert leads_after_ms(solo) == 3_000
    assert solo.term == reign(12, 2)


def test_a_retained_beacon_teaches_the_term_but_not_that_its_sender_lives() -> None:
    solo = Solo(2).connect()
    solo.hear(1, "beacon", beacon(2), reign(7, 1), retained=True)
    assert solo.term == reign(7, 1)
    assert solo.node.leader is None


def test_a_live_beacon_ends_the_listening() -> None:
    solo = Solo(2).connect()
    solo.advance(2_900)
    solo.hear(9, "beacon", beacon(2), reign(1, 9))
    solo.advance(4_900)
    assert (solo.leads, solo.node.leader) == (False, 9)


def test_a_counter_that_no_cluster_reaches_does_not_use_up_the_counters() -> None:
    solo = Solo(2).connect()
    solo.hear(9, "beacon", beacon(), reign(MAX_COUNTER, 9))
    solo.hear(9, "beat", beat(top_term=reign(MAX_COUNTER, 9)))
    assert solo.node.dropped == {"a counter far ahead": 1}
    assert leads_after_ms(solo, 20_000) is not None
    assert solo.node.state.durable.term.counter == 1


def test_the_highest_counter_of_all_is_never_exceeded() -> None:
    solo = Solo(2, durable=Durable(term=reign(MAX_COUNTER, 9))).connect()
    assert leads_after_ms(solo, 20_000) is None


# ---- nobody claims while disconnected ----


def test_nobody_claims_without_a_connection() -> None:
    solo = Solo()
    solo.advance(60_000)
    assert not solo.leads


def test_a_follower_that_loses_its_connection_forgets_the_master_and_listens_anew_when_it_is_back() -> None:
    solo = follower(2, 1, 2)
    solo.step(ev.Disconnected())
    assert solo.node.leader is None
    solo.advance(60_000)
    assert not solo.leads
    solo.connect(2)
    assert leads_after_ms(solo) == 3_500


def test_a_master_that_loses_its_connection_stops_leading_without_a_word() -> None:
    solo = master(2)
    solo.forget()
    solo.step(ev.Disconnected())
    assert not solo.leads
    assert not [a for a in solo.actions if isinstance(a, Publish)]
    assert Watch(False) in solo.actions


# ---- the loss of the master ----


def test_a_silent_master_is_given_up_after_five_beats() -> None:
    solo = follower(2, 1, 2)
    solo.advance(4_999)
    assert solo.node.leader == 1
    solo.advance(1)
    assert solo.leads  # the first heir: at once


def test_each_beacon_puts_the_silence_off() -> None:
    solo = follower(2, 1, 2)
    for _ in range(10):
        solo.advance(4_000)
        solo.hear(1, "beacon", beacon(2), reign(5, 1))
    assert solo.node.leader == 1


@pytest.mark.parametrize(("node_id", "expected_ms"), [(2, 0), (3, 1_000), (4, 2_000)])
def test_the_heirs_claim_in_turn_when_the_masters_will_comes(node_id: int, expected_ms: int) -> None:
    solo = follower(node_id, node_id - 1, 2, 3, 4)
    solo.hear(1, "gone", Gone(1, 1))
    assert leads_after_ms(solo) == expected_ms
    assert solo.term == reign(6, node_id)


def test_a_node_that_is_no_heir_waits_for_all_of_them_and_for_its_place() -> None:
    solo = follower(9, 4, 2, 3)
    solo.hear(1, "gone", Gone(1, 1))
    assert leads_after_ms(solo) == 3_000 + 4 * 500


def test_an_heir_that_went_first_is_not_waited_for() -> None:
    solo = follower(3, 2, 2, 3)
    solo.hear(2, "gone", Gone(1, 1))
    solo.hear(1, "gone", Gone(1, 1))
    assert solo.leads


def test_a_cleared_beacon_is_the_masters_hand_over() -> None:
    solo = follower(2, 1, 2)
    solo.hear(1, "beacon", None)
    assert solo.leads


def test_the_cleared_beacon_of_another_node_changes_nothing() -> None:
    solo = follower(2, 1, 2)
    solo.hear(7, "beacon", None)
    assert solo.node.leader == 1


def test_the_will_of_an_older_connection_is_ignored() -> None:
    solo = follower(2, 1, 2, term_boot=4, connection=3)
    solo.hear(1, "gone", Gone(4, 2))
    solo.hear(1, "gone", Gone(3, 9))
    assert solo.node.leader == 1
    solo.hear(1, "gone", Gone(4, 3))
    assert solo.leads


def test_the_will_of_another_node_changes_nothing() -> None:
    solo = follower(3, 2, 2, 3)
    solo.hear(2, "gone", Gone(1, 1))
    assert solo.node.leader == 1


# ---- a master in doubt ----


def test_a_master_whose_beacon_does_not_come_back_steps_down() -> None:
    solo = master(2)
    solo.echo = False
    solo.advance(4_000)
    assert not solo.leads
    assert "steps down: its own beacon does not come back" in solo.logged()


def test_a_frozen_master_steps_down_before_anything_else() -> None:
    solo = master(2)
    solo.forget()
    solo.freeze(30_000)
    assert not solo.leads
    assert solo.said("beacon") == [None]
    assert "steps down: was not run for 30000 ms" in solo.logged()


def test_a_short_pause_is_no_freeze() -> None:
    solo = master()
    solo.freeze(1_500)
    assert solo.leads


def test_a_frozen_follower_hears_what_came_meanwhile_before_it_gives_the_master_up() -> None:
    solo = follower(2, 1, 2)
    solo.freeze(60_000)
    assert (solo.leads, solo.node.leader) == (False, 1)
    solo.hear(1, "beacon", beacon(2), reign(5, 1))
    solo.advance(4_999)
    assert solo.node.leader == 1


def test_a_frozen_follower_whose_master_really_died_leads_in_the_end() -> None:
    solo = follower(2, 1, 2)
    solo.freeze(60_000)
    assert leads_after_ms(solo) == 3_000


def test_a_slow_disk_hands_over_and_claims_nothing_for_half_a_minute() -> None:
    solo = master(2)
    solo.step(ev.DiskSlow(3_500))
    assert not solo.leads
    assert "steps down: a write took 3500 ms" in solo.logged()
    assert leads_after_ms(solo) == ABSTAIN_MS


def test_a_clean_stop_hands_over_and_says_goodbye_before_it_halts() -> None:
    solo = master(2)
    solo.forget()
    solo.step(ev.Stopping())
    assert solo.said("beacon") == [None]
    assert solo.said("gone") == [Gone(1, 1, "stopped")]
    assert solo.actions[-1] == Halt()


# ---- a lower id ----


def test_a_lower_id_gets_the_lead_once_it_has_reported_and_not_before() -> None:
    solo = master(node_id=5)
    solo.peers[2] = beat()
    solo.advance(5_000)
    assert solo.leads
    solo.hear(2, "report", report())
    solo.advance(100)
    assert not solo.leads
    assert "steps down: node 2 has a lower id" in solo.logged()
    assert solo.said("beacon")[-1] is None


def test_a_lower_id_that_knows_less_of_the_run_has_to_catch_up_first() -> None:
    spec = spec_of()
    solo = master(node_id=5)
    solo.hear(7, "report", report(spec, closed_of(spec, 1, reign(1, 7), ended="over")))
    solo.peers[7] = beat()
    solo.peers[2] = beat()
    solo.advance(1_100)
    solo.hear(2, "report", report())
    solo.advance(3_000)
    assert solo.leads


def test_in_a_cluster_the_lowest_id_leads_and_the_next_follows_it() -> None:
    world = joined(4, 7, 9)
    world.run(10_000)
    assert world.leaders() == [4]
    world.crash(4)
    world.run(20_000)
    assert world.leaders() == [7]
    world.start(4)
    world.run(30_000)
    assert world.leaders() == [4]
    assert {m.durable.term.node for m in world.machines.values()} == {4}
