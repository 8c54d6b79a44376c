"""How the daemon and a child talk: length-prefixed msgpack over the child's stdin and stdout.

The daemon sends one job at a time (a work item with its files, as an Errand); the child answers with any number of
Progress and Note frames, then exactly one Done or Failed. End of file on stdin ends the child; killing the child
cancels its job.
"""

from __future__ import annotations

import ctypes
import os
import signal
import struct
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Literal, TypeVar

import msgspec
from msgspec import Struct

from pneumod import wire
from pneumod.blobs import refusal
from pneumod.core.jobs import Job, Outcome, Work
from pneumod.errors import PneumodError
from pneumod.messages import Activity

T = TypeVar("T")
HEADER = struct.Struct("<I")
MAX_FRAME_BYTES = 16 * 1024 * 1024
NICENESS = 5
PROGRESS_S = 0.25  # the least time between two reports
MAX_CHILDREN = 8  # that do work items


class Progress(Struct, frozen=True, tag=True):
    """How far the job is: `fraction` in [0, 1]."""

    activity: Activity
    fraction: float
    samples_per_s: float = 0.0


class Note(Struct, frozen=True, tag=True):
    """A line for the daemon's log."""

    component: Literal["train", "preprocess", "predict", "master", "worker"]
    level: Literal["info", "warning", "error"]
    text: str


class Done(Struct, frozen=True, tag=True):
    outcome: Outcome


class Failed(Struct, frozen=True, tag=True):
    why: str
    ends: bool = False  # the child ends with it


class Errand(Struct, frozen=True, tag=True):
    """A work item, with what is to be done and the files to do it with."""

    job: Work
    head: bytes  # a parcel.Head
    parcel: bytes  # a parcel.Parcel


Frame = Progress | Note | Done | Failed
Tell = Callable[[Progress | Note], None]


def pack_frame(value: Job | Errand | Frame) -> bytes:
    body = wire.pack(value)
    return HEADER.pack(len(body)) + body


def unpack_job(body: bytes) -> Job:
    return msgspec.convert(wire.unpack(body), Job)  # type: ignore[no-any-return]


def unpack_errand(body: bytes) -> Errand:
    return msgspec.convert(wire.unpack(body), Errand, builtin_types=(bytes,))


def unpack_frame(body: bytes) -> Frame:
    return msgspec.convert(wire.unpack(body), Frame, builtin_types=(bytes,))  # type: ignore[no-any-return]


def item_children(threads: int) -> tuple[int, int]:
    """How many children do work items, and how many processor cores each has. `threads` of a config: 0 is all.

    One a core: a small item, of 3 files, has use for no more.
    """
    cores = threads or len(os.sched_getaffinity(0))
    children = min(cores, MAX_CHILDREN)
    return children, -(-cores // children)


def die_with_parent() -> None:
    """Ask Linux for SIGKILL when the parent dies: a process in the middle of a long job doesn't see stdin end.

    The parent is the thread that started this process.
    """
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def throttled(tell: Tell, activity: Activity) -> Callable[[float, float], None]:
    """A watcher (share done in [0, 1], samples a second) that reports an activity's progress every PROGRESS_S."""
    told_s = -PROGRESS_S

    def watch(fraction: float, samples_per_s: float) -> None:
        nonlocal told_s
        now_s = time.monotonic()
        if now_s - told_s >= PROGRESS_S or fraction >= 1.0:
            told_s = now_s
            tell(Progress(activity, fraction, samples_per_s))

    return watch


def claim_stdout() -> BinaryIO:
    """A child's first step: it dies with its parent from now on, and has the real stdout for its frames.

    File descriptor 1 is turned to stderr, as Keras prints on it. The daemon goes before its children: its
    heartbeats must be on time also where they keep all cores busy.
    """
    die_with_parent()
    os.nice(NICENESS)
    frames = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return frames


def serve(frames: BinaryIO, handle: Callable[[Job, Tell], Outcome]) -> None:
    """Serve jobs until stdin ends. What a job can't do is its failure alone, but a fault that nobody foresaw (no
    memory, a bug) ends the child too: the next job gets a new one.

    Why a job failed may go on the bus, so neither a library's words nor a path of this machine is in it: these go
    to the node's log. (What a PneumodError says of images may; but only this node's own jobs look at images.)
    """
    _serve(frames, handle, unpack_job)


def serve_errands(frames: BinaryIO, handle: Callable[[Errand, Tell], Outcome]) -> None:
    """Serve work items, as `serve` does jobs."""
    _serve(frames, handle, unpack_errand)


def _serve(frames: BinaryIO, handle: Callable[[T, Tell], Outcome], unpack: Callable[[bytes], T]) -> None:

    def send(frame: Frame) -> None:
        frames.write(pack_frame(frame))
        frames.flush()

    while header := sys.stdin.buffer.read(HEADER.size):
        (size,) = HEADER.unpack(header)
        job = unpack(sys.stdin.buffer.read(size))
        try:
            send(Done(handle(job, send)))
        except PneumodError as error:
            send(Failed(str(error)))
        except OSError as error:  # a full or read-only disk is no bug
            send(Note("worker", "error", refusal(error, Path("the state directory"))))
            send(Failed("the disk refused it"))
        except Exception as error:  # the traceback goes to the log
            send(Note("worker", "error", traceback.format_exc()))
            send(Failed(f"a fault of the child ({type(error).__name__})", ends=True))
            return
