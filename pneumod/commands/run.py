"""`pneumod run`: the daemon of one node."""

from __future__ import annotations

import argparse

from pneumod import config, logs
from pneumod.errors import ConfigError
from pneumod.shell.daemon import run_daemon


def run(args: argparse.Namespace) -> int:
    node = config.load(args.config)
    try:
        logs.setup(node.state_dir, node.log)
    except OSError as error:
        raise ConfigError(f"{args.config}: state_dir: {error.filename}: {error.strerror}; name another") from error
    run_daemon(node)
    return 0
