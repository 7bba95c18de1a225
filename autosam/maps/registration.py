"""Whether two masks of one river lie on each other: the shift between them, from their banks.

Phase correlation of masks fails on rivers: a straight one can be slid along itself, and real change moves
the peak. Here the banks of one date are matched with those of the other along their own normals, robustly, so
that change on less than half of the bank counts little, and the direction in which nothing can be seen is
named instead of guessed.
"""

import dataclasses

import cv2
import numpy as np
from scipy import ndimage

from autosam.maps.metric_ground import Ground

REACH = 30
"""Pixels from a bank within which the other date's bank is looked for: a longer shift cannot be told."""
_ROUNDS = 30
_WEAK = 0.02
"""Share of the stronger direction's evidence below which a direction cannot be seen."""
_FEWEST = 50
"""Bank pixels below which nothing is said."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shift:
    """By how much the second mask lies beside the first."""

    columns: float
    """Pixels to the right; the part along a direction that cannot be seen is 0."""
    rows: float
    """Pixels down."""
    metres: float
    """Length of it."""
    spread: float
    """Metres: the median distance that is left between matched banks; change and noise of the banks."""
    directions: int
    """2: fully known. 1: only across a straight river. 0: nothing can be said."""
    is_beyond_reach: bool = False
    """Whether that is because banks that both dates have lie further apart than `REACH` pixels."""

    def sentence(self, unit: str) -> str:
        """For the console."""
        if self.is_beyond_reach:
            return f"registration unknown: the dates' banks lie more than {REACH} pixels apart"
        if self.directions == 0:
            return "registration unknown: the dates have too little bank in common"
        ending = "" if self.directions == 2 else " (across the river; along it nothing can be seen)"
        return (
            f"shift {self.metres:.2f} {unit}{ending}, {self.spread:.2f} {unit} of bank spread left"
        )


_UNKNOWN = Shift(columns=0.0, rows=0.0, metres=0.0, spread=0.0, directions=0)


def find_shift(
    first: np.ndarray, second: np.ndarray, *, valid: np.ndarray, ground: Ground
) -> Shift:
    """Least squares of bank offsets along normals, with Tukey's biweight (iterated reweighting).

    Args:
        first: (height, width) bool, water at the first date.
        second: (height, width) bool, at the second.
        valid: (height, width) bool, where both have data.
        ground: Of both.
    """
    near = _signed_distance(first, valid)
    other = _signed_distance(second, valid)
    bank = _bank(first, valid)
    rows, columns = np.nonzero(bank & (np.abs(other) < REACH))
    if len(rows) < _FEWEST:
        fewest = min(np.count_nonzero(bank), np.count_nonzero(_bank(second, valid)))
        return dataclasses.replace(_UNKNOWN, is_beyond_reach=bool(fewest >= _FEWEST))
    normals = _normals(near)[rows, columns]
    shift, directions = np.zeros(2), 0
    for _ in range(_ROUNDS):
        places = np.column_stack([columns, rows]) + shift
        away = _sampled(other, places) - near[rows, columns]
        step, directions = _step(normals, away)
        shift += step
        if np.abs(step).max() < 1e-3:
            break
    if not np.linalg.norm(shift) <= REACH:
        return dataclasses.replace(_UNKNOWN, is_beyond_reach=True)
    left = np.abs(_sampled(other, np.column_stack([columns, rows]) + shift) - near[rows, columns])
    return Shift(
        columns=float(shift[0]),
        rows=float(shift[1]),
        metres=float(np.linalg.norm(ground.metric @ shift)),
        spread=float(np.median(left)) * ground.pixel,
        directions=directions,
    )


def _normals(near: np.ndarray) -> np.ndarray:
    """(height, width, 2) of length 1, (column, row), into the water."""
    smooth = cv2.GaussianBlur(near, (0, 0), 2.0)
    slopes = [cv2.Sobel(smooth, cv2.CV_32F, *order) for order in ((1, 0), (0, 1))]
    normals = np.stack(slopes, axis=2).astype(float)
    normals /= np.maximum(np.linalg.norm(normals, axis=2, keepdims=True), 1e-9)
    return normals


def _step(normals: np.ndarray, away: np.ndarray) -> tuple[np.ndarray, int]:
    """The shift that brings banks nearer, and in how many directions it is known."""
    scale = max(1.5 * float(np.median(np.abs(away))), 0.5)
    weights = np.clip(1 - (away / (3 * scale)) ** 2, 0, None) ** 2
    evidence = (normals * weights[:, None]).T @ normals
    values, vectors = np.linalg.eigh(evidence)
    known = values > _WEAK * values[-1]
    if values[-1] <= 0:
        return np.zeros(2), 0
    # The distance at a place falls by the part of the shift along the normal.
    target = vectors.T @ (normals.T @ (weights * -away))
    step = vectors @ np.where(known, target / np.where(known, values, 1), 0)
    return step, int(known.sum())


def _signed_distance(water: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """(height, width) float32 pixels to the nearest bank, positive in water."""
    inside = cv2.distanceTransform((water | ~valid).astype(np.uint8), cv2.DIST_L2, 5)
    outside = cv2.distanceTransform((~water | ~valid).astype(np.uint8), cv2.DIST_L2, 5)
    signed: np.ndarray = np.where(water, inside - 0.5, 0.5 - outside).astype(np.float32)
    return signed.clip(-2 * REACH, 2 * REACH)


def _bank(water: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Water beside valid land."""
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    inner = cv2.erode((water | ~valid).astype(np.uint8), cross).astype(bool)
    bank: np.ndarray = water & valid & ~inner
    return bank


def _sampled(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    found: np.ndarray = ndimage.map_coordinates(values, places.T[::-1], order=1, mode="nearest")
    return found.astype(float)
