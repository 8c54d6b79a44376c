"""The master's leases: who is granted what, when a lease ends, what a new master knows."""

from __future__ import annotations

import msgspec
import pytest

from pneumod.core.leases import LEASE_MS, MAX_BATCHES, OWNER_LOST_MS
from pneumod.messages import Gone, Grant, Offer
from pneumod.work import MAX_HELD
from tests.core.items import BATCH, SITES, back, gone_silent, granted, offer, pull
from tests.core.pair import Solo, beacon, beat, master, reign, report


def of_site(items: int = 100) -> Solo:
    """A master, node 1; node 2 of its site has a batch, node 4 is of another site."""
    solo = master(2, 3, 4, sites=SITES)
    solo.hear(2, "offer", offer(items))
    return solo


def work(solo: Solo) -> bool:
    """What the beacon says of items to pull."""
    assert solo.node.conductor is not None
    return solo.node.conductor.beacon().work


# ---- what is granted, and to whom ----


def test_a_node_that_pulls_is_granted_the_lowest_free_items_that_it_has_room_for() -> None:
    solo = of_site()
    assert granted(solo, 3, 2) == [0, 1]
    assert solo.said("grant") == [Grant(2, BATCH, "predict", (0, 1), LEASE_MS)]
    assert granted(solo, 1, 3) == [2, 3, 4], "nobody else's items"
    assert granted(solo, 3, 0, 0, 1) == []


def test_items_are_granted_to_nodes_of_the_owners_site_only_the_owner_among_them() -> None:
    solo = of_site()
    assert granted(solo, 4, 8) == []
    assert granted(solo, 2, 1) == [0]
    assert granted(solo, 1, 1) == [1]


def test_without_a_roster_an_owner_is_granted_its_own_items_and_nobody_else_is() -> None:
    solo = master(2, 3)
    solo.hear(2, "offer", offer(8))
    assert granted(solo, 3, 8) == []
    assert granted(solo, 2, 8) == [*range(8)]


def test_a_node_is_granted_what_it_can_do() -> None:
    solo = of_site()
    for skills in ((), ("preprocess",)):
        solo.hear(3, "pull", pull(4, skills=skills))
    assert solo.said("grant") == []
    solo.hear(3, "pull", pull(4, skills=("preprocess", "predict")))
    assert len(solo.said("grant")) == 1


def test_room_is_filled_from_several_owners_a_grant_each() -> None:
    solo = of_site(2)
    solo.hear(3, "offer", offer(5, batch="batch-c"))
    granted(solo, 1, 4)
    assert solo.said("grant") == [
        Grant(2, BATCH, "predict", (0, 1), LEASE_MS),
        Grant(3, "batch-c", "predict", (0, 1), LEASE_MS),
    ]


def test_a_node_holds_so_many_items_at_most() -> None:
    solo = of_site()
    assert len(granted(solo, 3, MAX_HELD)) == MAX_HELD
    assert granted(solo, 3, MAX_HELD, *range(MAX_HELD)) == []
    solo.hear(2, "offer", offer(100, 61, 62, 63))
    assert granted(solo, 3, MAX_HELD, *range(MAX_HELD - 3)) == [64, 65, 66]


def test_what_is_done_is_not_granted() -> None:
    solo = master(2, sites=SITES)
    solo.hear(2, "offer", offer(6, 0, 2, 3))
    assert granted(solo, 2, 6) == [1, 4, 5]
    solo.hear(2, "offer", offer(6, 0, 1, 2, 3, 4))
    assert granted(solo, 2, 6, 5) == []


@pytest.mark.parametrize("spare", [-2, -1, 1, 9])
def test_done_bits_may_be_longer_or_shorter_than_the_items(spare: int) -> None:
    solo = master(2, sites=SITES)
    solo.hear(2, "offer", offer(17, spare=spare) if spare < 0 else offer(17, 1, spare=spare))
    assert granted(solo, 2, 64) == [item for item in range(17) if spare < 0 or item != 1]


def test_bits_beyond_the_items_make_nothing_done() -> None:
    solo = master(2, sites=SITES)
    solo.hear(2, "offer", Offer(BATCH, "predict", 2, b"\xfc\xff"))
    assert granted(solo, 2, 8) == [0, 1]


# ---- how long a lease lasts ----


def test_a_lease_that_is_not_renewed_ends_and_its_item_is_granted_again() -> None:
    solo = of_site(3)
    assert granted(solo, 3, 3) == [0, 1, 2]
    solo.advance(LEASE_MS - 2_000)
    assert not work(solo)
    assert granted(solo, 1, 3) == []
    solo.advance(3_000)
    assert work(solo)
    assert sorted(granted(solo, 1, 3)) == [0, 1, 2]


def test_a_node_that_renews_keeps_its_items_as_long_as_it_likes() -> None:
    solo = of_site(3)
    assert granted(solo, 3, 2) == [0, 1]
    for _ in range(60):
        solo.advance(1_000)
        solo.hear(3, "pull", pull(0, 0))
    assert granted(solo, 1, 3) == [1, 2], "it holds item 0 only"


