"""A child that trains nothing: it answers the trainer's jobs with deterministic data, and needs no TensorFlow.

python -m null_trainer --config NODE.yaml        (as a daemon starts it; PARAMETERS says how large the model is)
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np

from pneumod.blobs import BlobFolder
from pneumod.children.protocol import Progress, Tell, claim_stdout, serve
from pneumod.config import NodeConfig, load
from pneumod.core.jobs import Export, Exported, Initialise, Initialised, Job, Outcome, Train, Trained
from pneumod.learning.aggregate import exponents_of
from pneumod.learning.checkpoint import checkpoint_document
from pneumod.learning.codec import update_document
from pneumod.learning.weights import Array, Model, model_document
from pneumod.messages import Scores
from pneumod.wire import encode_document

TENSORS = 20
SAMPLES = 8  # of the images that the benchmark writes for every node


class NullTrainer:
    """Draws updates in place of learning them; keeps no images and reads no model."""

    def __init__(self, config: NodeConfig, parameters: int) -> None:
        self.node = config.node_id
        self.blobs = BlobFolder(config.state_dir / "blobs")
        self.sizes = [len(part) for part in np.array_split(np.empty(parameters, np.int8), TENSORS)]
        self.names = tuple(f"tensor-{index}" for index in range(TENSORS))

    def handle(self, job: Job, tell: Tell) -> Outcome:
        match job:
            case Initialise():
                return self._initialise(job)
            case Train():
                tell(Progress("training", 0.0))
                return self._train(job)
            case Export():
                return Exported("nowhere")
        raise AssertionError(f"{type(job).__name__} is not a job of the trainer")

    def _draw(self, *seed: int) -> list[Array]:
        """Float32 values in (-0.01, 0.01), one array [size] a tensor."""
        random = np.random.default_rng(seed)
        return [(random.random(size, np.float32) - np.float32(0.5)) * np.float32(0.02) for size in self.sizes]

    def _initialise(self, job: Initialise) -> Initialised:
        spec, arrays = job.spec, self._draw(0)
        document = model_document(arrays, self.names, spec.settings.image_size, spec.run, 0)
        model = self.blobs.write(encode_document(document))
        checkpoint = checkpoint_document(spec.run, spec.number, 0, model, None, [])
        return Initialised(model, self.blobs.write(encode_document(checkpoint)), exponents_of(arrays))

    def _train(self, job: Train) -> Trained:
        opened = job.opened
        scores = Scores(((400, 2),), ((600, 2),), 0.5)  # as the trainer would score 4 images
        if not opened.train:
            return Trained(scores, None, 0, None, 0)
        deltas = self._draw(self.node, opened.round)
        base = Model(opened.settings.image_size, opened.run, opened.round - 1, self.names, tuple(deltas))
        update = self.blobs.write(encode_document(update_document(deltas, base, opened, SAMPLES)))
        return Trained(scores, update, SAMPLES, 0.5, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True)
    config = load(parser.parse_args().config, need_data=False)
    serve(claim_stdout(), NullTrainer(config, int(os.environ["PARAMETERS"])).handle)


if __name__ == "__main__":
    main()
