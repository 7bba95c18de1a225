"""The nouns of the library: a sample, a batch of them, a prediction, and each tensor shape by name.

Conventions, everywhere: images are (height, width, 3) uint8 RGB; masks are (height, width) bool with
True for water; sizes are (height, width); points are (x, y); boxes are (left, top, right, bottom).
"""

import dataclasses
import datetime
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from autosam.errors import DataError, OutputError
from autosam.files import PathLike, replacing

Pixels = Float[Tensor, "batch 3 side side"]
"""Normalised once with SAM's mean and standard deviation; zero where padded."""
Squares = UInt8[Tensor, "batch 3 side side"]
"""RGB in 0..255 inside SAM's square, before normalisation; padding is arbitrary."""
SquareSizes = Int[Tensor, "batch 2"]
"""(height, width) of the picture inside its square; what lies right and below is padding."""
ImageEmbedding = Float[Tensor, "batch channels grid grid"]
PromptEmbedding = Float[Tensor, "batch channels grid grid"]
"""The dense prompt, in the place of SAM's no-mask embedding."""
MaskLogits = Float[Tensor, "batch 1 low low"]
"""Before the sigmoid, on the decoder's grid of four times the embedding's."""
LowMask = Bool[Tensor, "batch 1 low low"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Georeference:
    """Where a picture lies on the earth."""

    crs: str | None
    """Coordinate reference system as WKT or authority code, or None when only the transform is known."""
    transform: tuple[float, float, float, float, float, float]
    """Affine (a, b, c, d, e, f): x = a * column + b * row + c, y = d * column + e * row + f."""


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

    def _check_area(self, label: str, area: np.ndarray | None) -> None:
        if area is None:
            return
        if area.dtype != np.bool_ or area.shape != self.image.shape[:2]:
            raise DataError(
                f"{label} must be bool with the image's height and width {self.image.shape[:2]}, "
                f"got {area.dtype} {area.shape} (sample {self.name!r}). "
                "Check that both show the same picture and that neither was resized."
            )

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.image.shape[0], self.image.shape[1]

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

    @property
    def mask(self) -> np.ndarray:
        """(height, width) bool, True for water; False where the picture has no data."""
        water: np.ndarray = self.probability >= self.threshold
        return water if self.valid is None else water & self.valid

    @property
    def confidence(self) -> float:
        """Mean probability of the class that was chosen, over pixels with data: 0.5 guess, 1 certain.

        Zero when the picture has no data at all.
        """
        certain = np.maximum(self.probability, 1 - self.probability)
        kept = certain if self.valid is None else certain[self.valid]
        return float(kept.mean()) if kept.size else 0.0

    @property
    def water_share(self) -> float:
        """Share of the pixels with data that are water, 0..1; 0 when there are none."""
        mask = self.mask
        kept = mask if self.valid is None else mask[self.valid]
        return float(kept.mean()) if kept.size else 0.0

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
        """Write the picture with the water tinted and its bank outlined, as PNG or JPEG.

        Raises:
            OutputError: The suffix is neither .png, .jpg nor .jpeg, or the file cannot be written.
        """
        from PIL import Image

        from autosam.drawing import overlay

        path = _checked_suffix(path, (".png", ".jpg", ".jpeg"))
        with replacing(path) as beside:
            Image.fromarray(overlay(self.image, self.mask)).save(beside)
        return path

    def _write(self, path: PathLike, grey: np.ndarray) -> Path:
        from PIL import Image

        path = _checked_suffix(path, (".png", ".tif", ".tiff"))
        picture = Image.fromarray(grey)
        if self.valid is not None and not self.valid.all():
            picture = Image.merge(
                "LA", (picture, Image.fromarray(self.valid.astype(np.uint8) * 255))
            )
        with replacing(path) as beside:
            picture.save(beside)
        return path


def _checked_suffix(path: PathLike, allowed: tuple[str, ...]) -> Path:
    path = Path(path)
    if path.suffix.lower() not in allowed:
        raise OutputError(
            f"path must end in {', '.join(allowed)}, got {path.name!r}. Give the file a suffix."
        )
    return path
