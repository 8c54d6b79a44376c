"""What a node says of itself all the time: heartbeats, its card and, when it leads, the beacon.

Each goes out every so often, and at once when what it tells has changed.
"""

from __future__ import annotations

from pneumod.core.jobs import Check, Close, Export, Fetch, Initialise, Prepare, Train, Work
from pneumod.core.state import State
from pneumod.messages import Activity, Beacon, Beat, Card

BEAT_MS = 1_000
HURRY_MS = 100  # messages that tell of a change keep this distance
CARD_MS = 3_600_000

ACTIVITIES: tuple[tuple[type, Activity], ...] = (  # of several jobs the first is told
    (Train, "training"),
    (Close, "aggregating"),
    (Initialise, "preparing"),
    (Check, "aggregating"),
    (Export, "exporting"),
    (Fetch, "fetching"),
    (Prepare, "preparing"),
    (Work, "working"),
)


class Pulse:
    """The regular messages of one node."""

    def __init__(self, state: State, card: Card, share_counts: bool) -> None:
        self.state = state
        self.card = card
        self.share_counts = share_counts
        self.card_at_ms = self.beat_at_ms = self.beacon_at_ms = 0
        self.beat: Beat | None = None  # the last that was said
        self.beacon: Beacon | None = None
        self.beat_ms = self.beacon_ms = -BEAT_MS

    def deadline_ms(self, leading: bool) -> int:
        return min(self.beat_at_ms, self.beacon_at_ms) if leading else self.beat_at_ms

    def connected(self) -> None:
        self.card_at_ms = self.beat_at_ms = self.beacon_at_ms = self.state.now_ms

    def lead(self) -> None:
        """A reign begins: its first beacon is due now."""
        self.beacon, self.beacon_at_ms = None, self.state.now_ms

    def say_beacon(self, beacon: Beacon) -> None:
        now = self.state.now_ms
        if beacon != self.beacon:
            apart_ms = HURRY_MS
            if self.beacon is not None and _gist(beacon) == _gist(self.beacon):
                apart_ms = min(BEAT_MS, HURRY_MS + beacon.live)  # each goes to everyone: many nodes, few beacons
            self.beacon_at_ms = min(self.beacon_at_ms, max(now, self.beacon_ms + apart_ms))
        if now >= self.beacon_at_ms:
            self.beacon, self.beacon_ms, self.beacon_at_ms = beacon, now, now + BEAT_MS
            self.state.say("beacon", beacon)

    def say_beat(self, dropped: int) -> None:
        now, beat, last = self.state.now_ms, self._beat(dropped), self.beat
        if last is None or _news(beat) != _news(last):
            self.beat_at_ms = min(self.beat_at_ms, max(now, self.beat_ms + HURRY_MS))
        if now >= self.beat_at_ms:
            self.beat, self.beat_ms, self.beat_at_ms = beat, now, now + BEAT_MS
            self.state.say("beat", beat)

    def say_card(self) -> None:
        if self.state.now_ms >= self.card_at_ms:
            self.card_at_ms = self.state.now_ms + CARD_MS
            counts = self.state.counts if self.share_counts else None
            self.state.say("card", Card(self.card.name, self.card.version, self.card.cores, counts))

    def _beat(self, dropped: int) -> Beat:
        state, closed, vitals = self.state, self.state.durable.closed, self.state.vitals
        activity: Activity = "starting" if state.counts is None else "idle"
        fraction, samples_per_s = 0.0, 0.0
        for type_, name in ACTIVITIES if state.running else ():
            job = next((job for job in state.running if isinstance(job, type_)), None)
            if job is not None:
                told = state.progress.get(job)
                activity, fraction = (told.activity, told.fraction) if told else (name, 0.0)
                samples_per_s = told.samples_per_s if told else 0.0
                break
        return Beat(
            boot=state.boot,
            connection=state.connection,
            activity=activity,
            progress=fraction,
            round=closed.round if closed else 0,
            model=closed.model.digest if closed and closed.model.digest in state.held else None,
            checkpoint=closed.checkpoint.digest if closed and closed.checkpoint.digest in state.held else None,
            top_term=state.durable.term,
            load=vitals.load,
            samples_per_s=samples_per_s,
            sent_bytes=vitals.sent_bytes,
            received_bytes=vitals.received_bytes,
            dropped=vitals.dropped + dropped,
            trained_ms=state.trained_ms,
            unfit=state.now_ms < state.no_claim_before_ms,
        )


def _news(beat: Beat) -> tuple[object, ...]:
    """What of a beat can't wait."""
    return (beat.activity, beat.model, beat.checkpoint, beat.unfit)


def _gist(beacon: Beacon) -> tuple[object, ...]:
    """What of a beacon can't wait: the heirs need it to know their turn, the others to know the phase."""
    return (beacon.phase, beacon.run, beacon.round, beacon.heirs, beacon.work)
