"""What happens to a run, in plain lines: one an event, each told once. For a pipe, a log, and beside the tables."""

from __future__ import annotations

from pneumod.client import Loss
from pneumod.messages import RoundClosed, Summary
from pneumod.view import LATE_S, ClusterView


def plain(text: str) -> str:
    """Text from the bus with every character that isn't printable as U+FFFD: no escape reaches the terminal."""
    return "".join(char if char.isprintable() else "\ufffd" for char in text)


def takeover_lines(summary: Summary) -> list[str]:
    """The masters that a round went through."""
    lines = []
    for one in summary.takeovers:
        old, new = one.old_term.node, one.new_term.node
        how = f"node {new} leads again" if new == old else f"taken over by node {new} from node {old}"
        lines.append(f"{how}, {_many(one.updates_kept, 'update')} kept")
    return lines


def left_out_lines(summary: Summary) -> list[str]:
    """Who doesn't count, one line a reason."""
    nodes: dict[str, list[int]] = {}
    for one in summary.left_out:
        nodes.setdefault(one.why, []).append(one.node)
    lines = [
        f"without node{'s' if len(ids) > 1 else ''} {', '.join(map(str, ids))}: {plain(why)}"
        for why, ids in nodes.items()
    ]
    more = summary.left_out_total - len(summary.left_out)
    return [*lines, f"without {_many(more, 'more node')}"] if more > 0 else lines


class News:
    """Remembers what it told of a run.

    Args:
        run: the run's id.
    """

    def __init__(self, run: str) -> None:
        self._run = run
        self._round = -1
        self._leader = self._note = ""
        self._lost = False

    def of_connection(self, lost: Loss | None) -> list[str]:
        """What is new of the watcher's own connection."""
        before, self._lost = self._lost, lost is not None
        if lost is not None and not before:
            return [f"the connection is lost; trying again ({plain(lost.why)})"]
        return ["connected again"] if before and lost is None else []

    def of_run(self, view: ClusterView, now_s: float) -> list[str]:
        """What is new of the run: rounds, who leads, whom it waits for. To be asked while a broker is connected."""
        return [*self._rounds(view), *self._leaders(view, now_s), *self._notes(view)]

    def _rounds(self, view: ClusterView) -> list[str]:
        fresh = [one for one in view.rounds.values() if one.run == self._run and one.round > self._round]
        lines = []
        for closed in sorted(fresh, key=lambda one: one.round):
            self._round, name = closed.round, f"round {closed.round}"
            if closed.summary is None:
                lines.append("the first model is made")
                continue
            lines.append(f"{name} closed: {_outcome(closed, closed.summary)}")
            lines += [f"{name}: {line}" for line in (*takeover_lines(closed.summary), *left_out_lines(closed.summary))]
        return lines

    def _leaders(self, view: ClusterView, now_s: float) -> list[str]:
        master = view.master(now_s)
        if master is None and now_s - view.beacon_at_s < LATE_S:
            return []  # the next one is about to lead
        leader = "no master is heard" if master is None else f"node {master} leads (term {view.term.counter})"
        before, self._leader = self._leader, leader
        return [leader] if leader != before else []

    def _notes(self, view: ClusterView) -> list[str]:
        beacon = view.beacon
        if beacon is None or beacon.run != self._run:
            return []
        before, self._note = self._note, beacon.note
        return [f"{beacon.phase}: {plain(beacon.note)}"] if beacon.note not in ("", before) else []


def _outcome(closed: RoundClosed, summary: Summary) -> str:
    text = f"{_many(summary.counted, 'node')} in {summary.duration_ms / 1000:.1f} s"
    if summary.deadline_ms:
        text += f", deadline {summary.deadline_ms / 1000:.0f} s"
    if closed.scored is not None:
        auc = "none" if closed.scored.auc is None else f"{closed.scored.auc:.3f}"
        text += f"; AUC of the model of round {closed.round - 1}: {auc}"
    if closed.best is not None and closed.best.round == closed.round - 1:
        text += ", the best so far"
    return text


def _many(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"
