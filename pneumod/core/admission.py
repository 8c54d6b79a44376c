"""Whether a message may be obeyed: stale terms and terms that nobody may claim now are refused here, and only here."""

from __future__ import annotations

from pneumod.core.election import Election
from pneumod.core.events import Received
from pneumod.core.state import State

MASTERS_WORD = frozenset({"beacon", "spec", "open", "reopen", "closed", "grant"})  # only a term's master says these
TO_MASTER = frozenset({"report", "result", "offer", "pull"})  # and these are for the master of one's term


def refusal(event: Received, state: State, election: Election) -> str | None:
    """Why a message is not obeyed, in a few words that bound the number of counters; None if it is."""
    envelope, mine = event.envelope, state.durable.term
    term, node = envelope.term, envelope.node
    if node is None:
        return None
    if state.sites and node not in state.sites:
        return "not in the roster"
    if envelope.message is None:
        return None
    if event.kind in TO_MASTER:
        return None if term == mine and election.leading else "not for my term"
    if event.kind not in MASTERS_WORD:
        return None
    if node != term.node:
        return "not the master of its term"
    if not election.hear_counter(term.counter):
        return "a counter far ahead"
    if term < mine:
        return "stale term"
    if term > mine and not election.leading and election.master not in (None, node):
        return "a live master is heard"
    return None
