"""`pneumod tui`: the dashboard."""

from __future__ import annotations

import argparse
import sys

from pneumod import config
from pneumod.errors import PneumodError
from pneumod.tui.app import PneumodApp


def run(args: argparse.Namespace) -> int:
    node = config.load(args.config, need_data=False)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise PneumodError("the dashboard needs a terminal; `pneumod status` prints the same state as text")
    app = PneumodApp(node)
    app.run()
    return app.return_code or 0
