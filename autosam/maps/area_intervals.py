"""How much water there is, with an interval, from calibrated probabilities.

A probability says of each pixel how often water is found at such pixels; it does not say how the errors of
neighbours hang together, and the interval of a sum is nothing but that. Independent pixels would give an
interval of almost no width, which is false: a bank that was drawn a metre too far out is so for hundreds of
pixels. Two assumptions are offered, and the result says which was made.

*Common error* (no correlation length): all pixels of a river err together, as if one hidden level
decided everywhere how far up the bank the water stands. The area at that level is that of
``probability >= level``, so the interval runs from the area inside the inner bank line to that inside the
outer one. Of all dependences with these probabilities this one has the largest variance (the comonotone
sum is largest in convex order; Dhaene et al. 2002, Insurance: Mathematics and Economics 31), so the interval
is wide rather than false.

*Correlation length*: pixels of one square block of that side err together, blocks independently. The
variance of each block is exact under this assumption, and the sum is taken for normal, with two blocks or
fewer for comonotone. Give the length over which errors of your labels are alike, some river widths.

Both need calibrated probabilities; neither can know of a channel that the model missed with certainty.
"""

import dataclasses
import math
from statistics import NormalDist

import cv2
import numpy as np
from scipy import ndimage

from autosam.errors import ConfigError

_LEVELS = 254


@dataclasses.dataclass(frozen=True, kw_only=True)
class AreaInterval:
    """An area and what it may be."""

    expected: float
    """Square metres: the sum of probability times pixel area, where water is at all likely."""
    low: float
    """Lower end."""
    high: float
    """Upper end."""
    coverage: float
    """How often the interval is to hold the true area, for instance 0.9."""
    assumption: str
    """In words, on how errors of pixels hang together."""


def area_interval(
    probability: np.ndarray,
    zone: np.ndarray,
    *,
    areas: np.ndarray,
    pixel: float,
    coverage: float = 0.9,
    correlation: float | None = None,
) -> AreaInterval:
    """The wetted area of one river.

    Args:
        probability: (height, width) in 0..1, calibrated; NaN counts as land.
        zone: (height, width) bool, where water at all likely belongs to this river.
        areas: (height,) square metres of a pixel in each row.
        pixel: Side of a pixel in metres.
        coverage: Between 0 and 1.
        correlation: Metres over which errors are alike; None: everywhere.

    Raises:
        ConfigError: `coverage` or `correlation` cannot be used.
    """
    check_interval(coverage, correlation)
    rows, columns = np.nonzero(zone)
    weights = areas[rows].astype(float)
    levels = np.round(np.nan_to_num(probability[rows, columns]) * _LEVELS).astype(np.int64)
    expected = float((weights * levels).sum() / _LEVELS)
    side = max(zone.shape) + 1 if correlation is None else max(1, round(correlation / pixel))
    across = -(-zone.shape[1] // side)
    blocks = np.unique((rows // side) * across + columns // side, return_inverse=True)[1]
    above = _areas_above(levels, weights, blocks)
    common = len(above) <= 2
    low, high = (_common_bounds if common else _block_bounds)(above, expected, coverage)
    words = "all pixels err together (common error)"
    if correlation is not None:
        words = f"pixels within blocks of {correlation:g} err together, blocks independently"
        words += ", of which the river has no more than two: a common error" if common else ""
    return AreaInterval(expected=expected, low=low, high=high, coverage=coverage, assumption=words)


def _common_bounds(above: np.ndarray, expected: float, coverage: float) -> tuple[float, float]:
    """Between the inner and the outer bank line."""
    inner, outer = interval_levels(coverage)
    total = above.sum(axis=0)
    return float(total[_first_level(inner)]), float(total[_first_level(outer)])


def _block_bounds(above: np.ndarray, expected: float, coverage: float) -> tuple[float, float]:
    """Of a normal sum of independent blocks."""
    variances = (above**2).sum(axis=1) / _LEVELS - (above.sum(axis=1) / _LEVELS) ** 2
    spread = NormalDist().inv_cdf((1 + coverage) / 2) * math.sqrt(float(variances.sum()))
    return max(0.0, expected - spread), expected + spread


def check_interval(coverage: float, correlation: float | None) -> None:
    """Refuse what is no interval.

    Raises:
        ConfigError: `coverage` is not between 0 and 1, or `correlation` not above 0.
    """
    if not 0 < coverage < 1:
        raise ConfigError(
            f"coverage must be between 0 and 1, got {coverage}. Use 0.9, for instance."
        )
    if correlation is not None and not 0 < correlation < float("inf"):
        raise ConfigError(
            f"correlation length must be above 0, got {correlation}. Leave it out for a common error."
        )


def interval_levels(coverage: float) -> tuple[float, float]:
    """Probabilities at the inner and the outer bank line of a common error: 0.95 and 0.05 for 0.9."""
    return (1 + coverage) / 2, (1 - coverage) / 2


def river_zones(labels: np.ndarray, probability: np.ndarray, *, outer: float) -> np.ndarray:
    """Which river each pixel belongs to where water is at all likely.

    Args:
        labels: (height, width) integers, 0 for land, the number of the river in its water.
        probability: (height, width) in 0..1, NaN where unknown.
        outer: Probability from which water is likely enough to belong to a river that it is
            connected to; between two rivers the nearer has it.

    Returns:
        (height, width) int32, 0 for none.
    """
    water = labels > 0
    likely = water | (np.nan_to_num(probability) >= outer)
    _, parts = cv2.connectedComponents(likely.astype(np.uint8), connectivity=8)
    touched = np.zeros(int(parts.max()) + 1, dtype=bool)
    touched[parts[water]] = True
    touched[0] = False
    index = ndimage.distance_transform_edt(~water, return_distances=False, return_indices=True)
    nearest = labels[index[0], index[1]]
    zones: np.ndarray = np.where(touched[parts], nearest, 0).astype(np.int32)
    return zones


def _areas_above(levels: np.ndarray, weights: np.ndarray, blocks: np.ndarray) -> np.ndarray:
    """(blocks, 254) area of each block with at least 1, 2, ... 254 of 254."""
    count = int(blocks.max(initial=0)) + 1
    flat = np.bincount(
        blocks * (_LEVELS + 1) + levels, weights=weights, minlength=count * (_LEVELS + 1)
    )
    table = flat.reshape(count, _LEVELS + 1)[:, 1:]
    above: np.ndarray = table[:, ::-1].cumsum(axis=1)[:, ::-1]
    return above


def _first_level(share: float) -> int:
    """Column of the first level that is at least this probability."""
    return min(max(int(np.ceil(share * _LEVELS - 1e-9)), 1), _LEVELS) - 1
