"""How well two masks agree along the bank: boundary IoU, boundary F1 and the Hausdorff distance.

A bank is where water meets *valid land*. Water that merely ends at the frame of the picture, or at the
edge of the valid area, has no bank there: nobody knows where the river goes on. This differs from
implementations that pad with land (the reference code of boundary IoU, MONAI), and only there.
"""

import math

import cv2
import numpy as np


def boundary_scores(
    predicted: np.ndarray,
    truth: np.ndarray,
    *,
    valid: np.ndarray,
    boundary_pixels: int,
    boundary_share: float,
) -> dict[str, float | None]:
    """Scores of the banks of two masks that are already False outside the valid area.

    Where one mask has a bank and the other has none, both scores are 0 and the distance is None;
    where neither has one, the scores are 1 and the distance 0 if the masks are equal, otherwise (all
    water against none) again 0 and None.

    Args:
        predicted: (height, width) bool, False where not valid.
        truth: (height, width) bool, False where not valid.
        valid: (height, width) bool.
        boundary_pixels: Euclidean distance that still counts as on the bank, for boundary F1.
        boundary_share: Width of the band of boundary IoU as a share of the diagonal.

    Returns:
        ``boundary_iou`` and ``boundary_f1`` in 0..1; ``hd95`` in pixels or None.

    Source:
        Boundary IoU: Cheng et al. 2021, https://arxiv.org/abs/2103.16562, with the square erosion of
        the reference code. Boundary F1: Csurka et al. 2013. HD95: the larger of the two directed 95th
        percentiles, as in MONAI; contour pixels are water with a valid land pixel on one of four sides.
    """
    contours = _contour(predicted, valid), _contour(truth, valid)
    has_bank = contours[0].any(), contours[1].any()
    if not all(has_bank):
        equal = not any(has_bank) and bool(np.array_equal(predicted, truth))
        score = 1.0 if equal else 0.0
        return {"boundary_iou": score, "boundary_f1": score, "hd95": 0.0 if equal else None}
    to_truth, to_predicted = _distances(*contours)
    precision = float((to_truth <= boundary_pixels).mean())
    recall = float((to_predicted <= boundary_pixels).mean())
    total = precision + recall
    width = max(1, round(boundary_share * math.hypot(*truth.shape)))
    return {
        "boundary_iou": _band_iou(predicted, truth, valid=valid, width=width),
        "boundary_f1": 2 * precision * recall / total if total else 0.0,
        "hd95": max(float(np.percentile(away, 95)) for away in (to_truth, to_predicted)),
    }


def boundary_band(mask: np.ndarray, *, valid: np.ndarray, width: int) -> np.ndarray:
    """The water within `width` pixels of valid land, counted as a king moves on a chessboard.

    That is the mask minus its erosion by a square, `width` times; no land at all gives no band.
    """
    land = valid & ~mask
    if not land.any():
        return np.zeros_like(mask)
    distance = cv2.distanceTransform((~land).astype(np.uint8), cv2.DIST_C, cv2.DIST_MASK_3)
    band: np.ndarray = mask & (distance <= width)
    return band


def _band_iou(predicted: np.ndarray, truth: np.ndarray, *, valid: np.ndarray, width: int) -> float:
    """Of two masks that have banks, so that the union is never empty."""
    first = boundary_band(predicted, valid=valid, width=width)
    second = boundary_band(truth, valid=valid, width=width)
    return int((first & second).sum()) / int((first | second).sum())


def _contour(mask: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Water with a valid land pixel above, below, left or right."""
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    # OpenCV's erosion takes what lies outside the picture for water, as is meant here.
    inside = cv2.erode((mask | ~valid).astype(np.uint8), cross).astype(bool)
    contour: np.ndarray = mask & ~inside
    return contour


def _distances(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """From each contour pixel of one to the nearest of the other, in pixels, both ways."""
    rows = np.flatnonzero(first.any(axis=1) | second.any(axis=1))
    columns = np.flatnonzero(first.any(axis=0) | second.any(axis=0))
    # What lies outside the box around both contours decides nothing and costs most of the time.
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    first, second = first[box], second[box]
    to_second, to_first = _distance_to(second)[first], _distance_to(first)[second]
    return to_second.astype(np.float64), to_first.astype(np.float64)


def _distance_to(contour: np.ndarray) -> np.ndarray:
    away = (~contour).astype(np.uint8)
    distance: np.ndarray = cv2.distanceTransform(away, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return distance
