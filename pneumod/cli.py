"""The command line: `pneumod COMMAND …`.

Only the parser lives here. A command's module, pneumod.commands.<command>, is imported when that command
runs, so that `pneumod status` never pays for TensorFlow, OpenCV or the dashboard.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from pneumod import RESEARCH_ONLY, __version__, options
from pneumod.errors import PneumodError

TRAIN_EXIT = (
    "Ctrl-C only stops the following, never the run; a lost connection is made again. "
    "Exit code: 0, the run ended as it was asked for, or was stopped (with --detach: it was accepted); "
    "1, it was refused, given up or replaced by another, or there is none to stop or follow; "
    "2, a wrong option or configuration; 130, Ctrl-C."
)
PREDICT_EXIT = (
    "Exit code: 0, every image has an answer; 1, some could not be read, or there is none; 2, a wrong option or "
    "configuration; 3, all could be read, and doubtful ones got no answer (--abstain); 130, Ctrl-C. "
    "With --watch: 0, Ctrl-C; 1, the folder or the file of results can't be used (any more)."
)
PREPROCESS_EXIT = (
    "Only new and changed images are prepared; after Ctrl-C the same command goes on where it stopped. "
    "Exit code: 0, every image is prepared; 1, some were set aside, or there is none, or the cache can't be used; "
    "2, a wrong option or configuration; 130, Ctrl-C."
)
STATUS_EXIT = "Exit code: 0, a master is heard; 1, none is, or no broker answers; 2, a wrong option or configuration."


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line; the usage is in --help."""

    def error(self, message: str) -> None:  # type: ignore[override]
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; `options` has the options of each command."""
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

    options.add_config(add("run", "Run this node's daemon, until it is stopped."))
    options.add_train(
        add("train", "Ask for a training run and follow it, or end one, or follow one that is on.", TRAIN_EXIT)
    )
    status = add("status", "Show the master, the nodes, the run and its rounds.", STATUS_EXIT)
    options.add_config(status)
    options.add_json(status)
    options.add_predict(add("predict", "Classify images with a trained model.", PREDICT_EXIT))
    options.add_preprocess(add("preprocess", "Prepare the images of a folder, and keep their pixels.", PREPROCESS_EXIT))
    evaluate = add("evaluate", "Score a model on a folder of labelled images.")
    evaluate.add_argument(
        "--data", type=options.folder, required=True, metavar="DIR", help="a folder that holds NORMAL/ and PNEUMONIA/"
    )
    options.add_model(evaluate)
    options.add_json(evaluate)
    broker = add("broker", "Run an MQTT broker on loopback, for development; a lab takes Mosquitto.")
    broker.add_argument(
        "--port",
        type=options.number(int, 1, 65535),
        default=1883,
        metavar="N",
        help="the port to listen on (default: 1883)",
    )
    options.add_config(add("tui", "Watch the cluster in a dashboard."))
    options.add_demo(
        add("demo", "Federate several nodes on this machine, with synthetic images or your own, and compare.")
    )
    return parser


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
