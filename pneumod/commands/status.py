"""`pneumod status`: the cluster at this moment, as a table or as JSON."""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from typing import Any

from rich.console import Console

from pneumod import config, show
from pneumod.client import NO_MASTER_S, operator
from pneumod.config import NodeConfig
from pneumod.messages import Summary, Takeover
from pneumod.view import ClusterView, NodeView

LISTEN_S = 2.0  # two heartbeats: who has not been heard by then is not told of; longer where nobody leads


def run(args: argparse.Namespace) -> int:
    view = asyncio.run(_look(config.load(args.config, need_data=False)))
    now_s = time.monotonic()
    if args.json:
        print(json.dumps(as_json(view, now_s)))
    else:
        console = Console()
        console.print(show.cluster(view, now_s))
    return 0 if view.master(now_s) is not None else 1


async def _look(node: NodeConfig) -> ClusterView:
    async with operator(node, "watch") as me, me.following():

        def heard(view: ClusterView) -> bool:
            now_s = time.monotonic()
            return view.master(now_s) is not None and now_s - me.connected_s >= LISTEN_S

        await me.until(heard, NO_MASTER_S * len(node.brokers))
        return me.view


def as_json(view: ClusterView, now_s: float) -> dict[str, Any]:
    """The view as plain values: ages in seconds, probabilities and AUC in [0, 1]."""
    beacon, spec, closed = view.beacon, view.spec, view.closed
    summary = closed.summary if closed else None
    return {
        "master": view.master(now_s),
        "term": view.term.counter,
        "phase": beacon.phase if beacon else None,
        "note": beacon.note if beacon else None,
        "run": spec.run if spec else None,
        "asked_by": spec.asked_by if spec else None,
        "round": beacon.round if beacon else None,
        "rounds": spec.settings.rounds if spec else None,
        "accepted": beacon.accepted if beacon else None,
        "expected": beacon.expected if beacon else None,
        "closed_round": closed.round if closed else None,
        "ended": view.ended,
        "best": {"round": closed.best.round, "auc": closed.best.auc} if closed and closed.best else None,
        **_closed_json(summary),
        "nodes": [_node_json(node, now_s) for node in view.nodes.values()],
    }


def _closed_json(summary: Summary | None) -> dict[str, Any]:
    """What the newest closed round came to: who is left out of it and why, its masters, the deadline that it had."""
    return {
        "left_out": [{"node": one.node, "why": one.why} for one in summary.left_out] if summary else [],
        "left_out_total": summary.left_out_total if summary else 0,
        "takeovers": [_takeover_json(one) for one in summary.takeovers] if summary else [],
        "deadline_ms": summary.deadline_ms if summary else None,
    }


def _takeover_json(takeover: Takeover) -> dict[str, int]:
    return {
        "old_master": takeover.old_term.node,
        "new_master": takeover.new_term.node,
        "old_term": takeover.old_term.counter,
        "new_term": takeover.new_term.counter,
        "updates_kept": takeover.updates_kept,
    }


def _node_json(node: NodeView, now_s: float) -> dict[str, Any]:
    beat, counts = node.beat, node.card.counts if node.card else None
    return {
        "id": node.id,
        "name": node.card.name if node.card else None,
        "live": node.is_live(now_s),
        "state": beat.activity if beat else None,
        "progress": beat.progress if beat else None,
        "beat_age_s": round(now_s - node.beat_at_s, 2) if beat else None,
        "round": beat.round if beat else None,
        "model": beat.model if beat else None,
        "images": {"normal": counts.train_normal, "pneumonia": counts.train_pneumonia} if counts else None,
    }
