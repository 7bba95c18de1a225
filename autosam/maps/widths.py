"""Cross-sections of a river: how wide it is, in how many channels it runs, station by station."""

import dataclasses
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from scipy.spatial import cKDTree

from autosam.maps.centreline import Centreline
from autosam.maps.metric_ground import Ground

_SAMPLES_PER_PIXEL = 4
_VALUES_AT_ONCE = 4_000_000


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Stations:
    """What was measured along a centreline; every array has one value for each station."""

    along: np.ndarray
    """(count,) metres from the line's beginning."""
    points: np.ndarray
    """(count, 2) metres, on the centreline."""
    normals: np.ndarray
    """(count, 2) of length 1."""
    width: np.ndarray
    """(count,) metres of water, all channels together."""
    main_width: np.ndarray
    """(count,) metres, of the channel at the centreline alone."""
    channels: np.ndarray
    """(count,) number of channels."""
    is_open: np.ndarray
    """(count,) bool: the water goes on where the picture or its data end, so it is wider than measured."""
    left: np.ndarray
    """(count,) metres along the normal to the outermost water, negative."""
    right: np.ndarray
    """(count,) the same on the other side, positive."""
    narrow: np.ndarray | None
    """(count,) metres of water that is almost certain; None without a probability."""
    wide: np.ndarray | None
    """(count,) metres of water that is at all likely."""

    @property
    def closed_width(self) -> np.ndarray:
        """Widths where both banks are seen; all where none is."""
        closed = ~self.is_open
        kept: np.ndarray = self.width[closed] if closed.any() else self.width
        return kept

    @property
    def braiding(self) -> float:
        """Mean number of channels: the channel-count index of Egozi and Ashmore (2008).

        A bay that a cross-section meets is a channel as well: the section cannot see where it ends.
        """
        return float(self.channels.mean())


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Wetness:
    """What a cross-section is laid over; all arrays (height, width), and bool but for `share`."""

    water: np.ndarray
    """Of this river alone, without islands that are noise."""
    valid: np.ndarray
    """False where there is no data."""
    narrow: np.ndarray | None
    """Its water that is almost certain; None without a probability."""
    wide: np.ndarray | None
    """Its water that is at all likely."""
    share: np.ndarray | None = None
    """How much of each pixel is its water, 0..1, where pixels are blocks of others; None where all or nothing
    is."""


