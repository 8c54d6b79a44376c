"""What a node would get by itself: the same network, epochs and best-round rule, on its own images only.

`python -m pneumod.demo.alone --config NODE.yaml` prints one JSON object a scored round, then the result.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from pneumod.blobs import write_atomic
from pneumod.children.protocol import claim_stdout
from pneumod.config import load
from pneumod.core.rounds import class_weights_of
from pneumod.core.scores import metrics_of
from pneumod.errors import DataError, PneumodError
from pneumod.images.dataset import Dataset, prepare

if TYPE_CHECKING:
    from pneumod.learning.train import Tensors, Trainer


@dataclass(frozen=True)
class Best:
    """The model with the highest AUC on the node's own validation images; round 0 is the untrained one."""

    round: int
    auc: float
    threshold: float
    weights: Tensors


def train_alone(trainer: Trainer, data: Dataset, node: int, tell: Callable[[int, float], None]) -> Best:
    """Train the untrained `trainer` for its settings' rounds, or until `patience` rounds bring nothing better.

    `tell` gets the number of rounds trained and the AUC after them.

    Raises:
        DataError: the validation images have one class only.
    """
    settings = trainer.settings
    best: Best | None = None
    for number in range(settings.rounds + 1):
        if number > 0:
            seed = (settings.seed, node, number)
            trainer.train(data.train.pixels, data.train.labels, class_weights_of([data.counts]), seed)
        metrics, threshold = metrics_of([trainer.score(data.val.pixels, data.val.labels)])
        if metrics.auc is None:
            raise DataError("the validation images have one class only")
        tell(number, metrics.auc)
        if best is None or metrics.auc > best.auc:
            best = Best(number, metrics.auc, threshold, trainer.weights())
        if number - best.round >= settings.patience:
            break
    assert best is not None
    return best


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m pneumod.demo.alone", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, metavar="NODE.yaml")
    parser.add_argument("--rounds", type=int, help="in place of the config's run.rounds")
    parser.add_argument("--out", type=Path, help="write the best model here, as LiteRT")
    arguments = parser.parse_args()
    lines = claim_stdout()

    def say(**values: object) -> None:
        lines.write(json.dumps(values).encode() + b"\n")
        lines.flush()

    try:
        _run(arguments, say)
    except PneumodError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def _run(arguments: argparse.Namespace, say: Callable[..., None]) -> None:
    config = load(arguments.config)
    settings = config.run
    if arguments.rounds is not None:
        settings = msgspec.structs.replace(settings, rounds=arguments.rounds)
    data = prepare(config, settings.preparation)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from pneumod.learning import model, train

    train.use_threads(config.threads)
    started = time.monotonic()
    trainer = train.Trainer(settings)
    best = train_alone(trainer, data, config.node_id, lambda number, auc: say(round=number, auc=auc))
    seconds = time.monotonic() - started
    if arguments.out is not None:
        trainer.set_weights(list(best.weights.values()))
        write_atomic(arguments.out, model.export_litert(trainer.model))
    say(best_round=best.round, auc=best.auc, threshold=best.threshold, seconds=seconds)


if __name__ == "__main__":
    sys.exit(main())
