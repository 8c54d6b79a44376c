"""`pneumod run`: the daemon of one node."""

from __future__ import annotations

import argparse

from pneumod import config, logs
from pneumod.shell.daemon import run_daemon


def run(args: argparse.Namespace) -> int:
    node = config.load(args.config)
    logs.setup(node.state_dir, node.log)
    run_daemon(node)
    return 0