def measure_stations(
    line: Centreline, wetness: Wetness, ground: Ground, *, spacing: float, span: float
) -> Stations:
    """Lay sections across the centreline at equal distances and measure the water on them.

    A section goes out from the line as far as there is water of this river beside it, but no further
    than where another part of the line is nearer: it never crosses the next bend. Water is sampled four times
    a pixel, so that one width is good to about a pixel and their mean to much less.

    Args:
        line: Smooth, with points about a pixel apart.
        wetness: The picture.
        ground: Of the picture.
        spacing: Metres between stations, the first half of that from the beginning.
        span: Metres of the line over which its direction is taken.
    """
    along, points, normals = _placed(line, spacing=spacing, span=span)
    reach = line.reach + _beyond(wetness, ground) + 2 * ground.pixel
    offsets = np.arange(-reach, reach, ground.pixel / _SAMPLES_PER_PIXEL)
    offsets += ground.pixel / _SAMPLES_PER_PIXEL / 2
    tree = cKDTree(line.main)
    together = max(1, _VALUES_AT_ONCE // len(offsets))
    parts = []
    for first in range(0, len(along), together):
        few = slice(first, first + together)
        grid = points[few, None] + offsets[None, :, None] * normals[few, None]
        own = _own_part(grid, offsets, along[few], line=line, tree=tree, slack=4 * ground.pixel)
        parts.append(_section(grid, offsets, own, wetness=wetness, ground=ground))
    measured: dict[str, Any] = {
        name: None if parts[0][name] is None else np.concatenate([part[name] for part in parts])
        for name in parts[0]
    }
    return Stations(along=along, points=points, normals=normals, **measured)


def _placed(
    line: Centreline, *, spacing: float, span: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distances along the line, points and normals of the stations."""
    numbers = np.arange(len(line.main))
    step = line.length / max(1, len(line.main) - 1)
    count = max(1, round(line.length / spacing))
    along = (np.arange(count) + 0.5) * line.length / count
    places = np.interp(along, numbers * step, numbers)
    half = max(1.0, span / 2 / step)
    tangents = _at(line.main, places + half) - _at(line.main, places - half)
    tangents /= np.maximum(np.linalg.norm(tangents, axis=1, keepdims=True), 1e-12)
    return along, _at(line.main, places), np.column_stack([-tangents[:, 1], tangents[:, 0]])


def _beyond(wetness: Wetness, ground: Ground) -> float:
    """Metres by which likely water goes beyond the water."""
    if wetness.wide is None or not wetness.wide.any():
        return 0.0
    away = cv2.distanceTransform((~wetness.water).astype(np.uint8), cv2.DIST_L2, 5)
    return float(away[wetness.wide].max()) * max(ground.sides)


def _at(line: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Points of a line at fractional indices, its ends beyond them."""
    numbers = np.arange(len(line))
    return np.column_stack([np.interp(places, numbers, line[:, axis]) for axis in (0, 1)])


def _own_part(
    grid: np.ndarray,
    offsets: np.ndarray,
    along: np.ndarray,
    *,
    line: Centreline,
    tree: cKDTree,
    slack: float,
) -> np.ndarray:
    """(stations, samples) bool: from the line outwards, until another part of the line is nearer.

    Nearer means further along the line than half the offset, for beside a line that winds a little the
    nearest part is never quite the section's own; round a half circle to the next limb it is 1.57 times.
    """
    nearest = tree.query(grid.reshape(-1, 2))[1].reshape(grid.shape[:2])
    step = line.length / max(1, len(line.main) - 1)
    apart = np.abs(nearest * step - along[:, None])
    if line.closed:
        apart = np.minimum(apart, line.length - apart)
    fine = apart <= 0.5 * np.abs(offsets) + slack
    middle = int(np.searchsorted(offsets, 0))
    right = np.logical_and.accumulate(fine[:, middle:], axis=1)
    left = np.logical_and.accumulate(fine[:, middle - 1 :: -1], axis=1)[:, ::-1]
    return np.concatenate([left, right], axis=1)


def _section(
    grid: np.ndarray, offsets: np.ndarray, own: np.ndarray, *, wetness: Wetness, ground: Ground
) -> dict[str, Any]:
    """What `Stations` holds of some sections, by name."""
    sampled = _sampler(grid, ground, wetness.water.shape)
    step = float(offsets[1] - offsets[0])
    wet, seen = sampled(wetness.water) & own, sampled(wetness.valid)
    any_wet = wet.any(axis=1)
    first, last = wet.argmax(axis=1), len(offsets) - 1 - wet[:, ::-1].argmax(axis=1)
    levels = {
        name: None if area is None else (sampled(area) & own).sum(axis=1) * step
        for name, area in (("narrow", wetness.narrow), ("wide", wetness.wide))
    }
    width, main = wet.sum(axis=1), _channel_at_line(wet, offsets).sum(axis=1)
    if wetness.share is not None:  # a block at the bank is water in part
        exact = (sampled(wetness.share) * own).sum(axis=1)
        width, main = exact, main * exact / np.maximum(width, 1)
    return {
        "width": width * step,
        "main_width": main * step,
        "channels": _runs(wet),
        "is_open": (wet[:, :-1] & ~seen[:, 1:]).any(axis=1)
        | (wet[:, 1:] & ~seen[:, :-1]).any(axis=1)
        | wet[:, 0]
        | wet[:, -1],  # it ends in the water
        "left": np.where(any_wet, offsets[first] - step / 2, 0),
        "right": np.where(any_wet, offsets[last] + step / 2, 0),
        **levels,
    }


def _sampler(
    grid: np.ndarray, ground: Ground, size: tuple[int, ...]
) -> Callable[[np.ndarray], np.ndarray]:
    """Takes a (height, width) picture to a (stations, samples) one; outside is False, or 0."""
    height, width = size
    columns, rows = np.floor(ground.to_pixels(grid.reshape(-1, 2))).astype(int).T
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    index = rows.clip(0, height - 1), columns.clip(0, width - 1)

    def sampled(area: np.ndarray) -> np.ndarray:
        taken: np.ndarray = (area[index] * inside).reshape(grid.shape[:2])
        return taken

    return sampled


def _runs(wet: np.ndarray) -> np.ndarray:
    """How many runs of water a section has that are at least a pixel long."""
    padded = np.pad(wet, ((0, 0), (1, 1)))
    changes = np.diff(padded.astype(np.int8), axis=1)
    rows, starts = np.nonzero(changes == 1)
    ends = np.nonzero(changes == -1)[1]
    long = ends - starts >= _SAMPLES_PER_PIXEL
    return np.bincount(rows[long], minlength=len(wet))


def _channel_at_line(wet: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """The run of water nearest to the line."""
    away = np.where(wet, np.abs(offsets), np.inf)
    nearest = away.argmin(axis=1)
    broken = np.cumsum(~wet, axis=1)  # equal for samples with no land between them
    mine = np.take_along_axis(broken, nearest[:, None], axis=1)
    run: np.ndarray = wet & (broken == mine)
    return run
