"""What kind of picture it is, from its truth and its pixels alone, so that scores can be told apart by it."""

from collections.abc import Iterable

import cv2
import numpy as np

from autosam.types import Sample

NARROW = 0.03
"""Half the width of the widest water, as a share of the picture's longer side, below which it is narrow."""
DARK, SHADED = 45, 0.15
"""Grey level that counts as shadow, and the share of such pixels from which a picture counts as shaded."""


def strata_of(sample: Sample) -> dict[str, str]:
    """Stratum -> where this picture falls; a picture without water has a share of 'none' and nothing else."""
    if sample.mask is None:
        raise AssertionError("the pictures of a suite are labelled")
    water = sample.mask & sample.valid_area
    share = water.sum() / max(1, sample.valid_area.sum())
    grey = cv2.cvtColor(sample.image, cv2.COLOR_RGB2GRAY)
    found = {"light": "shaded" if (grey < DARK).mean() >= SHADED else "open"}
    if not water.any():
        return {**found, "water share": "none"}
    widest = cv2.distanceTransform(np.pad(water, 1, mode="edge").astype(np.uint8), cv2.DIST_L2, 5)
    edges = [water[0], water[-1], water[:, 0], water[:, -1]]
    return {
        **found,
        "water share": "below 10 %"
        if share < 0.1
        else "10 to 40 %"
        if share < 0.4
        else "above 40 %",
        "border": "touches" if any(edge.any() for edge in edges) else "inside",
        "width": "narrow" if widest.max() < NARROW * max(sample.size) else "wide",
    }


def strata(samples: Iterable[Sample]) -> dict[str, dict[str, str]]:
    """Name of the picture -> its strata."""
    return {sample.name: strata_of(sample) for sample in samples}
