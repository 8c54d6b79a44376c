"""`pneumod train`: ask the master for a run and follow it. Ctrl-C stops the following, never the run."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import secrets
import time
from datetime import datetime

import msgspec
from rich.console import Console
from rich.live import Live

from pneumod import RESEARCH_ONLY, config, show
from pneumod.client import Operator, operator
from pneumod.config import NodeConfig
from pneumod.errors import BusError, RefusedError
from pneumod.messages import RunSettings, StartRun
from pneumod.view import ClusterView

MASTER_WAIT_S = 15.0
OPTIONS = (
    "rounds", "local_epochs", "batch_size", "learning_rate", "image_size", "patience", "min_nodes", "seed",
)  # fmt: skip


def run(args: argparse.Namespace) -> int:
    node = config.load(args.config, need_data=False)
    given = {name: getattr(args, name) for name in OPTIONS if getattr(args, name) is not None}
    settings = msgspec.structs.replace(node.run, **given)
    console = Console()
    try:
        return asyncio.run(_train(node, settings, args.name or getpass.getuser(), console))
    except KeyboardInterrupt:
        console.print("No longer following; the run goes on. `pneumod status` shows it.")
        return 130


def new_run_id() -> str:
    """A name that sorts by time and that two operators don't choose at once."""
    return f"{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


async def request_run(me: Operator, settings: RunSettings) -> str:
    """Ask whoever leads to start a run; its id. Waits for a master that is just being elected.

    Raises:
        RefusedError: another run is on, or this operator may not start one.
        BusError: no master is heard.
    """
    request = StartRun(new_run_id(), int(time.time()), settings)
    end_s = time.monotonic() + MASTER_WAIT_S
    while True:
        await me.until(lambda view: view.master(time.monotonic()) is not None, end_s - time.monotonic())
        try:
            await me.ask(request)
            return request.run
        except RefusedError as error:
            spec = me.view.spec
            if spec is not None and spec.run in str(error):
                raise RefusedError(
                    f"{error} since {datetime.fromtimestamp(spec.asked_at_s):%Y-%m-%d %H:%M:%S}"
                ) from error
            if "just taken over" not in str(error) or time.monotonic() >= end_s:
                raise
            await asyncio.sleep(0.5)


async def _train(node: NodeConfig, settings: RunSettings, name: str, console: Console) -> int:
    async with operator(node, "run", name) as me, me.following():
        return await _ask_and_wait(me, settings, console)


async def _ask_and_wait(me: Operator, settings: RunSettings, console: Console) -> int:
    run_id = await request_run(me, settings)
    console.print(f"run {run_id} is on; Ctrl-C stops following, the run goes on")
    with Live(console=console, refresh_per_second=4, get_renderable=lambda: show.cluster(me.view, time.monotonic())):
        await me.until(lambda view: _is_over(view, run_id), float("inf"))
    closed = me.view.closed
    if closed is None or closed.run != run_id:
        raise BusError(f"run {run_id} was replaced by another")
    best = closed.best
    console.print(f"{run_id} has ended: {closed.ended}.")
    if best is not None:
        console.print(f"Best: the model of round {best.round}, pooled validation AUC {best.auc:.3f}. {RESEARCH_ONLY}")
    return 0


def _is_over(view: ClusterView, run_id: str) -> bool:
    """The run has ended, or a later one has taken its place."""
    if view.spec is not None and view.spec.run != run_id and view.closed is not None:
        return view.closed.run != run_id
    return view.closed is not None and view.closed.run == run_id and view.closed.ended is not None
