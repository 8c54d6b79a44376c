"""`pneumod predict`: classify images with a trained model."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pneumod import RESEARCH_ONLY
from pneumod.errors import DataError
from pneumod.images.load import Grey, printable, read_grey, squash
from pneumod.learning.card import ModelCard
from pneumod.learning.predict import Predictor, find_model

if TYPE_CHECKING:
    from pneumod.config import NodeConfig

LEAST_CONTRAST = 5.0  # standard deviation of the grey levels; chest X-rays have 30 to 80


def run(args: argparse.Namespace) -> int:
    """Print one line an image; 1 if any could not be classified."""
    node = named_node(args)
    predictor = Predictor(find_model(args.model, node.state_dir if node else None))
    failed = 0
    for path in args.images:
        result = _classify(path, predictor)
        failed += "error" in result
        print(json.dumps(result) if args.json else _readable(result), flush=True)
    if not args.json:
        print(RESEARCH_ONLY, file=sys.stderr)
    if node is not None:
        _record(node, f"{len(args.images)} images, {failed} failed, model {predictor.file.card.name}")
    return int(failed > 0)


def named_node(args: argparse.Namespace) -> NodeConfig | None:
    """The node that --config names.

    Raises:
        ConfigError: its configuration is wrong.
    """
    if args.config is None:
        return None
    from pneumod.config import load  # imports YAML, which --model need not wait for

    return load(args.config, need_data=False)


def _record(node: NodeConfig, text: str) -> None:
    """A line in the node's log/predict, without names of files; none from a user who may not write there."""
    from pneumod import logs

    folder = node.state_dir / "log" / "predict"
    if not os.access(folder, os.W_OK | os.X_OK):  # rotation needs it
        return
    try:
        (folder / "predict.log").open("ab").close()
        logs.setup(node.state_dir, node.log, stderr=False)
    except OSError:
        return
    logs.component("predict").info(text)


def _classify(path: Path, predictor: Predictor) -> dict[str, Any]:
    card = predictor.file.card
    started = time.perf_counter()
    try:
        grey = read_grey(path)
    except DataError as error:
        return {"path": printable(path), "error": str(error)}
    probability = float(predictor.probability(squash(grey, card.image_size)[None])[0])
    return {
        "path": printable(path),
        "probability": probability,
        "label": "PNEUMONIA" if probability >= card.threshold else "NORMAL",
        "threshold": card.threshold,
        "model": card.name,
        "ms": round(1000 * (time.perf_counter() - started), 1),
        "warnings": _warnings(grey, card),
    }


def _warnings(grey: Grey, card: ModelCard) -> list[str]:
    """Why an answer may be worth little."""
    warnings = []
    if card.status == "provisional":
        warnings.append("the model is provisional")
    if min(grey.shape) < card.image_size:
        warnings.append(f"the image is smaller than the {card.image_size} pixels that the model looks at")
    if grey.std() < LEAST_CONTRAST:
        warnings.append("the image has hardly any contrast")
    return warnings


def _readable(result: dict[str, Any]) -> str:
    if "error" in result:
        return f"{result['path']}: {result['error']}"
    warnings = "".join(f"; {warning}" for warning in result["warnings"])
    return (
        f"{result['path']}: {result['label']}, probability of pneumonia {result['probability']:.3f} "
        f"(threshold {result['threshold']:.3f}, model {result['model']}{warnings})"
    )
