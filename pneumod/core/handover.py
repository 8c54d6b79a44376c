"""Who holds the run's state besides the master, and who may lead in its place."""

from __future__ import annotations

from pneumod.core.membership import Members
from pneumod.core.state import State, standing

HEIRS_THAT_HOLD = 2
MAX_HOLDERS = 8


def heirs_hold(state: State, members: Members, late: bool) -> bool:
    """Whether the first heirs have stored the newest model and checkpoint, so that a takeover loses nothing.

    When it is late, any other node will do; a master without one waits, since only its own disk has the run.
    """
    closed = state.durable.closed
    assert closed is not None
    heirs, blobs = members.heirs()[:HEIRS_THAT_HOLD], (closed.model.digest, closed.checkpoint.digest)
    if all(members.holds(node, *blobs) for node in heirs):
        return True
    return late and any(members.holds(node, *blobs) for node in members.live if node != state.id)


def holds_newest(state: State) -> bool:
    """Whether this node has what the heirs are to fetch."""
    closed = state.durable.closed
    return closed is not None and state.holds(closed)


def holders(state: State, members: Members) -> tuple[int, ...]:
    """Whom a master may ask for a blob that it lacks: for the newest model or checkpoint, who says that it has it."""
    closed = state.durable.closed
    if closed is None:
        return ()
    if state.holds(closed):
        return members.heirs()  # for a receipt, or the best model
    lacks = {closed.model.digest, closed.checkpoint.digest} - state.held
    found = [(-len(lacks & set(r.holds)), n) for n, r in members.reports().items() if n != state.id]
    return tuple([n for held, n in sorted(found) if held][:MAX_HOLDERS]) or members.heirs()


def successor(state: State, members: Members) -> int | None:
    """A lower live node that knows and holds what this master does; None if there is none."""
    closed, lowest = state.durable.closed, next(iter(members.heirs()), state.id)
    if lowest >= state.id:
        return None
    if closed is not None and state.holds(closed):
        return lowest if members.holds(lowest, closed.model.digest, closed.checkpoint.digest) else None
    report = members.reports().get(lowest)
    known = report is not None and standing(report.spec, report.closed) == standing(state.durable.spec, closed)
    return lowest if known else None
