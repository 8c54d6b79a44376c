"""A machine in a bad way leads nobody, and the others know it."""

from __future__ import annotations

import msgspec

from pneumod.core.election import ABSTAIN_MS
from pneumod.core.events import DiskSlow
from pneumod.messages import Beat
from tests.core.pair import beat, master, report


def test_the_lead_goes_to_no_node_that_claims_nothing() -> None:
    """A lower node whose disk is slow: handing the lead over to it would leave the cluster without a master."""
    solo = master(3, node_id=2)
    solo.peers[1] = msgspec.structs.replace(beat(), unfit=True)
    solo.hear(1, "report", report())
    solo.advance(5_000)
    assert solo.leads
    assert solo.node.conductor is not None
    assert solo.node.conductor.members.heirs() == (3,)
    solo.peers[1] = beat()
    solo.advance(3_000)
    assert not solo.leads


def test_a_node_whose_disk_is_slow_says_that_it_claims_nothing() -> None:
    solo = master(2)
    solo.step(DiskSlow(3_000))
    solo.forget()
    solo.advance(1_100)
    assert {message.unfit for message in solo.said("beat") if isinstance(message, Beat)} == {True}
    solo.advance(ABSTAIN_MS)
    solo.forget()
    solo.advance(1_100)
    assert {message.unfit for message in solo.said("beat") if isinstance(message, Beat)} == {False}