def test_nobody_renews_what_another_node_was_granted() -> None:
    solo = of_site(2)
    assert granted(solo, 3, 2) == [0, 1]
    for _ in range(LEASE_MS // 1_000):
        solo.advance(1_000)
        solo.hear(1, "pull", pull(0, 0, 1))
    solo.hear(3, "pull", pull(0, 0, 1))  # too late
    assert granted(solo, 3, 2) == []


def test_the_items_of_a_node_that_is_gone_are_free_at_once() -> None:
    solo = of_site(3)
    assert granted(solo, 3, 3) == [0, 1, 2]
    assert not work(solo)
    solo.hear(3, "gone", Gone(1, 1))
    assert work(solo)
    assert sorted(granted(solo, 1, 3)) == [0, 1, 2]


def test_the_end_of_an_earlier_connection_frees_nothing() -> None:
    solo = of_site(3)
    solo.peers[3] = beat(connection=4)
    solo.advance(1_500)
    assert granted(solo, 3, 3) == [0, 1, 2]
    solo.hear(3, "gone", Gone(1, 3))
    assert granted(solo, 1, 3) == []


def test_items_that_the_owner_has_meanwhile_are_leased_no_longer() -> None:
    solo = of_site(3)
    assert granted(solo, 3, 3) == [0, 1, 2]
    solo.hear(2, "offer", offer(3, 1))
    solo.hear(3, "gone", Gone(1, 1))
    assert sorted(granted(solo, 1, 3)) == [0, 2]


# ---- batches come and go ----


def test_a_batch_that_is_done_is_forgotten_and_the_beacon_says_so() -> None:
    solo = of_site(9)
    assert work(solo)
    solo.hear(2, "offer", offer(9, *range(9)))
    assert not work(solo)
    assert solo.node.conductor is not None
    assert solo.node.conductor.leases.batches == {}
    assert granted(solo, 3, 9) == []


def test_a_batch_that_is_withdrawn_is_forgotten_and_a_late_offer_of_it_changes_nothing() -> None:
    solo = of_site(4)
    assert granted(solo, 3, 1) == [0]
    solo.hear(2, "offer", msgspec.structs.replace(offer(4), withdrawn=True))
    solo.hear(2, "offer", offer(4))
    assert granted(solo, 3, 4) == []
    assert solo.node.conductor is not None
    assert solo.node.conductor.leases.batches == {}


def test_another_batch_of_an_owner_takes_the_place_of_its_first() -> None:
    solo = of_site(9)
    granted(solo, 3, 4)
    solo.hear(2, "offer", offer(2, batch="batch-b"))
    assert granted(solo, 3, 4) == [0, 1]
    assert [p.message.batch for p in solo.published("grant") if isinstance(p.message, Grant)] == ["batch-b"]


def test_the_batch_of_an_owner_that_stays_away_is_forgotten_until_it_offers_again() -> None:
    solo = of_site(4)
    gone_silent(solo, 2)
    solo.advance(OWNER_LOST_MS - 1_000)
    assert work(solo), "others go on meanwhile"
    solo.advance(7_000)
    assert not work(solo)
    back(solo, 2)
    solo.advance(1_000)
    solo.hear(2, "offer", offer(4, 0, 1))
    assert granted(solo, 3, 4) == [2, 3]


def test_a_master_knows_so_many_batches_and_no_more() -> None:
    solo = master(2)
    for owner in range(10, 10 + MAX_BATCHES + 5):
        solo.hear(owner, "offer", offer(1))
    assert solo.node.conductor is not None
    assert len(solo.node.conductor.leases.batches) == MAX_BATCHES
    solo.hear(10, "offer", offer(1, 0))
    solo.hear(500, "offer", offer(1))
    assert 500 in solo.node.conductor.leases.batches, "there is room again"


# ---- a new master ----


def gathering() -> Solo:
    """A node that has begun to lead and doesn't know yet what the others hold."""
    solo = Solo(sites=SITES).prepared().connect()
    solo.peers = {2: beat(), 3: beat()}
    solo.advance(3_000)
    assert solo.phase == "gathering"
    return solo


def test_a_new_master_grants_nothing_before_it_has_gathered_and_learns_leases_from_pulls() -> None:
    solo = gathering()
    solo.hear(2, "offer", offer(4))
    assert granted(solo, 3, 3, 0, 2) == []
    for peer in (2, 3):
        solo.hear(peer, "report", report())
    solo.advance(2_000)
    assert solo.phase != "gathering"
    assert granted(solo, 1, 4) == [1, 3], "node 3 keeps what it holds"


def test_only_a_master_of_the_term_hears_of_work() -> None:
    solo = Solo(3, 2, sites=SITES).prepared().connect()
    solo.hear(1, "beacon", beacon(2, 3), reign(1, 1))
    solo.hear(2, "offer", offer(4))
    assert solo.node.dropped["not for my term"] == 1
    led = of_site()
    led.forget()
    led.hear(3, "pull", pull(4), reign(1, 9))
    assert led.said("grant") == []


@pytest.mark.parametrize("change", [{"batch": "other"}, {"items": 1}])
def test_what_a_node_holds_of_an_unknown_batch_or_beyond_its_end_hinders_nobody(change: dict[str, object]) -> None:
    solo = master(2, 3, sites=SITES)
    solo.hear(2, "offer", msgspec.structs.replace(offer(4), **change))
    solo.hear(3, "pull", pull(0, 1, 3))
    assert len(granted(solo, 1, 4)) == (1 if "items" in change else 4)
