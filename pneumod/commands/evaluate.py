"""`pneumod evaluate`: score a model on a folder of labelled images."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys

from pneumod import RESEARCH_ONLY
from pneumod.commands.predict import named_node
from pneumod.images.folders import labelled_files
from pneumod.learning.evaluate import Evaluation, evaluate
from pneumod.learning.predict import Predictor, find_model
from pneumod.output import name_of
from pneumod.progress import bar


def run(args: argparse.Namespace) -> int:
    """Print the scores; images that could not be read are listed, and change no exit code."""
    node = named_node(args)
    predictor = Predictor(find_model(args.model, node.state_dir if node else None))
    files = labelled_files(args.data)
    with bar(True, lambda: len(files)) as show:
        result = evaluate(predictor, files, lambda done: show(done, ""))
    if args.json:
        skipped = [{"path": name_of(path), "reason": reason} for path, reason in result.skipped]
        print(json.dumps({**dataclasses.asdict(result), "skipped": skipped}))
    else:
        print(_readable(result))
        print(RESEARCH_ONLY, file=sys.stderr)
    return 0


def _readable(result: Evaluation) -> str:
    lines = [
        f"{result.images} images, model {result.model}, threshold {result.threshold:.3f}",
        f"  AUC          {result.auc:.3f}",
        f"  accuracy     {result.accuracy:.3f}",
        f"  sensitivity  {result.sensitivity:.3f}",
        f"  specificity  {result.specificity:.3f}",
        *(f"  set aside: {name_of(path)}: {reason}" for path, reason in result.skipped),
    ]
    return "\n".join(lines)
