"""What a master answers an operator who asks for a run, or for its end."""

from __future__ import annotations

from pneumod.core.rounds import ended_of
from pneumod.messages import Reply, RoundClosed, RunSpec, StartRun, StopRun


def answer(
    sender: str, request: StartRun, spec: RunSpec | None, closed: RoundClosed | None, settled: bool, note: str
) -> tuple[Reply, RunSpec | None]:
    """The reply, and the spec of the new run if there is to be one. Asking twice starts one run.

    Args:
        spec, closed: the run that the master knows of.
        settled: the master knows what the nodes know.
        note: what that run waits for; it isn't replaced, since it may go on at any moment.
    """
    refused = _refusal(sender, settled)
    if refused is not None:
        return refused, None
    ended = ended_of(spec, closed)
    if spec is not None and spec.run == request.run:
        return Reply(True, f"run {request.run} has ended: {ended}" if ended else f"run {request.run} is on"), None
    if spec is not None and ended is None:
        waits = f" ({note}); `pneumod train --stop` ends it" if note else ""
        return Reply(False, f"run {spec.run} is on, asked for by {spec.asked_by}{waits}"[:400]), None
    number = spec.number + 1 if spec is not None else 1
    new = RunSpec(number, request.run, sender, request.asked_at_s, request.settings)
    return Reply(True, f"run {request.run} is on"), new


def answer_stop(
    sender: str, request: StopRun, spec: RunSpec | None, closed: RoundClosed | None, settled: bool
) -> tuple[Reply, bool]:
    """The reply, and whether the run is to be ended now. Asking twice is as good as once."""
    refused = _refusal(sender, settled)
    if refused is not None:
        return refused, False
    ended = ended_of(spec, closed)
    if spec is None or spec.run != request.run:
        on = "" if spec is None or ended is not None else f"; run {spec.run} is"
        return Reply(False, f"no run {request.run} is on{on}"), False
    if ended is not None:
        return Reply(True, f"run {request.run} has ended: {ended}"), False
    return Reply(True, f"run {request.run} is stopped"), True


def _refusal(sender: str, settled: bool) -> Reply | None:
    if not sender.startswith("op-run-"):
        return Reply(False, "only an operator with the role run may start or stop one")
    if not settled:
        return Reply(False, "the master has just taken over; ask again in a moment", again=True)
    return None
