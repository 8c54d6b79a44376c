"""Does CLAHE, or cutting borders off, help? The same federated training on pixels prepared in four ways.

    python benchmarks/preparation.py DIR [--seeds 0 1]      # each subfolder of DIR is one node

Prints one line a way and seed: the pooled validation AUC of the best round, and each node's own in that round.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import msgspec
from phantom import federate, load_node

from pneumod.settings import RunSettings

WAYS = {
    "neither": RunSettings(),
    "CLAHE": RunSettings(clahe=True),
    "borders cut": RunSettings(crop_borders=True),
    "both": RunSettings(clahe=True, crop_borders=True),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--rounds", type=int, default=RunSettings().rounds)
    arguments = parser.parse_args()
    folders = sorted(folder for folder in arguments.data.iterdir() if folder.is_dir())
    print(f"{'':12}  seed  pooled  " + "  ".join(f"{folder.name:>10}" for folder in folders))
    with tempfile.TemporaryDirectory() as state:
        for seed in arguments.seeds:
            for way, settings in WAYS.items():
                nodes = [
                    load_node(folder, index, Path(state), settings.preparation) for index, folder in enumerate(folders)
                ]
                best = federate(msgspec.structs.replace(settings, seed=seed, rounds=arguments.rounds), nodes)
                aucs = "  ".join(f"{auc:10.3f}" for auc in best.node_aucs)
                print(f"{way:12}  {seed:4}  {best.auc:6.3f}  {aucs}", flush=True)


if __name__ == "__main__":
    main()
