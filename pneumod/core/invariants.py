"""What must hold of a node between two steps, whatever happened. A broken one is a bug, not an input."""

from __future__ import annotations

from pneumod.core.jobs import Train
from pneumod.core.node import Node


def check(node: Node) -> None:
    """Assert every invariant of one node.

    Raises:
        AssertionError: one is broken; the text says which.
    """
    state, durable = node.state, node.state.durable
    leading = node.conductor is not None
    assert leading == node.election.leading, "the election and the conductor disagree on leading"
    if leading:
        assert state.connected, "leads without a broker"
        assert durable.term.node == state.id, "leads under another's term"
    if durable.closed is not None:
        assert durable.spec is not None and durable.closed.number <= durable.spec.number, "a closed round of no run"
    training = [job for job in state.running if isinstance(job, Train)]
    assert len(training) <= 1, "trains two things at once"
    for job in training:
        result = durable.result if durable.result is not None and durable.result.key == job.opened.key else None
        lost = result is not None and result.update is not None and result.update.digest not in state.held
        assert result is None or lost, "trains what it has trained"
    collector = node.conductor.collector if node.conductor is not None else None
    if collector is not None:
        assert set(collector.results) <= set(collector.opened.who), "an answer from a node outside the round"
        assert set(collector.accepted) <= set(collector.results), "accepted without a result"
        assert not set(collector.accepted) & set(collector.refused), "accepted and refused"
        assert all(job in state.running for job in collector.pending), "waits for a job that doesn't run"
    assert not state.actions, "actions that nobody took"
