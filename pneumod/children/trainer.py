"""The child process that trains: Initialise, Train and Export. The only process of a daemon with TensorFlow."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pneumod.blobs import BlobFolder
from pneumod.children.protocol import Progress, Tell, claim_stdout, serve, throttled
from pneumod.config import NodeConfig, load
from pneumod.core.jobs import Export, Exported, Initialise, Initialised, Job, Outcome, Train, Trained
from pneumod.errors import DataError, PneumodError
from pneumod.images.dataset import Dataset, prepare
from pneumod.learning.aggregate import exponents_of
from pneumod.learning.checkpoint import checkpoint_document
from pneumod.learning.codec import update_document
from pneumod.learning.export import explained_litert, write_export
from pneumod.learning.weights import Model, model_document, read_model
from pneumod.messages import BlobRef, RunSettings
from pneumod.settings import Preparation
from pneumod.wire import encode_document

if TYPE_CHECKING:
    from pneumod.learning import train


class Jobs:
    """Handles the jobs of one node; keeps the built network and the images from round to round."""

    def __init__(self, config: NodeConfig) -> None:
        from pneumod.learning import train

        train.use_threads(config.threads)
        self.config = config
        self.blobs = BlobFolder(config.state_dir / "blobs")
        self._train = train
        self._trainer: train.Trainer | None = None
        self._dataset: tuple[Preparation, Dataset] | None = None

    def handle(self, job: Job, tell: Tell) -> Outcome:
        if isinstance(job, Initialise):
            return self._initialise(job)
        if isinstance(job, Train):
            return self._train_round(job, tell)
        if isinstance(job, Export):
            return self._export(job, tell)
        raise AssertionError(f"not a job of the trainer: {type(job).__name__}")

    def _initialise(self, job: Initialise) -> Initialised:
        spec = job.spec
        self._trainer = self._train.Trainer(spec.settings)
        weights = self._trainer.weights()
        arrays = list(weights.values())
        document = model_document(arrays, list(weights), spec.settings.image_size, spec.run, 0)
        model = self.blobs.write(encode_document(document))
        checkpoint = checkpoint_document(spec.run, spec.number, 0, model, None, [])
        return Initialised(model, self.blobs.write(encode_document(checkpoint)), exponents_of(arrays))

    def _train_round(self, job: Train, tell: Tell) -> Trained:
        opened = job.opened
        images = self._images(opened.settings.preparation, tell)
        tell(Progress("scoring", 0.0))
        trainer = self._trainer_for(opened.settings)
        base = self._load(trainer, opened.base)
        scores = trainer.score(images.val.pixels, images.val.labels, throttled(tell, "scoring"))
        if not opened.train:
            return Trained(scores, None, 0, None, 0)
        started = time.monotonic()
        seed = (opened.settings.seed, self.config.node_id, opened.round)
        watch = throttled(tell, "training")
        work = trainer.train(images.train.pixels, images.train.labels, opened.class_weights, seed, watch)
        train_ms = round((time.monotonic() - started) * 1000)
        document = update_document(list(work.deltas.values()), base, opened, work.samples)
        return Trained(scores, self.blobs.write(encode_document(document)), work.samples, work.train_loss, train_ms)

    def _export(self, job: Export, tell: Tell) -> Exported:
        import keras
        import tensorflow

        from pneumod.learning.model import export_litert

        trainer = self._trainer_for(job.spec.settings)
        self._load(trainer, job.best.model)
        try:
            images = self._images(job.spec.settings.preparation, tell)
            tell(Progress("exporting", 0.0))
            litert, likeness = explained_litert(trainer.model, images)
        except DataError:  # the images are gone since the training: a model without what they would tell
            litert, likeness = export_litert(trainer.model), None
        versions = {"tensorflow": tensorflow.__version__, "keras": keras.__version__}
        path = write_export(self.config.state_dir / "models", job, litert, versions, self.config.data, likeness)
        return Exported(str(path))

    def _trainer_for(self, settings: RunSettings) -> train.Trainer:
        """The built network of `settings`: made anew only when another run has other settings."""
        if self._trainer is None or self._trainer.settings != settings:
            self._trainer = self._train.Trainer(settings)
        return self._trainer

    def _load(self, trainer: train.Trainer, ref: BlobRef) -> Model:
        """Put the weights of a model blob into the network.

        Raises:
            DataError: the blob isn't here, or isn't a model of this network.
            WireError: it isn't a model document.
        """
        data = self.blobs.read(ref.digest)
        if data is None:
            raise DataError(f"the model {ref.digest[:12]} is not here")
        model = read_model(data)
        expected = {name: array.shape for name, array in trainer.weights().items()}
        if list(expected.items()) != [(n, a.shape) for n, a in zip(model.names, model.arrays, strict=True)]:
            raise DataError(f"the model {ref.digest[:12]} is of another network; do all nodes run the same version?")
        trainer.set_weights(model.arrays)
        return model

    def _images(self, preparation: Preparation, tell: Tell) -> Dataset:
        if self._dataset is None or self._dataset[0] != preparation:
            watch = throttled(tell, "preparing")
            self._dataset = preparation, prepare(self.config, preparation, watch)
        return self._dataset[1]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m pneumod.children.trainer", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, metavar="NODE.yaml")
    arguments = parser.parse_args()
    frames = claim_stdout()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        jobs = Jobs(load(arguments.config))
    except PneumodError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except ImportError as error:
        print(f"training needs TensorFlow ({error}): pip install 'pneumod[train]'", file=sys.stderr)
        return 1
    serve(frames, jobs.handle)
    return 0


if __name__ == "__main__":
    sys.exit(main())
