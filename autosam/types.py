"""The nouns of the library: a sample, a batch of them, a prediction, and each tensor shape by name.

Conventions, everywhere: images are (height, width, 3) uint8 RGB; masks are (height, width) bool with
True for water; sizes are (height, width); points are (x, y); boxes are (left, top, right, bottom).
"""

import dataclasses
import datetime
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from autosam.errors import DataError, OutputError
from autosam.files import PathLike, replacing

Pixels = Float[Tensor, "batch 3 side side"]
"""Normalised once with SAM's mean and standard deviation; zero where padded."""
Squares = UInt8[Tensor, "batch 3 side side"]
"""RGB in 0..255 inside SAM's square, before normalisation; padding is arbitrary."""
Bands = Float[Tensor, "batch bands side side"]
"""Besides red, green and blue, in their own units."""
SquareSizes = Int[Tensor, "batch 2"]
"""(height, width) of the picture inside its square; what lies right and below is padding."""
ImageEmbedding = Float[Tensor, "batch channels grid grid"]
PromptEmbedding = Float[Tensor, "batch channels grid grid"]
"""The dense prompt, in the place of SAM's no-mask embedding."""
SparsePrompt = Float[Tensor, "batch tokens channels"]
"""Point and box tokens."""
MaskLogits = Float[Tensor, "batch 1 low low"]
"""Before the sigmoid, on the decoder's grid of four times the embedding's."""
LowMask = Bool[Tensor, "batch 1 low low"]
PredictedIou = Float[Tensor, " batch"]
"""What the mask decoder thinks its own mask is worth."""

Fusion = Literal["mean", "best", "union"]
"""Of several queries' logits to one mask: mean, those of the highest predicted IoU, or maximum."""
WATER_POINT, LAND_POINT, PADDING_POINT = 1, 0, -10
"""Labels of points, as SAM has them; a padding point is dropped before it can change anything."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Georeference:
    """Where a picture lies on the earth."""

    crs: str | None
    """Coordinate reference system as WKT or authority code, or None when only the transform is known."""
    transform: tuple[float, float, float, float, float, float]
    """Affine (a, b, c, d, e, f): x = a * column + b * row + c, y = d * column + e * row + f."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Query:
    """One question to SAM: points and perhaps a box that together ask for one mask.

    Raises:
        DataError: Points without labels, a label of another kind, a box turned inside out, or values that
            are not finite.
    """

    points: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((0, 2), np.float32))
    """(count, 2) float32, (x, y) in pixel indices: (0, 0) is the middle of the first pixel."""
    labels: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.int64))
    """(count,) int64: 1 water, 0 land, -10 padding."""
    box: np.ndarray | None = None
    """(4,) float32: left, top, right, bottom in pixel indices, all inside; None for no box."""

    def __post_init__(self) -> None:
        points, labels = np.asarray(self.points), np.asarray(self.labels)
        if points.ndim != 2 or points.shape[1] != 2 or labels.shape != points.shape[:1]:
            raise DataError(
                f"points must be (count, 2) with one label each, got {points.shape} and "
                f"{labels.shape}. Give (x, y) pairs and as many labels: 1 water, 0 land."
            )
        if not np.isfinite(points).all():
            raise DataError("points must be finite numbers, got NaN or infinity. Check the clicks.")
        wrong = set(labels.tolist()) - {WATER_POINT, LAND_POINT, PADDING_POINT}
        if wrong:
            raise DataError(
                f"labels must be 1 (water), 0 (land) or -10 (padding), got {sorted(wrong)}. "
                "Change them."
            )
        object.__setattr__(self, "points", points.astype(np.float32))
        object.__setattr__(self, "labels", labels.astype(np.int64))
        if self.box is not None:
            object.__setattr__(self, "box", _checked_box(self.box))

    @property
    def is_empty(self) -> bool:
        """Whether it asks for nothing: no box, and no points but padding."""
        return self.box is None and not (self.labels != PADDING_POINT).any()


