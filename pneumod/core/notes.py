"""What the master says of itself: its beacon, and in words what it waits for, so that `status` shows it at once."""

from __future__ import annotations

from pneumod.core.collector import Collector
from pneumod.core.membership import Members
from pneumod.core.state import State
from pneumod.messages import Beacon, Phase, RoundOpen

MAX_NAMED = 8  # nodes that a note names
MAX_NOTE = 400  # characters


def beacon_of(
    state: State, members: Members, collector: Collector | None, phase: Phase, note: str, live: int, work: bool
) -> Beacon:
    """What the master tells each second."""
    durable = state.durable
    last = durable.closed.round if durable.closed else 0
    return Beacon(
        connection=state.connection,
        heirs=members.heirs(),
        live=live,
        members=members.live_digest,
        phase=phase,
        note=note,
        run=durable.spec.run if durable.spec else None,
        round=collector.opened.round if collector else last,
        expected=len(collector.opened.who) if collector else 0,
        accepted=len(collector.accepted) if collector else 0,
        work=work,
    )


def absent(state: State, members: Members) -> dict[int, str]:
    """Who of the roster, or of those that this master has heard of, can't be asked to train, and why; ascending."""
    found, reports = {}, members.reports()
    for node in sorted({*state.sites, *members.members, state.id}):
        report = reports.get(node)
        if not members.is_live(node):
            found[node] = "gone" if node in members.members else "not heard"
        elif report is None or report.counts is None:
            found[node] = "preparing its images"
        elif report.counts.train == 0:
            found[node] = "no training images"
    return found


def too_few(state: State, members: Members, ready: int, needed: int) -> str:
    """For whom a round that needs more nodes waits: those of the roster, or those that this master has heard of."""
    waits = [f"node {node} ({why})" for node, why in absent(state, members).items()]
    return f"{ready} of {needed} nodes are ready; waiting for {_listed(waits) or 'more nodes'}"[:MAX_NOTE]


def opening(opened: RoundOpen) -> str:
    what = "trains" if opened.train else "scores the last model"
    return (
        f"{opened.run}: round {opened.round} {what}, {len(opened.who)} nodes, deadline {opened.deadline_ms // 1_000} s"
    )


def collecting(collector: Collector) -> str:
    """Who is left out of the open round so far, and who is awaited once others are in."""
    parts = []
    if collector.opened.base.digest not in collector.state.held:
        parts.append(f"the model of round {collector.opened.round - 1} is damaged here and asked for again")
    if collector.refused:
        out = [f"node {node} ({why})" for node, why in sorted(collector.refused.items())]
        parts.append(f"left out: {_listed(out)}")
    gone = [node for node in collector.missing() if not collector.members.is_live(node)]
    slow = [node for node in collector.missing() if collector.members.is_live(node)]
    if gone:
        parts.append(f"gone, waited for: {_listed([f'node {node}' for node in gone])}")
    if slow and len(collector.accepted) >= len(slow):
        deadline_s = (collector.deadline_at_ms - collector.opened_ms) // 1_000
        parts.append(f"slower than the others: {_listed([f'node {n}' for n in slow])}, deadline {deadline_s} s")
    return "; ".join(parts)[:MAX_NOTE]


def _listed(parts: list[str]) -> str:
    more = f" and {len(parts) - MAX_NAMED} more" if len(parts) > MAX_NAMED else ""
    return ", ".join(parts[:MAX_NAMED]) + more
