"""The light child of a daemon: image work and the folding of updates, with numpy and OpenCV only.

Started as `python -m pneumod.children.light --config NODE.yaml`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pneumod.blobs import BlobFolder
from pneumod.children.protocol import Note, Progress, Tell, claim_stdout, serve, throttled
from pneumod.config import NodeConfig, load
from pneumod.core.jobs import Check, Checked, Close, Job, Outcome, Prepare, Prepared
from pneumod.images.dataset import prepare
from pneumod.learning.close import check_update, close_round
from pneumod.output import name_of


class Light:
    """Does the jobs of one node."""

    def __init__(self, config: NodeConfig) -> None:
        self.config = config
        self.blobs = BlobFolder(config.state_dir / "blobs")

    def handle(self, job: Job, tell: Tell) -> Outcome:
        """Do one job; PneumodError says why it can't be done."""
        match job:
            case Prepare():
                return self._prepare(job, tell)
            case Check():
                check_update(job, self.blobs)
                return Checked()
            case Close():
                return close_round(job, self.blobs, lambda fraction: tell(Progress("aggregating", fraction)))
        raise AssertionError(f"{type(job).__name__} is not a job of the light child")

    def _prepare(self, job: Prepare, tell: Tell) -> Prepared:
        def warn(text: str) -> None:
            tell(Note("preprocess", "warning", text))

        dataset = prepare(self.config, job.preparation, throttled(tell, "preparing"), warn)
        for path, reason in dataset.skipped:
            warn(f"{name_of(path)}: set aside: {reason}")
        return Prepared(dataset.counts, len(dataset.skipped))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    frames = claim_stdout()
    serve(frames, Light(load(parser.parse_args().config, need_data=False)).handle)


if __name__ == "__main__":
    main()
