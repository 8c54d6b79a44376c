"""Play histories: python -m tests.sim [--seed N] [--runs N] [--nodes N] [--seconds N]."""

from __future__ import annotations

import argparse
import sys
import time
import traceback

from tests.sim.history import play


def main() -> int:
    parser = argparse.ArgumentParser(prog="make sim", description="Play virtual clusters with faults, one a seed.")
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--runs", type=int, default=20, help="how many seeds")
    parser.add_argument("--nodes", type=int, help="cluster size (default: drawn)")
    parser.add_argument("--seconds", type=int, default=120, help="virtual seconds of faults")
    options = parser.parse_args()
    started, failed = time.monotonic(), []
    for seed in range(options.seed, options.seed + options.runs):
        try:
            print(f"seed {seed}: {play(seed, options.nodes, options.seconds * 1000)}")
        except AssertionError as error:
            traceback.print_exc()
            print(f"seed {seed}: FAILED: {error}\n  again with: make sim SEED={seed} RUNS=1", flush=True)
            failed.append(seed)
    print(f"{options.runs - len(failed)} histories held, {len(failed)} failed, {time.monotonic() - started:.1f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
