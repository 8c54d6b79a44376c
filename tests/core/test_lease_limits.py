"""What leases must stand: nodes that take more than they may, owners that come late or change their batch."""

from __future__ import annotations

from pneumod.core.leases import LEASE_MS, OWNER_LOST_MS
from pneumod.messages import Gone, Grant, Offer
from pneumod.work import MAX_HELD, MAX_ITEMS
from tests.core.items import BATCH, SITES, back, gone_silent, granted, offer, pull
from tests.core.pair import Solo, beat, master


def of_site(items: int) -> Solo:
    """A master, node 1; node 2 of its site has a batch, node 4 is of another site."""
    solo = master(2, 3, 4, sites=SITES)
    solo.hear(2, "offer", offer(items))
    return solo


def test_a_node_is_granted_no_more_than_it_may_hold_whatever_it_says_it_holds() -> None:
    solo = of_site(1_000)
    items = [item for _ in range(5) for item in granted(solo, 3, MAX_HELD)]
    assert items == [*range(MAX_HELD)]
    assert granted(solo, 1, 2) == [MAX_HELD, MAX_HELD + 1]


def test_what_is_granted_and_not_yet_known_to_the_node_takes_up_its_room() -> None:
    """Two pulls may be on their way before the first grant has come."""
    solo = of_site(100)
    assert granted(solo, 3, 4) == [0, 1, 2, 3]
    assert granted(solo, 3, 4) == []
    assert granted(solo, 3, 3, 0, 1, 2) == [4, 5]


def test_a_node_of_another_site_cannot_keep_items_by_saying_that_it_holds_them() -> None:
    solo = of_site(4)
    solo.hear(4, "pull", pull(0, 0, 1, 2, 3))
    assert granted(solo, 3, 4) == [0, 1, 2, 3]


def test_an_item_that_a_pull_told_of_and_that_is_free_again_is_granted_once() -> None:
    solo = of_site(4)
    solo.hear(3, "pull", pull(0, 1))
    solo.hear(3, "gone", Gone(1, 1))
    assert sorted(granted(solo, 2, 8)) == [0, 1, 2, 3]


def test_an_owner_that_comes_back_finds_its_items_with_those_who_hold_them() -> None:
    """Its batch had been forgotten; node 2 still works on item 0 and has told so all the time."""
    solo = master(2, 3, 4, sites=SITES | {4: "a"})
    solo.hear(4, "offer", offer(2))
    assert granted(solo, 2, 1, owner=4) == [0]
    gone_silent(solo, 4)
    solo.hear(4, "gone", Gone(1, 1))
    for _ in range(OWNER_LOST_MS // 1_000 + 3):
        solo.advance(1_000)
        solo.hear(2, "pull", pull(0, 0, owner=4))
    assert solo.node.conductor is not None
    assert 4 not in solo.node.conductor.leases.batches
    back(solo, 4)
    solo.advance(500)
    solo.hear(4, "offer", offer(2))
    assert granted(solo, 3, 2, owner=4) == [1]


def test_of_two_nodes_that_say_they_hold_an_item_of_an_unknown_batch_one_is_believed() -> None:
    solo = master(2, 3, sites=SITES)
    for node in (1, 3):
        solo.hear(node, "pull", pull(0, 0))
    solo.hear(2, "offer", offer(1))
    assert granted(solo, 2, 1) == []
    for node in (1, 3):
        solo.hear(node, "gone", Gone(1, 1))
    solo.advance(11_000)
    assert granted(solo, 2, 1) == [0]


def test_an_owner_that_begins_its_batch_again_with_other_items_has_all_of_them_done() -> None:
    for items in (8, 2):
        solo = of_site(4)
        solo.hear(2, "offer", offer(items))
        assert granted(solo, 3, 8) == [*range(items)]


def test_items_that_an_owner_lost_with_its_disk_are_granted_again() -> None:
    solo = master(2, 3, sites=SITES)
    solo.hear(2, "offer", offer(4, 0, 1))
    assert granted(solo, 3, 1) == [2]
    solo.peers[2] = beat(boot=2)
    solo.advance(1_000)
    solo.hear(2, "offer", offer(4))
    assert granted(solo, 3, 4, 2) == [0, 1, 3]


def test_an_old_offer_that_comes_late_frees_nothing() -> None:
    solo = master(2, 3, sites=SITES)
    solo.hear(2, "offer", offer(4))
    solo.hear(2, "offer", offer(4, 0, 1))
    solo.hear(2, "offer", offer(4))
    assert granted(solo, 3, 4) == [2, 3]


def test_a_small_batch_is_not_starved_by_a_large_one_of_a_lower_id() -> None:
    solo = master(2, 3, sites=SITES)
    solo.hear(1, "offer", offer(1_000))
    solo.hear(2, "offer", offer(1))
    for node in (1, 2, 3):
        solo.hear(node, "pull", pull(4))
    assert {p.message.owner for p in solo.published("grant") if isinstance(p.message, Grant)} == {1, 2}


def test_a_node_is_granted_other_work_as_soon_as_a_batch_is_done() -> None:
    solo = of_site(4)
    assert granted(solo, 3, 4) == [0, 1, 2, 3]
    solo.hear(2, "offer", offer(4, 0, 1, 2, 3))
    solo.hear(2, "offer", offer(4, batch="batch-b"))
    assert granted(solo, 3, 4) == [0, 1, 2, 3]


def test_the_largest_batch_is_known_to_be_done_when_its_last_item_is() -> None:
    solo = master(2, 3, sites=SITES)
    but_one = ((1 << MAX_ITEMS - 1) - 1).to_bytes(MAX_ITEMS // 8, "little")
    solo.hear(2, "offer", Offer(BATCH, "predict", MAX_ITEMS, but_one))
    assert granted(solo, 3, MAX_HELD) == [MAX_ITEMS - 1]
    solo.hear(2, "offer", Offer(BATCH, "predict", MAX_ITEMS, b"\xff" * (MAX_ITEMS // 8)))
    assert solo.node.conductor is not None
    assert not solo.node.conductor.beacon().work


def test_an_item_that_two_nodes_hold_is_not_granted_to_a_third_when_one_lease_ends() -> None:
    """Its first holder was not heard before it was granted again, after a takeover."""
    solo = master(2, 3, 4, sites=SITES)
    solo.hear(2, "offer", offer(1))
    assert granted(solo, 2, 1) == [0]
    for _ in range(LEASE_MS // 1_000 + 2):
        solo.advance(1_000)
        solo.hear(3, "pull", pull(0, 0))
    assert granted(solo, 2, 1) == []
    solo.advance(LEASE_MS + 1_000)
    assert granted(solo, 2, 1) == [0]
