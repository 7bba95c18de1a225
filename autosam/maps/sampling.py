"""What a raster is like as a whole, from a look at a part of it that is the same at every look."""

import numpy as np

from autosam.data.images import STRETCH_PERCENTILES
from autosam.errors import ConfigError
from autosam.maps.rasters import Raster
from autosam.maps.value_range import ValueRange, range_of_sample

_SIDE = 1024
"""Pixels along the longer side of what is looked at."""
_WINDOWS = 8
"""Along each axis, of a large raster without overviews."""


def choose_value_range(raster: Raster, wanted: tuple[float, float] | None) -> ValueRange:
    """The one scaling to 8 bits of a whole raster, by the rule by which pictures are read.

    Args:
        raster: Open.
        wanted: Values that become 0 and 255; None leaves 8 bits as they are, and takes anything else
            between two percentiles, the same for all bands.

    Raises:
        ImageError: It has no data where it is looked at, or is damaged there.
        ConfigError: What is wanted is no range.
    """
    if wanted is not None:
        asked = ValueRange(low=wanted[0], high=wanted[1], source="as asked")
        _check_overlap(asked, raster)
        return asked
    if raster.dtype == "uint8":
        return ValueRange()
    values, source = _sample(raster)
    return range_of_sample(
        values, percentiles=STRETCH_PERCENTILES, label=raster.label, source=source
    )


def _check_overlap(asked: ValueRange, raster: Raster) -> None:
    """Refuse a range beyond all that a raster's type holds: every pixel would be black, or white."""
    if np.dtype(raster.dtype).kind not in "iu":
        return
    least, most = np.iinfo(raster.dtype).min, np.iinfo(raster.dtype).max
    if asked.low >= most or asked.high <= least:
        raise ConfigError(
            f"value range must lie among {least} to {most}, which {raster.dtype} holds, got {asked.low:g} to "
            f"{asked.high:g} ({raster.label}). Give what is black, then what is white."
        )


def decimated_valid(raster: Raster) -> np.ndarray:
    """(height, width) bool over the whole raster, at most about a thousand a side: where it has data.

    Raises:
        ImageError: It is damaged.
    """
    shape = _decimated_shape(raster)
    return np.ones(shape, bool) if raster.has_data_everywhere else raster.read_decimated(shape)[1]


def _sample(raster: Raster) -> tuple[np.ndarray, str]:
    """Values of pixels with data, and how they were chosen."""
    height, width = raster.size
    if max(raster.size) <= _SIDE:
        return _valued(raster, 0, height, 0, width), "all pixels"
    if raster.has_overviews:
        shape = _decimated_shape(raster)
        values, valid = raster.read_decimated(shape)
        return values[:, valid], f"overviews, {shape[1]} x {shape[0]} pixels"
    side = _SIDE // _WINDOWS
    tops, lefts = (
        np.unique(np.linspace(0, max(0, n - side), _WINDOWS).astype(int)).tolist()
        for n in raster.size
    )
    pieces = [
        _valued(raster, top, min(top + side, height), left, min(left + side, width))
        for top in tops
        for left in lefts
    ]
    return np.concatenate(pieces, axis=1), f"{len(pieces)} windows of {side} x {side} pixels"


def _valued(raster: Raster, top: int, bottom: int, left: int, right: int) -> np.ndarray:
    values = np.moveaxis(raster.read(top, bottom, left=left, right=right), -1, 0)
    return values[:, raster.read_valid(top, bottom, left=left, right=right)]


def _decimated_shape(raster: Raster) -> tuple[int, int]:
    shrink = max(1.0, max(raster.size) / _SIDE)
    height, width = (max(1, int(length / shrink)) for length in raster.size)
    return height, width
