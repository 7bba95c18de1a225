"""The model's answers to one picture: first by itself, then to each click; one at a time for all pictures."""

import dataclasses
import threading
from pathlib import Path
from typing import Any

import numpy as np

from autosam.app.refusals import RefusedError
from autosam.app.uploads import Picture
from autosam.errors import ConfigError
from autosam.inference.segmenter import AutoSam
from autosam.models.embedded import embedded_folder
from autosam.prompts.corrections import correction
from autosam.recipes.predicting import POOR_IOU, UNLIKELY
from autosam.types import LAND_POINT, WATER_POINT, ImageEmbedding, Prediction, Sample
from autosam.wording import counted

LEVELS = 65534
"""What probability 1 is in 16 bits."""
NO_DATA = 65535
MOST_CLICKS = 20
"""On one picture; each keeps a probability in memory."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Click:
    """Where a person said what is there."""

    x: float
    """In pixels of the screen; (0, 0) is the middle of the first."""
    y: float
    label: int
    """1 water, 0 land."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Answer:
    """A probability of water on the screen's pixels, and what the model says of it."""

    levels: np.ndarray
    """(height, width) uint16, 0..65534 for 0..1."""
    clicks: tuple[Click, ...]
    mask_logits: np.ndarray | None
    """That the next click feeds back."""
    presence: float | None
    domain_distance: float | None
    expected_iou: float | None

    def wire(self, valid: np.ndarray | None) -> bytes:
        """The levels as little-endian bytes, 65535 without data."""
        levels = self.levels if valid is None else np.where(valid, self.levels, NO_DATA)
        return levels.astype("<u2").tobytes()


class Masker:
    """One model that masks one thing at a time, whoever asks.

    Args:
        model: It must read red, green and blue alone, and prompt itself.
        source: Its name, or its folder.

    Raises:
        ConfigError: It reads other bands, or its prompts are an oracle.
    """

    def __init__(self, model: AutoSam, *, source: str) -> None:
        if model.bands or model.uses_truth:
            got = ", ".join(model.bands) or "an oracle"
            raise ConfigError(
                f"model must need nothing but red, green and blue for the app, got {got} ({source}). "
                "Mask its pictures with autosam predict."
            )
        self.model = model
        self.source = source
        self.lock = threading.Lock()
        self.limits = card_limits(source)

    @property
    def takes_clicks(self) -> bool:
        """Whether there is a SAM behind it that reads points."""
        return getattr(self.model.network, "sam", None) is not None

    def describe(self) -> dict[str, Any]:
        """JSON values for the page."""
        model = self.model
        return {
            "name": Path(self.source).name,
            "method": model.config.method,
            "threshold": model.decision.threshold,
            "side": model.network.side,
            "device": str(model.device),
            "takes_clicks": self.takes_clicks,
            "most_clicks": MOST_CLICKS,
            "limits": self.limits,
            "of_clicks": [limit for limit in self.limits if "click" in limit.lower()],
        }

    def embed(self, picture: Picture) -> ImageEmbedding | None:
        """SAM's embedding of a picture, so that clicks need not wait for the encoder."""
        with self.lock:
            return self.model.embed(picture.screen)

    def answer(
        self,
        picture: Picture,
        *,
        embedding: ImageEmbedding | None,
        before: Answer | None = None,
        click: Click | None = None,
    ) -> Answer:
        """Mask a picture, or go on from an answer with one more click.

        Raises:
            RefusedError: The click is outside, is one too many, or the model takes none.
            AutoSamError: As for `AutoSam.predict`.
        """
        clicks = () if before is None else before.clicks
        if click is not None:
            self._check(click, picture, clicks)
            clicks = (*clicks, click)
        query = None
        if clicks:
            query = correction(
                points=[(one.x, one.y) for one in clicks], labels=[one.label for one in clicks]
            )
        sample = Sample(name=picture.stem, image=picture.screen, valid=picture.valid)
        previous = None if before is None else self._as_prediction(before, picture)
        with self.lock:
            found = self.model.predict_sample(
                sample, query=query, previous=previous, image_embedding=embedding
            )
        return _answer(found, clicks)

    def _check(self, click: Click, picture: Picture, clicks: tuple[Click, ...]) -> None:
        height, width = picture.screen.shape[:2]
        if not self.takes_clicks:
            raise RefusedError(
                f"model must have a SAM to be corrected by clicks, got {self.model.config.method!r}. "
                "Start the app with a model of the method autosam, autosam+decoder or decoder."
            )
        if click.label not in (WATER_POINT, LAND_POINT):
            raise RefusedError(
                f"label must be 1 (water) or 0 (land), got {click.label!r:.40}. Change it."
            )
        if not (-0.5 <= click.x < width and -0.5 <= click.y < height):
            raise RefusedError(
                f"click must lie in the picture, got {click.x:g}, {click.y:g} of {width} x {height}. "
                "Click inside."
            )
        if len(clicks) >= MOST_CLICKS:
            raise RefusedError(
                f"clicks must be at most {MOST_CLICKS} on a picture, got one more. Undo some, or reset."
            )

    def _as_prediction(self, answer: Answer, picture: Picture) -> Prediction:
        return Prediction(
            name=picture.stem,
            image=picture.screen,
            probability=answer.levels / np.float32(LEVELS),
            threshold=self.model.decision.threshold,
            mask_logits=answer.mask_logits,
        )


