"""Small georeferenced rivers, and a stand-in for a model that is a pure function of the pixels."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rasterio
from rasterio.transform import Affine, from_origin

UTM = "EPSG:32610"
HALF_METRE = from_origin(450_000, 5_320_000, 0.5, 0.5)


class DarkIsWater:
    """Water is where a blurred tile is dark; smooth, and the same for the same pixels.

    Args:
        side: Of the tiles it likes.
        ground_resolution: That it was trained with.
        fails: Mean grey above which a tile makes it fail.
    """

    threshold = 0.5
    batch = 4

    def __init__(
        self,
        side: int = 64,
        ground_resolution: tuple[float, float] | None = None,
        fails: float = 256,
        name: str = "dark",
    ) -> None:
        self.side = side
        self.ground_resolution = ground_resolution
        self.identity = name
        self._fails = fails
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, tiles: Sequence[np.ndarray]) -> list[np.ndarray]:
        self.shapes += [tile.shape for tile in tiles]
        return [self._one(tile) for tile in tiles]

    def _one(self, tile: np.ndarray) -> np.ndarray:
        if tile.mean() > self._fails:
            raise RuntimeError("this tile is too bright")
        grey = cv2.GaussianBlur(tile.astype(np.float32).mean(axis=2), (0, 0), 1.5)
        return (1 / (1 + np.exp((grey - 120) / 12))).astype(np.float32)


def river(height: int, width: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(height, width, 3) uint8 of a dark winding river on bright noise, and its (height, width) bool mask."""
    rows, columns = np.mgrid[:height, :width]
    middle = height / 2 + height / 5 * np.sin(columns / width * 6)
    water = np.abs(rows - middle) < height / 10
    noise = np.random.default_rng(seed).normal(0, 8, (height, width, 3))
    shades = np.where(water, 60, 180)[..., None] + noise + np.array([10, 0, -10])
    return np.clip(shades, 0, 255).astype(np.uint8), water


def write_raster(path: Path, image: np.ndarray, **profile: Any) -> Path:
    """Write (height, width, bands) as a GeoTIFF, half a metre a pixel unless told otherwise."""
    options = {"crs": UTM, "transform": HALF_METRE, "driver": "GTiff", **profile}
    extra = {
        key: options.pop(key) for key in ("mask", "colormap", "interpretation") if key in options
    }
    bands = np.moveaxis(np.atleast_3d(image), -1, 0)
    count, height, width = bands.shape
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path, "w", width=width, height=height, count=count, dtype=bands.dtype, **options
    ) as raster:
        if "interpretation" in extra:
            raster.colorinterp = extra["interpretation"]
        raster.write(bands)
        if "mask" in extra:
            raster.write_mask(extra["mask"])
        if "colormap" in extra:
            raster.write_colormap(1, extra["colormap"])
    return path


def rotated(angle: float) -> Affine:
    """Half a metre a pixel, turned by degrees."""
    return HALF_METRE @ Affine.rotation(angle)
