"""The options of each command, and the values that they take."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

Number = TypeVar("Number", int, float)


def number(kind: type[Number], low: Number, high: Number) -> Callable[[str], Number]:
    """A parser of an option's value: a finite `kind` from `low` to `high`."""
    what = "a whole number" if kind is int else "a number"

    def parse(text: str) -> Number:
        try:
            value = kind(text)
        except ValueError:
            value = kind(low - 1)
        if not (math.isfinite(value) and low <= value <= high):
            raise argparse.ArgumentTypeError(f"{text!r} is not {what} from {low} to {high}")
        return value

    return parse


def operator_name(text: str) -> str:
    if not 0 < len(text) <= 64 or not text.isprintable():
        raise argparse.ArgumentTypeError(f"{text!r} is not a name of 1 to 64 characters")
    return text


def run_id(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9-]{1,64}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not the id of a run")
    return text


def folder(text: str) -> Path:
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"no such folder: {text}")
    return Path(text)


def add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="the node's YAML file")


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON for a program to read")


def add_model(parser: argparse.ArgumentParser) -> None:
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument(
        "--model", type=Path, metavar="FILE", help="the model, a .tflite file with its .json card beside"
    )
    choice.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="a node's YAML file: its newest model (without either: $PNEUMOD_MODEL, else the model in the package)",
    )


def add_predict(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "images",
        nargs="*",
        default=[],
        type=Path,
        metavar="IMAGE",
        help="a chest X-ray (JPEG, PNG, TIFF, BMP or DICOM), or a folder of such files, also in folders inside it",
    )
    what.add_argument(
        "--watch", type=folder, metavar="DIR", help="classify each image that arrives in DIR, until Ctrl-C; needs --out"
    )
    add_model(parser)
    add_json(parser)
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write a CSV file (-: to standard output), not words")
    parser.add_argument(
        "--heatmap", type=Path, metavar="OUT", help="draw what the answer rests on: OUT.png, or a folder"
    )
    parser.add_argument(
        "--threshold",
        type=number(float, 0.0, 1.0),
        metavar="X",
        help="the probability from which on the label is PNEUMONIA (default: the model's)",
    )
    parser.add_argument("--abstain", action="store_true", help="give no answer where a warning would stand beside it")
    parser.add_argument("--force", action="store_true", help="take DICOM files too that aren't chest projections")
    parser.add_argument(
        "--batch", type=number(int, 1, 1024), default=16, metavar="N", help="images a run of the network (default: 16)"
    )
    add_processes(parser)
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="the CSV file of --watch: what stands in it isn't done again"
    )
    parser.add_argument(
        "--settle",
        type=number(float, 0.1, 3600.0),
        default=2.0,
        metavar="SECONDS",
        help="with --watch, a file whose size and time stood still for so long is complete (default: 2)",
    )
    parser.add_argument(
        "--poll",
        type=number(float, 0.1, 3600.0),
        metavar="SECONDS",
        help="with --watch, look so often, for network shares that tell nothing",
    )
    add_cluster(parser)


def add_preprocess(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=folder, metavar="DIR", help="chest X-rays, also in folders inside it")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--config", type=Path, metavar="FILE", help="a node's YAML file: fill the cache of its daemon")
    where.add_argument(
        "--out", type=Path, metavar="DIR", help="the folder of the cache (default: one in your cache directory)"
    )
    default = "(default: run in the YAML file)"
    parser.add_argument(
        "--image-size", type=number(int, 28, 256), metavar="N", help=f"pixels of a side after resizing {default}"
    )
    for name, text in (("--clahe", "equalise the histogram by place"), ("--crop-borders", "cut off uniform borders")):
        parser.add_argument(name, action=argparse.BooleanOptionalAction, help=f"{text} {default}")
    parser.add_argument("--force", action="store_true", help="take DICOM files too that aren't chest projections")
    add_processes(parser)
    add_json(parser)
    add_cluster(parser)


def add_processes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--processes",
        type=number(int, 0, 1024),
        default=0,
        metavar="N",
        help="processes that decode (default: 0, one a core)",
    )


def add_cluster(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--cluster",
        action="store_true",
        help="let the nodes of this site do it together, through the daemon of the node that --config names",
    )


def add_train(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--detach", action="store_true", help="print the run's id once it is accepted, and leave")
    for name, text in (
        ("stop", "end RUN, or the run that is on, and wait for the end; its best model is kept"),
        ("follow", "follow RUN, or the run that is on, without asking for one"),
    ):
        choice.add_argument(f"--{name}", type=run_id, nargs="?", const=True, metavar="RUN", help=text)
    for name, parse, text in (
        ("rounds", number(int, 1, 10_000), "rounds at most"),
        ("local-epochs", number(int, 1, 100), "passes over a node's own images in a round"),
        ("batch-size", number(int, 2, 1024), "images in a step of training"),
        ("learning-rate", number(float, 1e-9, 1.0), "learning rate of the optimiser"),
        ("image-size", number(int, 28, 256), "pixels of a side after resizing"),
        ("patience", number(int, 1, 10_000), "rounds without a better AUC after which the run ends"),
        ("min-nodes", number(int, 1, 100_000), "nodes that must send an update for a round to count"),
        ("seed", number(int, 0, 2**31 - 1), "seed of everything random"),
    ):
        metavar = "X" if name == "learning-rate" else "N"
        parser.add_argument(f"--{name}", type=parse, metavar=metavar, help=f"{text} (default: run in the YAML file)")
    parser.add_argument("--name", type=operator_name, metavar="OPERATOR", help="who asks (default: your user name)")


def add_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--nodes", type=number(int, 1, 64), default=4, metavar="N", help="nodes with synthetic images (default: 4)"
    )
    parser.add_argument("--rounds", type=number(int, 1, 10_000), metavar="N", help="rounds at most")
    parser.add_argument(
        "--seed",
        type=number(int, 0, 2**31 - 1),
        default=0,
        metavar="N",
        help="seed of images and training (default: 0)",
    )
    parser.add_argument(
        "--data", type=folder, metavar="DIR", help="real images: each subfolder of DIR is one node (replaces --nodes)"
    )
    parser.add_argument("--test", type=folder, metavar="DIR", help="score the final model on this folder too")
    parser.add_argument("--no-local", action="store_true", help="leave out what each node would have learnt alone")
    parser.add_argument("--kill-master", action="store_true", help="kill the master in the middle of a round")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep everything that the demo makes in DIR")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results to FILE as JSON")
