"""A node's own work on leased items: pull, do, deliver, and say it again until the owner has it."""

from __future__ import annotations

import msgspec
import pytest

from pneumod.core import events as ev
from pneumod.core.jobs import Work, Worked
from pneumod.core.puller import MAX_SAID, PULL_MS, SAY_AGAIN_MS
from pneumod.messages import Beat, Done, Taken, Term
from pneumod.work import DATA_BYTES, MAX_HELD
from tests.core.items import BATCH, SITES, done, grant, pull
from tests.core.pair import Solo, beacon, reign


def worker(room: int = 4, sites: dict[int, str] | None = None, node_id: int = 3) -> Solo:
    """A node that follows node 1, whose beacon tells of items to pull."""
    solo = Solo(node_id, 2, sites=SITES if sites is None else sites, room=room).prepared().connect()
    follow(solo)
    return solo


def follow(solo: Solo, leader: int = 1, term: Term | None = None, work: bool = True) -> None:
    told = msgspec.structs.replace(beacon(2), work=work)
    solo.hear(leader, "beacon", told, term or max(solo.term, reign(1, 1)))


def wait(solo: Solo, ms: int, work: bool = True) -> None:
    """Time passes while the master's beacons come."""
    end_ms = solo.now_ms + ms
    while solo.now_ms < end_ms:
        solo.advance(min(500, end_ms - solo.now_ms))
        follow(solo, solo.node.leader or 1, solo.term, work)


def finish(solo: Solo, item: int, data: bytes = b"") -> None:
    """The work on an item of node 2's batch comes to something."""
    solo.finish(Work(2, BATCH, "predict", item), Worked(data))


# ---- pulling ----


def test_a_node_with_room_pulls_as_soon_as_the_master_has_items_and_then_each_second() -> None:
    solo = worker(4)
    assert [(p.dest, p.message) for p in solo.published("pull")] == [("1", pull(4))]
    solo.forget()
    wait(solo, 5 * PULL_MS)
    assert len(solo.said("pull")) == 5


def test_a_node_without_room_never_pulls() -> None:
    solo = worker(0)
    wait(solo, 5_000)
    assert solo.said("pull") == []


def test_nobody_pulls_while_the_master_has_no_items_and_nothing_is_held() -> None:
    solo = worker(4)
    solo.forget()
    wait(solo, 500, work=False)
    solo.forget()
    wait(solo, 5_000, work=False)
    assert solo.said("pull") == []


def test_what_is_held_is_renewed_each_second_even_when_the_master_has_no_items() -> None:
    solo = worker(4)
    solo.hear(1, "grant", grant(5, 7, owner=2))
    wait(solo, 500, work=False)
    solo.forget()
    wait(solo, 3 * PULL_MS, work=False)
    assert solo.said("pull") == 3 * [pull(2, 5, 7)]


def test_a_new_master_is_told_at_once_what_is_held() -> None:
    solo = worker(4)
    solo.hear(1, "grant", grant(5, owner=2))
    solo.hear(1, "beacon", None)
    solo.forget()
    follow(solo, 2, reign(2, 2), work=False)
    assert [(p.dest, p.message) for p in solo.published("pull")] == [("2", pull(3, 5))]


def test_no_node_has_more_room_than_the_limit() -> None:
    solo = worker(10 * MAX_HELD)
    assert solo.said("pull") == [pull(MAX_HELD)]


# ---- what it takes on ----


def test_each_granted_item_is_begun_once() -> None:
    solo = worker(4)
    for _ in range(2):
        solo.hear(1, "grant", grant(5, 7, owner=2))
    assert solo.started(Work) == [Work(2, BATCH, "predict", 5), Work(2, BATCH, "predict", 7)]
    solo.advance(1_000)
    assert [beat.activity for beat in solo.said("beat") if isinstance(beat, Beat)][-1] == "working"


def test_items_beyond_its_room_are_left_to_others() -> None:
    solo = worker(2)
    solo.hear(1, "grant", grant(5, 6, 7, 8, owner=2))
    assert [job.item for job in solo.started(Work)] == [5, 6]


