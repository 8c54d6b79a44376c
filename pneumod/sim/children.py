"""Virtual children: jobs that take a drawn time and make blobs whose names follow from what went in."""

from __future__ import annotations

from hashlib import blake2b

from pneumod.core import jobs as j
from pneumod.messages import BlobRef, ClassCounts, Scores

MODEL_BYTES = 400_000


def blob(*parts: object) -> BlobRef:
    """A blob named by what it was made of."""
    return BlobRef(blake2b(repr(parts).encode(), digest_size=32).hexdigest(), MODEL_BYTES)


def counts_of(node: int) -> ClassCounts:
    return ClassCounts(40 + node % 7, 60, 10, 15)


def outcome_of(job: j.Job, node: int) -> j.Outcome | str:
    """What a job comes to on this node, or why it fails. Same input, same output, as the real ones."""
    match job:
        case j.Prepare():
            return j.Prepared(counts_of(node), 0)
        case j.Initialise(spec=spec):
            return j.Initialised(blob("model", spec.run, 0), blob("checkpoint", spec.run, 0), (20, 20))
        case j.Train(opened=opened):
            update = blob("update", opened.key, node) if opened.train else None
            return j.Trained(_scores(opened.round, node), update, counts_of(node).train, 0.5, 1_000)
        case j.Check(node=of, update=update, opened=opened):
            good = update == blob("update", opened.key, of)
            return j.Checked() if good else "the update has another base"
        case j.Close(opened=opened, previous=previous, contributions=contributions):
            counted = tuple(c for c in contributions if c.update is not None)
            model = blob("model", opened.key, counted) if counted else previous.model
            receipt = blob("receipt", opened.key, contributions, previous.receipt)
            return j.Closed(model, blob("checkpoint", model, job.best, receipt), receipt, (20, 20))
        case j.Export(best=best):
            return j.Exported(best.model.digest)
        case j.Fetch():
            return j.Fetched()


def made_by(outcome: j.Outcome) -> list[BlobRef]:
    """The blobs that a job leaves on the disk."""
    match outcome:
        case j.Initialised(model=model, checkpoint=checkpoint):
            return [model, checkpoint]
        case j.Closed(model=model, checkpoint=checkpoint, receipt=receipt):
            return [model, checkpoint, receipt]
        case j.Trained(update=update) if update is not None:
            return [update]
    return []


def _scores(round_: int, node: int) -> Scores:
    """Logits that separate the classes better with each round."""
    gap = min(300, 20 * round_)
    return Scores(((500 - gap // 2 + node % 5, 10),), ((500 + gap // 2 - node % 5, 15),), 1.0 / round_)
