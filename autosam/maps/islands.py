"""Land that a river closes in, and filling of holes that are noise."""

import dataclasses

import cv2
import numpy as np
import shapely
from rasterio.features import shapes
from scipy import ndimage

from autosam.maps.polygons import Geometry


@dataclasses.dataclass(frozen=True, kw_only=True)
class Island:
    """One island or bar; water inside it is counted to it."""

    outline: Geometry
    """In pixel coordinates, without holes."""
    area: float
    """Square metres."""


def find_islands(
    water: np.ndarray, valid: np.ndarray, *, areas: np.ndarray, minimum_area: float
) -> tuple[np.ndarray, list[Island]]:
    """The water with small holes filled, and the islands that stay.

    A hole with a pixel without data is neither: nobody knows whether it is land. It stays as it is.

    Args:
        water: (height, width) bool, one river; holes may hold other water.
        valid: (height, width) bool, False where there is no data.
        areas: (height,) square metres of a pixel in each row.
        minimum_area: Square metres below which a hole is filled.

    Returns:
        (height, width) bool, and the islands from large to small.
    """
    inside = ndimage.binary_fill_holes(water) & ~water
    count, labels = cv2.connectedComponents(inside.astype(np.uint8), connectivity=4)
    weights = np.broadcast_to(areas[:, None], labels.shape)
    sizes = np.bincount(labels.ravel(), weights=weights.ravel(), minlength=count)
    unknown = np.zeros(count, dtype=bool)
    unknown[labels[~valid]] = True
    small = (sizes < minimum_area) & ~unknown
    large = (sizes >= minimum_area) & ~unknown
    small[0] = large[0] = False
    found = [
        Island(outline=shapely.Polygon(outline["coordinates"][0]), area=float(sizes[int(label)]))
        for outline, label in shapes(labels.astype(np.int32), mask=large[labels], connectivity=4)
    ]
    return water | small[labels], sorted(found, key=lambda island: -island.area)
