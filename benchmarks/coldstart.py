"""One X-ray from a cold start, as a whole process: `pneumod predict` beside the alternatives.

    python benchmarks/coldstart.py IMAGE [--model FILE] [--runs 7]

Prints the median seconds of each, and how many times as long as `pneumod predict` it takes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median


def seconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"})
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", type=Path)
    parser.add_argument("--model", type=Path, help="default: the one in the package")
    parser.add_argument("--runs", type=int, default=7)
    arguments = parser.parse_args()
    python = sys.executable
    model = ["--model", str(arguments.model)] if arguments.model else []
    candidates = {
        "python -c pass": [python, "-c", "pass"],
        "pneumod predict IMAGE": [python, "-m", "pneumod", "predict", str(arguments.image), *model],
        "import keras (TensorFlow)": [python, "-c", "import keras"],
    }
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(arguments.runs):  # interleaved, so that a busy moment hits all of them
        for name, command in candidates.items():
            times[name].append(seconds(command))
    reference = median(times["pneumod predict IMAGE"])
    print(f"{'median of ' + str(arguments.runs):28} seconds   ratio")
    for name, measured in times.items():
        print(f"{name:28} {median(measured):7.2f} {median(measured) / reference:7.2f}")


if __name__ == "__main__":
    main()
