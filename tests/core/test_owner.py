"""A node's own batch: the first completion of each item counts, and is on the disk before anyone is told."""

from __future__ import annotations

import msgspec

from pneumod.core import events as ev
from pneumod.core.actions import Deliver, Durable
from pneumod.core.owner import GROUP_MS, MAX_ATTEMPTS, MAX_GROUP, OFFER_MS
from pneumod.messages import Offer, Taken, Term
from tests.core.items import BATCH, SITES, bits, delivered, done, offers, order, persisted
from tests.core.pair import Solo, beacon, reign


def owner(items: int = 4, durable: Durable | None = None) -> Solo:
    """Node 2, which follows node 1 and has a batch."""
    solo = Solo(2, 1, durable=durable, sites=SITES).prepared().connect()
    follow(solo, 1, reign(1, 1))
    if durable is None:
        offers(solo, items)
    return solo


def follow(solo: Solo, leader: int, term: Term, work: bool = True) -> None:
    """A master's beacon."""
    solo.hear(leader, "beacon", msgspec.structs.replace(beacon(3), work=work), term)


def wait(solo: Solo, ms: int, work: bool = True) -> None:
    """Time passes while the master's beacons come."""
    for _ in range(0, ms, 500):
        solo.advance(min(500, ms))
        follow(solo, 1, solo.term, work)


def taken(solo: Solo) -> list[tuple[str | None, int]]:
    return [(p.dest, p.message.item) for p in solo.published("taken") if isinstance(p.message, Taken)]


def raw_bits(solo: Solo) -> bytes:
    assert solo.durable.batch is not None
    return solo.durable.batch.done


# ---- it is offered ----


def test_a_batch_is_on_the_disk_before_the_master_is_told() -> None:
    solo = owner(4)
    assert solo.said("offer") == [Offer(BATCH, "predict", 4, b"")]
    assert [p.dest for p in solo.published("offer")] == ["1"]
    assert order(solo.actions, "Persist", "offer")[-2:] == ["Persist", "offer"]


def test_a_batch_is_offered_every_few_seconds_and_to_a_new_master_at_once() -> None:
    solo = owner()
    solo.forget()
    wait(solo, OFFER_MS - 1_000)
    assert solo.said("offer") == []
    wait(solo, 1_500)
    assert len(solo.said("offer")) == 1
    solo.forget()
    solo.hear(1, "beacon", None)
    follow(solo, 3, reign(2, 3))
    assert [p.dest for p in solo.published("offer")] == ["3"]


def test_nothing_is_offered_without_a_broker_or_a_master() -> None:
    solo = owner()
    solo.step(ev.Disconnected())
    solo.forget()
    solo.advance(20_000)
    assert solo.said("offer") == []


def test_a_batch_that_is_done_is_offered_until_the_master_has_no_items() -> None:
    solo = owner(1)
    solo.hear(3, "done", done(0))
    wait(solo, GROUP_MS)
    assert bits(solo) == [0]
    solo.forget()
    wait(solo, 2 * OFFER_MS)
    assert len(solo.said("offer")) == 2, "the master has items, maybe this one's: the offer may have been lost"
    solo.forget()
    wait(solo, 4 * OFFER_MS, work=False)
    assert solo.said("offer") == []


def test_the_next_batch_takes_the_place_of_the_first() -> None:
    solo = owner(4)
    solo.hear(3, "done", done(0))
    solo.step(ev.Offered("batch-b", "preprocess", 2))
    wait(solo, 1_000)
    assert solo.durable.batch == Offer("batch-b", "preprocess", 2, b"")
    solo.forget()
    solo.hear(3, "done", done(1))
    assert (taken(solo), delivered(solo)) == ([("3", 1)], []), "of the first batch nothing is wanted any more"


def test_a_node_without_a_batch_has_nothing_to_wake_for_while_the_master_has_items() -> None:
    solo = Solo(2, 1, sites=SITES).prepared().connect()
    follow(solo, 1, reign(1, 1))
    solo.now_ms += 10
    solo.step(ev.Tick())
    assert solo.node.deadline_ms() > solo.now_ms
    assert solo.said("offer") == []


