"""A child of a daemon that does work items: their files become pixels, or probabilities. LiteRT, no TensorFlow.

Started as `python -m pneumod.children.items --config NODE.yaml`. Items have children of their own, so that they wait for
no round, and no round for them.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import msgspec

from pneumod import parcel
from pneumod.blobs import digest_of
from pneumod.children.protocol import Errand, Tell, claim_stdout, item_children, serve_errands, throttled
from pneumod.config import load
from pneumod.core.jobs import Worked
from pneumod.errors import ModelError
from pneumod.images.pool import Pool
from pneumod.learning.card import ModelCard, ModelFile
from pneumod.learning.classify import classify
from pneumod.learning.predict import Predictor
from pneumod.parcel import Answer, Answers, Head, Parcel


class Items:
    """Does the items of one node; keeps the decoders and the model from one to the next of a batch."""

    def __init__(self, processes: int) -> None:
        self.processes = processes
        self._head: Head | None = None
        self._pool: Pool | None = None
        self._predictor: Predictor | None = None

    def handle(self, errand: Errand, tell: Tell) -> Worked:
        """Do one item.

        Raises:
            WireError: head or parcel are none.
            ModelError: the batch's model can't be used.
            DataError: the decoders can't be started.
        """
        head, files = parcel.unpack(errand.head, Head), parcel.unpack(errand.parcel, Parcel).files
        pool = self._use(head)
        answers, watch = list[Answer | str](), throttled(tell, "preparing")
        for answer in (
            self._prepared(files, pool) if errand.job.skill == "preprocess" else self._classified(files, pool)
        ):
            answers.append(answer)
            watch(len(answers) / len(files), 0.0)
        return Worked(parcel.pack(Answers(tuple(answers))))

    def _prepared(self, files: tuple[bytes, ...], pool: Pool) -> Iterator[Answer | str]:
        for came in pool.map(files):
            yield came if isinstance(came, str) else Answer(came.facts, pixels=came.pixels.tobytes())

    def _classified(self, files: tuple[bytes, ...], pool: Pool) -> Iterator[Answer | str]:
        if self._predictor is None:
            raise ModelError("the batch has no model")
        return (seen.answer for seen in classify(files, pool, self._predictor))

    def _use(self, head: Head) -> Pool:
        """Decoders, and the model, for a batch."""
        if self._pool is None or head != self._head:
            predictor = _predictor(head) if head.model is not None else None
            if self._pool is not None:
                self._pool.__exit__(None, None, None)
            self._pool = Pool(head.preparation, self.processes, head.force).__enter__()
            self._head, self._predictor = head, predictor
        return self._pool


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
