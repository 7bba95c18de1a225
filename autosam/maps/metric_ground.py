"""How long and how large a thing on a raster is, in metres, whatever the raster's coordinates.

Places on a raster are *pixel coordinates* (column, row) with (0, 0) at the upper left *corner* of the
first pixel, as affine transforms have it.
"""

import dataclasses
from functools import cached_property
from typing import Any, Literal

import numpy as np
from affine import Affine
from pyproj import CRS, Proj, Transformer
from pyproj.exceptions import ProjError

from autosam.errors import DataError

Mode = Literal["planar", "geodesic", "pixels"]

LARGEST_AREA_ERROR = 0.01
"""Beyond it a projection is not measured in its own plane: web Mercator at 60° north shows areas
fourfold. UTM inside its zone and state plane stay below."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Ground:
    """A raster's place on the earth and its measures.

    *planar*: projected coordinates times their linear unit. *geodesic*: geographic coordinates, and
    projections that distort areas by more than 1 %, are measured in Lambert's azimuthal equal-area
    projection around the raster's middle, on the raster's own ellipsoid: areas exact, lengths within
    1e-4 up to 180 km from the middle. *pixels*: there is no coordinate reference system, and one pixel
    is the unit.
    """

    crs: CRS | None
    transform: Affine
    """Pixel coordinates to the raster's own coordinates; may be rotated."""
    size: tuple[int, int]
    """(height, width)."""
    mode: Mode

    @property
    def unit(self) -> str:
        """Of lengths: 'm', or 'px' without a coordinate reference system."""
        return "px" if self.mode == "pixels" else "m"

    @cached_property
    def _factor(self) -> float:
        """Metres for one unit of the raster's plane coordinates."""
        axes = self.crs.axis_info if self.crs is not None else []
        return float(axes[0].unit_conversion_factor) if axes else 1.0

    @cached_property
    def _to_plane(self) -> Transformer:
        return Transformer.from_crs(self.crs, _equal_area(self), always_xy=True)

    def to_world(self, points: np.ndarray) -> np.ndarray:
        """(count, 2) pixel coordinates to the raster's own coordinates."""
        return _apply(self.transform, points)

    def from_world(self, points: np.ndarray) -> np.ndarray:
        """The way back from `to_world`."""
        return _apply(~self.transform, points)

    def to_metres(self, points: np.ndarray) -> np.ndarray:
        """(count, 2) pixel coordinates to a plane in metres; its origin and axes mean nothing."""
        if self.mode == "pixels":
            return np.asarray(points, dtype=float)
        world = self.to_world(points)
        if self.mode == "planar":
            return world * self._factor
        return np.column_stack(self._to_plane.transform(world[:, 0], world[:, 1]))

    def to_pixels(self, points: np.ndarray) -> np.ndarray:
        """The way back from `to_metres`."""
        points = np.asarray(points, dtype=float)
        if self.mode == "pixels":
            return points
        if self.mode == "planar":
            world = points / self._factor
        else:
            back = self._to_plane.transform(points[:, 0], points[:, 1], direction="INVERSE")
            world = np.column_stack(back)
        return self.from_world(world)

    @cached_property
    def metric(self) -> np.ndarray:
        """(2, 2): steps (column, row) to metres, as they are in the middle of the raster."""
        height, width = self.size
        middle = np.array([[width / 2, height / 2]])
        steps = np.array([[-0.5, 0.0], [0.5, 0.0], [0.0, -0.5], [0.0, 0.5]])
        corners = self.to_metres(middle + steps)
        return np.column_stack([corners[1] - corners[0], corners[3] - corners[2]])

    @property
    def sides(self) -> tuple[float, float]:
        """Height and width of a pixel in metres, in the middle."""
        column, row = np.linalg.norm(self.metric, axis=0)
        return float(row), float(column)

    @property
    def pixel(self) -> float:
        """Side in metres of a square as large as a pixel."""
        return float(np.sqrt(abs(np.linalg.det(self.metric))))

    @cached_property
    def row_areas(self) -> np.ndarray:
        """(height,) square metres of a pixel in each row, in the middle column."""
        height, width = self.size
        if self.mode != "geodesic":
            return np.full(height, abs(float(np.linalg.det(self.metric))))
        edges, left = np.arange(height + 1.0), float(width // 2)
        first = self.to_metres(np.column_stack([np.full(height + 1, left), edges]))
        second = self.to_metres(np.column_stack([np.full(height + 1, left + 1), edges]))
        across, down = second[1:] - first[:-1], second[:-1] - first[1:]
        areas: np.ndarray = np.abs(across[:, 0] * down[:, 1] - across[:, 1] * down[:, 0]) / 2
        return areas

    def decimated(self, step: int) -> "Ground":
        """The ground of a raster whose pixels are `step` by `step` of these."""
        height, width = self.size
        a, b, c, d, e, f = tuple(self.transform)[:6]
        return dataclasses.replace(
            self,
            transform=Affine(a * step, b * step, c, d * step, e * step, f),
            size=(-(-height // step), -(-width // step)),
        )

    def cut(self, rows: slice, columns: slice) -> "Ground":
        """The ground of a part of the raster; its plane in metres is its own."""
        a, b, _, d, e, _ = tuple(self.transform)[:6]
        (x, y) = self.to_world(np.array([[columns.start, rows.start]]))[0]
        return dataclasses.replace(
            self,
            transform=Affine(a, b, float(x), d, e, float(y)),
            size=(rows.stop - rows.start, columns.stop - columns.start),
        )


def read_ground(crs: Any, transform: Affine, *, size: tuple[int, int], name: str) -> Ground:
    """The ground under a raster.

    Args:
        crs: Anything that pyproj understands, or None.
        transform: Pixel coordinates to the coordinates of `crs`.
        size: (height, width).
        name: Of the raster, for the error message.

    Raises:
        DataError: The transform squeezes pixels to a line, or the coordinates lie off the earth.
    """
    if not np.isfinite(tuple(transform)).all() or abs(transform.determinant) < 1e-18:
        raise DataError(
            f"geotransform must give pixels an area, got {tuple(transform)[:6]} ({name}). "
            "Set it anew, for instance by gdal_edit -a_ullr."
        )
    if not crs:
        return Ground(crs=None, transform=transform, size=size, mode="pixels")
    read = _read_crs(crs, name)
    middle = _middle(transform, size)
    return Ground(crs=read, transform=transform, size=size, mode=_mode(read, middle, name))


def lies_on_earth(crs: Any) -> bool:
    """Whether coordinates have a place on the earth: not without a system, nor in a site's own grid.

    Args:
        crs: Anything that pyproj understands, or None.
    """
    if not crs:
        return False
    try:
        known = CRS.from_user_input(crs.to_wkt() if hasattr(crs, "to_wkt") else crs)
    except ProjError:
        return False
    return bool(known.is_geographic or known.is_projected)


def _read_crs(crs: Any, name: str) -> CRS:
    try:
        read = CRS.from_user_input(crs.to_wkt() if hasattr(crs, "to_wkt") else crs).to_2d()
    except ProjError as error:
        raise DataError(
            f"coordinate reference system must be known to PROJ, got {crs} ({name}). "
            "Set it anew, for instance by gdal_edit -a_srs EPSG:..."
        ) from error
    if read.is_geocentric:
        raise DataError(
            f"coordinate reference system must be geographic or projected, got {read.name} ({name}). "
            "Reproject the raster first."
        )
    return read


def _mode(crs: CRS, middle: tuple[float, float], name: str) -> Mode:
    if not lies_on_earth(crs):
        return "planar"  # a site's own grid: nothing but its unit is known
    longitude, latitude = middle
    if not crs.is_geographic:
        to_degrees = Transformer.from_crs(crs, crs.geodetic_crs, always_xy=True)
        longitude, latitude = to_degrees.transform(*middle)
    if not (abs(longitude) <= 360 and abs(latitude) <= 90):  # infinity and NaN are caught too
        raise DataError(
            f"coordinates must lie on the earth in {crs.name}, got {middle[0]:g}, {middle[1]:g} in "
            f"the raster's middle ({name}). Its coordinate reference system is wrong: set the right one."
        )
    if crs.is_geographic:
        return "geodesic"
    scale = Proj(crs).get_factors(longitude, latitude).areal_scale
    return "planar" if abs(scale - 1) <= LARGEST_AREA_ERROR else "geodesic"


def _equal_area(ground: Ground) -> CRS:
    crs = ground.crs
    if crs is None or crs.geodetic_crs is None or crs.ellipsoid is None:
        raise DataError("ground must have a geodetic datum to be measured, got none. Set a CRS.")
    x, y = _middle(ground.transform, ground.size)
    if not crs.is_geographic:
        x, y = Transformer.from_crs(crs, crs.geodetic_crs, always_xy=True).transform(x, y)
    ellipsoid = crs.ellipsoid
    return CRS.from_proj4(
        f"+proj=laea +lat_0={y} +lon_0={x} +a={ellipsoid.semi_major_metre} "
        f"+b={ellipsoid.semi_minor_metre} +units=m +no_defs"
    )


def _middle(transform: Affine, size: tuple[int, int]) -> tuple[float, float]:
    x, y = _apply(transform, np.array([[size[1] / 2, size[0] / 2]]))[0]
    return float(x), float(y)


def _apply(transform: Affine, points: np.ndarray) -> np.ndarray:
    points = np.asarray(points, dtype=float)
    a, b, c, d, e, f = tuple(transform)[:6]
    x, y = points[:, 0], points[:, 1]
    return np.column_stack([a * x + b * y + c, d * x + e * y + f])
