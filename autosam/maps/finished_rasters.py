"""Reading finished masks and probabilities from disk: by strips, or whole at a stated decimation.

A mask has 0 for land and 1 or 255 for water; 255 is water only where it is not the file's declared
nodata value, so that plain masks of 0 and 255 and those of `autosam map` are both understood. A
probability is uint8, 0..254 for 0..1 with 255 for no data, or float in 0..1.
"""

import contextlib
import dataclasses
import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from autosam.errors import DataError, ImageError, MissingPathError
from autosam.files import PathLike
from autosam.maps.metric_ground import Ground, read_ground
from autosam.maps.raster_output import MASK_NODATA, PROBABILITY_LEVELS

STRIP_ROWS = 512
PIXEL_BUDGET = 16_000_000
"""Pixels of a raster that are measured at once, about 1 GB at the peak; larger ones are decimated."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class FinishedRaster:
    """A mask on disk, perhaps its probability, and where they lie."""

    mask: Path
    probability: Path | None
    probability_is_scaled: bool
    """Whether it is uint8 in 0..254 and not float in 0..1."""
    has_nodata: bool
    """Whether 255 is no data in the mask, where it may else be water."""
    ground: Ground
    model: str
    """From the file's tags; empty when they do not say."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Strip:
    """Some rows of it."""

    first_row: int
    water: np.ndarray
    """(rows, width) bool; False where there is no data."""
    valid: np.ndarray
    """(rows, width) bool, False where there is no data."""
    probability: np.ndarray | None
    """(rows, width) float32 in 0..1, NaN where there is no data."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class WholeRaster:
    """All of it in memory."""

    water: np.ndarray
    """(height, width) bool."""
    valid: np.ndarray
    """(height, width) bool."""
    probability: np.ndarray | None
    """(height, width) float32 in 0..1, NaN where there is no data."""
    ground: Ground
    step: int
    """Pixels of the file that make one of these, along each side."""
    name: str
    share: np.ndarray | None = None
    """(height, width) float32: how much of a block is water, 0..1; None where it is a pixel of the file."""

    @property
    def amounts(self) -> np.ndarray:
        """(height, width): how much of each is water, whatever it is called as a whole."""
        return self.water if self.share is None else self.share


def find_raster(mask: PathLike, probability: PathLike | None = None) -> FinishedRaster:
    """Look at a mask, and at a probability that must lie on the same grid.

    Raises:
        MissingPathError: A file is not there.
        ImageError: A file is no raster, or its values are of no known kind.
        DataError: The grids differ, or the coordinates lie off the earth.
    """
    mask = Path(mask)
    with _opened(mask, "mask") as dataset:
        if dataset.dtypes[0] not in ("uint8", "int8", "bool", "int16", "uint16", "int32"):
            raise ImageError(
                f"mask must hold whole numbers, got {dataset.dtypes[0]} ({mask}). "
                "Give the mask, and the probability by its own option."
            )
        ground = read_ground(
            dataset.crs, dataset.transform, size=(dataset.height, dataset.width), name=str(mask)
        )
        tags = {key.lower(): value for key, value in dataset.tags().items()}
        model = str(tags.get("model") or tags.get("autosam_model") or "")
        has_nodata = dataset.nodata == MASK_NODATA
        scaled = probability is not None and _check_grid(dataset, Path(probability), mask)
    return FinishedRaster(
        mask=mask,
        probability=None if probability is None else Path(probability),
        probability_is_scaled=scaled,
        has_nodata=has_nodata,
        ground=ground,
        model=model,
    )


def read_strips(raster: FinishedRaster, *, rows: int = STRIP_ROWS) -> Iterator[Strip]:
    """Read from top to bottom; no more than one strip is held.

    Raises:
        ImageError: A value is neither land, water nor no data, or the file is damaged.
    """
    height, width = raster.ground.size
    with contextlib.ExitStack() as stack:
        mask = stack.enter_context(_opened(raster.mask, "mask"))
        other = None
        if raster.probability is not None:
            other = stack.enter_context(_opened(raster.probability, "probability"))
        for first in range(0, height, rows):
            window = Window(0, first, width, min(rows, height - first))
            water, valid = _read_mask(mask, window, raster.mask)
            probability = None
            if other is not None and raster.probability is not None:
                probability = _read_probability(other, window, raster.probability)
            yield Strip(first_row=first, water=water, valid=valid, probability=probability)


def read_pixels(mask: PathLike) -> tuple[np.ndarray, np.ndarray]:
    """All of a mask's water and of its data, both (height, width) bool, wherever it lies.

    Raises:
        MissingPathError: The file is not there.
        ImageError: It is no mask, or damaged.
    """
    with _opened(Path(mask), "mask") as dataset:
        whole = Window(0, 0, dataset.width, dataset.height)
        return _read_mask(dataset, whole, Path(mask))


def read_whole(raster: FinishedRaster, *, pixel_budget: int = PIXEL_BUDGET) -> WholeRaster:
    """Read all of it; above the budget, blocks of pixels become one.

    A block is water when at least half of its pixels with data are, has data when at least half of it
    has, its probability is the mean, and `share` keeps how much of it is water, so that areas and widths
    are those of the file. Reading goes by strips, so memory is that of the result.
    """
    height, width = raster.ground.size
    step = max(1, math.ceil(math.sqrt(height * width / pixel_budget)))
    rows = step * max(1, STRIP_ROWS // step)
    parts = [_reduced(strip, step) for strip in read_strips(raster, rows=rows)]
    water, valid, probability, share = zip(*parts, strict=True)
    return WholeRaster(
        water=np.concatenate(water),
        valid=np.concatenate(valid),
        probability=None if probability[0] is None else np.concatenate(probability),
        ground=raster.ground.decimated(step),
        step=step,
        name=raster.mask.stem,
        share=None if share[0] is None else np.concatenate(share),
    )


def _reduced(
    strip: Strip, step: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Water, valid, probability and share of blocks."""
    if step == 1:
        return strip.water, strip.valid, strip.probability, None
    pixels = _block_sums(np.ones_like(strip.water), step)
    counted = _block_sums(strip.valid, step)
    valid = 2 * counted >= pixels
    wet = _block_sums(strip.water, step)
    water = valid & (2 * wet >= np.maximum(counted, 1))
    share = wet / np.float32(step**2)
    if strip.probability is None:
        return water, valid, None, share
    known = np.isfinite(strip.probability)
    total = _block_sums(np.where(known, strip.probability, 0), step)
    with np.errstate(invalid="ignore"):
        mean = total / _block_sums(known, step)
    return water, valid, mean.astype(np.float32), share


