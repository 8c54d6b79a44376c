"""One node's part of a round: score a model on the validation images, train it on the training images."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from pneumod.errors import ModelError
from pneumod.images.dataset import Pixels, Watch
from pneumod.learning import model as network
from pneumod.learning.augment import augment
from pneumod.messages import BIN_COUNT, LOGIT_LIMIT, MAX_LOSS, Histogram, RunSettings, Scores

SCORE_BATCH = 128

Tensors = dict[str, NDArray[np.float32]]


def use_threads(count: int) -> None:
    """Let TensorFlow use `count` threads (0: all cores). To be called before its first operation."""
    tf.config.threading.set_intra_op_parallelism_threads(count)
    tf.config.threading.set_inter_op_parallelism_threads(count)


@dataclass(frozen=True)
class Work:
    """What local training gave: the change of each weight, and the mean weighted focal loss of its last epoch."""

    deltas: Tensors
    samples: int
    train_loss: float


class Trainer:
    """A network with its compiled steps, kept from round to round: building and tracing take seconds."""

    def __init__(self, settings: RunSettings) -> None:
        self.settings = settings
        self.model = network.build(settings)
        self._loss = keras.losses.BinaryFocalCrossentropy(from_logits=True, gamma=settings.focal_gamma)
        self._optimizer = keras.optimizers.Adam(settings.learning_rate)
        self._optimizer.build(self.model.trainable_variables)
        size = settings.image_size
        pixels = tf.TensorSpec((None, size, size, 1), tf.float32)
        column = tf.TensorSpec((None, 1), tf.float32)
        self._step = tf.function(self._train_step, input_signature=[pixels, column, column])
        self._infer = tf.function(lambda x: self.model(x, training=False), input_signature=[pixels])

    def weights(self) -> Tensors:
        """Copies of all weights by name, in the order that `set_weights` takes."""
        return network.weights_of(self.model)

    def set_weights(self, arrays: Sequence[NDArray[np.float32]]) -> None:
        self.model.set_weights(list(arrays))

    def _train_step(self, pixels: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = self._loss(labels, self.model(pixels, training=True), sample_weight=weights)
            total = loss + tf.add_n(self.model.losses)
        variables = self.model.trainable_variables
        self._optimizer.apply(tape.gradient(total, variables), variables)
        return loss

    def train(
        self,
        pixels: Pixels | NDArray[np.uint8],
        labels: NDArray[np.uint8],
        class_weights: tuple[float, float],
        seed: tuple[int, ...],
        watch: Watch | None = None,
    ) -> Work:
        """Train the model's present weights for `local_epochs` epochs with a fresh Adam.

        Args:
            pixels: grey levels [N, S, S].
            labels: [N], 1 is PNEUMONIA.
            class_weights: of a NORMAL and of a PNEUMONIA image in the loss.
            seed: draws the order, the augmentation and the dropout.
            watch: told after every step.

        Raises:
            ModelError: the weights are no longer finite.
        """
        before = self.weights()
        random = np.random.default_rng(seed)
        self._start_afresh(random)
        weights = np.asarray(class_weights, np.float32)[labels]
        batches = -(-len(pixels) // self.settings.batch_size)
        steps = self.settings.local_epochs * batches
        started, step = time.monotonic(), 0
        for _ in range(self.settings.local_epochs):
            losses = np.zeros(batches)
            for index, chosen in enumerate(np.array_split(random.permutation(len(pixels)), batches)):
                x = augment(pixels[chosen], random) if self.settings.augment else pixels[chosen].astype(np.float32)
                y = labels[chosen, None].astype(np.float32)
                self._optimizer.learning_rate.assign(self.settings.learning_rate * _cooling(step / steps))
                losses[index] = self._step(x[..., None], y, weights[chosen, None]).numpy() * len(chosen)
                step += 1
                if watch is not None:
                    seen = step * len(pixels) / batches
                    watch(step / steps, seen / max(time.monotonic() - started, 1e-3))
        after = self.weights()
        if not all(np.isfinite(tensor).all() for tensor in after.values()):
            raise ModelError("training diverged: the weights are no longer finite; use a lower learning_rate")
        deltas = {name: after[name] - before[name] for name in before}
        return Work(deltas, len(pixels), _bounded(losses.sum() / len(pixels)))

    def _start_afresh(self, random: np.random.Generator) -> None:
        """Forget Adam's moments and seed the dropout, so that the work depends on its seed alone."""
        for variable in self._optimizer.variables:
            if variable is not self._optimizer.learning_rate:
                variable.assign(tf.zeros_like(variable))
        for layer in self.model.layers:
            if isinstance(layer, keras.layers.Dropout) and layer.rate > 0:
                layer.seed_generator.state.assign(random.integers(0, 2**31, 2, dtype=np.uint32))

    def logits(self, pixels: Pixels | NDArray[np.uint8], watch: Watch | None = None) -> NDArray[np.float64]:
        """Grey levels [N, S, S] -> logits [N]; `watch` is told after every batch.

        Raises:
            ModelError: a logit isn't finite.
        """
        started, parts = time.monotonic(), []
        for start in range(0, len(pixels), SCORE_BATCH):
            batch = pixels[start : start + SCORE_BATCH][..., None].astype(np.float32)
            parts.append(self._infer(batch).numpy()[:, 0])
            if watch is not None:
                seen = start + len(batch)
                watch(seen / len(pixels), seen / max(time.monotonic() - started, 1e-3))
        logits = np.concatenate([np.zeros(0), *parts]).astype(np.float64)
        if not np.isfinite(logits).all():
            raise ModelError("the model gives scores that are not finite")
        return logits

    def score(
        self, pixels: Pixels | NDArray[np.uint8], labels: NDArray[np.uint8], watch: Watch | None = None
    ) -> Scores:
        """The present weights on grey levels [N, S, S] with labels [N]; the loss is None without images."""
        if len(pixels) == 0:
            return Scores()
        logits = self.logits(pixels, watch)
        loss = self._loss(labels[:, None].astype(np.float32), logits[:, None].astype(np.float32))
        return Scores(histogram(logits[labels == 0]), histogram(logits[labels == 1]), _bounded(loss))


def _bounded(loss: float) -> float:
    """A finite loss as messages carry it: a diverging model's is cut off."""
    return min(float(loss), MAX_LOSS)


def _cooling(done: float) -> float:
    """The learning rate's factor after the share `done` of a round: half a cosine (Loshchilov and Hutter 2017).

    Each node ends its round at rest, so that weights and moving statistics fit each other when averaged.
    """
    return 0.5 * (1.0 + math.cos(math.pi * done))


def histogram(logits: NDArray[np.float64]) -> Histogram:
    """Counts of the logits in BIN_COUNT bins over [-LOGIT_LIMIT, LOGIT_LIMIT]; what lies outside goes to the ends."""
    place = np.floor((logits + LOGIT_LIMIT) * (BIN_COUNT / (2 * LOGIT_LIMIT)))
    bins, counts = np.unique(np.clip(place, 0, BIN_COUNT - 1).astype(np.int64), return_counts=True)
    return tuple(zip(bins.tolist(), counts.tolist(), strict=True))
