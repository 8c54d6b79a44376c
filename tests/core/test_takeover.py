"""A new master: it takes up the run where it stands, and a lower id gets the lead between two rounds."""

from __future__ import annotations

import msgspec

from pneumod.core.actions import Durable
from pneumod.core.collector import REJOIN_MS
from pneumod.core.events import BlobsFound
from pneumod.core.jobs import Check, Close, Fetch, Initialise, Train
from pneumod.core.rounds import (
    summary_of,
)
from pneumod.messages import (
    RoundOpen,
)
from tests.core.pair import (
    Solo,
    ask,
    beacon,
    beat,
    closed_of,
    current,
    hold,
    master,
    open_of,
    reign,
    report,
    result_of,
    spec_of,
    take_in,
)


def heir() -> tuple[Solo, RoundOpen]:
    """Node 2 takes over round 1 from node 1, with nodes 3 and 4; what it has trained itself is in its journal."""
    spec, old = spec_of(min_nodes=2), reign(5, 1)
    closed = closed_of(spec, 0, old)
    opened = open_of(spec, closed, (1, 2, 3, 4), old)
    result = result_of(2, opened)
    solo = master(3, 4, node_id=2, durable=Durable(old, spec, closed, opened, result))
    hold(solo)
    return solo, opened


def test_a_new_master_opens_the_same_round_again_and_answers_it_from_its_disk() -> None:
    solo, before = heir()
    opened = current(solo)
    assert opened.key == before.key
    assert opened.who == before.who
    assert opened.terms == (reign(5, 1), reign(6, 2))
    assert solo.started(Train) == []
    assert solo.said("result") == [result_of(2, before)]
    assert solo.said("spec")[-1] == solo.durable.spec
    assert solo.said("closed")[-1] == solo.durable.closed


def test_the_takeover_counts_the_updates_that_were_trained_under_an_earlier_term() -> None:
    solo, before = heir()
    opened = current(solo)
    solo.finish(solo.running(Check))
    for node, asked in ((3, before), (4, opened)):
        solo.hear(node, "result", result_of(node, asked))
        solo.finish(solo.running(Fetch))
        solo.finish(solo.running(Check))
    solo.advance(20_000)  # node 1 is dead
    job = solo.running(Close)
    assert [c.node for c in job.contributions] == [2, 3, 4]
    assert [(t.old_term, t.new_term, t.updates_kept) for t in job.takeovers] == [(reign(5, 1), reign(6, 2), 2)]
    assert solo.node.conductor is not None
    collector = solo.node.conductor.collector
    assert collector is not None
    assert summary_of(collector, job).takeovers == job.takeovers


def test_a_new_master_takes_the_furthest_standing_that_is_reported() -> None:
    spec = spec_of()
    near, far = closed_of(spec, 1, reign(2, 9)), closed_of(spec, 2, reign(2, 9))
    held = frozenset({near.model.digest, near.checkpoint.digest})
    solo = Solo(1, durable=Durable(reign(2, 9), spec, near), held=held).prepared().connect()
    solo.peers = {2: beat(closed=far), 3: beat(closed=near)}
    solo.advance(3_000)
    solo.hear(3, "report", report(spec, near))
    solo.hear(2, "report", report(spec, far))
    solo.advance(2_000)
    assert solo.durable.closed == far
    assert {job.blob for job in solo.started(Fetch)} >= {far.model, far.checkpoint}
    assert {job.holders for job in solo.started(Fetch)} == {(2,)}
    assert solo.phase == "preparing"
    for job in list(solo.node.state.running):
        if isinstance(job, Fetch):
            solo.finish(job)
    solo.peers[3] = beat(closed=far)
    solo.advance(2_000)
    assert current(solo).base == far.model


def test_a_report_that_goes_further_than_the_masters_knowledge_is_adopted_at_any_time() -> None:
    solo = master(2)
    spec = spec_of(number=4)
    far = closed_of(spec, 3, reign(9, 9), ended="over")
    solo.hear(2, "report", report(spec, far))
    assert (solo.durable.spec, solo.durable.closed, solo.phase) == (spec, far, "idle")


def test_a_node_that_missed_the_end_of_a_run_is_told_when_it_reports() -> None:
    """It may have refused the master's word while it still believed in an earlier master."""
    spec = spec_of(rounds=1)
    before, ended = closed_of(spec, 1, reign(1, 1)), closed_of(spec, 2, reign(1, 1), ended="over")
    solo = master(2, durable=Durable(reign(1, 1), spec, ended))
    assert solo.phase == "idle"
    solo.forget()
    solo.hear(2, "report", report(spec, ended))
    assert solo.said("closed") == []
    solo.hear(2, "report", report(spec, before))
    solo.advance(100)
    assert (solo.said("spec"), solo.said("closed")) == ([spec], [ended])


