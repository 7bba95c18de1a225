"""What a river gained and lost between two dates, as far as the masks can tell."""

import dataclasses
import math
from statistics import NormalDist

import cv2
import geopandas
import numpy as np
import pandas
import shapely
from rasterio.enums import Resampling
from rasterio.warp import reproject

from autosam.errors import ConfigError, DataError
from autosam.files import PathLike
from autosam.maps.finished_rasters import PIXEL_BUDGET, FinishedRaster, WholeRaster, read_whole
from autosam.maps.metric_ground import Ground
from autosam.maps.polygons import Dissolver
from autosam.maps.registration import REACH, Shift, find_shift
from autosam.maps.vector_files import Frame, writing_vectors
from autosam.maps.vectors import simplified

CHANGE = "change"
"""Column of 'gained' and 'lost'."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChangeChoice:
    """What counts as change.

    Raises:
        ConfigError: A value cannot be used.
    """

    maximum_shift: float | None = None
    """Metres by which the dates may lie beside each other before they are refused; None: two pixels."""
    bank_error: float | None = None
    """Metres: standard error of a bank in one mask; None: one pixel of the coarser mask."""
    confidence: float = 0.95
    """With which a change wider than the minimum is no error of the banks."""
    minimum_area: float = 25.0
    """Square metres (pixels without a coordinate reference system) of the smallest change."""
    tolerance: float | None = None
    """Metres of simplification; None: one pixel."""
    pixel_budget: int = PIXEL_BUDGET
    """Pixels compared at once; larger rasters are decimated to it."""

    def __post_init__(self) -> None:
        for name in ("maximum_shift", "bank_error", "minimum_area", "tolerance"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < float("inf"):
                raise ConfigError(f"{name} must be 0 or more, got {value}. Change it.")
        if not 0 < self.confidence < 1:
            raise ConfigError(
                f"confidence must be between 0 and 1, got {self.confidence}. Use 0.95, for instance."
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChangeMeasures:
    """Areas in square metres where both dates have data; pixels without a coordinate reference system."""

    before: float
    after: float
    gained: float
    """Significant: wider than `minimum_width`, in polygons of the smallest area at least."""
    lost: float
    gained_at_all: float
    """Every pixel that became water; of blocks of pixels, what each gained on balance."""
    lost_at_all: float
    common: float
    """Where both dates have data."""
    minimum_width: float
    """Metres: the level of detection."""
    shift: Shift
    decimation: int
    unit: str


def measure_change(
    first: FinishedRaster, second: FinishedRaster, *, choice: ChangeChoice | None = None
) -> tuple[Frame, ChangeMeasures]:
    """Polygons of change, `gained` or `lost`, and their sums.

    A change is significant where it is wider than the level of detection: the normal quantile of the
    confidence times the standard error of the difference of two banks (errors of the dates independent,
    as in Lane et al. 2003, Earth Surface Processes and Landforms 28), plus the whole shift between
    the dates, which is no random error. Narrower slivers along the banks are cut off.

    Args:
        first: Mask of the earlier date; its grid is kept.
        second: Mask of the later date, in the same coordinate reference system; another grid is brought to
            the first's by nearest pixel.
        choice: What counts.

    Raises:
        DataError: Another coordinate reference system, no common ground, a shift above the allowed one,
            or one that cannot be told where none is allowed by name.
        ImageError: A raster is damaged or holds strange values.
    """
    choice = choice or ChangeChoice()
    before, after = _read_both(first, second, choice)
    ground, valid = before.ground, before.valid & after.valid
    water = before.water & valid, after.water & valid
    amounts = [np.where(valid, date.amounts, np.float32(0)) for date in (before, after)]
    shift = find_shift(*water, valid=valid, ground=ground)
    _check_shift(shift, ground, choice, second)
    pixel = max(ground.pixel, second.ground.pixel * after.step)
    width = _detectable_width(shift, pixel, choice)
    more = {"gained": amounts[1] - amounts[0], "lost": amounts[0] - amounts[1]}
    changed = {"gained": water[1] & ~water[0], "lost": water[0] & ~water[1]}
    frames = []
    for kind, area in changed.items():
        wide = wide_parts(area, valid, width=width / ground.pixel)
        frames.append(_polygons(kind, wide, _credited(more[kind], area, wide), ground, choice))
    return pandas.concat(frames, ignore_index=True), ChangeMeasures(
        before=_area(amounts[0], ground),
        after=_area(amounts[1], ground),
        gained=float(frames[0]["area_m2"].sum()),
        lost=float(frames[1]["area_m2"].sum()),
        gained_at_all=_area(more["gained"].clip(0), ground),
        lost_at_all=_area(more["lost"].clip(0), ground),
        common=_area(valid, ground),
        minimum_width=width,
        shift=shift,
        decimation=before.step,
        unit=ground.unit,
    )


def _read_both(
    first: FinishedRaster, second: FinishedRaster, choice: ChangeChoice
) -> tuple[WholeRaster, WholeRaster]:
    """On the grid of the first."""
    before = read_whole(first, pixel_budget=choice.pixel_budget)
    after = _on_grid(read_whole(second, pixel_budget=choice.pixel_budget), before, second, first)
    if not (before.valid & after.valid).any():
        raise DataError(
            f"dates must have ground with data in common, got none ({first.mask} and {second.mask}). "
            "Compare rasters of one place."
        )
    return before, after


def _detectable_width(shift: Shift, pixel: float, choice: ChangeChoice) -> float:
    quantile = NormalDist().inv_cdf((1 + choice.confidence) / 2)
    bank_error = pixel if choice.bank_error is None else choice.bank_error
    return quantile * math.sqrt(2) * bank_error + shift.metres


def write_change(
    first: FinishedRaster,
    second: FinishedRaster,
    path: PathLike,
    *,
    choice: ChangeChoice | None = None,
) -> ChangeMeasures:
    """Write the polygons with `change`, `area_m2`, `width_m` (of the widest place) and `unit`.

    Raises:
        OutputError: Unknown suffix, or the file cannot be written.
        DataError: As `measure_change`, or GeoJSON without a coordinate reference system.
        ImageError: A raster is damaged or holds strange values.
    """
    with writing_vectors(path, layer="change") as write:
        frame, measures = measure_change(first, second, choice=choice)
        write(frame)
    return measures


def wide_parts(area: np.ndarray, valid: np.ndarray, *, width: float) -> np.ndarray:
    """An area without its parts narrower than `width` pixels: an opening by a disc.

    Neither the frame nor the edge of the data makes a part narrow, for it may go on there.
    """
    radius = width / 2
    # The distance is to the middle of the nearest pixel outside, half a pixel beyond the edge.
    inside = cv2.distanceTransform((area | ~valid).astype(np.uint8), cv2.DIST_L2, 5) - 0.5
    kept: np.ndarray = area & (inside >= radius)
    if not kept.any():
        return kept
    away = cv2.distanceTransform((~kept).astype(np.uint8), cv2.DIST_L2, 5)
    opened: np.ndarray = area & (away <= radius + 0.5)
    return opened


def _area(amounts: np.ndarray, ground: Ground) -> float:
    return float((amounts.sum(axis=1, dtype=np.float64) * ground.row_areas).sum())


def _polygons(
    kind: str, area: np.ndarray, amounts: np.ndarray, ground: Ground, choice: ChangeChoice
) -> Frame:
    """Of an area; `amounts` are how much of each pixel, or block of pixels, has changed."""
    dissolver = Dissolver(area.shape[1], minimum_area=choice.minimum_area)
    patches = dissolver.add(area, first_row=0, row_areas=ground.row_areas, probability=amounts)
    patches += dissolver.finish()
    tolerance = ground.pixel if choice.tolerance is None else choice.tolerance
    polygons = [patch.polygon() for patch in patches]
    outlines = simplified(polygons, ground, tolerance=tolerance)
    rows = {
        CHANGE: [kind] * len(patches),
        "area_m2": [patch.probability for patch in patches],
        "width_m": [_widest(polygon) * ground.pixel for polygon in polygons],
        "unit": [ground.unit] * len(patches),
    }
    types = {name: float if name.endswith(("m", "m2")) else str for name in rows}
    world = shapely.transform(outlines, ground.to_world)
    return geopandas.GeoDataFrame(rows, geometry=world, crs=ground.crs).astype(types)


def _credited(more: np.ndarray, changed: np.ndarray, wide: np.ndarray) -> np.ndarray:
    """How much of each block of the wide parts changed, and of those beside them that a bank cuts.

    A pixel of the file has changed or not, so that nothing is left beside them.
    """
    inside = np.pad(wide, 1)
    left = np.pad(np.where(changed, 0, more.clip(0)), 1)
    found = np.pad(np.where(wide, more, 0), 1)
    for step in ((0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1)):
        taken = np.where(np.roll(inside, step, axis=(0, 1)), left, 0)
        found += np.roll(taken, (-step[0], -step[1]), axis=(0, 1))
        left -= taken
    credited: np.ndarray = found[1:-1, 1:-1]
    return credited


def _widest(polygon: shapely.Geometry) -> float:
    """Twice the radius of the largest disc inside, in pixels, to half a pixel."""
    radius = shapely.length(shapely.maximum_inscribed_circle(polygon, tolerance=0.25))
    return 2 * float(radius)


def _on_grid(
    after: WholeRaster, before: WholeRaster, second: FinishedRaster, first: FinishedRaster
) -> WholeRaster:
    """The later date on the earlier one's grid."""
    own, wanted = second.ground, first.ground
    if own.crs != wanted.crs:
        names = [ground.crs.name if ground.crs else "none" for ground in (wanted, own)]
        raise DataError(
            f"dates must have one coordinate reference system, got {names[0]} ({first.mask}) and "
            f"{names[1]} ({second.mask}). Reproject one, for instance by gdalwarp -r near."
        )
    if own.size == wanted.size and own.transform.almost_equals(
        wanted.transform, precision=1e-6 * math.sqrt(abs(wanted.transform.determinant))
    ):
        return after
    size, ground = before.water.shape, before.ground
    valid = _nearest(after.valid, after.ground, ground, size) > 0
    amounts = _nearest(after.amounts, after.ground, ground, size)
    return dataclasses.replace(
        after, water=valid & (amounts >= 0.5), valid=valid, ground=ground, probability=None,
        share=None if after.share is None and before.share is None else amounts,
    )  # fmt: skip


