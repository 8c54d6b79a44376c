"""Play histories: python -m tests.sim [--seed N] [--runs N] [--nodes N] [--seconds N]."""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import NamedTuple

from tests.sim.checkers import Violation
from tests.sim.history import SAFETY_MS, play


class Told(NamedTuple):
    """How one seed went."""

    seed: int
    text: str
    failed: bool


def tell(seed: int, nodes: int | None = None, safety_ms: int = SAFETY_MS) -> Told:
    """Play one history; a failure is told, not raised, so that the others go on."""
    try:
        return Told(seed, str(play(seed, nodes, safety_ms)), False)
    except Violation as violation:
        return Told(seed, f"FAILED: {violation}", True)
    except Exception:  # a broken invariant, or a fault of the code
        return Told(seed, f"FAILED: {traceback.format_exc()}", True)


def play_all(seeds: Iterable[int], nodes: int | None = None, safety_ms: int = SAFETY_MS) -> Iterator[Told]:
    """Play histories on every core; the results come in order."""
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(partial(tell, nodes=nodes, safety_ms=safety_ms), seeds)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make sim", description="Play virtual clusters with faults, one a seed.")
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--runs", type=int, default=20, help="how many seeds")
    parser.add_argument("--nodes", type=int, help="cluster size (default: drawn)")
    parser.add_argument("--seconds", type=int, default=SAFETY_MS // 1_000, help="virtual seconds of faults")
    options = parser.parse_args()
    started_s, failed = time.monotonic(), []
    same = f" NODES={options.nodes}" if options.nodes else ""
    same += f" SECONDS={options.seconds}" if 1_000 * options.seconds != SAFETY_MS else ""
    seeds = range(options.seed, options.seed + options.runs)
    for told in play_all(seeds, options.nodes, options.seconds * 1_000):
        print(f"seed {told.seed}: {told.text}", flush=True)
        if told.failed:
            print(f"  again with: make sim SEED={told.seed} RUNS=1{same}", flush=True)
            failed.append(told.seed)
    print(f"{options.runs - len(failed)} histories held, {len(failed)} failed, {time.monotonic() - started_s:.1f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
