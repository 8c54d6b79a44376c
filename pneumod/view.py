"""The cluster as a watcher sees it: a plain model that messages change."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from pneumod.bus import Incoming
from pneumod.messages import NO_TERM, Beacon, Beat, Card, Gone, Metrics, RoundClosed, RunSpec, Term

LATE_S = 5.0  # a node whose last beat is older counts as dead


def asked_at(spec: RunSpec) -> str:
    """When a run was asked for, by the asker's clock, in local time."""
    try:
        return f"{datetime.fromtimestamp(spec.asked_at_s):%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError, OSError):  # a year that no calendar here has
        return "a time that is none"


class NodeView(Struct):
    """One node; `beat_at_s` is when its last beat came, by the watcher's clock."""

    id: int
    card: Card | None = None
    beat: Beat | None = None
    beat_at_s: float = 0.0
    gone: bool = False

    def is_live(self, now_s: float) -> bool:
        return self.beat is not None and not self.gone and now_s - self.beat_at_s < LATE_S


class ClusterView(Struct):
    """All that the bus told so far."""

    nodes: dict[int, NodeView] = {}
    term: Term = NO_TERM
    beacon: Beacon | None = None  # of the master, None while there is none
    beacon_at_s: float = 0.0
    spec: RunSpec | None = None
    rounds: dict[int, RoundClosed] = {}  # of the run in `spec`, by round

    def master(self, now_s: float) -> int | None:
        """The node that leads; None while nobody is heard to."""
        return self.term.node if self.beacon is not None and now_s - self.beacon_at_s < LATE_S else None

    @property
    def closed(self) -> RoundClosed | None:
        """The newest state of the run."""
        return self.rounds[max(self.rounds)] if self.rounds else None

    @property
    def round_numbers(self) -> list[int]:
        """The rounds that something is known of, ascending; round 0 is the model before any training."""
        scored = {number - 1 for number, closed in self.rounds.items() if closed.scored is not None}
        return sorted(scored | {number for number, closed in self.rounds.items() if closed.summary is not None})

    def score_of(self, number: int) -> Metrics | None:
        """The scores of the model of a round: they come with the round after it."""
        following = self.rounds.get(number + 1)
        return following.scored if following is not None else None

    def only_scored(self, number: int) -> bool:
        """Whether a round trained nothing: the last of a run scores the model of the one before."""
        closed = self.rounds.get(number)
        return closed is not None and closed.summary is not None and closed.summary.update_bytes == 0

    def end_of(self, run: str) -> str | None:
        """Why a run is over; None while it is on, or where nothing is known of it."""
        spec, closed = self.spec, self.closed
        if closed is not None and closed.run == run:
            return closed.ended
        return spec.ended if spec is not None and spec.run == run else None

    @property
    def ended(self) -> str | None:
        """Why the newest run is over."""
        return self.end_of(self.spec.run) if self.spec is not None else None

    @property
    def run_on(self) -> RunSpec | None:
        """The run that was accepted and hasn't ended."""
        return None if self.ended is not None else self.spec

    def is_settled(self, now_s: float) -> bool:
        """Whether a live master's word on its run has come: there is none, it is on, or it has ended."""
        beacon, spec = self.beacon, self.spec
        if beacon is None or self.master(now_s) is None or beacon.phase == "gathering":
            return False
        if beacon.run is None or spec is None or spec.run != beacon.run:
            return beacon.run is None and spec is None
        return beacon.phase != "idle" or self.ended is not None

    def apply(self, incoming: Incoming, now_s: float) -> None:
        """Take one message. The word of an older term than the newest one is not taken."""
        envelope = incoming.envelope
        node, term, message = envelope.node, envelope.term, envelope.message
        if node is None:
            return
        kind = incoming.address.kind.name
        if isinstance(message, Card):
            self._node(node).card = message
        elif isinstance(message, Beat):
            view = self._node(node)
            view.beat, view.beat_at_s, view.gone = message, now_s, False
        elif isinstance(message, Gone):
            self._gone(node, message)
        elif kind == "beacon" and message is None and node == self.term.node:
            self.beacon = None
        elif term.node == node and term >= self.term:
            self._hear_master(term, message, incoming.retained, now_s)

    def _node(self, node: int) -> NodeView:
        if node not in self.nodes:
            self.nodes[node] = NodeView(node)
            self.nodes = dict(sorted(self.nodes.items()))
        return self.nodes[node]

    def _gone(self, node: int, gone: Gone) -> None:
        view = self._node(node)
        if view.beat is None or (gone.boot, gone.connection) >= (view.beat.boot, view.beat.connection):
            view.gone = True
            if node == self.term.node:
                self.beacon = None

    def _hear_master(self, term: Term, message: object, retained: bool, now_s: float) -> None:
        if term != self.term:
            self.term, self.beacon = term, None  # who leads is known by a beacon of this very term
        if isinstance(message, Beacon) and not retained:
            self.beacon, self.beacon_at_s = message, now_s
        elif isinstance(message, RunSpec) and (self.spec is None or message.number >= self.spec.number):
            self.spec = message
            self._keep_rounds_of(message.run)
        elif isinstance(message, RoundClosed) and (self.spec is None or message.number >= self.spec.number):
            self._keep_rounds_of(message.run)
            self.rounds[message.round] = message

    def _keep_rounds_of(self, run: str) -> None:
        self.rounds = {number: closed for number, closed in self.rounds.items() if closed.run == run}
