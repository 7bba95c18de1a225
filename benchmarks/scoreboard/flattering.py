"""The published metrics, so that it can be said by how much they flatter; never used to judge a method here.

Source: `sklearn.metrics.f1_score(predicted, truth, average="weighted")` on two-dimensional masks, as the
Elwha fine-tuning was first scored, and the Dice of AutoSAM's evaluation, which leaves out every pixel that a
bilinear reduction of the truth makes fractional.
"""

import cv2
import numpy as np

SIDE = 256


def column_f1(predicted: np.ndarray, truth: np.ndarray) -> float:
    """F1 of each column, weighted by its predicted pixels; 0 where nothing is predicted at all.

    Args:
        predicted: (height, width) bool; the published call gives it as the truth.
        truth: (height, width) bool.
    """
    predicted, truth = _square(predicted), _square(truth)
    shared = (predicted & truth).sum(axis=0)
    total = predicted.sum(axis=0) + truth.sum(axis=0)
    weight = predicted.sum(axis=0)
    if not weight.sum():
        return 0.0
    score = np.where(total > 0, 2 * shared / np.maximum(total, 1), 0.0)
    return float((score * weight).sum() / weight.sum())


def whole_pixel_dice(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Dice on a small square where only pixels count whose reduced truth is exactly 0 or 1.

    Args:
        predicted: (height, width) bool.
        truth: (height, width) bool.
    """
    size = (SIDE, SIDE)
    reduced = cv2.resize(truth.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    found = cv2.resize(predicted.astype(np.float32), size, interpolation=cv2.INTER_LINEAR) >= 0.5
    whole = (reduced == 0) | (reduced == 1)
    water = reduced == 1
    total = (found & whole).sum() + water.sum()
    return float(2 * (found & water).sum() / total) if total else 1.0


def _square(mask: np.ndarray) -> np.ndarray:
    size = (SIDE, SIDE)
    return cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
