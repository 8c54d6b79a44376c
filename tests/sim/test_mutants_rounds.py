"""The judges of rounds, receipts and takeovers really judge."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from pneumod.core import conductor
from pneumod.core.collector import Collector
from pneumod.core.conductor import Conductor
from pneumod.core.jobs import Close, Job
from pneumod.core.requests import answer
from pneumod.core.rounds import close_job
from pneumod.core.trainee import Trainee
from pneumod.messages import RoundClosed, StartRun, TrainResult
from tests.sim.mutants import found_out
from tests.sim.operators import Operators

Patch = pytest.MonkeyPatch


def close_with(change: Callable[[Close], Close], monkeypatch: Patch) -> None:
    """Every round is closed by a job that was changed."""

    def changed(collector: Collector, closed: RoundClosed) -> tuple[Close, int]:
        job, stale = close_job(collector, closed)
        return change(job), stale

    monkeypatch.setattr(conductor, "close_job", changed)


def test_found_out_an_update_under_the_wrong_base(monkeypatch: Patch) -> None:
    """Answers to any round are taken, and what they hold isn't checked."""
    hear, begin = Collector.hear_result, Collector._begin

    def careless(collector: Collector, node: int, result: TrainResult) -> None:
        opened = collector.opened
        hear(collector, node, msgspec.structs.replace(result, round=opened.round, base=opened.base.digest))

    def unchecked(collector: Collector, job: Job, node: int) -> None:
        if type(job).__name__ == "Check":
            collector.accepted[node] = collector.results[node]
        else:
            begin(collector, job, node)

    monkeypatch.setattr(Collector, "hear_result", careless)
    monkeypatch.setattr(Collector, "_begin", unchecked)
    monkeypatch.setattr(Trainee, "_answered", lambda trainee, opened: trainee.state.durable.result is not None)
    found_out("counts under the wrong base", monkeypatch)


def test_found_out_counting_a_node_twice(monkeypatch: Patch) -> None:
    close_with(
        lambda job: msgspec.structs.replace(job, contributions=job.contributions + job.contributions[:1]), monkeypatch
    )
    found_out("closes on nodes", monkeypatch)


def test_found_out_leaving_a_node_out_for_the_masters_own_child(monkeypatch: Patch) -> None:
    failed = Collector.job_failed
    monkeypatch.setattr(Collector, "job_failed", lambda collector, job, why, again: failed(collector, job, why, False))
    found_out("is left out, for the master's child broke 1 times", monkeypatch)


def test_found_out_closing_below_min_nodes(monkeypatch: Patch) -> None:
    """Every run asks for all nodes, and its master for one."""
    look, request = Conductor.look, Operators._request

    def for_all(operators: Operators, min_nodes: int | None = None) -> StartRun:
        return request(operators, len(operators.world.machines))

    def hasty(self: Conductor) -> None:
        spec = self.state.durable.spec
        if spec is not None:
            easy = msgspec.structs.replace(spec, settings=msgspec.structs.replace(spec.settings, min_nodes=1))
            self.state.durable = msgspec.structs.replace(self.state.durable, spec=easy)
        look(self)

    monkeypatch.setattr(Operators, "_request", for_all)
    monkeypatch.setattr(Conductor, "look", hasty)
    found_out("closes on nodes", monkeypatch)


def test_found_out_closing_on_the_state_of_another_round(monkeypatch: Patch) -> None:
    def older(job: Close) -> Close:
        previous = msgspec.structs.replace(job.previous, round=max(0, job.previous.round - 1))
        return msgspec.structs.replace(job, previous=previous)

    close_with(older, monkeypatch)
    found_out("closes on the state of round", monkeypatch)


def test_found_out_receipts_that_do_not_chain(monkeypatch: Patch) -> None:
    def unchained(job: Close) -> Close:
        return msgspec.structs.replace(job, previous=msgspec.structs.replace(job.previous, receipt=None))

    close_with(unchained, monkeypatch)
    found_out("are a chain of", monkeypatch)


def test_found_out_going_on_before_the_heirs_hold_the_model(monkeypatch: Patch) -> None:
    monkeypatch.setattr(conductor, "heirs_hold", lambda *_, **__: True)
    found_out("opens the next round, and heir", monkeypatch)


def test_found_out_a_new_run_under_a_number_that_was_used(monkeypatch: Patch) -> None:
    def first(*args: object) -> object:
        reply, spec = answer(*args)  # type: ignore[arg-type]
        return reply, msgspec.structs.replace(spec, number=1) if spec is not None else None

    monkeypatch.setattr(conductor, "answer", first)
    found_out("starts run 1, node", monkeypatch)
