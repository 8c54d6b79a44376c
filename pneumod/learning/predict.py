"""Inference with LiteRT: no TensorFlow here, which takes seconds to load."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pneumod.errors import ModelError
from pneumod.learning.card import CURRENT, ModelFile, load_model

PACKAGED = Path(__file__).parents[1] / "model" / "provisional.json"
ENVIRONMENT = "PNEUMOD_MODEL"
BATCH = 16  # images a run of the network; more is no faster, and their activations leave the processor's cache


def find_model(model: Path | None, state_dir: Path | None) -> ModelFile:
    """The model that was asked for, or else the newest of a node, $PNEUMOD_MODEL, or the one in the package.

    Args:
        model: a .tflite file or its .json card, from the command line.
        state_dir: the state directory of a node.

    Raises:
        ModelError: it is missing, damaged or not for this user, or there is none anywhere; the text says where.
    """
    if model is not None:
        return load_model(model)
    current = None if state_dir is None else state_dir / "models" / CURRENT
    if current is not None and _is_there(current):
        return load_model(current)
    if named := os.environ.get(ENVIRONMENT):
        return load_model(Path(named))
    if PACKAGED.exists():
        return load_model(PACKAGED)
    places = [*([] if current is None else [str(current)]), f"${ENVIRONMENT}", str(PACKAGED)]
    raise ModelError(f"no model in {', '.join(places)}; train one, or name one with --model")


def _is_there(card: Path) -> bool:
    """Whether a node has a model, also one whose link leads nowhere.

    Raises:
        ModelError: this user can't see.
    """
    try:
        card.lstat()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise ModelError(f"{card}: {error.strerror}; run this as the node's user, or give --model") from error
    return True


class Scored(NamedTuple):
    """What a network says of N images."""

    probability: NDArray[np.float64]  # [N], of PNEUMONIA, in [0, 1]
    distance: NDArray[np.float64] | None  # [N], from the training images; None: the model doesn't know them
    cam: NDArray[np.float32] | None  # [N, h, w], evidence by place, its mean the logit; None: the file gives none


class Predictor:
    """A model that is loaded and ready."""

    def __init__(self, file: ModelFile, threads: int = 1, batch: int = BATCH) -> None:
        """
        Args:
            batch: images a run of the network, at most.

        Raises:
            ModelError: LiteRT doesn't take the file, or the network isn't of the card's size.
        """
        from ai_edge_litert.interpreter import Interpreter

        self.file = file
        self.batch = batch
        try:
            with _quiet():
                self._interpreter = Interpreter(model_content=file.data, num_threads=threads)
                self._set_batch(1)
        except (ValueError, RuntimeError) as error:
            raise ModelError(f"{file.path}: LiteRT refuses the model: {error}") from error

    def _set_batch(self, count: int) -> None:
        """Make the network ready for so many images, and learn which output is which by its shape."""
        size = self.file.card.image_size
        details = self._interpreter.get_input_details()[0]
        if tuple(details["shape"][1:]) != (size, size, 1) or details["dtype"] is not np.float32:
            raise ModelError(f"{self.file.path}: the network doesn't take {size} x {size} grey levels")
        self._interpreter.resize_tensor_input(details["index"], (count, size, size, 1))
        self._interpreter.allocate_tensors()
        self._input, self._count = self._interpreter.tensor(details["index"]), count
        outputs = {self._kind(one["shape"]): one["index"] for one in self._interpreter.get_output_details()}
        if "logit" not in outputs:
            raise ModelError(f"{self.file.path}: the network gives no logit")
        self._outputs = {kind: self._interpreter.tensor(index) for kind, index in outputs.items()}

    @staticmethod
    def _kind(shape: NDArray[np.int32]) -> Literal["logit", "cam", "features"]:
        if len(shape) == 3:
            return "cam"
        return "logit" if shape[-1] == 1 else "features"

    @property
    def gives_maps(self) -> bool:
        """Whether the answers have a map of evidence; files of earlier versions give none."""
        return "cam" in self._outputs

    def answers(self, pixels: NDArray[np.uint8]) -> Scored:
        """Grey levels [N, S, S], S the card's image_size -> what the network says of them.

        Raises:
            ModelError: the network gave a value that isn't finite.
        """
        parts: dict[str, list[NDArray[np.float32]]] = {kind: [] for kind in self._outputs}
        for start in range(0, len(pixels), self.batch):
            part = pixels[start : start + self.batch]
            if len(part) != self._count:
                self._set_batch(len(part))
            self._input()[..., 0] = part  # to float32, in the network's own memory
            self._interpreter.invoke()
            for kind, output in self._outputs.items():
                parts[kind].append(output().copy())
        found = {kind: np.concatenate(values) for kind, values in parts.items() if values}
        logit = found["logit"][:, 0].astype(np.float64) if found else np.zeros(0)
        if not np.isfinite(logit).all():
            raise ModelError(f"{self.file.path}: the network gave a value that is not finite")
        with np.errstate(over="ignore"):
            probability = 1.0 / (1.0 + np.exp(-logit))
        likeness, features = self.file.card.likeness, found.get("features")
        distance = None
        if likeness is not None and features is not None:
            # A few rows at a time: for more, BLAS would start threads, which get in the way of those that decode.
            rows = [likeness.distance(features[start : start + BATCH]) for start in range(0, len(features), BATCH)]
            distance = np.concatenate(rows)
        return Scored(probability, distance, found.get("cam"))

    def probability(self, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Grey levels [N, S, S], S the card's image_size -> probability of PNEUMONIA [N] in [0, 1].

        Raises:
            ModelError: the network gave a value that isn't finite.
        """
        return self.answers(pixels).probability


@contextmanager
def _quiet() -> Iterator[None]:
    """Turn file descriptor 2 to nowhere: XNNPACK writes there, with no way to tell it not to.

    It is that of all threads: what they write meanwhile is lost, so hold it around native calls only.
    """
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)
