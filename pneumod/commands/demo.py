"""`pneumod demo`: a federation on this machine, from nothing to a table, cleaned up afterwards."""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import msgspec
from rich.console import Console

from pneumod.demo import phantom
from pneumod.demo.cluster import DemoCluster
from pneumod.demo.federation import federate
from pneumod.demo.report import as_json, print_report
from pneumod.demo.results import federated_results, test_result, train_alone
from pneumod.demo.sites import Site, real_sites, synthetic_sites
from pneumod.errors import ConfigError
from pneumod.images.folders import labelled_files
from pneumod.messages import RunSettings


def run(args: argparse.Namespace) -> int:
    console = Console()
    if args.test is not None:
        labelled_files(args.test)  # a mistake is told before the training, not after it
    if args.json is not None:
        _check_writable(args.json)
    with _sigterm_as_ctrl_c(), _folder(args.keep) as folder:
        sites = _sites(args, folder, console)
        with DemoCluster(folder, sites, _settings(args, len(sites))) as cluster:
            federation = federate(cluster, args.kill_master, console)
        alone = {}
        if not args.no_local:
            console.print("Each node alone, on its own images, for comparison:")
            alone = train_alone(cluster, lambda node, number, auc: _tell(console, node, number, auc))
        nodes = federated_results(cluster, federation.best.model, alone)
        test = test_result(cluster, args.test) if args.test is not None else None
    if args.kill_master and federation.killed is None:
        console.print("The run was over before a round was half in: no master was killed.")
    print_report(console, args.data is None, federation, nodes, test)
    if args.json is not None:
        args.json.write_text(json.dumps(as_json(federation, nodes, test), indent=1) + "\n")
    if args.keep is not None:
        console.print(f"Everything is kept in {args.keep}.")
    return 0


def _check_writable(path: Path) -> None:
    try:
        path.open("ab").close()
    except OSError as error:
        raise ConfigError(f"--json {path}: can't be written: {error.strerror}; give another file") from error


@contextlib.contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """Inside, SIGTERM is a KeyboardInterrupt, once: a second one would break off the cleaning up."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    """Where the demo works: a folder to keep, which must be new or empty, or a temporary one."""
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="pneumod-demo-") as name:
            yield Path(name)
        return
    try:
        keep.mkdir(parents=True, exist_ok=True)
        occupied = any(keep.iterdir())
    except OSError as error:
        raise ConfigError(f"--keep {keep}: can't be used: {error.strerror}") from error
    if occupied:
        raise ConfigError(f"--keep {keep}: is not empty; give a new folder")
    yield keep.resolve()


def _sites(args: argparse.Namespace, folder: Path, console: Console) -> list[Site]:
    if args.data is not None:
        return real_sites(args.data.resolve())
    console.print(f"Making synthetic X-rays (phantoms) for {args.nodes} nodes.")
    return synthetic_sites(folder / "images", args.nodes, args.seed)


def _settings(args: argparse.Namespace, nodes: int) -> RunSettings:
    settings = phantom.SETTINGS if args.data is None else RunSettings()
    rounds = args.rounds or settings.rounds
    return msgspec.structs.replace(settings, rounds=rounds, seed=args.seed, min_nodes=nodes)


def _tell(console: Console, node: int, number: int, auc: float) -> None:
    console.print(f"  node {node} alone, round {number}: AUC {auc:.3f}")
