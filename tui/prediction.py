"""`pneumod predict` as a process of its own: its libraries print where they like, and a slow one can be killed."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path

import msgspec
from msgspec import Struct

from pneumod.errors import DataError


class Prediction(Struct, frozen=True):
    """One line of `pneumod predict --json`. Probability and threshold are of pneumonia, in [0, 1]."""

    path: str
    probability: float
    label: str
    threshold: float
    model: str
    warnings: tuple[str, ...]
    about: str | None  # what the model was trained on


class _Failure(Struct, frozen=True):
    path: str
    error: str


async def predict(config: Path, image: Path) -> Prediction:
    """Classify one image with the newest model of a node. The process is killed when this is cancelled.

    Raises:
        DataError: what `pneumod predict` said instead of an answer.
    """
    command = (sys.executable, "-m", "pneumod", "predict", "--json", "--config", str(config), "--", str(image))
    process = await asyncio.create_subprocess_exec(*command, stdin=DEVNULL, stdout=PIPE, stderr=PIPE)
    try:
        out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    lines = out.splitlines()
    try:
        if process.returncode == 0:
            return msgspec.json.decode(lines[-1], type=Prediction)
        failure = msgspec.json.decode(lines[-1], type=_Failure)
    except (IndexError, msgspec.DecodeError) as error:
        last = err.decode(errors="replace").strip().rpartition("\n")[2].removeprefix("pneumod: ")
        raise DataError(last or f"pneumod predict ended with {process.returncode}, and said nothing") from error
    raise DataError(f"{failure.path}: {failure.error}")