def _block_sums(values: np.ndarray, step: int) -> np.ndarray:
    """Blocks at the right and lower frame may be smaller."""
    rows = np.add.reduceat(values, np.arange(0, values.shape[0], step), axis=0, dtype=np.float32)
    sums: np.ndarray = np.add.reduceat(rows, np.arange(0, values.shape[1], step), axis=1)
    return sums


@contextlib.contextmanager
def _opened(path: Path, what: str) -> Iterator[Any]:
    """An open dataset, with errors of GDAL in our words wherever the block meets them."""
    if not path.exists():
        raise MissingPathError(f"{what} must exist, got {path}. Check the path.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            dataset = rasterio.open(path)
        with dataset:
            yield dataset
    except RasterioError as error:
        raise ImageError(
            f"{what} must be a raster that GDAL reads, got {path} ({error}). "
            "It may be damaged: write it again."
        ) from error


def _check_grid(mask: Any, path: Path, mask_path: Path) -> bool:
    """Refuse a probability on another grid; says whether it is scaled."""
    with _opened(path, "probability") as other:
        if (other.height, other.width) != (mask.height, mask.width):
            raise DataError(
                f"probability must have the mask's height and width {(mask.height, mask.width)}, got "
                f"{(other.height, other.width)} ({path}). Give the one written with {mask_path.name}."
            )
        same = other.transform.almost_equals(mask.transform, precision=1e-6 * _step_of(mask))
        if not same or other.crs != mask.crs:
            raise DataError(
                f"probability must lie on the mask's grid, got another geotransform or CRS ({path}). "
                f"Give the one written with {mask_path.name}."
            )
        return bool(other.dtypes[0] == "uint8")


def _step_of(dataset: Any) -> float:
    return math.sqrt(abs(dataset.transform.determinant))


def _read_mask(dataset: Any, window: Window, path: Path) -> tuple[np.ndarray, np.ndarray]:
    values = dataset.read(1, window=window)
    valid = dataset.dataset_mask(window=window).astype(bool)
    strange = valid & (values != 0) & (values != 1) & (values != 255)
    if strange.any():
        raise ImageError(
            f"mask must be 0 for land and 1 or 255 for water, got {int(values[strange][0])} ({path}). "
            "Give the mask, and the probability by its own option."
        )
    return valid & (values != 0), valid


def _read_probability(dataset: Any, window: Window, path: Path) -> np.ndarray:
    values = dataset.read(1, window=window)
    valid = dataset.dataset_mask(window=window).astype(bool)
    if dataset.dtypes[0] == "uint8":
        valid &= values != MASK_NODATA
        values = values.astype(np.float32) / PROBABILITY_LEVELS
    else:
        values = values.astype(np.float32)
        valid &= np.isfinite(values)
    if (valid & ((values < -1e-6) | (values > 1 + 1e-6))).any():
        wrong = float(values[valid & ((values < -1e-6) | (values > 1 + 1e-6))][0])
        raise ImageError(
            f"probability must be in 0..1, or uint8 in 0..254, got {wrong:g} ({path}). Rescale it."
        )
    probability: np.ndarray = np.where(valid, values, np.float32(np.nan))
    return probability
