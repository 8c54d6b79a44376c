"""`pneumod train`: ask the master for a run and follow it. Ctrl-C stops the following, never the run."""

from __future__ import annotations

import argparse
import asyncio
import getpass

import msgspec
from rich.console import Console

from pneumod import RESEARCH_ONLY, config, show
from pneumod.client import Operator, operator
from pneumod.config import NodeConfig
from pneumod.errors import BusError, ConfigError
from pneumod.settings import RunSettings
from pneumod.view import ClusterView

OPTIONS = (
    "rounds", "local_epochs", "batch_size", "learning_rate", "image_size", "patience", "min_nodes", "seed",
)  # fmt: skip


def run(args: argparse.Namespace) -> int:
    node = config.load(args.config, need_data=False)
    given = {name: getattr(args, name) for name in OPTIONS if getattr(args, name) is not None}
    settings = msgspec.structs.replace(node.run, **given)
    if node.roster and settings.min_nodes > len(node.roster):
        raise ConfigError(f"--min-nodes {settings.min_nodes}: the roster has {len(node.roster)} nodes; ask for fewer")
    console = Console()
    try:
        return asyncio.run(_train(node, settings, args.name or getpass.getuser(), console))
    except KeyboardInterrupt:
        console.print("No longer following. A run that was accepted goes on: `pneumod status` shows it.")
        return 130


async def _train(node: NodeConfig, settings: RunSettings, name: str, console: Console) -> int:
    async with operator(node, "run", name) as me, me.following():
        return await _ask_and_wait(me, settings, console)


async def _ask_and_wait(me: Operator, settings: RunSettings, console: Console) -> int:
    run_id = await me.request_run(settings)
    console.print(f"run {run_id} is on; Ctrl-C stops following, the run goes on")
    with show.live(console, me.view):
        await me.until(lambda view: _is_over(view, run_id), float("inf"))
    closed = me.view.closed
    if closed is None or closed.run != run_id:
        raise BusError(f"run {run_id} was replaced by another")
    best = closed.best
    console.print(f"{run_id} has ended: {show.plain(closed.ended or '')}.", markup=False)
    if best is not None:
        console.print(f"Best: the model of round {best.round}, pooled validation AUC {best.auc:.3f}. {RESEARCH_ONLY}")
    return 0


def _is_over(view: ClusterView, run_id: str) -> bool:
    """The run has ended, or a later one has taken its place."""
    if view.spec is not None and view.spec.run != run_id and view.closed is not None:
        return view.closed.run != run_id
    return view.closed is not None and view.closed.run == run_id and view.closed.ended is not None
