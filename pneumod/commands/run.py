"""`pneumod run`: the daemon of one node."""

from __future__ import annotations

import argparse
from errno import EDQUOT, EIO, ENOSPC, EROFS

from pneumod import config, logs
from pneumod.blobs import refusal
from pneumod.errors import ConfigError, PneumodError
from pneumod.shell.daemon import run_daemon

DISK_TROUBLE = (EDQUOT, EIO, ENOSPC, EROFS)  # passes: another start may go well, where a wrong configuration stays so


def run(args: argparse.Namespace) -> int:
    node = config.load(args.config)
    try:
        logs.setup(node.state_dir, node.log)
    except OSError as error:
        if error.errno in DISK_TROUBLE:
            raise PneumodError(refusal(error, node.state_dir)) from error
        raise ConfigError(f"{args.config}: state_dir: {error.filename}: {error.strerror}; name another") from error
    with logs.in_background():
        run_daemon(node)
    return 0
