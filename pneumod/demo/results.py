"""What the demo compares: each node alone, the federation, and both on images that nobody trained on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from pneumod.config import NodeConfig
from pneumod.demo.cluster import DemoCluster
from pneumod.errors import DataError, PneumodError
from pneumod.images.dataset import prepare
from pneumod.images.folders import labelled_files
from pneumod.learning.evaluate import Evaluation, evaluate
from pneumod.learning.predict import Predictor, find_model
from pneumod.messages import BlobRef, ClassCounts


@dataclass(frozen=True)
class NodeResult:
    """AUC on the node's own validation images; `alone` is None where it was left out."""

    node: int
    name: str
    counts: ClassCounts
    alone: float | None
    alone_s: float
    federated: float
    model: str  # digest of the exported weights


def federated_results(cluster: DemoCluster, best: BlobRef, alone: dict[int, tuple[float, float]]) -> list[NodeResult]:
    """Score the model that each node exported on that node's validation images.

    Args:
        best: the weights of the best round, which every node must have exported.
        alone: by node, the AUC and the seconds of training alone; empty where left out.

    Raises:
        PneumodError: a node has another model.
    """
    results = []
    for site in cluster.sites:
        node = cluster.config(site.node)
        predictor = Predictor(find_model(None, node.state_dir))
        digest = predictor.file.card.digest
        if digest != best.digest:
            raise PneumodError(f"node {site.node} has exported {predictor.file.card.name}, not the best model")
        data = prepare(node, cluster.settings.preparation)
        auc, seconds = alone.get(site.node, (None, 0.0))
        federated = _auc(data.val.labels.tolist(), predictor.probability(data.val.pixels[:]).tolist())
        results.append(NodeResult(site.node, site.name, data.counts, auc, seconds, federated, digest))
    return results


def test_result(cluster: DemoCluster, folder: Path) -> Evaluation:
    """The federated model on a folder of images that no node has."""
    node = cluster.config(cluster.sites[0].node)
    return evaluate(Predictor(find_model(None, node.state_dir)), labelled_files(folder))


def train_alone(cluster: DemoCluster, told: Callable[[int, int, float], None]) -> dict[int, tuple[float, float]]:
    """By node, the AUC and the seconds of the model that it trains alone, as many at a time as there are cores.

    `told` gets the node, the round and the AUC, from several threads.

    Raises:
        PneumodError: a training failed.
    """
    cores = os.cpu_count() or 1
    threads = max(1, cores // len(cluster.sites))
    running = _Running()
    with ThreadPoolExecutor(max_workers=max(1, cores // threads)) as pool:
        futures = {site.node: pool.submit(_alone, cluster.config(site.node), told, running) for site in cluster.sites}
        try:
            return {node: future.result() for node, future in futures.items()}
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            running.end()
            raise


class _Running:
    """The trainings that are on, so that they can be ended from another thread."""

    def __init__(self) -> None:
        self._processes: list[subprocess.Popen[str]] = []
        self._ended = False

    def add(self, process: subprocess.Popen[str]) -> None:
        self._processes.append(process)
        if self._ended:
            process.kill()

    def end(self) -> None:
        self._ended = True
        for process in self._processes:
            process.kill()


def _alone(node: NodeConfig, told: Callable[[int, int, float], None], running: _Running) -> tuple[float, float]:
    command = [sys.executable, "-m", "pneumod.demo.alone", "--config", str(node.path)]
    result: dict[str, float] = {}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        running.add(process)
        assert process.stdout is not None and process.stderr is not None
        for line in process.stdout:
            result = json.loads(line)
            if "round" in result:
                told(node.node_id, int(result["round"]), result["auc"])
        problem = process.stderr.read().strip().splitlines()
    if process.returncode != 0 or "best_round" not in result:
        raise PneumodError(
            f"training node {node.node_id} alone failed: {problem[-1] if problem else 'no reason given'}"
        )
    return result["auc"], result["seconds"]


def _auc(labels: list[int], probabilities: list[float]) -> float:
    from sklearn.metrics import roc_auc_score

    if len(set(labels)) < 2:
        raise DataError("a node's validation images have one class only")
    return float(roc_auc_score(labels, probabilities))
