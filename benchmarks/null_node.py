"""The daemon of one node, whose trainer is `null_trainer`.

python benchmarks/null_node.py NODE.yaml
"""

from __future__ import annotations

import sys
from pathlib import Path

from pneumod import config, logs
from pneumod.shell.daemon import run_daemon


def main() -> None:
    node = config.load(Path(sys.argv[1]))
    logs.setup(node.state_dir, node.log)
    with logs.in_background():
        run_daemon(node, trainer="null_trainer")


if __name__ == "__main__":
    main()
