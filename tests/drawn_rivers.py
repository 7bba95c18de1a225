"""Rivers whose width, length and area are known, and rasters of them on disk."""

import math
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from scipy.spatial import cKDTree

UTM = "EPSG:32610"
HALF_METRE = Affine(0.5, 0, 460000, 0, -0.5, 5330000)
_COS, _SIN = math.cos(math.radians(30)), math.sin(math.radians(30))
TURNED = Affine(0.5 * _COS, 0.5 * _SIN, 460000, 0.5 * _SIN, -0.5 * _COS, 5330000)
"""The same pixels, turned by 30 degrees."""


def middles(size):
    """x and y of pixel middles."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    return columns + 0.5, rows + 0.5


def straight_river(size=(120, 300), *, width=24):
    """Along the middle row; `width` pixels wide."""
    _, y = middles(size)
    return np.abs(y - size[0] / 2) < width / 2


def winding_river(size=(300, 600), *, width=24, height=70, bend=400):
    """A sine of `height` pixels and wavelength `bend`, with its banks `width` / 2 from it; and its length."""
    x = np.linspace(-bend, size[1] + bend, 20_000)
    y = size[0] / 2 + height * np.sin(2 * np.pi * x / bend)
    places = np.column_stack([values.ravel() for values in middles(size)])
    line = cKDTree(np.column_stack([x, y])[::20])
    # Points of the line lie closer than a twentieth of the smallest width; the others are too far to count.
    away = line.query(places, distance_upper_bound=width)[0].reshape(size)
    inside = (x >= 0) & (x <= size[1])
    length = np.hypot(np.diff(x[inside]), np.diff(y[inside])).sum()
    return away < width / 2, float(length)


def write_raster(path, values, *, crs=UTM, transform=HALF_METRE, nodata=None, **tags) -> Path:
    """A one-band GeoTIFF of an array; bool becomes 0 and 1."""
    values = values.astype(np.uint8) if values.dtype == bool else values
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=values.shape[0],
        width=values.shape[1],
        count=1,
        dtype=values.dtype,
        crs=crs,
        transform=transform,
        nodata=nodata,
    ) as dataset:
        dataset.write(values, 1)
        dataset.update_tags(**tags)
    return Path(path)
