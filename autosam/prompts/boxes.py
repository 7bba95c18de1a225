"""Boxes around the water of a mask, exact or shaken, in pixel indices with both ends inside."""

import math

import cv2
import numpy as np

from autosam.errors import DataError
from autosam.prompts.points import check_generator, check_mask


def tight_box(mask: np.ndarray) -> np.ndarray | None:
    """The smallest box around all the water.

    Args:
        mask: (height, width) bool, True for water.

    Returns:
        (4,) float32: left, top, right, bottom, the indices of the outermost water pixels; None for an
        empty mask.

    Raises:
        DataError: The mask is not a bool picture.
    """
    check_mask(mask)
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    if not rows.size:
        return None
    return np.array([columns[0], rows[0], columns[-1], rows[-1]], dtype=np.float32)


def component_boxes(mask: np.ndarray, *, minimum_area: int = 1, most: int = 16) -> np.ndarray:
    """The tight box of each connected piece of water, the largest piece first.

    Args:
        mask: (height, width) bool, True for water; pieces that touch at a corner are one.
        minimum_area: Pixels below which a piece gets no box, 0 or more.
        most: Boxes to return at the most, 1 or more.

    Returns:
        (count, 4) float32: left, top, right, bottom in pixel indices, both ends inside; of equal pieces the
        upper one comes first; (0, 4) for an empty mask.

    Raises:
        DataError: The mask is not a bool picture, or a number is out of range.
    """
    check_mask(mask)
    if minimum_area < 0 or most < 1:
        raise DataError(
            f"minimum_area and most must be at least 0 and 1, got {minimum_area} and {most}. "
            "Leave them out for the 16 largest pieces."
        )
    _, _, statistics, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    pieces = statistics[1:].astype(np.int64)  # the first is what is not water
    pieces = pieces[pieces[:, cv2.CC_STAT_AREA] >= minimum_area]
    left, top, width, height, area = pieces.T
    boxes = np.stack([left, top, left + width - 1, top + height - 1], axis=1)
    order = np.lexsort((left, top, -area))
    return boxes[order[:most]].astype(np.float32)


def full_box(height: int, width: int) -> np.ndarray:
    """The box around a whole picture, (4,) float32: 0, 0, width - 1, height - 1.

    Raises:
        DataError: A length is below 1.
    """
    if min(height, width) < 1:
        raise DataError(
            f"height and width must be 1 or more, got {height} and {width}. "
            "Check that the picture was read."
        )
    return np.array([0, 0, width - 1, height - 1], dtype=np.float32)


def perturbed(
    boxes: np.ndarray, *, size: tuple[int, int], share: float, generator: np.random.Generator
) -> np.ndarray:
    """Boxes as a hasty hand would draw them: each side moves by itself, inwards as often as outwards.

    Sides that would cross meet half-way between where they would have gone, so the box is one pixel
    thin there and never turned inside out.

    Args:
        boxes: (4,) or (count, 4): left, top, right, bottom in pixel indices; left as they are.
        size: (height, width) of the picture.
        share: Sides move uniformly by up to this share of the picture's longer side, 0 or more.
        generator: Where the numbers come from.

    Returns:
        As `boxes`, float32, clipped to the picture; equal to boxes inside the picture for a share of 0.

    Raises:
        DataError: A box is turned inside out or not finite, the size or share is out of range, or the
            generator is not numpy's.

    Source:
        The article's 10 px at 256, whose integers in -10..9 pull to the upper left and can invert a box.
    """
    check_generator(generator)
    right, bottom = full_box(*size)[2:]
    _check_boxes(boxes)
    if not (share >= 0 and math.isfinite(share)):
        raise DataError(f"share must be 0 or more and finite, got {share!r}. Try 0.04.")
    most = share * max(size)
    moved = boxes.astype(np.float64) + generator.uniform(-most, most, boxes.shape)
    first, last = moved[..., :2], moved[..., 2:]
    middle = (first + last) / 2
    moved = np.concatenate([np.minimum(first, middle), np.maximum(last, middle)], axis=-1)
    return np.clip(moved, 0, np.array([right, bottom, right, bottom])).astype(np.float32)


def _check_boxes(boxes: np.ndarray) -> None:
    given = boxes.shape if isinstance(boxes, np.ndarray) else type(boxes).__name__
    if not isinstance(boxes, np.ndarray) or boxes.ndim not in (1, 2) or boxes.shape[-1] != 4:
        raise DataError(
            f"boxes must be (4,) or (count, 4), got {given}. Give left, top, right and bottom of each."
        )
    endless = ~np.isfinite(boxes).all(axis=-1)
    wrong = endless | (boxes[..., :2] > boxes[..., 2:]).any(axis=-1)
    if wrong.any():
        remedy = "Leave out what has no place" if endless.any() else "Put the smaller corner first"
        raise DataError(
            "boxes must be finite (left, top, right, bottom) with left <= right and top <= bottom, got "
            f"{boxes[wrong][0].tolist() if boxes.ndim == 2 else boxes.tolist()}. {remedy}."
        )
