"""The settings of a run: chosen by an operator, carried by its messages, the same on every node."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct


class Preparation(Struct, frozen=True):
    """How a picture becomes the network's pixels; the same in training and in prediction."""

    image_size: Annotated[int, Meta(ge=28, le=256)] = 96  # of a side, in pixels
    clahe: bool = False  # contrast limited adaptive histogram equalisation (Zuiderveld 1994)
    crop_borders: bool = False  # cut off uniform borders, as of a collimator or of a scanned film


class RunSettings(Struct, frozen=True):
    """What an operator may choose for a run; the same on every node."""

    rounds: Annotated[int, Meta(ge=1, le=10_000)] = 10
    local_epochs: Annotated[int, Meta(ge=1, le=100)] = 6
    batch_size: Annotated[int, Meta(ge=2, le=1024)] = 32
    learning_rate: Annotated[float, Meta(gt=0.0, le=1.0)] = 1e-3
    image_size: Annotated[int, Meta(ge=28, le=256)] = 96
    patience: Annotated[int, Meta(ge=1, le=10_000)] = 5  # rounds without a better pooled AUC
    min_nodes: Annotated[int, Meta(ge=1, le=100_000)] = 1
    seed: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 0
    dropout: Annotated[float, Meta(ge=0.0, lt=1.0)] = 0.3
    l2: Annotated[float, Meta(ge=0.0, le=1.0)] = 1e-4
    focal_gamma: Annotated[float, Meta(ge=0.0, le=10.0)] = 2.0
    clahe: bool = False
    crop_borders: bool = False
    augment: bool = True
    codec: Literal["f32"] = "f32"

    @property
    def preparation(self) -> Preparation:
        return Preparation(self.image_size, self.clahe, self.crop_borders)
