"""Rivers and what is measured of them: area with an interval, centreline, widths, channels, islands."""

import dataclasses

import cv2
import numpy as np
from scipy import ndimage

from autosam.errors import ConfigError, DataError
from autosam.maps.area_intervals import (
    AreaInterval,
    area_interval,
    check_interval,
    interval_levels,
    river_zones,
)
from autosam.maps.centreline import Centreline, find_centreline
from autosam.maps.finished_rasters import PIXEL_BUDGET, FinishedRaster, WholeRaster, read_whole
from autosam.maps.islands import Island, find_islands
from autosam.maps.metric_ground import Ground
from autosam.maps.widths import Stations, Wetness, measure_stations

_MOST_NAMED = 10
"""Rivers in a note."""
_THIN_SHARE = 0.25
"""Of a block: what a river half as wide as a block has at the least, where it lies in two of them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RiverChoice:
    """What is measured, and how finely.

    Raises:
        ConfigError: A value cannot be used.
    """

    minimum_area: float = 1000.0
    """Square metres (pixels without a coordinate reference system) of the smallest water that is measured."""
    minimum_island: float = 25.0
    """Square metres of the smallest island; smaller holes are filled."""
    spacing: float | None = None
    """Metres between cross-sections; None: half a width of the river, at least four pixels."""
    reach_length: float | None = None
    """Metres of centreline for which means are given; None: forty stations."""
    coverage: float = 0.9
    """Of the intervals of area and width."""
    correlation: float | None = None
    """Metres over which errors of pixels are alike; None: everywhere (see `area_intervals`)."""
    pixel_budget: int = PIXEL_BUDGET
    """Pixels measured at once; a larger raster is decimated to it."""

    def __post_init__(self) -> None:
        check_interval(self.coverage, self.correlation)
        for name in ("minimum_area", "minimum_island"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ConfigError(
                    f"{name} must be 0 or more, got {getattr(self, name)}. Change it."
                )
        for name in ("spacing", "reach_length"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ConfigError(f"{name} must be above 0, got {value}. Change it.")
        if self.pixel_budget < 10_000:
            raise ConfigError(
                f"pixel_budget must be 10000 or more, got {self.pixel_budget}. Change it."
            )


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class River:
    """One connected water; pixels that meet at a corner are connected."""

    number: int
    """From 1, the largest first."""
    water: np.ndarray
    """(rows, columns) bool, cut out of the raster."""
    ground: Ground
    """Of the cut; pixel coordinates and metres below are its own."""
    area: float
    """Square metres of its pixels, those of the file."""
    interval: AreaInterval | None
    """None without a probability."""
    centreline: Centreline | None
    """None where there is no bank."""
    stations: Stations | None
    """None without a centreline."""
    islands: list[Island]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class RiverMeasures:
    """All that was measured on a raster."""

    rivers: list[River]
    raster: WholeRaster
    choice: RiverChoice
    notes: tuple[str, ...]
    """What the reader must know: decimation, pixel units, open banks."""


def measure_rivers(raster: FinishedRaster, *, choice: RiverChoice | None = None) -> RiverMeasures:
    """Measure every connected water of a mask that is large enough.

    Raises:
        DataError: There is no water, or none large enough.
        ImageError: The raster is damaged or holds strange values.
    """
    choice = choice or RiverChoice()
    whole = _with_thin_water(read_whole(raster, pixel_budget=choice.pixel_budget))
    labels, grown, count = _labelled(whole, choice.minimum_area)
    zones = grown
    if whole.probability is not None:
        zones = river_zones(labels, whole.probability, outer=interval_levels(choice.coverage)[1])
    rivers = [
        _measured(number, labels, (grown, zones), whole, choice) for number in range(1, count + 1)
    ]
    return RiverMeasures(rivers=rivers, raster=whole, choice=choice, notes=_notes(rivers, whole))


def _with_thin_water(whole: WholeRaster) -> WholeRaster:
    """The raster, its water with what is narrower than a block, which less than half of a block may hold.

    Around such water, nine blocks hold no more than three of it; at the bank of a wider river they do.
    """
    if whole.share is None:
        return whole
    around = ndimage.uniform_filter(whole.share, size=3, mode="constant") * 9
    thin = (whole.share >= _THIN_SHARE) & (around <= 3)
    return dataclasses.replace(whole, water=whole.water | (thin & whole.valid))


def _labelled(whole: WholeRaster, minimum_area: float) -> tuple[np.ndarray, np.ndarray, int]:
    """Labels of the waters that are measured, the largest 1; the same with their edges; their number.

    Both are (height, width) int32. The edges are blocks of which less than half is water, beside others.
    """
    count, labels = cv2.connectedComponents(whole.water.astype(np.uint8), connectivity=8)
    grown = labels
    if whole.share is not None:
        beside = ndimage.grey_dilation(labels, size=(3, 3))
        grown = np.where((labels == 0) & (whole.share > 0), beside, labels)
    weights = whole.ground.row_areas[:, None] * whole.amounts
    areas = np.bincount(grown.ravel(), weights=weights.ravel(), minlength=count)
    areas[0] = 0
    order = np.argsort(-areas, kind="stable")
    kept = order[areas[order] >= max(minimum_area, 1e-12)]
    if not len(kept):
        unit = "px" if whole.ground.mode == "pixels" else "m²"
        raise DataError(
            f"mask must hold connected water of at least {minimum_area:g} {unit}, got "
            f"{float(areas.max()):.1f} {unit} at most ({whole.name}). Lower the minimum area, or "
            "there is no river to measure."
        )
    renumbered = np.zeros(count, dtype=np.int32)
    renumbered[kept] = np.arange(1, len(kept) + 1)
    return renumbered[labels], renumbered[grown], len(kept)


def _measured(
    number: int,
    labels: np.ndarray,
    around: tuple[np.ndarray, np.ndarray],
    whole: WholeRaster,
    choice: RiverChoice,
) -> River:
    """One river; `around` are labels with its edges, and with all that may be its water."""
    grown, zones = around
    cut = _box((zones == number) | (grown == number))
    water, valid, ground = labels[cut] == number, whole.valid[cut], whole.ground.cut(*cut)
    areas = whole.ground.row_areas[cut[0]]
    amounts = np.where(grown[cut] == number, whole.amounts[cut], 0)
    filled, islands = find_islands(
        water, valid, areas=areas, minimum_area=choice.minimum_island,
        share=None if whole.share is None else amounts,
    )  # fmt: skip
    share = None if whole.share is None else np.where(filled & ~water, np.float32(1), amounts)
    line = find_centreline(filled, ground)
    interval = None
    wetness = Wetness(water=filled, valid=valid, share=share, narrow=None, wide=None)
    if whole.probability is not None:
        zone, probability = zones[cut] == number, whole.probability[cut]
        interval = area_interval(
            probability, zone, areas=areas, pixel=ground.pixel, coverage=choice.coverage,
            correlation=choice.correlation,
        )  # fmt: skip
        narrow, wide = (zone & (probability >= one) for one in interval_levels(choice.coverage))
        wetness = dataclasses.replace(wetness, narrow=narrow, wide=wide)
    return River(
        number=number,
        water=water,
        ground=ground,
        area=float((amounts.sum(axis=1, dtype=np.float64) * areas).sum()),
        interval=interval,
        centreline=line,
        stations=_stations(line, wetness, ground, spacing=choice.spacing),
        islands=islands,
    )


def _stations(
    line: Centreline | None, wetness: Wetness, ground: Ground, *, spacing: float | None
) -> Stations | None:
    """At the wished spacing, or half a width apart, the width being area over length."""
    if line is None:
        return None
    least = 4 * ground.pixel
    if spacing is not None and spacing < ground.pixel / 4:
        raise ConfigError(
            f"spacing must be at least a quarter of a pixel, {ground.pixel / 4:.3g} {ground.unit}, got "
            f"{spacing:g}. Choose a larger one."
        )
    width = float(wetness.water.sum()) * ground.pixel**2 / max(line.length, least)
    width = min(max(least, width), max(least, line.length / 8))
    return measure_stations(
        line, wetness, ground, spacing=spacing or max(least, width / 2), span=width
    )


def _box(found: np.ndarray) -> tuple[slice, slice]:
    """Around a river and what may be its water, with a pixel of land around where the frame allows."""
    rows, columns = np.flatnonzero(found.any(axis=1)), np.flatnonzero(found.any(axis=0))
    height, width = found.shape
    return (
        slice(max(0, int(rows[0]) - 1), min(height, int(rows[-1]) + 2)),
        slice(max(0, int(columns[0]) - 1), min(width, int(columns[-1]) + 2)),
    )


def _notes(rivers: list[River], whole: WholeRaster) -> tuple[str, ...]:
    notes = []
    if whole.step > 1:
        notes.append(
            f"measured on blocks of {whole.step} x {whole.step} pixels, {whole.ground.pixel:.2f} "
            f"{whole.ground.unit} wide, because the raster is larger than the pixel budget"
        )
    if whole.ground.mode == "pixels":
        notes.append("no coordinate reference system: every measure is in pixels")
    if whole.probability is None:
        notes.append("no probability raster: no intervals")
    water = float((whole.amounts.sum(axis=1, dtype=np.float64) * whole.ground.row_areas).sum())
    rest = water - sum(river.area for river in rivers)
    if rest > whole.ground.pixel**2 / 2:
        square = "px" if whole.ground.mode == "pixels" else "m²"
        notes.append(f"{rest:.0f} {square} of water in smaller pieces are not measured")
    lineless = [str(river.number) for river in rivers if river.centreline is None]
    if lineless:
        more = len(lineless) - _MOST_NAMED
        others = f" and {more} more" if more > 0 else ""
        notes.append(
            "no centreline, for it is as round as a lake or shows no bank: river "
            f"{', '.join(lineless[:_MOST_NAMED])}{others}"
        )
    opened = sum(int(river.stations.is_open.sum()) for river in rivers if river.stations)
    if opened:
        notes.append(
            f"open cross-sections, where the picture or its data end first: {opened}; they count for no mean"
        )
    return tuple(notes)
