"""`--cluster`: files that the nodes of this site do together, for the commands that do them alone otherwise."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import msgspec
import numpy as np

from pneumod.config import NodeConfig
from pneumod.desk import socket_path
from pneumod.images.pool import Pool, Ready
from pneumod.learning.classify import Seen, classify
from pneumod.learning.predict import Predictor
from pneumod.parcel import Answer, Head
from pneumod.spread.batch import Batch
from pneumod.spread.leg import Task
from pneumod.spread.tally import Tally


class Site:
    """The nodes of a node's own site. What it has to say goes to standard error."""

    def __init__(self, node: NodeConfig) -> None:
        self.node = node
        self._tally = Tally()

    def brief(self) -> str:
        """Who did how much so far, for a progress bar."""
        brief = self._tally.brief()
        return f" ({brief})" if brief else ""

    def prepared(self, paths: Sequence[Path], pool: Pool) -> Generator[Ready | str]:
        """What `pool.map` gives. To be closed: that withdraws the work."""

        def alone(paths: Iterable[Path]) -> Iterator[Answer | str]:
            for came in pool.map(paths):
                yield came if isinstance(came, str) else Answer(came.facts, pixels=came.pixels.tobytes())

        side = pool.preparation.image_size
        task = Task("preprocess", Head(pool.preparation, pool.force), side**2, alone, pool.stop)
        with closing(self._outcomes(paths, task)) as outcomes:
            for outcome in outcomes:
                if isinstance(outcome, str):
                    yield outcome
                else:
                    assert outcome.pixels is not None
                    yield Ready(np.frombuffer(outcome.pixels, np.uint8).reshape(side, side), outcome.facts)

    def classified(self, paths: Sequence[Path], pool: Pool, predictor: Predictor) -> Generator[Seen[Path]]:
        """What `classify` gives, without maps. To be closed: that withdraws the work."""

        def alone(paths: Iterable[Path]) -> Iterator[Answer | str]:
            return (seen.answer for seen in classify(paths, pool, predictor))

        file = predictor.file
        head = Head(pool.preparation, pool.force, msgspec.json.encode(file.card), file.data)
        with closing(self._outcomes(paths, Task("predict", head, 0, alone, pool.stop))) as outcomes:
            for path, outcome in zip(paths, outcomes, strict=True):
                yield Seen(path, outcome)

    def _outcomes(self, paths: Sequence[Path], task: Task) -> Generator[Answer | str]:
        nodes = sum(site == self.node.site for site in self.node.roster.values())
        batch = Batch(paths, task, nodes, socket_path(self.node.state_dir), _say)
        self._tally = batch.tally
        with closing(batch.outcomes()) as outcomes:
            yield from outcomes
        for line in self._tally.lines() if paths else ():
            _say(line)


def _say(text: str) -> None:
    print(text, file=sys.stderr)
