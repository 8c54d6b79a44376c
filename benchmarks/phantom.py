"""How hard the demo's synthetic X-rays are: federated and alone, in one process, with the real training code.

    python benchmarks/phantom.py --seeds 0 1 2 3 4
    python benchmarks/phantom.py --data DIR --image-size 96 --local-epochs 1     # each subfolder is one node

Prints one line a seed: the pooled validation AUC of the federated model, the mean of each node's AUC alone (on
its own validation images), what lies between, and the AUC of a linear model on 8 x 8 block means.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pneumod.config import BrokerConfig, DataConfig, LogConfig, NodeConfig
from pneumod.core.rounds import class_weights_of
from pneumod.core.scores import metrics_of
from pneumod.demo import phantom
from pneumod.demo.alone import train_alone
from pneumod.images.dataset import Dataset, prepare
from pneumod.learning.aggregate import Fold, exponents_of
from pneumod.learning.train import Trainer
from pneumod.messages import RunSettings
from pneumod.settings import Preparation


class Federated(NamedTuple):
    """The model of the best round."""

    auc: float  # over all validation images
    node_aucs: list[float | None]
    trainer: Trainer  # holds its weights


def load_node(folder: Path, node: int, state: Path, preparation: Preparation) -> Dataset:
    val = folder / "val"
    config = NodeConfig(
        path=folder / "node.yaml",
        cluster="benchmark",
        node_id=node,
        name=folder.name,
        site=folder.name,
        roster={},
        brokers=(BrokerConfig("localhost"),),
        state_dir=state / folder.name,
        data=DataConfig(folder / "train" if val.is_dir() else folder, val if val.is_dir() else None),
        threads=0,
        run=RunSettings(),
        log=LogConfig(),
    )
    return prepare(config, preparation)


def federate(settings: RunSettings, nodes: list[Dataset], verbose: bool = False) -> Federated:
    """FedAvg: the model with the best pooled validation AUC over the rounds."""
    trainer = Trainer(settings)
    weights = class_weights_of([node.counts for node in nodes])
    best, best_round, best_weights = Federated(-1.0, [], trainer), 0, list(trainer.weights().values())
    for number in range(settings.rounds + 1):
        scores = [trainer.score(node.val.pixels, node.val.labels) for node in nodes]
        metrics, _ = metrics_of(scores)
        assert metrics.auc is not None
        own = [metrics_of([score])[0].auc for score in scores]
        base = list(trainer.weights().values())
        if metrics.auc > best.auc:
            best, best_round, best_weights = Federated(metrics.auc, own, trainer), number, base
        if verbose:
            aucs = " ".join(f"{auc:.3f}" for auc in own)
            print(f"    round {number}: AUC {metrics.auc:.4f}, loss {metrics.loss:.4f}; nodes {aucs}", flush=True)
        if number == settings.rounds or number - best_round >= settings.patience:
            break
        fold = Fold(base, exponents_of(base))
        for index, node in enumerate(nodes):
            trainer.set_weights(base)
            seed = (settings.seed, index, number + 1)
            work = trainer.train(node.train.pixels, node.train.labels, weights, seed)
            fold.add(list(work.deltas.values()), work.samples)
        trainer.set_weights(fold.apply())
    trainer.set_weights(best_weights)
    return best


def alone(settings: RunSettings, nodes: list[Dataset]) -> list[float]:
    """Each node's best AUC on its own validation images."""
    aucs = []
    trainer = Trainer(settings)
    start = list(trainer.weights().values())
    for index, node in enumerate(nodes):
        trainer.set_weights(start)
        aucs.append(train_alone(trainer, node, index, lambda number, auc: None).auc)
    return aucs


def linear(nodes: list[Dataset]) -> float:
    """Logistic regression on the standardised means of 8 x 8 blocks, over all nodes."""

    def means(pixels: np.ndarray) -> np.ndarray:
        size = pixels.shape[1] // 8
        cut = pixels[:, : size * 8, : size * 8].astype(np.float64)
        return cut.reshape(len(pixels), 8, size, 8, size).mean(axis=(2, 4)).reshape(len(pixels), 64)

    train_x, train_y, val_x, val_y = (
        np.concatenate([getattr(getattr(node, use), part) for node in nodes])
        for use in ("train", "val")
        for part in ("pixels", "labels")
    )
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(means(train_x), train_y)
    return float(roc_auc_score(val_y, model.decision_function(means(val_x))))


def run(label: str, folders: list[Path], settings: RunSettings, arguments: argparse.Namespace, state: Path) -> None:
    nodes = [load_node(folder, index, state, settings.preparation) for index, folder in enumerate(folders)]
    line = linear(nodes)
    started = time.monotonic()
    together = federate(settings, nodes, arguments.verbose).auc
    federated_s = time.monotonic() - started
    row = f"{label:>8}  {together:9.4f}"
    if arguments.no_local:
        row += f"  {'':6}  {'':7}  {line:6.4f}  {federated_s:7.1f}"
    else:
        started = time.monotonic()
        single = alone(settings, nodes)
        alone_s, mean = time.monotonic() - started, float(np.mean(single))
        row += f"  {mean:6.4f}  {together - mean:+7.4f}  {line:6.4f}  {federated_s:7.1f}  {alone_s:7.1f}  "
        row += " ".join(f"{auc:.3f}" for auc in single)
    print(row, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--data", type=Path, help="real X-rays in place of the phantom; each subfolder one node")
    parser.add_argument("--nodes", type=int, default=phantom.NODES)
    parser.add_argument("--rounds", type=int, default=phantom.SETTINGS.rounds)
    parser.add_argument("--local-epochs", type=int, default=phantom.SETTINGS.local_epochs)
    parser.add_argument("--learning-rate", type=float, default=phantom.SETTINGS.learning_rate)
    parser.add_argument("--batch-size", type=int, default=phantom.SETTINGS.batch_size)
    parser.add_argument("--dropout", type=float, default=phantom.SETTINGS.dropout)
    parser.add_argument("--image-size", type=int, default=phantom.SETTINGS.image_size)
    parser.add_argument("--no-local", action="store_true", help="leave out the nodes alone")
    parser.add_argument("--no-augment", action="store_true")
    parser.add_argument("--verbose", action="store_true", help="a line a round")
    arguments = parser.parse_args()
    print("    seed  federated   alone      gap  linear    fed s  alone s")
    for seed in arguments.seeds:
        settings = RunSettings(
            rounds=arguments.rounds,
            local_epochs=arguments.local_epochs,
            batch_size=arguments.batch_size,
            learning_rate=arguments.learning_rate,
            image_size=arguments.image_size,
            dropout=arguments.dropout,
            augment=not arguments.no_augment,
            seed=seed,
        )
        with tempfile.TemporaryDirectory() as state:
            if arguments.data is not None:
                folders = sorted(folder for folder in arguments.data.iterdir() if folder.is_dir())
            else:
                folders = phantom.write_dataset(Path(state) / "data", arguments.nodes, seed, test_images=0)
            run(str(seed), folders, settings, arguments, Path(state))


if __name__ == "__main__":
    main()
