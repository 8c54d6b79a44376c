"""The pictures of `pneumod predict --heatmap`: what an answer rests on, as files."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from pneumod.blobs import write_atomic
from pneumod.errors import ConfigError, DataError, ModelError
from pneumod.learning.classify import Seen
from pneumod.learning.predict import Predictor
from pneumod.output import Result


class Maps:
    """The pictures of --heatmap."""

    def __init__(self, target: Path, images: list[Path], predictor: Predictor, force: bool) -> None:
        """
        Args:
            target: a .png file for one image; else a folder, in which the pictures lie as the images do.

        Raises:
            ConfigError: one file is named for many images, or a folder that is read itself.
            ModelError: the model gives no maps.
        """
        from pneumod.children.painter import Painter

        many = len(images) > 1 or images[0].is_dir()
        self._file = target if target.suffix.lower() == ".png" and not target.is_dir() else None
        if many and self._file is not None:
            raise ConfigError(f"--heatmap {target}: one file for many images; name a folder")
        for path in images:
            if path.is_dir() and target.resolve().is_relative_to(path.resolve()):
                raise ConfigError(f"--heatmap {target}: it lies in {path}, and would be read too; name a place outside")
        if not predictor.gives_maps:
            raise ModelError(f"{predictor.file.path}: the model gives no maps; --heatmap needs one of a newer export")
        self._folder = target
        self._painter = Painter(predictor.file.card.preparation, force)
        self._root = os.path.commonpath([os.path.abspath(path if path.is_dir() else path.parent) for path in images])

    def close(self) -> None:
        """No more pictures are drawn."""
        self._painter.close()

    def draw(self, seen: Seen[Path], result: Result) -> None:
        """Write the picture of one image.

        Raises:
            DataError: it can't be written, or something else is in its place.
        """
        from pneumod.children.painter import Wanted

        assert seen.cam is not None
        inside = Path(os.path.relpath(os.path.abspath(seen.source), self._root))
        path = self._file or self._folder / inside.with_name(f"{inside.name}.png")
        said = result.probability, result.threshold, result.label, result.model, result.warnings
        try:
            png = self._painter.draw(Wanted(seen.source, seen.cam, *said))
        except DataError as error:  # a decoder has just read it, but at another scale; or it was changed meanwhile
            print(f"{result.path}: no heat map: {error}", file=sys.stderr)
            return
        try:
            if path.exists() and not is_ours(path):
                raise DataError(f"{path}: it is there already, and no heat map; name another place with --heatmap")
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, png)
        except OSError as error:
            raise DataError(f"{path}: can't be written: {error.strerror}") from error


def is_ours(path: Path) -> bool:
    """Whether a file is a heat map, so that another may take its place."""
    with path.open("rb") as file:
        return b"tEXtSoftware\0pneumod" in file.read(256)
