"""Vector layers as outlines on a raster's pixels, small enough for a page that holds them all."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyogrio
import shapely

from autosam.errors import DataError
from autosam.files import PathLike
from autosam.maps.metric_ground import Ground
from autosam.maps.vector_files import Frame, vector_format

MOST_CHARACTERS = 450_000
"""Of all outlines together."""
_FINEST = 0.25
"""Pixels by which outlines may move at first; twice as many each time that they are too long."""
_CHARACTERS_PER_CORNER = 12
"""At most, on the mean."""
LINE_LAYERS = ("water", "islands", "sections", "centreline", "gained", "lost")
"""That a page shows where they are there, the last on top."""


def read_layers(path: PathLike) -> dict[str, Frame]:
    """The layers of a vector file that a page can show, by name.

    Raises:
        DataError: It cannot be read.
        OutputError: Its suffix is unknown.
    """
    path = Path(path)
    form = vector_format(path)
    try:
        if form == "Parquet":
            return {"water": geopandas.read_parquet(path)}
        names = [str(name) for name in pyogrio.list_layers(path)[:, 0]]
        if form != "GPKG":
            return {"water": geopandas.read_file(path)}
        return {
            name: geopandas.read_file(path, layer=name) for name in LINE_LAYERS if name in names
        }
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(
            f"vector file must be readable, got {path} ({error}). Write it again."
        ) from error


def drawn_layers(layers: Mapping[str, Frame], ground: Ground) -> list[dict[str, Any]]:
    """Each layer as ``name``, ``count``, ``closed`` and ``path`` (SVG, in the raster's pixels).

    Outlines are simplified together until they are short enough, and those that would then be dots
    disappear; ``moved`` says by how many pixels they may have moved.

    Args:
        layers: Frames in any coordinate reference system.
        ground: Of the raster.
    """
    placed = {name: _on_pixels(frame, ground) for name, frame in layers.items() if len(frame)}
    moved = _FINEST
    while True:
        simple = {name: _simplified(shapes, moved) for name, shapes in placed.items()}
        corners = sum(int(shapely.get_num_coordinates(shapes).sum()) for shapes in simple.values())
        if corners * _CHARACTERS_PER_CORNER <= MOST_CHARACTERS:
            break
        moved *= 2
    paths = {
        name: "".join(piece for shape in shapes for piece in _pieces(shape))
        for name, shapes in simple.items()
    }
    return [
        {
            "name": name,
            "count": len(layers[name]),
            "closed": bool(shapely.get_dimensions(placed[name]).max() == 2),
            "path": path,
            "moved": moved,
        }
        for name, path in paths.items()
    ]


def _on_pixels(frame: Frame, ground: Ground) -> np.ndarray:
    """Geometries in pixel coordinates of the raster."""
    if frame.crs is not None and ground.crs is not None and frame.crs != ground.crs:
        frame = frame.to_crs(ground.crs)
    shapes = np.asarray(frame.geometry.array, dtype=object)
    shapes = shapes[~(shapely.is_missing(shapes) | shapely.is_empty(shapes))]
    moved: np.ndarray = shapely.transform(shapes, ground.from_world)
    return moved


def _simplified(shapes: np.ndarray, tolerance: float) -> np.ndarray:
    """With fewer corners; beyond the finest tolerance without what it would make a dot."""
    simple: np.ndarray = shapely.simplify(shapes, tolerance)
    if tolerance == _FINEST:
        return simple
    bounds = shapely.bounds(simple)
    extents = np.maximum(bounds[:, 2] - bounds[:, 0], bounds[:, 3] - bounds[:, 1])
    return np.asarray(simple[extents > 2 * tolerance])


def _pieces(shape: Any) -> Iterator[str]:
    """SVG, to a tenth of a pixel."""
    for part in shapely.get_parts(shape):
        if part.geom_type == "Polygon":
            for ring in (part.exterior, *part.interiors):
                yield _line(ring.coords[:-1]) + "z"
        elif part.geom_type == "LineString":
            yield _line(part.coords)


def _line(points: Any) -> str:
    """Absolute start, then steps, which are short to write."""
    tenths = np.rint(np.asarray(points, dtype=float) * 10).astype(np.int64)
    steps = np.diff(tenths, axis=0)
    start = f"M{tenths[0, 0] / 10:g} {tenths[0, 1] / 10:g}"
    return start + "".join(f"l{x / 10:g} {y / 10:g}" for x, y in steps.tolist())