@pytest.mark.parametrize(("owner", "begins"), [(3, True), (2, True), (4, False), (9, False)])
def test_a_node_does_nothing_for_a_node_of_another_site_whatever_the_master_grants(owner: int, begins: bool) -> None:
    solo = worker(4)
    solo.hear(1, "grant", grant(0, owner=owner))
    assert bool(solo.started(Work)) is begins


@pytest.mark.parametrize(("owner", "begins"), [(3, True), (2, False)])
def test_without_a_roster_a_node_works_for_itself_only(owner: int, begins: bool) -> None:
    solo = worker(4, sites={})
    solo.hear(1, "grant", grant(0, owner=owner))
    assert bool(solo.started(Work)) is begins


def test_over_a_broker_of_another_site_a_node_neither_pulls_nor_works_nor_delivers() -> None:
    solo = worker(4)
    solo.hear(1, "grant", grant(5, 6, owner=2))
    solo.step(ev.Disconnected())
    solo.step(ev.Connected(2, at_home=False))
    follow(solo, 1, reign(2, 1))
    solo.forget()
    finish(solo, 5, b"pixels")
    solo.hear(1, "grant", grant(7, owner=2))
    wait(solo, 3 * PULL_MS)
    assert solo.started(Work) == solo.said("pull") == solo.said("done") == []
    solo.step(ev.Disconnected())
    solo.step(ev.Connected(3, at_home=True))
    follow(solo, 1, reign(3, 1))
    wait(solo, PULL_MS)
    assert solo.said("done") == [done(5, b"pixels")], "back at home it tells what came of it"


def test_a_node_does_nothing_that_it_has_not_the_skill_for() -> None:
    solo = worker(4)
    solo.hear(1, "grant", grant(0, owner=2, skill="preprocess"))
    assert solo.started(Work) == []


def test_a_grant_of_anyone_but_the_master_of_the_term_is_refused() -> None:
    solo = worker(4)
    solo.hear(2, "grant", grant(0, owner=2))
    solo.hear(1, "grant", grant(0, owner=2), reign(0, 1))
    assert solo.started(Work) == []
    assert solo.node.dropped == {"not the master of its term": 1, "stale term": 1}


# ---- what comes of it ----


def test_what_comes_of_an_item_goes_to_its_owner_and_is_held_until_the_owner_takes_it() -> None:
    solo = worker(4)
    solo.hear(1, "grant", grant(5, 7, owner=2))
    solo.forget()
    finish(solo, 5, b"pixels")
    assert [(p.dest, p.message) for p in solo.published("done")] == [("2", done(5, b"pixels"))]
    solo.advance(100)
    assert solo.said("pull")[-1] == pull(3, 5, 7), "there is room again, and nobody else is to begin with item 5"
    solo.forget()
    solo.hear(2, "taken", Taken(BATCH, 5))
    solo.advance(100)
    assert solo.said("pull") == [pull(3, 7)]


def test_only_the_owner_can_take_an_item() -> None:
    solo = worker(4)
    solo.hear(1, "grant", grant(5, owner=2))
    finish(solo, 5)
    solo.hear(1, "taken", Taken(BATCH, 5))
    solo.hear(2, "taken", Taken("other", 5))
    solo.hear(2, "taken", Taken(BATCH, 6))
    wait(solo, PULL_MS)
    assert solo.said("pull")[-1] == pull(4, 5)


def test_a_completion_is_said_again_until_it_is_taken() -> None:
    solo = worker(4)
    solo.hear(1, "grant", grant(5, owner=2))
    solo.forget()
    finish(solo, 5, b"x")
    wait(solo, 3 * SAY_AGAIN_MS)
    assert solo.said("done") == 4 * [done(5, b"x")]
    solo.hear(2, "taken", Taken(BATCH, 5))
    solo.forget()
    wait(solo, 3 * SAY_AGAIN_MS)
    assert solo.said("done") == []


def test_a_completion_whose_owner_stays_away_is_given_up() -> None:
    solo = worker(1)
    solo.hear(1, "grant", grant(5, owner=2))
    solo.forget()
    finish(solo, 5)
    wait(solo, (MAX_SAID + 5) * SAY_AGAIN_MS)
    assert len(solo.said("done")) == MAX_SAID
    assert solo.said("pull")[-1] == pull(1), "there is room for other work"


