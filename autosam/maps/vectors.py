"""From a mask raster of any size to polygons with their measures, by strips."""

import dataclasses
import hashlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import geopandas
import numpy as np
import pandas
import pyogrio
import shapely

from autosam.errors import AutoSamError, ConfigError
from autosam.files import PathLike, read_json
from autosam.maps.finished_rasters import STRIP_ROWS, FinishedRaster, Strip, read_strips
from autosam.maps.metric_ground import Ground
from autosam.maps.polygons import Dissolver, Geometry, Patch
from autosam.maps.vector_files import Frame, vector_format, writing_vectors

LAYER = "water"
MASK_ID = "mask_id"
_TOGETHER = 20_000
"""Polygons that are simplified and written together."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class VectorChoice:
    """How a mask becomes polygons.

    Raises:
        ConfigError: A value is negative.
    """

    minimum_area: float = 10.0
    """Square metres (pixels without a coordinate reference system); smaller polygons are left out."""
    minimum_hole: float | None = None
    """The same for holes, which are filled unless a pixel in them is without data: nobody knows whether it is
    water. None: as `minimum_area`; 0 keeps all."""
    tolerance: float | None = None
    """Metres by which an outline may move when it is simplified (see `simplified`); None: one pixel; 0 keeps
    every step."""
    model: str = ""
    """Stands in the attribute of that name; empty: what the mask's tags say."""
    strip_rows: int = STRIP_ROWS
    """Rows that are read at once; changes memory and nothing else."""

    def __post_init__(self) -> None:
        for name in ("minimum_area", "minimum_hole", "tolerance"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < float("inf"):
                raise ConfigError(f"{name} must be 0 or more, got {value}. Change it.")
        if self.strip_rows < 1:
            raise ConfigError(f"strip_rows must be 1 or more, got {self.strip_rows}. Change it.")

    @property
    def smallest_hole(self) -> float:
        """Square metres below which a hole is filled."""
        return self.minimum_area if self.minimum_hole is None else self.minimum_hole


@dataclasses.dataclass(frozen=True, kw_only=True)
class VectorCount:
    """What was written."""

    polygons: int
    area: float
    """Square metres, or pixels without a coordinate reference system."""
    unit: str
    """Of lengths."""


def write_polygons(
    raster: FinishedRaster, path: PathLike, *, choice: VectorChoice | None = None
) -> VectorCount:
    """Write the water of a mask as polygons; a mask without water gives a layer without rows.

    Raises:
        OutputError: Unknown suffix, or the file cannot be written.
        DataError: GeoJSON without a coordinate reference system.
        ImageError: The raster is damaged or holds strange values.
    """
    choice = choice or VectorChoice()
    polygons, area = 0, 0.0
    with writing_vectors(path, layer=LAYER) as write:
        for frame in polygon_frames(raster, choice):
            write(frame)
            polygons += len(frame)
            area += float(frame["area_m2"].sum()) if len(frame) else 0.0
    return VectorCount(polygons=polygons, area=area, unit=raster.ground.unit)


def polygon_frames(raster: FinishedRaster, choice: VectorChoice) -> Iterator[Frame]:
    """Polygons with attributes, some thousands at a time and at least one frame.

    Water that only meets at a corner of pixels is apart. Memory: one strip, the outlines of the water that
    the last strip left open, and one frame. Up to 20,000 polygons the rows are the same whatever the strips.

    Columns: `area_m2`: of the polygon as written, holes not counted; geodesic in geographic coordinates.
    `mean_probability`: over the pixels of water that it was made of; empty without a probability.
    `perimeter_m`: of the outline as written, holes too. `length_m`: longer side of the smallest rectangle
    around it. `model`. `mask_id`: of the mask that it is of, as the function of that name gives it. Without
    a coordinate reference system the same columns are in pixels, and `unit` says so.
    """
    name = mask_id(raster.mask)  # before it is read: polygons never bear the name of a newer mask
    unknown: list[np.ndarray] = []
    waiting: list[Patch] = []
    first = True
    for patch in _patches(raster, choice, unknown):
        waiting.append(patch)
        if len(waiting) == _TOGETHER:
            yield _frame(waiting, raster, choice, unknown=unknown, name=name)
            waiting, first = [], False
    if waiting or first:
        yield _frame(waiting, raster, choice, unknown=unknown, name=name)


def mask_id(mask: PathLike) -> str:
    """What tells a mask from every other: the first 16 hexadecimal digits of the SHA-256 of its file."""
    digest = hashlib.sha256()
    with Path(mask).open("rb") as stream:
        for piece in iter(lambda: stream.read(1 << 20), b""):
            digest.update(piece)
    return digest.hexdigest()[:16]


def are_polygons_of(path: PathLike, mask: PathLike) -> bool:
    """Whether a file holds polygons that say they were made of this very mask; none say so of a dry one."""
    try:
        if vector_format(path) == "Parquet":
            found = pandas.read_parquet(path, columns=[MASK_ID])
        else:
            found = pyogrio.read_dataframe(
                path, columns=[MASK_ID], read_geometry=False, max_features=1
            )
        if found.empty:
            return bool(read_json(Path(mask).with_suffix(".json"))["pixels"]["water"] == 0)
        return bool(found[MASK_ID].iloc[0] == mask_id(mask))
    except (AutoSamError, OSError, ValueError, RuntimeError, LookupError, TypeError):
        return False  # none, damaged, or somebody else's


def _patches(
    raster: FinishedRaster, choice: VectorChoice, unknown: list[np.ndarray]
) -> Iterator[Patch]:
    """Water that is whole; places without data that lie in its holes are in `unknown` before it comes."""
    ground = raster.ground
    dissolver = Dissolver(ground.size[1], minimum_area=choice.minimum_area)
    for strip in read_strips(raster, rows=choice.strip_rows):
        unknown.append(_places_without_data(strip))
        rows = slice(strip.first_row, strip.first_row + len(strip.water))
        yield from dissolver.add(
            strip.water,
            first_row=strip.first_row,
            row_areas=ground.row_areas[rows],
            probability=strip.probability,
        )
    yield from dissolver.finish()


def _places_without_data(strip: Strip) -> np.ndarray:
    """(count, 2) pixel coordinates: the middle of one pixel of each area of a strip that is without data."""
    if strip.valid.all():
        return np.empty((0, 2))
    count, labels = cv2.connectedComponents((~strip.valid).astype(np.uint8), connectivity=4)
    pixels = np.flatnonzero(labels)
    places = np.empty(count, dtype=np.int64)
    places[labels.ravel()[pixels]] = pixels
    rows, columns = np.divmod(places[1:], labels.shape[1])
    return np.column_stack([columns, rows + strip.first_row]) + 0.5


def _frame(
    patches: list[Patch],
    raster: FinishedRaster,
    choice: VectorChoice,
    *,
    unknown: list[np.ndarray],
    name: str,
) -> Frame:
    ground = raster.ground
    places = shapely.STRtree(shapely.points(np.concatenate(unknown)))
    # In the order of their upper left corners, lest the strips decide it.
    ordered = sorted(
        ((patch.polygon(), patch) for patch in patches),
        key=lambda pair: (*pair[0].bounds[1::-1], *pair[0].bounds[2:]),
    )
    patches = [patch for _, patch in ordered]
    filled = [_without_small_holes(polygon, ground, choice, places) for polygon, _ in ordered]
    tolerance = ground.pixel if choice.tolerance is None else choice.tolerance
    outlines = simplified(filled, ground, tolerance=tolerance)
    plane = shapely.transform(outlines, ground.to_metres)
    rows = {
        "area_m2": shapely.area(plane),
        "mean_probability": [
            patch.probability / patch.known if patch.known else np.nan for patch in patches
        ],
        "perimeter_m": shapely.length(plane),
        "length_m": [_longer_side(outline) for outline in plane],
        "model": [choice.model or raster.model] * len(patches),
        "unit": [ground.unit] * len(patches),
        MASK_ID: [name] * len(patches),
    }
    types = {key: str if key in ("model", "unit", MASK_ID) else float for key in rows}
    world = shapely.transform(outlines, ground.to_world)
    return geopandas.GeoDataFrame(rows, geometry=world, crs=ground.crs).astype(types)


def _without_small_holes(
    polygon: Geometry, ground: Ground, choice: VectorChoice, unknown: shapely.STRtree
) -> Geometry:
    """The polygon without holes that are small, but for those in which something is unknown."""
    holes = [shapely.Polygon(ring) for ring in polygon.interiors]
    small = [pixel_area(hole, ground) < choice.smallest_hole for hole in holes]
    if not any(small):
        return polygon
    stay = set(unknown.query(holes, predicate="contains")[0].tolist())
    kept = [
        hole.exterior for number, hole in enumerate(holes) if not small[number] or number in stay
    ]
    return shapely.Polygon(polygon.exterior, kept)


def pixel_area(polygon: Geometry, ground: Ground) -> float:
    """Square metres of a polygon in pixel coordinates, with the pixel's area at its middle row."""
    row = (polygon.bounds[1] + polygon.bounds[3]) / 2
    return float(polygon.area * ground.row_areas[min(int(row), ground.size[0] - 1)])


def simplified(
    polygons: list[Geometry], ground: Ground, *, tolerance: float
) -> "np.ndarray[tuple[int], np.dtype[np.object_]]":
    """Outlines with fewer corners, in pixel coordinates, each valid and none across another.

    Douglas and Peucker's rule in the topology-preserving form of JTS, in metres as they are in the raster's
    middle: no corner of the staircase lies further than the tolerance from the new outline, or twice that
    beside the corner at which a ring begins. All polygons are simplified as one, so that neighbours are seen;
    those that would lie on each other all the same, under a large tolerance, keep every corner.
    """
    together = np.array(polygons, dtype=object)
    if not tolerance or not polygons:
        return together
    metric = ground.metric
    scaled = shapely.transform(together, lambda points: points @ metric.T)
    parts = shapely.get_parts(shapely.simplify(shapely.MultiPolygon(list(scaled)), tolerance))
    if len(parts) != len(polygons) or not shapely.is_valid(parts).all():
        parts = shapely.simplify(scaled, tolerance)
        parts = np.where(shapely.is_valid(parts), parts, scaled)
    parts = _without_overlaps(parts, scaled)
    back: np.ndarray = shapely.transform(parts, lambda points: points @ np.linalg.inv(metric).T)
    return back


def _without_overlaps(
    parts: "np.ndarray[tuple[int], np.dtype[np.object_]]", exact: np.ndarray
) -> "np.ndarray[tuple[int], np.dtype[np.object_]]":
    """Simplified polygons, but for those that overlap: they are as they were, since then nothing does."""
    simple = np.ones(len(parts), dtype=bool)
    while True:
        larger, smaller = _meeting(parts)
        fresh = simple[larger] | simple[smaller]
        larger, smaller = larger[fresh], smaller[fresh]
        apart = shapely.touches(parts[larger], parts[smaller])  # corners may meet
        wrong = np.concatenate([larger[~apart], smaller[~apart]])
        if not simple[wrong].any():
            return parts
        simple[wrong] = False
        parts = np.where(simple, parts, exact)


def _meeting(polygons: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs that have a point in common, that with more corners first: prepared, it answers at once."""
    shapely.prepare(polygons)
    one, other = shapely.STRtree(polygons).query(polygons)
    size = shapely.get_num_coordinates(polygons)
    ordered = (size[one] > size[other]) | ((size[one] == size[other]) & (one > other))
    one, other = one[ordered], other[ordered]
    meet = shapely.intersects(polygons[one], polygons[other])
    return one[meet], other[meet]


def _longer_side(outline: Geometry) -> float:
    """Of the smallest rectangle around it: how far the water reaches; winding is not followed."""
    corners = shapely.get_coordinates(shapely.minimum_rotated_rectangle(outline))
    return float(np.linalg.norm(np.diff(corners[:3], axis=0), axis=1).max())
