"""A whole raster as one small picture, for a screen."""

import dataclasses
import math

import cv2
import numpy as np

from autosam.data.geometry import PADDING_COLOUR
from autosam.maps.rasters import Raster
from autosam.maps.sampling import choose_value_range
from autosam.maps.value_range import ValueRange

_READ_WHOLE = 100_000_000
"""Pixels up to which every one counts in the averages; above it overviews do, where there are some."""
_STRIP_PIXELS = 8_000_000


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Preview:
    """A raster, shrunk."""

    image: np.ndarray
    """(height, width, 3) uint8, RGB; the colour of padding where there is no data, as `map` shows a model."""
    valid: np.ndarray | None
    """(height, width) bool, False where at least half has no data; None when all has."""


def read_preview(
    raster: Raster, *, longest: int, value_range: tuple[float, float] | None = None
) -> Preview:
    """Read a raster shrunk by a whole number, with means of blocks and one scaling to 8 bits.

    Args:
        raster: Open.
        longest: Pixels that neither side of the preview exceeds.
        value_range: As for `choose_value_range`.

    Raises:
        ImageError: It is damaged, or holds no data from which the scaling could be taken.
    """
    values = choose_value_range(raster, value_range)
    step = max(1, math.ceil(max(raster.size) / longest))
    shape = (math.ceil(raster.size[0] / step), math.ceil(raster.size[1] / step))
    is_large = raster.size[0] * raster.size[1] > _READ_WHOLE
    if is_large and raster.has_overviews and not raster.has_palette:
        image, valid = _from_overviews(raster, values, shape)
    else:
        image, valid = _from_strips(raster, values, step, shape[1])
    return Preview(image=image, valid=None if valid.all() else valid)


def _from_overviews(
    raster: Raster, values: ValueRange, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """From twice the size, so that neighbours are averaged and not left out."""
    stored, valid = raster.read_decimated((2 * shape[0], 2 * shape[1]))
    image = values.to_8_bits(np.ascontiguousarray(np.moveaxis(stored, 0, -1)))
    return _reduced(_shown(image, valid), valid, shape)


def _from_strips(
    raster: Raster, values: ValueRange, step: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    height = raster.size[0]
    rows = step * max(1, _STRIP_PIXELS // (step * raster.size[1]))
    images, areas = [], []
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        image = values.to_8_bits(raster.read(top, bottom))
        valid = raster.read_valid(top, bottom)
        shape = (math.ceil((bottom - top) / step), width)
        image, valid = _reduced(_shown(image, valid), valid, shape)
        images.append(image)
        areas.append(valid)
    return np.concatenate(images), np.concatenate(areas)


def _shown(image: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """(height, width, 3) of one or three bands, in the colour of padding where there is no data."""
    colours = np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image
    if valid.all():
        return colours
    return np.where(valid[..., None], colours, np.array(PADDING_COLOUR, np.uint8))


def _reduced(
    image: np.ndarray, valid: np.ndarray, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    if image.shape[:2] == shape:
        return image, valid
    size = shape[::-1]
    small: np.ndarray = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    share = cv2.resize(valid.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    return small, np.asarray(share >= 0.5)