def test_a_completion_waits_for_the_broker_and_is_not_given_up_meanwhile() -> None:
    solo = worker(1)
    solo.hear(1, "grant", grant(5, owner=2))
    solo.step(ev.Disconnected())
    finish(solo, 5)
    solo.forget()
    for _ in range(2 * MAX_SAID):
        solo.now_ms += SAY_AGAIN_MS
        solo.step(ev.Tick())
    assert solo.said("done") == []
    solo.connect(2)
    assert solo.said("done") == [done(5)]


def test_a_node_that_holds_a_completion_sleeps_while_there_is_no_broker() -> None:
    solo = worker(1)
    solo.hear(1, "grant", grant(5, owner=2))
    finish(solo, 5)
    solo.step(ev.Disconnected())
    solo.now_ms += SAY_AGAIN_MS + 500
    solo.step(ev.Tick())
    assert solo.node.deadline_ms() > solo.now_ms


def test_a_group_of_items_that_are_taken_is_one_pull() -> None:
    solo = worker(4)
    solo.hear(1, "grant", grant(0, 1, 2, 3, owner=2))
    for item in range(4):
        finish(solo, item)
    solo.forget()
    for item in range(4):
        solo.hear(2, "taken", Taken(BATCH, item))
    solo.advance(100)
    assert solo.said("pull") == [pull(4)]


def test_a_master_that_dies_does_not_end_the_work_nor_its_delivery() -> None:
    solo = worker(4)
    solo.hear(1, "grant", grant(5, 6, owner=2))
    solo.hear(1, "beacon", None)
    solo.forget()
    finish(solo, 5)
    assert [p.dest for p in solo.published("done")] == ["2"]
    assert Work(2, BATCH, "predict", 6) in solo.node.state.running


def test_work_that_fails_is_told_to_the_owner_with_the_reason_in_400_characters() -> None:
    solo = worker(4)
    solo.hear(1, "grant", grant(5, owner=2))
    solo.step(ev.JobFailed(Work(2, BATCH, "predict", 5), "no image " * 100))
    told = solo.said("done")[0]
    assert isinstance(told, Done)
    assert told.failed == ("no image " * 100)[:400]
    assert told.data == b""


@pytest.mark.parametrize(("size", "failed"), [(DATA_BYTES, None), (DATA_BYTES + 1, "196609 bytes came of it; 196608")])
def test_data_beyond_the_limit_is_a_failure(size: int, failed: str | None) -> None:
    solo = worker(4)
    solo.hear(1, "grant", grant(5, owner=2))
    finish(solo, 5, bytes(size))
    told = solo.said("done")[0]
    assert isinstance(told, Done)
    assert (told.failed or "").startswith(failed or "")
    assert len(told.data) == (size if failed is None else 0)


def test_an_item_that_was_taken_from_another_node_meanwhile_is_let_go() -> None:
    solo = worker(4)
    solo.hear(1, "grant", grant(5, owner=2))
    solo.hear(2, "taken", Taken(BATCH, 5))
    solo.forget()
    finish(solo, 5)
    wait(solo, PULL_MS)
    assert solo.said("done") == []
    assert solo.said("pull")[-1] == pull(4)


def test_a_node_works_for_itself_as_for_others() -> None:
    """Owner, worker and master in one: grants, completions and their receipts come back over the broker."""
    solo = Solo(1, sites=SITES, room=4).prepared().connect()
    solo.advance(6_000)
    assert solo.leads
    solo.step(ev.Offered(BATCH, "predict", 10))
    for _ in range(100):
        for job in [job for job in solo.node.state.running if isinstance(job, Work)]:
            solo.finish(job)
        solo.advance(100)
    batch = solo.durable.batch
    assert batch is not None
    assert int.from_bytes(batch.done, "little") == 2**10 - 1
    assert sorted(job.item for job in solo.started(Work)) == [*range(10)], "each was done once"
    assert solo.node.crew.puller.held == {}
