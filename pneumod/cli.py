"""The command line: `pneumod COMMAND …`.

Only the parser lives here. A command's module, pneumod.commands.<command>, is imported when that command
runs, so that `pneumod status` never pays for TensorFlow, OpenCV or the dashboard.
"""

from __future__ import annotations

import argparse
import importlib
import math
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from pneumod import RESEARCH_ONLY, __version__
from pneumod.errors import PneumodError

Number = TypeVar("Number", int, float)

TRAIN_EXIT = (
    "Ctrl-C only stops the following, never the run; a lost connection is made again. "
    "Exit code: 0, the run ended as it was asked for, or was stopped (with --detach: it was accepted); "
    "1, it was refused, given up or replaced by another, or there is none to stop or follow; "
    "2, a wrong option or configuration; 130, Ctrl-C."
)
STATUS_EXIT = "Exit code: 0, a master is heard; 1, none is, or no broker answers; 2, a wrong option or configuration."


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


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line; the usage is in --help."""

    def error(self, message: str) -> None:  # type: ignore[override]
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def build_parser() -> argparse.ArgumentParser:
    """The whole command line. Every option is documented here."""
    parser = Parser(
        prog="pneumod",
        description="Federated training of a pneumonia classifier for chest X-rays: images never leave their site.",
        epilog=RESEARCH_ONLY,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"pneumod {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def add(name: str, text: str, more: str = "") -> argparse.ArgumentParser:
        description = f"{text} {more}".strip()
        return commands.add_parser(name, help=text, description=description, epilog=RESEARCH_ONLY, allow_abbrev=False)

    _add_config(add("run", "Run this node's daemon, until it is stopped."))
    _add_train(add("train", "Ask for a training run and follow it, or end one, or follow one that is on.", TRAIN_EXIT))
    status = add("status", "Show the master, the nodes, the run and its rounds.", STATUS_EXIT)
    _add_config(status)
    _add_json(status)
    predict = add("predict", "Classify images with a trained model; one JSON object a line with --json.")
    predict.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="a JPEG or PNG file of a chest X-ray")
    _add_model(predict)
    _add_json(predict)
    evaluate = add("evaluate", "Score a model on a folder of labelled images.")
    evaluate.add_argument(
        "--data", type=folder, required=True, metavar="DIR", help="a folder that holds NORMAL/ and PNEUMONIA/"
    )
    _add_model(evaluate)
    _add_json(evaluate)
    broker = add("broker", "Run an MQTT broker on loopback, for development; a lab takes Mosquitto.")
    broker.add_argument(
        "--port", type=number(int, 1, 65535), default=1883, metavar="N", help="the port to listen on (default: 1883)"
    )
    _add_config(add("tui", "Watch the cluster in a dashboard."))
    _add_demo(add("demo", "Federate several nodes on this machine, with synthetic images or your own, and compare."))
    return parser


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="the node's YAML file")


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON for a program to read")


def _add_model(parser: argparse.ArgumentParser) -> None:
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


def _add_train(parser: argparse.ArgumentParser) -> None:
    _add_config(parser)
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


def _add_demo(parser: argparse.ArgumentParser) -> None:
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


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit code. 2: the command line or the configuration is wrong; 130: Ctrl-C."""
    try:
        args = build_parser().parse_args(argv)
        module = importlib.import_module(f"pneumod.commands.{args.command}")
        code: int = module.run(args)
        sys.stdout.flush()
    except PneumodError as error:
        print(f"pneumod: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output has gone, as in `pneumod status | head`. Python would complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except SystemExit as error:  # argparse: 0 after --help, 2 after an error
        return int(error.code or 0)
    return code
