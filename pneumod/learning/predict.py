"""Inference with LiteRT: no TensorFlow here, which takes seconds to load."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pneumod.errors import ModelError
from pneumod.images.quiet import quiet
from pneumod.learning.card import CURRENT, ModelFile, load_model

PACKAGED = Path(__file__).parents[1] / "model" / "provisional.json"
ENVIRONMENT = "PNEUMOD_MODEL"
BATCH = 64


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


class Predictor:
    """A model that is loaded and ready."""

    def __init__(self, file: ModelFile, threads: int = 1) -> None:
        """Raises ModelError where LiteRT doesn't take the file, or the network isn't of the card's size."""
        from ai_edge_litert.interpreter import Interpreter

        self.file = file
        try:
            with quiet():
                self._interpreter = Interpreter(model_content=file.data, num_threads=threads)
                self._set_batch(1)
        except (ValueError, RuntimeError) as error:
            raise ModelError(f"{file.path}: LiteRT refuses the model: {error}") from error

    def _set_batch(self, count: int) -> None:
        size = self.file.card.image_size
        details = self._interpreter.get_input_details()[0]
        if tuple(details["shape"][1:]) != (size, size, 1) or details["dtype"] is not np.float32:
            raise ModelError(f"{self.file.path}: the network doesn't take {size} x {size} grey levels")
        self._interpreter.resize_tensor_input(details["index"], (count, size, size, 1))
        self._interpreter.allocate_tensors()
        self._input, self._batch = details["index"], count
        self._output = self._interpreter.get_output_details()[0]["index"]

    def probability(self, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Grey levels [N, S, S], S the card's image_size -> probability of PNEUMONIA [N] in [0, 1].

        Raises:
            ModelError: the network gave a value that isn't finite.
        """
        logits = np.zeros(len(pixels))
        for start in range(0, len(pixels), BATCH):
            part = pixels[start : start + BATCH]
            if len(part) != self._batch:
                self._set_batch(len(part))
            self._interpreter.set_tensor(self._input, part[..., None].astype(np.float32))
            self._interpreter.invoke()
            logits[start : start + BATCH] = self._interpreter.get_tensor(self._output)[:, 0]
        if not np.isfinite(logits).all():
            raise ModelError(f"{self.file.path}: the network gave a value that is not finite")
        with np.errstate(over="ignore"):
            return np.asarray(1.0 / (1.0 + np.exp(-logits)))
