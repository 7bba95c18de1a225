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
    water: np.ndarray,
    valid: np.ndarray,
    *,
    areas: np.ndarray,
    minimum_area: float,
    share: np.ndarray | None = None,
) -> tuple[np.ndarray, list[Island]]:
    """The water with small holes filled, and the islands that stay.

    A hole with a pixel without data is neither: nobody knows whether it is land. It stays as it is.

    Args:
        water: (height, width) bool, one river; holes may hold other water.
        valid: (height, width) bool, False where there is no data.
        areas: (height,) square metres of a pixel in each row.
        minimum_area: Square metres below which a hole is filled.
        share: (height, width) float, how much of each block is water of this river, 0..1; None where each is
            a pixel of the file.

    Returns:
        (height, width) bool, and the islands from large to small.
    """
    inside = ndimage.binary_fill_holes(water) & ~water
    count, labels = cv2.connectedComponents(inside.astype(np.uint8), connectivity=4)
    sizes = (
        _sizes(labels, count, areas)
        if share is None
        else _sizes_of_land(labels, count, areas, share)
    )
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


def _sizes(labels: np.ndarray, count: int, weights: np.ndarray) -> np.ndarray:
    """(count,) sums of weights, (height,) or (height, width)."""
    spread = np.broadcast_to(weights[:, None] if weights.ndim == 1 else weights, labels.shape)
    return np.bincount(labels.ravel(), weights=spread.ravel(), minlength=count)


def _sizes_of_land(
    labels: np.ndarray, count: int, areas: np.ndarray, share: np.ndarray
) -> np.ndarray:
    """(count,) square metres of land; a hole has what is land of the blocks of water beside it, too."""
    beside = ndimage.grey_dilation(labels, size=(3, 3))
    grown = np.where((labels == 0) & (share > 0), beside, labels)
    return _sizes(grown, count, (1 - share) * areas[:, None])
