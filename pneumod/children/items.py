"""A child of a daemon that does work items: their files become pixels, or probabilities. LiteRT, no TensorFlow.

Started as `python -m pneumod.children.items --config NODE.yaml`. Items have children of their own, so that they wait
for no round, and no round for them.
"""

from __future__ import annotations

import argparse
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import msgspec

from pneumod import parcel
from pneumod.blobs import digest_of
from pneumod.children.protocol import Errand, Tell, claim_stdout, item_children, serve_errands, throttled
from pneumod.config import load
from pneumod.core.jobs import Worked
from pneumod.errors import ModelError, WireError
from pneumod.images.pool import Pool
from pneumod.learning.card import ModelCard, ModelFile
from pneumod.learning.classify import classify
from pneumod.learning.predict import Predictor
from pneumod.parcel import RELEASE, Answer, Answers, Head, Parcel

MAX_BATCHES = 2  # whose decoders and model are kept: two commands may be served by turns


class Batch:
    """What is kept from one item of a batch to the next: decoders, and the model where there is one."""

    def __init__(self, head: Head, processes: int) -> None:
        """Raises ModelError where the model can't be used."""
        self.predictor = _predictor(head) if head.model is not None else None
        self.pool = Pool(head.preparation, processes, head.force).__enter__()

    def prepared(self, files: tuple[bytes, ...]) -> Iterator[Answer | str]:
        for came in self.pool.map(files):
            yield came if isinstance(came, str) else Answer(came.facts, pixels=came.pixels.tobytes())

    def classified(self, files: tuple[bytes, ...]) -> Iterator[Answer | str]:
        if self.predictor is None:
            raise ModelError("the batch has no model")
        return (seen.answer for seen in classify(files, self.pool, self.predictor))

    def close(self) -> None:
        self.pool.__exit__(None, None, None)


class Items:
    """Does the items of one node."""

    def __init__(self, processes: int) -> None:
        self.processes = processes
        self.batches: OrderedDict[bytes, Batch] = OrderedDict()  # by head, the last used behind

    def handle(self, errand: Errand, tell: Tell) -> Worked:
        """Do one item.

        Raises:
            WireError: head or parcel are none, or are of another version of pneumod.
            ModelError: the batch's model can't be used.
            DataError: the decoders can't be started.
        """
        batch, files = self._batch(errand.head), parcel.unpack(errand.parcel, Parcel).files
        answers, watch = list[Answer | str](), throttled(tell, "preparing")
        for answer in (batch.prepared if errand.job.skill == "preprocess" else batch.classified)(files):
            answers.append(answer)
            watch(len(answers) / len(files), 0.0)
        return Worked(parcel.pack(Answers(tuple(answers))))

    def _batch(self, head: bytes) -> Batch:
        if head not in self.batches:
            self.batches[head] = Batch(_head(head), self.processes)
            if len(self.batches) > MAX_BATCHES:
                self.batches.popitem(last=False)[1].close()
        self.batches.move_to_end(head)
        return self.batches[head]


def _head(data: bytes) -> Head:
    """Raises WireError. Another version might make other pixels of the same file, without a word."""
    head = parcel.unpack(data, Head)
    if head.version != RELEASE:
        raise WireError(f"it has pneumod {RELEASE}, and the command has {head.version}; install the same on all nodes")
    return head


def _predictor(head: Head) -> Predictor:
    """The model of a batch, loaded. Raises ModelError."""
    assert head.model is not None
    try:
        card = msgspec.json.decode(head.card or b"", type=ModelCard)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ModelError("the batch's model has no card") from error
    if digest_of(head.model) != card.file_digest or card.image_size != head.preparation.image_size:
        raise ModelError("the batch's model is not that of its card, or takes images of another size")
    return Predictor(ModelFile(Path("the batch's model"), card, head.model))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    frames = claim_stdout()
    _, cores = item_children(load(parser.parse_args().config, need_data=False).threads)
    serve_errands(frames, Items(cores).handle)


if __name__ == "__main__":
    main()
