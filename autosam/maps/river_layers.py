"""Rivers as layers of a GeoPackage: water, centreline, cross-sections, stations, islands."""

from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import shapely
from rasterio.features import shapes

from autosam.files import PathLike
from autosam.maps.metric_ground import Ground
from autosam.maps.river import River, RiverMeasures
from autosam.maps.river_tables import reach_rows, river_row, station_rows
from autosam.maps.vector_files import Frame, write_layers

LAYERS = {
    "water": "MultiPolygon",
    "centreline": "LineString",
    "reaches": "LineString",
    "sections": "LineString",
    "stations": "Point",
    "islands": "Polygon",
}
"""Name -> kind of geometry."""


def write_river_layers(path: PathLike, measures: RiverMeasures) -> Path:
    """Write all layers in the raster's coordinate reference system; one without rows is still there.

    Raises:
        OutputError: The suffix is not .gpkg, or the file cannot be written.
    """
    return write_layers(path, river_layers(measures))


def river_layers(measures: RiverMeasures) -> dict[str, Frame]:
    """The layers as frames, by name."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in LAYERS}
    for river in measures.rivers:
        found["water"].append({**river_row(river), "geometry": _water(river)})
        if river.centreline is not None and river.stations is not None:
            found["centreline"] += _lines(river)
            found["reaches"] += _reaches(river, measures.choice.reach_length)
            found["sections"] += _sections(river)
            found["stations"] += [
                {**row, "geometry": shapely.Point(row["x"], row["y"])}
                for row in station_rows(river)
            ]
        found["islands"] += _islands(river)
    crs = measures.raster.ground.crs
    return {name: _frame(rows, LAYERS[name], crs) for name, rows in found.items()}


def _frame(rows: list[dict[str, Any]], kind: str, crs: Any) -> Frame:
    if rows:
        return geopandas.GeoDataFrame(rows, geometry="geometry", crs=crs)
    empty = geopandas.GeoDataFrame({"river": np.zeros(0, int)}, geometry=[], crs=crs)
    empty.attrs["geometry_type"] = kind
    return empty


def _water(river: River) -> shapely.Geometry:
    """One polygon for each part that hangs together by more than corners."""
    outlines = shapes(river.water.astype(np.uint8), mask=river.water, connectivity=4)
    polygons = [shapely.geometry.shape(outline) for outline, _ in outlines]
    whole = shapely.union_all(polygons)
    parts = shapely.MultiPolygon([part for part in shapely.get_parts(whole) if part.area > 0])
    return shapely.transform(shapely.simplify(parts, 0), river.ground.to_world)


def _world_line(points: np.ndarray, ground: Ground) -> shapely.Geometry:
    return shapely.LineString(ground.to_world(ground.to_pixels(points)))


def _lines(river: River) -> list[dict[str, Any]]:
    line = river.centreline
    if line is None:
        return []
    every = [("main", line.main), *(("branch", branch) for branch in line.branches)]
    return [
        {
            "river": river.number,
            "kind": kind,
            "length_m": float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum()),
            "sinuosity": line.sinuosity if kind == "main" else None,
            "unit": river.ground.unit,
            "geometry": _world_line(points, river.ground),
        }
        for kind, points in every
    ]


def _reaches(river: River, reach_length: float | None) -> list[dict[str, Any]]:
    line = river.centreline
    if line is None:
        return []
    along = np.linspace(0, line.length, len(line.main))
    rows = []
    for row in reach_rows(river, reach_length=reach_length):
        ends = np.array([row["from_m"], row["to_m"]])
        inner = line.main[(along > ends[0]) & (along < ends[1])]
        first, last = (
            [np.interp(end, along, line.main[:, axis]) for axis in (0, 1)] for end in ends
        )
        points = np.concatenate([[first], inner, [last]])
        rows.append({**row, "geometry": _world_line(points, river.ground)})
    return rows


def _sections(river: River) -> list[dict[str, Any]]:
    stations = river.stations
    if stations is None:
        return []
    ends = np.stack(
        [
            stations.points + offset[:, None] * stations.normals
            for offset in (stations.left, stations.right)
        ],
        axis=1,
    )
    return [
        {**row, "geometry": _world_line(pair, river.ground)}
        for row, pair in zip(station_rows(river), ends, strict=True)
        if row["width_m"] > 0
    ]


def _islands(river: River) -> list[dict[str, Any]]:
    return [
        {
            "river": river.number,
            "island": number,
            "area_m2": island.area,
            "unit": river.ground.unit,
            "geometry": shapely.transform(island.outline, river.ground.to_world),
        }
        for number, island in enumerate(river.islands, start=1)
    ]
