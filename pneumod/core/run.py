"""The run as its master tells it: begun, a round closed, ended, or said again; on its disk before it is said."""

from __future__ import annotations

import msgspec

from pneumod.core.actions import Broadcast
from pneumod.core.rounds import run_on
from pneumod.core.state import State, standing
from pneumod.core.trainee import Trainee
from pneumod.messages import Report, RoundClosed, RunSpec


class Run:
    """What this master says to all of the run."""

    def __init__(self, state: State, trainee: Trainee) -> None:
        self.state = state
        self.trainee = trainee

    def begin(self, spec: RunSpec) -> None:
        self.trainee.hear_spec(spec)
        self.state.log("master", f"run {spec.run} starts, asked for by {spec.asked_by}")
        self.state.say("spec", spec)
        self.state.say("closed", None)

    def close(self, closed: RoundClosed) -> None:
        """Store the run's new state, say it, and send its blobs round once."""
        self.state.held |= {blob.digest for blob in closed.blobs}
        self.trainee.hear_closed(closed)
        self.state.say("closed", closed)
        for blob in sorted(closed.blobs, key=lambda blob: blob.size_bytes):  # a small one doesn't wait behind the model
            self.state.actions.append(Broadcast(blob.digest))
        if closed.ended is not None:
            self.state.log("master", f"{closed.run} has ended: {closed.ended}")

    def end(self, why: str) -> None:
        """End the run with the models that it has, or without any where its first one was never made."""
        run, spec = run_on(self.state), self.state.durable.spec
        if run is not None:
            closed = msgspec.structs.replace(run[1], term=self.state.durable.term, ended=why[:400])
            self.trainee.hear_closed(closed)
            self.state.say("closed", closed)
        elif spec is not None and self.state.durable.closed is None:
            spec = msgspec.structs.replace(spec, ended=why[:400])
            self.trainee.hear_spec(spec)
            self.state.say("spec", spec)
        self.state.log("master", f"{spec.run if spec else 'no run'} has ended: {why[:400]}")

    def keep_ended(self) -> None:
        """A run that was stopped before its first model stays so, whoever still has that model."""
        run = run_on(self.state)
        if run is not None and run[0].ended is not None:
            self.end(run[0].ended)

    def repeat(self) -> None:
        """Say the run's state under this term."""
        spec, closed = self.state.durable.spec, self.state.durable.closed
        if spec is not None:
            self.state.say("spec", spec)
        if closed is not None:
            self.state.say("closed", closed)

    def take_furthest(self, reports: dict[int, Report]) -> None:
        """Take over the furthest standing among what the nodes know."""
        for report in reports.values():
            if standing(report.spec, report.closed) > standing(self.state.durable.spec, self.state.durable.closed):
                self.trainee.adopt(report)
