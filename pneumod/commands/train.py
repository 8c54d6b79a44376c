"""`pneumod train`: ask the master for a run and follow it; end a run; follow one that is on.

Ctrl-C stops the following, never the run. Exit codes: 0, the run has ended as it was asked for, or by `--stop`;
1, it was given up, refused or replaced, or nothing is on; 130, Ctrl-C.
"""

from __future__ import annotations

import argparse
import asyncio
import getpass
import time
from contextlib import nullcontext
from typing import Literal

import msgspec
from rich.console import Console

from pneumod import RESEARCH_ONLY, config, show
from pneumod.client import MASTER_WAIT_S, Operator, operator
from pneumod.config import NodeConfig
from pneumod.errors import BusError, ConfigError, RefusedError
from pneumod.messages import RunSpec, StopRun
from pneumod.news import News, plain
from pneumod.settings import RunSettings
from pneumod.view import ClusterView, asked_at

OPTIONS = (
    "rounds", "local_epochs", "batch_size", "learning_rate", "image_size", "patience", "min_nodes", "seed",
)  # fmt: skip
NEWS_S = 0.2
END_WAIT_S = 60.0  # from the master's consent to stop a run until its end is seen


def run(args: argparse.Namespace) -> int:
    node = config.load(args.config, need_data=False)
    settings = _settings(args, node)
    name, console = args.name or getpass.getuser(), Console()
    if args.stop is not None:
        return asyncio.run(_stop(node, _named(args.stop), name, console))
    if args.detach:
        return asyncio.run(_detach(node, settings, name))
    try:
        if args.follow is not None:
            return asyncio.run(_join(node, _named(args.follow), name, console))
        return asyncio.run(_train(node, settings, name, console))
    except KeyboardInterrupt:
        _say(console, "No longer following. A run that was accepted goes on: `pneumod status` shows it.")
        return 130


def _named(run: str | Literal[True]) -> str | None:
    """The run that the command line names; None where it leaves that open."""
    return None if run is True else run


def _settings(args: argparse.Namespace, node: NodeConfig) -> RunSettings:
    """The settings of the YAML file with those of the command line.

    Raises:
        ConfigError: more nodes than there are, or settings for a run that isn't asked for.
    """
    given = {name: getattr(args, name) for name in OPTIONS if getattr(args, name) is not None}
    other = "--stop" if args.stop is not None else "--follow" if args.follow is not None else None
    if given and other is not None:
        raise ConfigError(f"--{next(iter(given)).replace('_', '-')}: {other} asks for no run; leave it out")
    settings = msgspec.structs.replace(node.run, **given)
    if node.roster and settings.min_nodes > len(node.roster):
        raise ConfigError(f"--min-nodes {settings.min_nodes}: the roster has {len(node.roster)} nodes; ask for fewer")
    return settings


async def _train(node: NodeConfig, settings: RunSettings, name: str, console: Console) -> int:
    async with operator(node, "run", name) as me, me.following():
        run_id = await me.request_run(settings)
        _say(console, f"run {run_id} is on; Ctrl-C stops following, the run goes on")
        await me.until(lambda view: view.spec is not None and view.spec.run == run_id, MASTER_WAIT_S)
        spec = me.view.spec
        if spec is None or spec.run != run_id:
            raise BusError(f"run {run_id} was accepted, but nothing is heard of it; `pneumod status` shows what is on")
        return await _follow(me, spec, console)


async def _detach(node: NodeConfig, settings: RunSettings, name: str) -> int:
    async with operator(node, "run", name) as me, me.following():
        print(await me.request_run(settings))
    return 0


async def _join(node: NodeConfig, run_id: str | None, name: str, console: Console) -> int:
    """Follow the run of this id, else the one that is on or was the last."""
    async with operator(node, "watch", name) as me, me.following():
        spec = await me.newest_run()
        if spec is None:
            raise RefusedError("no run was asked for yet")
        if run_id not in (None, spec.run):
            raise RefusedError(f"no run {run_id} is known here; the newest is {spec.run}")
        how = "is on; Ctrl-C stops following, the run goes on" if me.view.run_on else "is over"
        _say(console, f"run {spec.run}, asked for by {plain(spec.asked_by)} since {asked_at(spec)}, {how}")
        return await _follow(me, spec, console)


async def _stop(node: NodeConfig, run_id: str | None, name: str, console: Console) -> int:
    """End the run of this id, else the one that is on; wait until the end is seen."""
    async with operator(node, "run", name) as me, me.following():
        run = run_id or await _run_on(me)
        await me.insist(StopRun(run))
        if not await me.until(lambda view: view.end_of(run) is not None, END_WAIT_S):
            raise BusError(f"the master ends run {run}, but the end was not seen in {END_WAIT_S:.0f} s")
        _tell_end(me.view, run, console)
    return 0


async def _run_on(me: Operator) -> str:
    """The id of the run that is on.

    Raises:
        RefusedError: none is.
        BusError: no master is heard.
    """
    spec = await me.newest_run()
    if me.view.run_on is None:
        raise RefusedError("no run is on" + (f"; {_ending(me.view, spec.run)}" if spec is not None else ""))
    return me.view.run_on.run


async def _follow(me: Operator, spec: RunSpec, console: Console) -> int:
    """Show a run until its end, whatever becomes of the connection: tables on a terminal, a line an event elsewhere."""
    news, terminal = News(spec.run), console.is_terminal

    def tell() -> None:
        lines = news.of_connection(me.lost)
        if not terminal and me.lost is None:
            lines += news.of_run(me.view, time.monotonic())
        for line in lines:
            _say(console, line)

    with show.live(console, me.view) if terminal else nullcontext():
        while not await me.until(lambda view: _is_over(view, spec), NEWS_S):
            tell()
        tell()
    ended = me.view.end_of(spec.run)
    if ended is None:
        raise RefusedError(f"run {spec.run} was replaced by another")
    _tell_end(me.view, spec.run, console)
    return 1 if ended.startswith("given up") else 0


def _is_over(view: ClusterView, spec: RunSpec) -> bool:
    """The run has ended, or a later one has taken its place."""
    return view.end_of(spec.run) is not None or (view.spec is not None and view.spec.number > spec.number)


def _ending(view: ClusterView, run_id: str) -> str:
    return f"{run_id} has ended: {plain(view.end_of(run_id) or '')}."


def _tell_end(view: ClusterView, run_id: str, console: Console) -> None:
    """How a run ended, and what is kept of it."""
    _say(console, _ending(view, run_id))
    best = view.closed.best if view.closed is not None and view.closed.run == run_id else None
    if best is None:
        _say(console, "No model of it was scored.")
    else:
        _say(console, f"Best: the model of round {best.round}, pooled validation AUC {best.auc:.3f}. {RESEARCH_ONLY}")


def _say(console: Console, text: str) -> None:
    """One line, however long."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)
