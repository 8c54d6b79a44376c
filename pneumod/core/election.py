"""Who leads. The lowest live id does, without a vote: claims are ordered by their terms.

Theory of operation. A node is in one of three roles:

    listening   no master is known. At `claim_at_ms` it claims.
    following   a master's beacons come. After five missed ones, its Will or a cleared beacon: listening.
    leading     its own beacons go out and come back. A higher term, a beacon that doesn't come back, a lost
                connection or a freeze: listening.

A cold node listens for 3 s and half a second more a place in the roster. When a master is lost, the first
of the heirs that its last beacon named claims at once, the next a second later, and so on. The first beacon
heard ends the others' wait, so one claim is the rule; when two cross, the higher term wins.
"""

from __future__ import annotations

from pneumod.core.pulse import BEAT_MS
from pneumod.core.state import State
from pneumod.messages import MAX_COUNTER, Beacon, Gone, Term

SILENCE_MS = 5 * BEAT_MS  # five missed beats
LISTEN_MS = 3_000
PLACE_MS = 500
TURN_MS = 1_000
ECHO_MS = 3_000  # a master that doesn't see its own beacon for so long steps down
FREEZE_MS = 4_000  # and so does one that was not run for so long
MAX_JUMP = 2**24  # a counter further ahead than this is no cluster's
ABSTAIN_MS = 30_000  # no claim for so long after a slow write, or a round that this machine couldn't close


class Election:
    """The role of one node."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.leading = False
        self.master: int | None = None  # heard and live; never oneself
        self.heirs: tuple[int, ...] = ()
        self.beacon: Beacon | None = None  # the master's last
        self.silent_at_ms: int | None = None  # following: the master counts as dead then
        self.claim_at_ms: int | None = None  # listening and connected
        self.echo_by_ms: int | None = None  # leading: one's own beacon must be back by then
        self.top_counter = state.durable.term.counter  # the highest heard, obeyed or not

    @property
    def has_work(self) -> bool:
        """Whether the master's last beacon told of items to pull."""
        return self.beacon is not None and self.beacon.work

    def deadline_ms(self) -> int | None:
        due = self.echo_by_ms if self.leading else self.silent_at_ms if self.master is not None else self.claim_at_ms
        return due if self.state.connected and self.top_counter < MAX_COUNTER else None

    def listen(self) -> None:
        """Forget the master and wait as a cold node does."""
        self.leading = False
        self.master = self.beacon = self.silent_at_ms = self.echo_by_ms = None
        self._claim_after(LISTEN_MS + PLACE_MS * self.state.place)

    def disconnected(self) -> None:
        self.leading = False
        self.master = self.silent_at_ms = self.echo_by_ms = self.claim_at_ms = None

    def hear_counter(self, counter: int) -> bool:
        """Note a term's counter; False for one that no cluster reaches, which would use up all counters."""
        if counter > self.top_counter + MAX_JUMP:
            return False
        self.top_counter = max(self.top_counter, counter)
        return True

    def hear_beacon(self, sender: int, term: Term, beacon: Beacon) -> None:
        """A live beacon of the term that is now obeyed."""
        if self.leading:
            if sender == self.state.id and term == self.state.durable.term:
                self.echo_by_ms = self.state.now_ms + ECHO_MS
                self.state.echoed = True
            return
        if sender == self.state.id:
            return
        self.master, self.beacon, self.heirs = sender, beacon, beacon.heirs
        self.silent_at_ms = self.state.now_ms + SILENCE_MS
        self.claim_at_ms = None

    def hear_gone(self, node: int, gone: Gone) -> None:
        """A connection of another node ended; the Will of an earlier connection than the master's means nothing."""
        if node == self.master and self.beacon is not None:
            reign = (self.state.durable.term.boot, self.beacon.connection)
            if (gone.boot, gone.connection) < reign:
                return
        self.lose(node)

    def lose(self, node: int) -> None:
        """A node is gone: its Will came, it stopped, or its beacon was cleared."""
        if self.leading or node == self.state.id:
            return
        self.heirs = tuple(heir for heir in self.heirs if heir != node)
        if node == self.master:
            self.master_lost()

    def master_lost(self) -> None:
        """Wait for one's turn among the heirs."""
        self.master = self.silent_at_ms = None
        me = self.state.id
        turn = self.heirs.index(me) if me in self.heirs else len(self.heirs) + 1
        self._claim_after(TURN_MS * turn + (0 if me in self.heirs else PLACE_MS * self.state.place))

    def thaw(self) -> None:
        """After a freeze the messages that came meanwhile are heard before anyone is given up."""
        wait_until_ms = self.state.now_ms + LISTEN_MS
        if self.silent_at_ms is not None:
            self.silent_at_ms = max(self.silent_at_ms, wait_until_ms)
        if self.claim_at_ms is not None:
            self.claim_at_ms = max(self.claim_at_ms, wait_until_ms)

    def abstain(self) -> None:
        """This machine is in a bad way: claim nothing for a while."""
        self.state.no_claim_before_ms = self.state.now_ms + ABSTAIN_MS

    def due(self) -> bool:
        """Whether to claim now; a silent master is given up on the way."""
        now = self.state.now_ms
        if self.leading or not self.state.connected:
            return False
        if self.silent_at_ms is not None and now >= self.silent_at_ms:
            self.master_lost()
        return self.claim_at_ms is not None and now >= self.claim_at_ms and self.top_counter < MAX_COUNTER

    def claim(self) -> Term:
        """Lead under a new term, which the caller persists before it is used."""
        term = Term(self.top_counter + 1, -self.state.id, self.state.boot)
        self.top_counter = term.counter
        self.leading, self.state.echoed = True, False
        self.master = self.silent_at_ms = self.claim_at_ms = None
        self.echo_by_ms = self.state.now_ms + ECHO_MS
        return term

    def _claim_after(self, wait_ms: int) -> None:
        self.claim_at_ms = max(self.state.now_ms + wait_ms, self.state.no_claim_before_ms)
