"""Play scenarios and print figures: python -m tests.chaos [--only NAME ...] [--repeat N] [--list]."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import time
from statistics import median

from tests.chaos.catalog import CATALOG, Scenario, Theatre


def main() -> int:
    parser = argparse.ArgumentParser(prog="make chaos", description="Hurt real daemons on a real Mosquitto.")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=sorted(CATALOG), help="these scenarios")
    parser.add_argument("--short", action="store_true", help="the short form, as in the tests")
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="play each so often")
    parser.add_argument("--list", action="store_true", help="name the scenarios")
    options = parser.parse_args()
    logging.getLogger("pneumod").addHandler(logging.NullHandler())  # lost connections are meant here
    chosen = [
        one
        for one in CATALOG.values()
        if (not options.only or one.name in options.only) and (not options.short or one.short)
    ]
    if options.list:
        for one in chosen:
            print(f"{one.name:26}{one.about}")
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # no daemon and no disk stays behind
    return _play(chosen, options.repeat)


def _play(chosen: list[Scenario], repeat: int) -> int:
    held, failed = 0, []
    with Theatre() as theatre:
        for one in chosen:
            why = one.unplayable()
            if why:
                print(f"{one.name:26}skipped: {why}", flush=True)
                continue
            for number in range(1, repeat + 1):
                started = time.monotonic()
                try:
                    theatre.play(one)
                except AssertionError as error:
                    print(f"{one.name:26}FAILED: {error}", flush=True)
                    failed.append(one.name)
                    continue
                held += 1
                of = f" ({number} of {repeat})" if repeat > 1 else ""
                print(f"{one.name:26}held in {time.monotonic() - started:.1f} s{of}", flush=True)
        print(f"\n{held} held, {len(failed)} failed{': ' + ', '.join(failed) if failed else ''}\n")
        print(_table(theatre.figures))
    return 1 if failed else 0


def _table(figures: dict[str, list[float]]) -> str:
    """Markdown, as in BENCHMARKS.md."""
    lines = ["| | times | median | maximum |", "|---|---|---|---|"]
    for name, values in sorted(figures.items()):
        times = str(len(values))
        if name == "updates":
            continue
        if name in ("updates lost", "trained twice"):
            times = f"{sum(figures['updates']):.0f} updates"
        lines.append(f"| {name} | {times} | {median(values):.2f} | {max(values):.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
