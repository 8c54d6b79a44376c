"""Make the model that the package brings along anew, from the same images.

    python benchmarks/provisional.py CXR/hospitals --out DIR        # DIR/provisional.tflite and .json

Trains with `pneumod demo` (its seeds are fixed: the same weights, bit for bit, from the same images, versions and kind
of processor), then exports the best round's weights with the maps told against the NORMAL training images of all
hospitals, and the likeness of all their images. Nothing under CXR/test is read.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from sklearn.metrics import roc_auc_score

from pneumod import config
from pneumod.blobs import BlobFolder, digest_of
from pneumod.images.dataset import Dataset, Part, prepare
from pneumod.learning.card import ModelCard, load_model, save_model
from pneumod.learning.export import explained_litert
from pneumod.learning.predict import PACKAGED, find_model
from pneumod.learning.train import Trainer
from pneumod.learning.weights import model_document, read_model
from pneumod.wire import encode_document

NAME = "provisional"
ROUNDS = 10
CHILDREN = 3  # of the four hospitals, in the order of their names; the last one's patients are mostly adults


def train(data: Path, folder: Path) -> None:
    command = ["demo", "--data", str(data), "--rounds", str(ROUNDS), "--no-local", "--keep", str(folder)]
    subprocess.run([sys.executable, "-m", "pneumod", *command], check=True)


def together(parts: Sequence[Part]) -> Part:
    pixels, labels = (np.concatenate([getattr(part, name)[:] for part in parts]) for name in ("pixels", "labels"))
    return Part(pixels, labels, tuple(name for part in parts for name in part.names))


def about(trainer: Trainer, images: Sequence[Dataset]) -> str:
    """What people should know of the images, and of how well they are told apart."""
    aucs = [roc_auc_score(one.val.labels, trainer.logits(one.val.pixels)) for one in images]
    children, adults = aucs[:CHILDREN], aucs[CHILDREN:]
    return (
        "X-rays of children of 1 to 5 years (Guangzhou) and of mostly adults (NIH, labels mined from text); AUC of the "
        f"children's {min(children):.2f} to {max(children):.2f}, of the adults' {min(adults):.2f}"
    )


def export(folder: Path, out: Path) -> ModelCard:
    """Write the model of a demo's kept folder, and its card."""
    nodes = [config.load(path) for path in sorted(folder.glob("node*.yaml"))]
    card = find_model(None, nodes[0].state_dir).card
    data = BlobFolder(nodes[0].state_dir / "blobs").read(card.digest)
    assert data is not None
    weights = read_model(data)
    trainer = Trainer(nodes[0].run)
    trainer.set_weights(weights.arrays)
    images = [prepare(node, nodes[0].run.preparation) for node in nodes]
    train_part, val_part = together([one.train for one in images]), together([one.val for one in images])
    litert, likeness = explained_litert(trainer.model, Dataset(train_part, val_part, images[0].counts, ()))
    document = model_document(weights.arrays, weights.names, weights.image_size, NAME, card.round)
    card = msgspec.structs.replace(
        card,
        status="provisional",
        digest=digest_of(encode_document(document)),
        file=f"{NAME}.tflite",
        file_digest=digest_of(litert),
        run=NAME,
        data=load_model(PACKAGED).card.data,
        about=about(trainer, images),
        likeness=likeness,
    )
    save_model(out, card, litert)
    (out / "current.json").unlink()  # the package names its model itself
    return card


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--kept", type=Path, help="a folder that `pneumod demo --keep` left: don't train again")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = arguments.kept or Path(name) / "demo"
        if arguments.kept is None:
            train(arguments.data, folder)
        card = export(folder, arguments.out)
    print(f"{arguments.out / card.file}: AUC {card.metrics.auc:.4f}, threshold {card.threshold:.4f}; {card.about}")
    print(f"weights {card.digest}\nfile    {card.file_digest}")
    assert card.likeness is not None
    print(f"likeness: threshold {card.likeness.threshold:.2f}, 1 in {card.likeness.one_in} ordinary images above it")


if __name__ == "__main__":
    main()
