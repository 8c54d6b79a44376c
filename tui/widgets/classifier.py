"""A path field, and the answer of `pneumod predict` to it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Input, Static

from pneumod import RESEARCH_ONLY
from pneumod.errors import DataError
from pneumod.news import plain
from pneumod.tui.prediction import Prediction, predict


class PathField(Input):
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "screen.focus_nodes", "Back to the nodes")]


class Classifier(Vertical):
    """Classifies the image whose path is typed, with the newest model of the node that `config` is of."""

    def __init__(self, config: Path) -> None:
        super().__init__(id="classifier")
        self._config = config

    def compose(self) -> ComposeResult:
        yield PathField(placeholder="path of a chest X-ray (DICOM, JPEG, PNG, TIFF, BMP), then Enter", id="path")
        yield Static(RESEARCH_ONLY, markup=False, id="answer")

    @on(Input.Submitted)
    def _start(self, event: Input.Submitted) -> None:
        event.stop()
        # Terminals quote the path of a file that is dropped on them.
        typed = event.value.strip().strip("'\"")
        path = Path(os.path.expanduser(typed))
        if typed and path.is_dir():
            self.query_one("#answer", Static).update(
                _noted(Text(f"No answer: {plain(str(path))}: a folder; name one image"))
            )
        elif typed:
            self._classify(path)

    @work(exclusive=True, group="classify")
    async def _classify(self, image: Path) -> None:
        """A second path cancels the first, and its process."""
        answer = self.query_one("#answer", Static)
        answer.update(_noted(Text(f"Classifying {plain(image.name)} …")))
        try:
            prediction = await predict(self._config, image)
        except DataError as error:
            answer.update(_noted(Text(f"No answer: {plain(str(error))}")))
        else:
            answer.update(_noted(answer_text(prediction)))


def answer_text(answer: Prediction) -> Text:
    sign = "≥" if answer.probability >= answer.threshold else "<"
    text = Text()
    text.append(plain(answer.label), "bold")
    text.append(f" · probability of pneumonia {answer.probability:.3f} {sign} threshold {answer.threshold:.3f}")
    text.append(f"\n{plain(answer.path)} · model {plain(answer.model)}")
    for warning in answer.warnings:
        text.append(f"\nWarning: {plain(warning)}")
    if answer.about:
        text.append(f"\nThe model was trained on: {plain(answer.about)}")
    return text


def _noted(text: Text) -> Text:
    """Beside every result stands what it is not for."""
    return text.append(f"\n{RESEARCH_ONLY}", "italic")
