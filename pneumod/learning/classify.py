"""Many files -> answers: child processes decode and prepare while this one runs the network, a batch at a time."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from pneumod.images.pool import Pool, Ready
from pneumod.learning.predict import Predictor
from pneumod.parcel import Answer

# When an image comes that long after the last answers, those that wait get theirs, though the batch isn't full. (While
# none comes, because a file holds all decoders, they wait: 30 s at most, when the pool sets it aside.)
LINGER_S = 0.25

Source = TypeVar("Source", Path, bytes)


class Seen(NamedTuple, Generic[Source]):
    """What came of one file."""

    source: Source
    answer: Answer | str  # a text is the reason why it was set aside
    cam: NDArray[np.float32] | None = None  # [h, w], evidence by place, where the model gives it


def classify(sources: Iterable[Source], pool: Pool, predictor: Predictor) -> Iterator[Seen[Source]]:
    """Answer files in their order, as they come; memory is bounded by the pool's look-ahead and the batch.

    Raises:
        ModelError: the network gave a value that isn't finite.
    """
    ahead: deque[Source] = deque()

    def taken() -> Iterator[Source]:
        for source in sources:
            ahead.append(source)
            yield source

    waiting: list[tuple[Source, Ready | str]] = []
    since_s = time.monotonic()
    for came in pool.map(taken()):
        waiting.append((ahead.popleft(), came))
        if len(waiting) == predictor.batch or time.monotonic() - since_s >= LINGER_S:
            yield from _answered(waiting, predictor)
            waiting.clear()
            since_s = time.monotonic()
    yield from _answered(waiting, predictor)


def _answered(waiting: list[tuple[Source, Ready | str]], predictor: Predictor) -> Iterator[Seen[Source]]:
    ready = [came for _, came in waiting if isinstance(came, Ready)]
    if ready:
        scored = predictor.answers(np.stack([one.pixels for one in ready]))
    place = 0
    for source, came in waiting:
        if isinstance(came, str):
            yield Seen(source, came)
            continue
        distance = None if scored.distance is None else float(scored.distance[place])
        answer = Answer(came.facts, probability=float(scored.probability[place]), distance=distance)
        yield Seen(source, answer, None if scored.cam is None else scored.cam[place])
        place += 1
