"""A trained model as files: `<run>-r<round>.tflite`, and beside it a JSON card that says where it comes from.

`current.json` in the same folder is a link to the newest card.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from pneumod import RESEARCH_ONLY
from pneumod.blobs import digest_of, write_atomic
from pneumod.errors import ModelError
from pneumod.learning.likeness import Likeness
from pneumod.messages import Count, Digest, RunId, Share
from pneumod.settings import Preparation

CURRENT = "current.json"


class TrainImages(Struct, frozen=True):
    """Training images of all nodes, by class."""

    normal: Count
    pneumonia: Count


class CardMetrics(Struct, frozen=True):
    auc: Share  # over the validation images of all nodes


class ModelCard(Struct, frozen=True, kw_only=True):
    """What is known of a model. `digest` is that of the weights' blob, `file_digest` that of the LiteRT file."""

    format: Literal[1] = 1
    status: Literal["provisional", "run"]
    digest: Digest
    file: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]*\.tflite$")]  # in the card's own folder
    file_digest: Digest
    run: RunId
    round: Count
    nodes: Count
    train_images: TrainImages | None
    val_images: Count | None
    metrics: CardMetrics
    threshold: Share  # of the probability, from which on the label is PNEUMONIA
    image_size: Annotated[int, Meta(ge=28, le=256)]
    versions: dict[str, str]
    data: tuple[str, ...] = ()  # attribution of the training images
    notice: str = RESEARCH_ONLY
    clahe: bool = False
    crop_borders: bool = False
    about: str | None = None  # what it was trained on, for people
    ages_years: tuple[float, float] | None = None  # of the patients that `about` speaks of, the youngest and the oldest
    likeness: Likeness | None = None  # of the images of the node that wrote the file; stays at its site

    @property
    def preparation(self) -> Preparation:
        """How a picture becomes the network's pixels."""
        return Preparation(self.image_size, self.clahe, self.crop_borders)

    @property
    def name(self) -> str:
        """The model's name for people and in results."""
        return f"{self.run}-r{self.round}"


class ModelFile(Struct, frozen=True):
    """A model's card and its LiteRT file, whose digest was checked."""

    path: Path  # of the card
    card: ModelCard
    data: bytes


def save_model(folder: Path, card: ModelCard, data: bytes) -> Path:
    """Write a LiteRT file and its card, and make the card the folder's current one; the card's path.

    A reader that follows `current.json` finds a whole card and its file at any moment.
    """
    assert card.file_digest == digest_of(data)
    folder.mkdir(parents=True, exist_ok=True)
    path = (folder / card.file).with_suffix(".json")
    write_atomic(folder / card.file, data)
    write_atomic(path, msgspec.json.format(msgspec.json.encode(card), indent=2) + b"\n")
    link = folder / f".{CURRENT}.tmp"
    link.unlink(missing_ok=True)
    link.symlink_to(path.name)
    link.replace(folder / CURRENT)
    return path


def load_model(path: Path) -> ModelFile:
    """Read a model by its card, or by its LiteRT file with the card beside it.

    Raises:
        ModelError: a file is missing or damaged, the card isn't one, or the LiteRT file isn't the card's.
    """
    card_path = path.with_suffix(".json")
    try:
        card = msgspec.json.decode(card_path.read_bytes(), type=ModelCard)
        data = (card_path.parent / card.file).read_bytes()
    except FileNotFoundError as error:
        raise ModelError(f"{path}: no model here: {error.filename} doesn't exist") from error
    except OSError as error:
        raise ModelError(f"{error.filename}: can't be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{card_path}: not a model's card: {error}") from error
    if digest_of(data) != card.file_digest:
        raise ModelError(f"{card_path.parent / card.file}: not the file of {card_path.name}: its digest differs")
    return ModelFile(card_path, card, data)