# ---- completions ----


def test_a_completion_is_delivered_then_on_the_disk_then_its_node_is_told_then_the_master() -> None:
    solo = owner()
    solo.forget()
    solo.hear(3, "done", done(2, b"pixels"))
    assert delivered(solo) == [(2, b"pixels", None)]
    assert taken(solo) == []
    wait(solo, GROUP_MS)
    assert order(solo.actions, "Deliver", "Persist", "taken", "offer") == ["Deliver", "Persist", "taken", "offer"]
    assert taken(solo) == [("3", 2)]
    assert bits(solo) == [2]
    assert solo.said("offer") == [solo.durable.batch]


def test_the_first_completion_of_an_item_wins_and_the_later_ones_are_taken_too() -> None:
    solo = owner()
    solo.forget()
    solo.hear(3, "done", done(1, b"first"))
    solo.hear(1, "done", done(1, b"second"))
    solo.hear(3, "done", done(1, b"first"))
    wait(solo, GROUP_MS)
    assert delivered(solo) == [(1, b"first", None)]
    assert taken(solo) == [("1", 1), ("3", 1)]
    solo.forget()
    solo.hear(1, "done", done(1, b"third"))
    assert (taken(solo), delivered(solo), persisted(solo)) == ([("1", 1)], [], 0)


def test_completions_are_taken_in_groups_of_a_fifth_of_a_second_with_one_write_each() -> None:
    solo = owner(100)
    solo.forget()
    for item in range(20):
        solo.hear(3, "done", done(item))
    solo.advance(GROUP_MS - 1)
    assert persisted(solo) == 0
    solo.advance(1)
    assert persisted(solo) == 1
    assert len(taken(solo)) == 20


def test_a_full_group_does_not_wait() -> None:
    solo = owner(100)
    solo.forget()
    for item in range(MAX_GROUP + 5):
        solo.hear(3, "done", done(item))
    assert persisted(solo) == 1
    assert [item for _, item in taken(solo)] == [*range(MAX_GROUP)]
    solo.advance(GROUP_MS)
    assert bits(solo) == [*range(MAX_GROUP + 5)]


def test_a_completion_from_another_site_is_not_taken() -> None:
    solo = owner()
    solo.forget()
    solo.hear(4, "done", done(0))
    wait(solo, 1_000)
    assert (taken(solo), delivered(solo), raw_bits(solo)) == ([], [], b"")


def test_without_a_roster_an_owner_takes_its_own_completions_only() -> None:
    solo = Solo(2, 1).prepared().connect()
    follow(solo, 1, reign(1, 1))
    offers(solo, 2)
    for node in (3, 2):
        solo.hear(node, "done", done(0, str(node).encode()))
    assert delivered(solo) == [(0, b"2", None)]


def test_completions_of_an_unknown_batch_or_item_are_let_go() -> None:
    solo = owner(4)
    solo.forget()
    solo.hear(3, "done", done(0, batch="older"))
    solo.hear(3, "done", done(4))
    assert (taken(solo), delivered(solo)) == ([("3", 0), ("3", 4)], [])


# ---- failures ----


def test_an_item_that_fails_is_tried_again_a_few_times_and_then_delivered_with_the_reason() -> None:
    solo = owner(1)
    solo.forget()
    for attempt, node in enumerate((3, 1, 2)[: MAX_ATTEMPTS - 1]):
        solo.hear(node, "done", done(0, failed=f"attempt {attempt}"))
        wait(solo, 11_000)
        assert raw_bits(solo) == b"", "the item is still to be done"
    assert delivered(solo) == []
    assert taken(solo) == [("3", 0), ("1", 0)]
    solo.hear(2, "done", done(0, failed="no such image"))
    wait(solo, GROUP_MS)
    assert delivered(solo) == [(0, b"", "no such image")]
    assert bits(solo) == [0]