def _nearest(values: np.ndarray, own: Ground, ground: Ground, size: tuple[int, ...]) -> np.ndarray:
    """float32 on another grid of the same coordinate reference system; 0 beyond the values."""
    target = np.zeros(size, dtype=np.float32)
    crs = "EPSG:3857" if ground.crs is None else ground.crs.to_wkt()  # the same for both: no change
    reproject(
        values.astype(np.float32),
        target,
        src_transform=own.transform,
        dst_transform=ground.transform,
        src_crs=crs,
        dst_crs=crs,
        resampling=Resampling.nearest,
    )
    return target


def _check_shift(
    shift: Shift, ground: Ground, choice: ChangeChoice, second: FinishedRaster
) -> None:
    if shift.is_beyond_reach and choice.maximum_shift is None:
        raise DataError(
            f"dates must lie on each other, got banks that lie more than {REACH} pixels "
            f"({REACH * ground.pixel:.4g} {ground.unit}) apart ({second.mask}). If the river itself changed "
            "so much, say which shift you allow (maximum_shift, --maximum-shift), for none can be told; else "
            "register the dates."
        )
    limit = 2 * ground.pixel if choice.maximum_shift is None else choice.maximum_shift
    if shift.metres > limit:
        raise DataError(
            f"dates must lie within {limit:.2f} {ground.unit} of each other, got a shift of "
            f"{shift.columns:+.1f} columns and {shift.rows:+.1f} rows, {shift.metres:.2f} {ground.unit} "
            f"({second.mask}). A river that moved as a whole looks the same as a picture that lies "
            "beside its place: register the dates, or allow the shift (maximum_shift, --maximum-shift)."
        )
