"""The demo's end: a table for people, JSON for programs."""

from __future__ import annotations

from statistics import mean
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from pneumod import RESEARCH_ONLY
from pneumod.demo.federation import Federation
from pneumod.demo.results import NodeResult
from pneumod.learning.evaluate import Evaluation
from pneumod.messages import RoundClosed


def print_report(
    console: Console, synthetic: bool, federation: Federation, nodes: list[NodeResult], test: Evaluation | None
) -> None:
    title = "Synthetic images (phantoms)" if synthetic else "Real images"
    title = "Synthetic images (phantoms)" if synthetic else "Real images"
    title += ": AUC on each node's own validation images"
    table = Table(title=title, title_justify="left", box=box.SIMPLE, padding=(0, 1, 0, 0))
    table.add_column("node", no_wrap=True, max_width=14)
    for name in (
        "train\nN/P",
        "val\nN/P",
        "AUC\nalone",
        "AUC\nfederated",
        "MB\nout/in",
        "s in\ntraining",
        "s of\noverhead",
    ):
        table.add_column(name, justify="right", no_wrap=True)
    for one in nodes:
        counts, traffic = one.counts, federation.traffic[one.node]
        table.add_row(
            f"{one.node} {one.name}",
            f"{counts.train_normal}/{counts.train_pneumonia}",
            f"{counts.val_normal}/{counts.val_pneumonia}",
            "-" if one.alone is None else f"{one.alone:.3f}",
            f"{one.federated:.3f}",
            f"{traffic.sent_bytes / 1e6:.0f}/{traffic.received_bytes / 1e6:.0f}",
            f"{traffic.trained_s:.0f}",
            f"{federation.run_s - traffic.trained_s:.0f}",
        )
    alone = [one.alone for one in nodes if one.alone is not None]
    mean_alone = f"{mean(alone):.3f}" if alone else "-"
    table.add_section()
    table.add_row("mean", "", "", mean_alone, f"{mean(one.federated for one in nodes):.3f}", "", "", "")
    console.print(table)
    best = federation.best
    console.print(f"Best: the model of round {best.round}, AUC {best.auc:.3f} on all validation images together.")
    if test is not None:
        console.print(
            f"Test ({test.images} images): AUC {test.auc:.3f}, accuracy {test.accuracy:.3f}, "
            f"sensitivity {test.sensitivity:.3f}, specificity {test.specificity:.3f} at threshold {test.threshold:.3f}."
        )
    takeovers = _takeovers(federation.rounds)
    for event in takeovers:
        console.print(
            f"Takeover in round {event['round']}: term {event['old_term']} -> {event['new_term']}, "
            f"{event['updates_kept']} updates kept."
        )
    if federation.killed is not None and not takeovers:
        console.print(f"Node {federation.killed} was killed as master, but no round went through two masters.")
    console.print(
        f"{federation.run_s:.0f} s for the run: {federation.training_s:.0f} s of training by the slowest node of each "
        f"round, {federation.run_s - federation.training_s:.0f} s overhead. {RESEARCH_ONLY}"
    )


def as_json(federation: Federation, nodes: list[NodeResult], test: Evaluation | None) -> dict[str, Any]:
    """The results as plain values; AUC and shares in [0, 1]."""
    events = _takeovers(federation.rounds)
    return {
        "run": federation.run,
        "ended": federation.last.ended,
        "best_round": federation.best.round,
        "nodes": [_node_json(one, federation) for one in nodes],
        "rounds": [_round_json(closed) for closed in federation.rounds],
        "test": None
        if test is None
        else {
            "images": test.images,
            "auc": test.auc,
            "accuracy": test.accuracy,
            "sensitivity": test.sensitivity,
            "specificity": test.specificity,
            "threshold": test.threshold,
        },
        "takeovers": len(events),
        "takeover_events": events,
        "bytes": {
            "sent": sum(t.sent_bytes for t in federation.traffic.values()),
            "received": sum(t.received_bytes for t in federation.traffic.values()),
            "updates": sum(c.summary.update_bytes for c in federation.rounds if c.summary),
        },
        "seconds": {
            "ready": federation.ready_s,
            "run": federation.run_s,
            "training": federation.training_s,
            "overhead": federation.run_s - federation.training_s,
            "alone": sum(one.alone_s for one in nodes),
        },
    }


def _node_json(one: NodeResult, federation: Federation) -> dict[str, Any]:
    counts, traffic = one.counts, federation.traffic[one.node]
    return {
        "id": one.node,
        "name": one.name,
        "train": {"normal": counts.train_normal, "pneumonia": counts.train_pneumonia},
        "val": {"normal": counts.val_normal, "pneumonia": counts.val_pneumonia},
        "auc_alone": one.alone,
        "auc_federated": one.federated,
        "model": one.model,
        "sent_bytes": traffic.sent_bytes,
        "received_bytes": traffic.received_bytes,
        "training_s": traffic.trained_s,
        "overhead_s": federation.run_s - traffic.trained_s,
        "alone_s": one.alone_s,
    }


def _round_json(closed: RoundClosed) -> dict[str, Any]:
    summary = closed.summary
    return {
        "round": closed.round,
        "model": closed.model.digest,
        "base_auc": closed.scored.auc if closed.scored else None,
        "base_loss": closed.scored.loss if closed.scored else None,
        "train_loss": summary.train_loss if summary else None,
        "counted": summary.counted if summary else 0,
        "left_out": [{"node": one.node, "why": one.why} for one in summary.left_out] if summary else [],
        "seconds": summary.duration_ms / 1000 if summary else 0.0,
        "update_bytes": summary.update_bytes if summary else 0,
    }


def _takeovers(rounds: list[RoundClosed]) -> list[dict[str, int]]:
    return [
        {
            "round": closed.round,
            "old_term": one.old_term.counter,
            "new_term": one.new_term.counter,
            "old_master": one.old_term.node,
            "new_master": one.new_term.node,
            "updates_kept": one.updates_kept,
        }
        for closed in rounds
        if closed.summary is not None
        for one in closed.summary.takeovers
    ]