def test_a_failure_that_is_heard_again_is_one_attempt() -> None:
    """It comes twice over a bad connection, or is said again before the owner's answer has come."""
    solo = owner(1)
    for _ in range(2 * MAX_ATTEMPTS):
        solo.hear(3, "done", done(0, failed="killed"))
        wait(solo, 500)
    assert delivered(solo) == []
    assert raw_bits(solo) == b""


def test_a_success_after_failures_counts() -> None:
    solo = owner(1)
    solo.hear(3, "done", done(0, failed="killed"))
    wait(solo, 11_000)
    solo.hear(1, "done", done(0, b"good"))
    assert delivered(solo) == [(0, b"good", None)]


# ---- restart ----


def test_an_owner_that_starts_again_goes_on_from_what_is_on_its_disk() -> None:
    first = owner(20)
    for item in (0, 3, 17):
        first.hear(3, "done", done(item))
    wait(first, GROUP_MS)
    second = owner(durable=first.durable)
    told = second.said("offer")
    assert told == [Offer(BATCH, "predict", 20, bytes([0b1001, 0, 0b10]))]
    second.forget()
    second.hear(3, "done", done(17))
    second.hear(3, "done", done(18))
    assert [item for item, _, _ in delivered(second)] == [18]
    wait(second, GROUP_MS)
    assert bits(second) == [0, 3, 17, 18]


def test_what_was_delivered_but_not_persisted_before_a_crash_comes_again() -> None:
    first = owner(4)
    first.hear(3, "done", done(0))
    assert delivered(first) == [(0, b"", None)]
    second = owner(durable=first.durable)
    second.hear(3, "done", done(0))
    assert delivered(second) == [(0, b"", None)]


def test_every_item_is_delivered_once_whatever_the_order() -> None:
    solo = owner(200)
    solo.forget()
    for item in [*range(199, -1, -1), *range(0, 200, 3)]:
        solo.hear(3 if item % 2 else 1, "done", done(item, bytes([item])))
        solo.advance(7)
    wait(solo, GROUP_MS)
    assert sorted(delivered(solo)) == [(item, bytes([item]), None) for item in range(200)]
    assert len([a for a in solo.actions if isinstance(a, Deliver)]) == 200
    assert bits(solo) == [*range(200)]


def test_the_end_of_a_batch_is_told_though_the_master_has_nothing_to_pull() -> None:
    """All its items are leased, so the beacon tells of no work; without the last offer their leases would end first."""
    solo = owner(1)
    solo.hear(3, "done", done(0))
    follow(solo, 1, solo.term, work=False)
    solo.forget()
    wait(solo, GROUP_MS + 300, work=False)
    assert [message.done for message in solo.said("offer") if isinstance(message, Offer)] == [b"\x01"]
    wait(solo, 2 * OFFER_MS, work=False)
    assert len(solo.said("offer")) == 1


# ---- it is withdrawn ----


def test_a_batch_that_nobody_wants_any_more_is_withdrawn_and_who_still_delivers_is_let_go() -> None:
    solo = owner(4)
    solo.hear(3, "done", done(2, b"kept"))
    solo.forget()
    solo.step(ev.Withdrawn())
    assert solo.said("offer") == [Offer(BATCH, "predict", 4, b"\x04", withdrawn=True)]
    assert order(solo.actions, "Persist", "offer")[-2:] == ["Persist", "offer"]
    solo.forget()
    solo.hear(3, "done", done(0, b"late"))
    wait(solo, 2 * OFFER_MS, work=False)
    assert (delivered(solo), taken(solo), solo.said("offer")) == ([], [("3", 0)], [])
    offers(solo, 4)
    assert solo.said("offer") == [], "the same batch doesn't come back"


def test_a_batch_that_is_done_is_not_withdrawn() -> None:
    solo = owner(1)
    solo.hear(3, "done", done(0))
    wait(solo, GROUP_MS)
    solo.step(ev.Withdrawn())
    assert solo.durable.batch == Offer(BATCH, "predict", 1, b"\x01")
