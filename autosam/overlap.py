"""How far masks agree: the one intersection over union of the library, for rooms low and high."""

from collections.abc import Sequence

import numpy as np


def mask_iou(mask: np.ndarray, other: np.ndarray, *, valid: np.ndarray | None = None) -> float:
    """Intersection over union of two (height, width) bool masks, 0..1; 1 when both are empty.

    Args:
        mask: True for water.
        other: True for water.
        valid: False where neither counts; None when all of it counts.
    """
    either, both = mask | other, mask & other
    if valid is not None:
        either, both = either & valid, both & valid
    union = np.count_nonzero(either)
    return np.count_nonzero(both) / union if union else 1.0


def water_score(iou_of_wet: Sequence[float], false_water_of_dry: Sequence[float]) -> float:
    """What chooses checkpoints and thresholds, 0..1: the higher, the better.

    The mean IoU of the images with water times the share of the others' ground that stays dry, on average.
    The IoU of an image without water is 1 or 0 by a single pixel, and under its mean a weak model does
    best to find nothing.

    Args:
        iou_of_wet: Of each image with water.
        false_water_of_dry: Share of the pixels of each other image that is called water.
    """
    iou = np.mean(iou_of_wet) if len(iou_of_wet) else 1.0
    dry = 1 - np.mean(false_water_of_dry) if len(false_water_of_dry) else 1.0
    return float(iou * dry)
