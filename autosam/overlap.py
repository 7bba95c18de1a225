"""How far two masks agree: the one intersection over union of the library, for rooms low and high."""

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