def test_a_lost_word_is_said_again_while_the_heirs_are_waited_for() -> None:
    solo = master(2)
    ask(solo)
    solo.finish(solo.running(Initialise))
    assert solo.phase == "handing"
    spec, closed = solo.durable.spec, solo.durable.closed
    solo.advance(2_000)
    solo.forget()
    solo.hear(2, "report", report(spec, None))
    solo.advance(100)
    assert (solo.said("spec"), solo.said("closed")) == ([spec], [closed])


def test_a_new_master_opens_the_next_round_once_an_heir_has_the_model() -> None:
    spec = spec_of()
    closed = closed_of(spec, 1, reign(2, 9))
    held = frozenset({closed.model.digest, closed.checkpoint.digest})
    solo = Solo(1, durable=Durable(reign(2, 9), spec, closed), held=held).prepared().connect()
    solo.peers = {2: beat(), 3: beat()}
    solo.advance(3_000)
    for peer in (2, 3):
        solo.hear(peer, "report", msgspec.structs.replace(report(spec, closed), holds=()))
    solo.advance(30_000)
    assert solo.phase == "handing"
    solo.hear(2, "report", report(spec, closed))
    solo.advance(1_100)
    assert current(solo).round == 2


def test_a_new_master_waits_as_long_for_a_node_that_it_never_heard() -> None:
    solo, _ = heir()
    solo.finish(solo.running(Check))
    take_in(solo, 3, 4)
    solo.advance(REJOIN_MS - 5_000)
    assert not solo.runs(Close)
    solo.advance(5_000)
    assert [(x.node, x.why) for x in solo.running(Close).left_out] == [(1, "gone")]


def test_a_lower_id_never_gets_the_lead_in_the_middle_of_a_round() -> None:
    solo = master(7, node_id=5)
    ask(solo)
    solo.finish(solo.running(Initialise))
    hold(solo)
    opened = current(solo)
    solo.peers[2] = beat(closed=solo.durable.closed)
    solo.advance(1_000)
    solo.hear(2, "report", report(solo.durable.spec, solo.durable.closed))
    solo.advance(10_000)
    assert solo.leads
    assert current(solo) == opened
    take_in(solo, 5, 7)
    solo.finish(solo.running(Close))
    solo.advance(100)
    assert solo.leads  # node 2 has to store the new model first
    hold(solo)
    assert not solo.leads
    assert solo.durable.opened == opened  # and the next round was not opened before
    assert "steps down: node 2 has a lower id" in solo.logged()


def test_a_master_whose_beacon_has_not_come_back_settles_nothing() -> None:
    """Its words may be in a buffer behind a dead line, and come out when another leads."""
    solo = Solo(1).prepared().connect()
    solo.echo = False
    solo.advance(5_500)
    assert solo.leads
    assert solo.phase == "gathering"
    solo.hear(1, "beacon", beacon())
    solo.advance(1_100)
    assert solo.phase == "idle"


def test_a_master_whose_new_model_rots_before_an_heir_has_it_fetches_it_again_or_makes_room() -> None:
    solo = master(2, 3)
    ask(solo)
    solo.finish(solo.running(Initialise))
    assert solo.phase == "handing"
    solo.step(BlobsFound(frozenset()))
    solo.advance(2_000)
    assert solo.phase == "preparing"


def test_who_holds_all_that_a_master_lacks_is_asked_first() -> None:
    spec = spec_of()
    closed = closed_of(spec, 1, reign(2, 9))
    solo = (
        Solo(1, durable=Durable(reign(2, 9), spec, closed), held=frozenset({closed.model.digest})).prepared().connect()
    )
    solo.peers = dict.fromkeys((2, 3, 4), beat())
    solo.advance(3_000)
    for peer, holds in ((2, ()), (3, (closed.model.digest,)), (4, (closed.checkpoint.digest,))):
        solo.hear(peer, "report", msgspec.structs.replace(report(spec, closed), holds=holds))
    solo.advance(2_000)
    fetches = [job for job in solo.started(Fetch) if job.blob == closed.checkpoint]
    assert fetches[-1].holders == (4,)


def test_heirs_that_come_before_a_round_opens_are_waited_for_too() -> None:
    solo = master(2, 4)
    ask(solo, min_nodes=4)
    solo.finish(solo.running(Initialise))
    hold(solo)
    assert solo.phase == "waiting"
    solo.peers[3] = beat()
    solo.peers[5] = beat(closed=solo.durable.closed)
    for peer in (3, 5):
        solo.hear(peer, "report", msgspec.structs.replace(report(solo.durable.spec, solo.durable.closed), holds=()))
    solo.advance(2_000)
    assert solo.phase == "handing"
    solo.peers[3] = beat(closed=solo.durable.closed)
    solo.advance(2_000)
    assert current(solo).round == 1
