"""A LiteRT model whose answers are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pneumod.core.jobs import Export
from pneumod.messages import Best, BlobRef, ClassCounts, RunSettings, RunSpec

SIZE = 32


@pytest.fixture(scope="session")
def brightness_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The card of a network whose logit is (mean grey level - 128) / 16; its threshold is 0.6."""
    keras = pytest.importorskip("keras")
    from pneumod.learning.export import write_export
    from pneumod.learning.model import export_litert

    x = inputs = keras.Input((SIZE, SIZE, 1))
    for name in ("standardise", "block1b_relu", "block2b_relu"):
        x = keras.layers.Identity(name=name)(x)
    x = keras.layers.UpSampling2D()(keras.layers.AveragePooling2D(2)(x))  # so that the maximum of four is their mean
    x = keras.layers.GlobalAveragePooling2D(name="pool")(keras.layers.MaxPooling2D(name="block3_pool")(x))
    dense = keras.layers.Dense(1, name="logit")
    network = keras.Model(inputs, dense(x))
    dense.set_weights([np.array([[1 / 16]], np.float32), np.array([-8.0], np.float32)])
    spec = RunSpec(1, "run-a", "tester", 0, RunSettings(image_size=SIZE))
    best = Best(round=3, auc=0.9, threshold=0.6, model=BlobRef("a" * 64, 9))
    job = Export(spec, best, nodes=4, images=40, train_images=ClassCounts(100, 200))
    folder = tmp_path_factory.mktemp("models")
    return write_export(folder, job, export_litert(network), {"keras": keras.__version__}).with_suffix(".json")
