"""From a mask to the prompt that stands for it: nothing, a box round the picture, points, boxes, the mask.

A prompter is called with a sample and gives its prompt, in the picture's own pixels. What it draws at
random follows from the mask alone, so that one picture always has one prompt.
"""

import hashlib
from typing import Protocol, cast

import cv2
import numpy as np

from autosam.config import GeometricSettings, PromptKind
from autosam.errors import DataError
from autosam.prompts.boxes import component_boxes, full_box, perturbed, tight_box
from autosam.prompts.coarse_masks import CoarseMask
from autosam.prompts.points import control_points
from autosam.types import WATER_POINT, Fusion, Prompt, Query, Sample

LONGEST_SIDE = 2048
"""Of a mask that points are drawn in; a larger one is shrunk first, for the prompt's place matters to a
fraction of SAM's square and not to a pixel of an orthophoto."""
ORACLE = "oracle"
"""Begins the source of every prompt that was made from the true mask."""


class Prompter(Protocol):
    """Gives each picture its prompt."""

    @property
    def kind(self) -> PromptKind:
        """What its prompts are made of."""

    @property
    def source(self) -> str:
        """Where they come from, for tables and plots."""

    def __call__(self, sample: Sample) -> Prompt:
        """The prompt of one picture."""


class NullPrompter:
    """SAM's own empty prompt: no point, no box, no mask."""

    kind: PromptKind = "null"
    source = "null"

    def __call__(self, sample: Sample) -> Prompt:
        """The same for every picture."""
        return Prompt(source=self.source)


class FullBoxPrompter:
    """A box round the whole picture, which needs to know nothing of it."""

    kind: PromptKind = "full-box"
    source = "full box"

    def __call__(self, sample: Sample) -> Prompt:
        """The picture's own frame."""
        return Prompt(source=self.source, queries=(Query(box=full_box(*sample.size)),))


class GeometricPrompter:
    """Points, boxes or a mask from a coarse mask of the picture; nobody clicks.

    Args:
        settings: What to draw.
        coarse: Gives each sample's coarse mask: a rule, a trained model, any callable.
    """

    def __init__(self, settings: GeometricSettings, coarse: CoarseMask) -> None:
        self.settings = settings
        self.coarse = coarse

    @property
    def kind(self) -> PromptKind:
        """As in its settings."""
        return self.settings.kind

    @property
    def source(self) -> str:
        """The coarse mask's name and what is drawn from it."""
        return f"{self.coarse.name} {self.settings.kind}"

    def __call__(self, sample: Sample) -> Prompt:
        """Drawn from the sample's coarse mask, on its valid pixels."""
        return self.draw(sample, self.coarse(sample))

    def draw(self, sample: Sample, mask: np.ndarray) -> Prompt:
        """Drawn from a mask that was made already.

        Raises:
            DataError: The mask does not fit the picture.
        """
        if not isinstance(mask, np.ndarray) or mask.shape != sample.size or mask.dtype != np.bool_:
            shape = getattr(mask, "shape", "")
            raise DataError(
                f"coarse mask must be bool with the image's height and width {sample.size}, got "
                f"{getattr(mask, 'dtype', type(mask).__name__)} {shape} ({self.coarse.name}). "
                "Mend the function that makes it."
            )
        return draw_prompt(
            mask, self.settings, source=self.source, generator=generator_of(mask),
            valid=sample.valid,
        )  # fmt: skip


class OraclePrompter:
    """Points, boxes or a mask from the true mask: an upper bound, never a result.

    Args:
        settings: What to draw.
    """

    def __init__(self, settings: GeometricSettings) -> None:
        self.settings = settings

    @property
    def kind(self) -> PromptKind:
        """As in its settings."""
        return self.settings.kind

    @property
    def source(self) -> str:
        """Says that it is an oracle."""
        return f"{ORACLE} {self.settings.kind}"

    def __call__(self, sample: Sample) -> Prompt:
        """Drawn from the sample's true mask.

        Raises:
            DataError: The sample has none.
        """
        if sample.mask is None:
            raise DataError(
                f"an oracle prompt must be made from a true mask, got none (sample {sample.name!r}). "
                "Prompt from a coarse mask: geometric.source=coarse."
            )
        return draw_prompt(
            sample.mask, self.settings, source=self.source,
            generator=generator_of(sample.mask), valid=sample.valid,
        )  # fmt: skip