def _checked_box(box: np.ndarray) -> np.ndarray:
    box = np.asarray(box, dtype=np.float32)
    if box.shape != (4,):
        raise DataError(
            f"box must be four numbers (left, top, right, bottom), got shape {box.shape}. "
            "Give one box as a flat list."
        )
    if not np.isfinite(box).all():
        raise DataError(
            f"box must be finite numbers, got {box.tolist()}. Check its left, top, right and bottom."
        )
    if box[0] > box[2] or box[1] > box[3]:
        raise DataError(
            f"box must be (left, top, right, bottom) with left <= right and top <= bottom, got "
            f"{box.tolist()}. Put the smaller corner first."
        )
    return box


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Prompt:
    """Geometry that tells SAM where the water is, in the picture's own pixels."""

    source: str
    """Where it comes from, for tables and plots: 'null', 'full box', 'coarse hsv', 'human', or, when it
    was made from the true mask, words that begin with 'oracle'."""
    queries: tuple[Query, ...] = ()
    """Each gives one mask; none at all, and no mask below, is SAM's own empty prompt."""
    mask: np.ndarray | None = None
    """(height, width) bool, for SAM's mask prompt; None for none."""
    fusion: Fusion = "mean"
    """Of the queries' masks."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class SquarePrompt:
    """A prompt in the coordinates of SAM's square, ready for its prompt encoder."""

    queries: tuple[Query, ...] = ()
    mask_logits: Float[Tensor, "low low"] | None = None
    """For SAM's mask prompt, on the decoder's grid."""
    fusion: Fusion = "mean"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """One picture and what is known of it.

    Raises:
        DataError: An array has the wrong shape or type, or the name is empty.
    """

    name: str
    """Unique inside its dataset; becomes a file name, so it has no suffix."""
    image: np.ndarray
    """(height, width, 3) uint8, RGB."""
    mask: np.ndarray | None = None
    """(height, width) bool, True for water; None when unlabelled."""
    valid: np.ndarray | None = None
    """(height, width) bool, False where the label must be ignored; None when all of it counts."""
    place: str | None = None
    """What is the same at the same place: a tile cell, a site, a flight."""
    date: datetime.date | None = None
    georeference: Georeference | None = None
    bands: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    """Besides red, green and blue, by name ('nir', 'thermal', 'dem'): (height, width) float32, finite, in the
    file's own unit."""

    def __post_init__(self) -> None:
        if not self.name:
            raise DataError("name must not be empty, got ''. Name the sample after its file.")
        image = self.image
        if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3:
            shape = getattr(image, "shape", type(image).__name__)
            raise DataError(
                f"image must be (height, width, 3), got {shape} (sample {self.name!r}). "
                "Convert grey pictures with np.stack([image] * 3, axis=-1)."
            )
        if image.dtype != np.uint8 or 0 in image.shape:
            raise DataError(
                f"image must be uint8 with at least one pixel, got {image.dtype} {image.shape} "
                f"(sample {self.name!r}). Scale it to 0..255 first."
            )
        for label in ("mask", "valid"):
            self._check_area(label, getattr(self, label))
        for name, band in self.bands.items():
            self._check_band(name, band)

    def _check_area(self, label: str, area: np.ndarray | None) -> None:
        if area is None:
            return
        if area.dtype != np.bool_ or area.shape != self.image.shape[:2]:
            raise DataError(
                f"{label} must be bool with the image's height and width {self.image.shape[:2]}, "
                f"got {area.dtype} {area.shape} (sample {self.name!r}). "
                "Check that both show the same picture and that neither was resized."
            )

    def _check_band(self, name: str, band: np.ndarray) -> None:
        if band.shape != self.image.shape[:2] or band.dtype != np.float32:
            raise DataError(
                f"band {name!r} must be float32 with the image's height and width "
                f"{self.image.shape[:2]}, got {band.dtype} {band.shape} (sample {self.name!r}). "
                "Register it to the image first."
            )
        if not np.isfinite(band).all():
            raise DataError(
                f"band {name!r} must be finite, got NaN or infinity (sample {self.name!r}). "
                "Fill gaps first, and leave them out of the valid area."
            )

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.image.shape[0], self.image.shape[1]

    def bands_of(self, names: Sequence[str]) -> list[np.ndarray]:
        """The bands of these names, in this order.

        Raises:
            DataError: One is not there.
        """
        for name in names:
            if name not in self.bands:
                found = ", ".join(sorted(self.bands)) or "none"
                raise DataError(
                    f"sample must have the band {name!r}, got {found} (sample {self.name!r}). "
                    f"Put its file into {name}/ beside images/, or give bands={{{name!r}: array}}."
                )
        return [self.bands[name] for name in names]

    @property
    def valid_area(self) -> np.ndarray:
        """(height, width) bool, True where the label counts; all True when nothing is excluded."""
        return np.ones(self.size, dtype=bool) if self.valid is None else self.valid


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """What a network is given in training; which fields are set follows from what it asks for."""

    names: tuple[str, ...]
    sizes: SquareSizes
    squares: Squares | None
    """At SAM's side, for networks that see the picture itself or an encoder that trains."""
    image_embedding: ImageEmbedding | None
    """From the cache, float16; None when the encoder runs in the step."""
    prompt_squares: Squares | None
    """At the prompt network's side."""
    target: LowMask
    valid: LowMask
    """False on padding and where the label must be ignored."""
    prompts: tuple[SquarePrompt, ...] | None = None
    """One for each picture, drawn from its true mask."""
    prompt_bands: Bands | None = None
    """At the prompt network's side, in their own units."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Prediction:
    """The river in one picture."""

    name: str
    image: np.ndarray
    """(height, width, 3) uint8, RGB, as it was read."""
    probability: np.ndarray
    """(height, width) float32 in 0..1, of water; calibrated when the model was."""
    threshold: float
    """Chosen on validation and stored with the model."""
    valid: np.ndarray | None = None
    """(height, width) bool, False where the picture has no data (transparent pixels)."""
    prompt: Prompt | None = None
    """The geometry that asked for this mask; None where a network alone did."""
    mask_logits: np.ndarray | None = None
    """(low, low) float32 on SAM's own grid, which the next correction feeds back; None without a SAM."""
    made_by: str = ""
    """Which weights and prompts made it; PNG and JPEG carry it along, lest they be taken for another's."""
    presence: float | None = None
    """Probability that the picture shows any river, 0..1; None where the model was not fitted to say."""
    domain_distance: float | None = None
    """How far the picture is from those of training, about 1 for pictures like them; None as above."""
    expected_iou: float | None = None
    """IoU that validation pictures as far from training had, 0..1; None as above."""
    explain: Callable[[], "Explanation"] | None = dataclasses.field(default=None, repr=False)
    """Finds what `as_points` gives; None without a SAM."""

    @property
    def mask(self) -> np.ndarray:
        """(height, width) bool, True for water; False where the picture has no data."""
        water: np.ndarray = self.probability >= self.threshold
        return water if self.valid is None else water & self.valid

    @property
    def confidence(self) -> float:
        """Mean probability of the class that was chosen, over pixels with data: 1 is certain.

        At a threshold of 0.5 it is at least 0.5; at another, a pixel that is more likely water may be
        called land and counts less. Zero when the picture has no data at all.
        """
        water = self.probability >= self.threshold
        certain = np.where(water, self.probability, 1 - self.probability)
        kept = certain if self.valid is None else certain[self.valid]
        return float(kept.mean()) if kept.size else 0.0

    @property
    def water_share(self) -> float:
        """Share of the pixels with data that are water, 0..1; 0 when there are none."""
        mask = self.mask
        kept = mask if self.valid is None else mask[self.valid]
        return float(kept.mean()) if kept.size else 0.0

    def as_points(self) -> "Explanation":
        """The points or box with which SAM alone comes nearest to this mask: a learnt prompt, explained.

        SAM alone is the model's own SAM without its prompt network; where a method has trained the mask
        decoder, that is the decoder.

        Raises:
            DataError: The model has no SAM behind it.
        """
        if self.explain is None:
            raise DataError(
                f"a mask must come from a model with a SAM to be explained by points, got one without "
                f"({self.name!r}). Use a method other than unet, segformer and threshold."
            )
        return self.explain()

    def save(self, path: PathLike) -> Path:
        """Write the mask as 8-bit PNG or TIFF: 255 water, 0 land, transparent where there is no data.

        Raises:
            OutputError: The suffix is neither .png, .tif nor .tiff, or the file cannot be written.
        """
        return self._write(path, self.mask.astype(np.uint8) * 255)

    def save_probability(self, path: PathLike) -> Path:
        """Write the probability as 8-bit PNG or TIFF, 0..255 for 0..1.

        Raises:
            OutputError: The suffix is neither .png, .tif nor .tiff, or the file cannot be written.
        """
        return self._write(path, np.round(self.probability * 255).astype(np.uint8))

    def plot(self, path: PathLike) -> Path:
        """Write the picture with the water tinted, its bank outlined and its prompt marked, as PNG or JPEG.

        Raises:
            OutputError: The suffix is neither .png, .jpg nor .jpeg, or the file cannot be written.
        """
        from PIL import Image

        from autosam.drawing import marked, overlay

        path = _checked_suffix(path, (".png", ".jpg", ".jpeg"))
        options: dict[str, Any] = {}
        if path.suffix.lower() == ".png":
            options = _png_words(self.made_by)
        elif self.made_by:
            options["comment"] = f"autosam {self.made_by}".encode()
        drawn = overlay(self.image, self.mask)
        for query in self.prompt.queries if self.prompt else ():
            boxes = () if query.box is None else (query.box,)
            drawn = marked(drawn, points=query.points, labels=query.labels, boxes=boxes)
        with replacing(path) as beside:
            Image.fromarray(drawn).save(beside, **options)
        return path

    def _write(self, path: PathLike, grey: np.ndarray) -> Path:
        from PIL import Image

        path = _checked_suffix(path, (".png", ".tif", ".tiff"))
        picture = Image.fromarray(grey)
        options = _png_words(self.made_by) if path.suffix.lower() == ".png" else {}
        if self.valid is not None and not self.valid.all():
            picture = Image.merge(
                "LA", (picture, Image.fromarray(self.valid.astype(np.uint8) * 255))
            )
        with replacing(path) as beside:
            picture.save(beside, **options)
        return path


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Explanation:
    """What a person would have had to click for the mask that a learnt prompt asked for."""

    prompt: Prompt
    """In the picture's own pixels."""
    iou: float
    """Of SAM's own mask for that prompt with the mask that is explained, 0..1."""


def _png_words(made_by: str) -> dict[str, Any]:
    """What Pillow must be told for a PNG to say who made it."""
    from PIL.PngImagePlugin import PngInfo

    words = PngInfo()
    if made_by:
        words.add_text("autosam", made_by)
    return {"pnginfo": words}


def _checked_suffix(path: PathLike, allowed: tuple[str, ...]) -> Path:
    path = Path(path)
    if path.suffix.lower() not in allowed:
        raise OutputError(
            f"path must end in {', '.join(allowed)}, got {path.name!r}. Give it one of these suffixes."
        )
    return path