def _answer(found: Prediction, clicks: tuple[Click, ...]) -> Answer:
    return Answer(
        levels=np.rint(np.clip(found.probability, 0, 1) * LEVELS).astype(np.uint16),
        clicks=clicks,
        mask_logits=found.mask_logits,
        presence=found.presence,
        domain_distance=found.domain_distance,
        expected_iou=found.expected_iou,
    )


def said(answer: Answer, valid: np.ndarray | None, *, threshold: float) -> list[dict[str, str]]:
    """What the model says of its own answer, in words: ``kind`` (good, note, warning) and ``text``.

    Args:
        answer: To the picture.
        valid: (height, width) bool, False without data, where the model has nothing to say; None: all has.
        threshold: Of the model, by which a click is followed or not.
    """
    if valid is not None and not valid.any():
        return [{"kind": "warning", "text": "No data: the file marks every pixel as empty."}]
    lines = _of_clicks(answer, threshold)
    presence, iou = answer.presence, answer.expected_iou
    if presence is None:
        lines.append(("note", "This model does not say whether there is a river at all."))
    elif presence < UNLIKELY:
        lines.append(("warning", f"Perhaps no river here: presence {presence:.2f}."))
    else:
        lines.append(("good", f"River likely: presence {presence:.2f}."))
    if iou is not None and iou < POOR_IOU:
        lines.append(
            (
                "warning",
                f"Unlike the training pictures (distance {answer.domain_distance:.1f}; about 1 is usual): "
                f"masks this far off have had an IoU of {iou:.2f}. Check it before you use it.",
            )
        )
    elif iou is not None:
        lines.append(("good", f"Like pictures that had a mean IoU of {iou:.2f}."))
    return [{"kind": kind, "text": text} for kind, text in lines]


def _of_clicks(answer: Answer, threshold: float) -> list[tuple[str, str]]:
    """Whether the mask says at each click what the person said."""
    height, width = answer.levels.shape
    ignored = [
        click
        for click in answer.clicks
        if (
            answer.levels[min(round(click.y), height - 1), min(round(click.x), width - 1)]
            >= threshold * LEVELS
        )
        != (click.label == WATER_POINT)
    ]
    if not ignored:
        return []
    return [
        (
            "warning",
            f"{len(ignored)} of {counted(len(answer.clicks), 'click')} not followed: the mask still says "
            "otherwise there. Undo, or click elsewhere.",
        )
    ]


def card_limits(source: str) -> list[str]:
    """The points under "Limits" in the model's own card; none where it has no card at hand."""
    folder = embedded_folder(source) or Path(source)
    card = folder / "README.md"
    if not card.is_file():
        return []
    _, heading, rest = card.read_text(encoding="utf-8").partition("\n## Limits\n")
    points: list[str] = []
    for line in rest.partition("\n## ")[0].splitlines() if heading else ():
        if line.startswith("- "):
            points.append(line[2:].strip())
        elif line.startswith("  ") and points:
            points[-1] += f" {line.strip()}"
    return points
