"""A child for the worker's tests: what it does is told by the image size of Prepare, and every Train never ends."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

from pneumod.children.protocol import Note, Progress, Tell, claim_stdout, serve
from pneumod.core.jobs import Job, Outcome, Prepare, Prepared
from pneumod.errors import DataError
from pneumod.messages import ClassCounts

DO, MISTAKE, BUG, DIE, NOISE, SLOW, STEADY = 28, 29, 30, 31, 32, 33, 34
STEPS = 8  # of a steady job, of 0.1 s
LONG_LINE = 300_000  # characters without an end of line: more than any pipe or reader holds
LOG = Path(sys.argv[-1])  # the worker gives it as --config: each job's line goes there


def handle(job: Job, tell: Tell) -> Outcome:
    with LOG.open("a") as file:
        file.write(f"{os.getpid()} {type(job).__name__} {getattr(job, 'image_size', 0)}\n")
    if not isinstance(job, Prepare):
        tell(Progress("training", 0.5, 10.0))
        threading.Event().wait()
    elif job.image_size == MISTAKE:
        raise DataError("no image in there")
    elif job.image_size == BUG:
        raise ZeroDivisionError("a long story\nin a library: by zero\n")
    elif job.image_size == DIE:
        print("the last words", file=sys.stderr)
        sys.stderr.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    elif job.image_size == NOISE:
        print("a library talks on stdout", flush=True)
        os.write(1, b"\x05\x00\x00\x00noise" * 100)
        os.system("echo a subprocess talks too")
        print("x" * LONG_LINE, end="", flush=True)
        print("y" * LONG_LINE, end="", file=sys.stderr, flush=True)
    elif job.image_size == SLOW:
        time.sleep(0.3)
    elif job.image_size == STEADY:
        for step in range(STEPS):
            time.sleep(0.1)
            tell(Progress("preparing", step / STEPS))
    tell(Progress("preparing", 0.25, 7.5))
    tell(Note("preprocess", "warning", "one was set aside"))
    return Prepared(ClassCounts(1, 2, 3, os.getpid()), 4)


if __name__ == "__main__":
    serve(claim_stdout(), handle)
