"""Class-agnostic objects of a picture: regions that two segmentations of it agree upon.

Source: graph-based segmentation after Felzenszwalb and Huttenlocher 2004, as scikit-image has it.
"""

import numpy as np
from scipy import sparse
from skimage.segmentation import felzenszwalb

from benchmarks.river_nano.scenes import Scene, cv2

LONGEST = 480
"""Pixels of the longer side at which regions are looked for."""
SCALES = (80.0, 300.0)
LEAST_AGREEMENT = 0.7
"""IoU of a region with its best partner in the picture seen with noise and more blur."""


def stable_regions(scene: Scene, *, seed: int = 0) -> np.ndarray:
    """(height, width) uint16: regions from 1 on, larger ones below smaller; 0 for none."""
    height, width = scene.image.shape[:2]
    factor = min(1.0, LONGEST / max(height, width))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    small = cv2.resize(scene.image, size, interpolation=cv2.INTER_AREA)
    noise = np.random.default_rng(seed).normal(0, 4, small.shape)
    again = np.clip(small + noise, 0, 255).astype(np.uint8)
    found = np.zeros(small.shape[:2], np.uint16)
    for scale in sorted(SCALES, reverse=True):
        least = int(scale)
        first = felzenszwalb(small, scale=scale, sigma=0.8, min_size=least)
        second = felzenszwalb(again, scale=scale * 1.15, sigma=1.0, min_size=least)
        agreed = _agreed(first, second)
        numbers = np.zeros(first.max() + 1, np.uint16)
        numbers[agreed] = found.max() + 1 + np.arange(len(agreed))
        found = np.where(numbers[first] > 0, numbers[first], found)
    return cv2.resize(found, (width, height), interpolation=cv2.INTER_NEAREST)


def _agreed(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Labels of `first` whose best partner in `second` overlaps enough."""
    ones = np.ones(first.size, np.int64)
    shared = sparse.coo_matrix((ones, (first.ravel(), second.ravel()))).tocsr()
    own = np.asarray(shared.sum(axis=1)).ravel()
    other = np.asarray(shared.sum(axis=0)).ravel()
    shared = shared.tocoo()
    overlap = shared.data / (own[shared.row] + other[shared.col] - shared.data)
    best = np.zeros(len(own))
    np.maximum.at(best, shared.row, overlap)
    small_enough = own < 0.6 * first.size
    return np.flatnonzero((best >= LEAST_AGREEMENT) & small_enough)