def make_prompter(settings: GeometricSettings, coarse: CoarseMask | None) -> Prompter:
    """The prompter that the settings describe.

    Args:
        settings: Its `kind` and `source`.
        coarse: For prompts that come from a coarse mask.

    Raises:
        DataError: A coarse mask is needed and none was given.
    """
    if settings.kind == "null":
        return NullPrompter()
    if settings.kind == "full-box":
        return FullBoxPrompter()
    if settings.source == "oracle":
        return OraclePrompter(settings)
    if coarse is None:
        raise DataError(
            f"prompts of kind {settings.kind!r} must come from a coarse mask, got none. "
            "Choose coarse.source, or geometric.source=oracle for an upper bound."
        )
    return GeometricPrompter(settings, coarse)


def needs_coarse(settings: GeometricSettings) -> bool:
    """Whether prompts of these settings come from a coarse mask at inference."""
    return settings.kind not in ("null", "full-box") and settings.source == "coarse"


def generator_of(mask: np.ndarray) -> np.random.Generator:
    """A generator that follows from a mask's shape and pixels: the same mask, the same prompt."""
    digest = hashlib.sha256(repr(mask.shape).encode() + np.packbits(mask).tobytes()).digest()
    return np.random.default_rng(np.frombuffer(digest, dtype=np.uint32))


def draw_prompt(
    mask: np.ndarray,
    settings: GeometricSettings,
    *,
    source: str,
    generator: np.random.Generator,
    valid: np.ndarray | None = None,
    training: bool = False,
) -> Prompt:
    """Draw what the settings say from one mask.

    A mask without water gives the empty prompt, as in training, where the decoder learns to answer it
    with a mask without water.

    Args:
        mask: (height, width) bool, True for water.
        settings: What to draw; its own source is not looked at.
        source: For the prompt.
        generator: Of points and of the boxes' perturbation.
        valid: (height, width) bool; elsewhere the mask is neither water nor land.
        training: Whether boxes are perturbed.
    """
    if settings.kind == "full-box":
        return Prompt(source=source, queries=(Query(box=full_box(*mask.shape)),))
    mask = mask if valid is None else mask & valid
    if settings.kind == "null" or not mask.any():
        return Prompt(source=source)
    if settings.kind == "mask":
        return Prompt(source=source, mask=mask)
    small, scale = _shrunk(mask)
    boxes = _boxes(small, settings, generator if training else None)
    if settings.kind == "box":
        queries = [Query(box=_enlarged(box, scale)) for box in boxes]
        fusion: Fusion = "union"
    else:
        area = None if valid is None else _shrunk(valid)[0]
        points, labels = control_points(
            small, positive=settings.positive, negative=settings.negative, erode=settings.erode,
            spacing=settings.spacing, generator=generator, valid=area,
        )  # fmt: skip
        box = _enlarged(boxes[0], scale) if settings.kind == "both" else None
        queries = _point_queries(_enlarged(points, scale), labels, box, settings)
        fusion = "best" if settings.fusion == "best" else "mean"
    return Prompt(source=source, queries=tuple(queries), fusion=fusion)


def _boxes(
    mask: np.ndarray, settings: GeometricSettings, generator: np.random.Generator | None
) -> np.ndarray:
    """(count, 4); perturbed when there is a generator to do so."""
    if settings.components == "each":
        boxes = component_boxes(mask)
    else:
        boxes = cast(np.ndarray, tight_box(mask))[None]
    if generator is None:
        return boxes
    size = (mask.shape[0], mask.shape[1])
    return perturbed(boxes, size=size, share=settings.perturbation, generator=generator)


def _point_queries(
    points: np.ndarray, labels: np.ndarray, box: np.ndarray | None, settings: GeometricSettings
) -> list[Query]:
    """One query of all points, or one for each point on water, which takes the points on land along."""
    if settings.fusion == "joint" or not (labels == WATER_POINT).any():
        return [Query(points=points, labels=labels, box=box)]
    on_land = labels != WATER_POINT
    return [
        Query(
            points=np.vstack([point[None], points[on_land]]),
            labels=np.concatenate([[WATER_POINT], labels[on_land]]),
            box=box,
        )
        for point in points[~on_land]
    ]


def _shrunk(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A mask of at most `LONGEST_SIDE`, and (x, y) pixels of the mask to one of it.

    A small pixel is True when anything in it is, so that no river vanishes.
    """
    height, width = mask.shape
    share = min(1.0, LONGEST_SIDE / max(height, width))
    if share == 1:
        return mask, np.ones(2)
    size = max(1, round(width * share)), max(1, round(height * share))
    area = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    return area > 0, np.array([width / size[0], height / size[1]])


def _enlarged(places: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Pixel indices of the shrunk mask as those of the mask: middles to middles."""
    pairs = places.reshape(-1, 2)
    enlarged: np.ndarray = ((pairs + 0.5) * scale - 0.5).astype(np.float32).reshape(places.shape)
    return enlarged
