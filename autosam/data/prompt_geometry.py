"""Points, boxes and masks in the picture's pixels to SAM's square and back: one frame for all prompts."""

import numpy as np

from autosam.data.geometry import Frame, area_shares
from autosam.errors import ImageError
from autosam.types import PADDING_POINT, Prompt, Query, SquarePrompt

MASK_LOGIT = 10.0
"""Of certain water in a mask prompt: about as sure as SAM's own masks, which it was trained to read."""


def points_to_square(points: np.ndarray, frame: Frame) -> np.ndarray:
    """Pixel indices in the picture to pixel indices in its square, as `SamProcessor` scales them.

    Args:
        points: (..., 2), (x, y).
        frame: Where the picture lies in the square.

    Returns:
        (..., 2) float32.
    """
    scaled: np.ndarray = np.asarray(points, np.float64) * _axis_scales(frame)
    return scaled.astype(np.float32)


def points_to_original(points: np.ndarray, frame: Frame) -> np.ndarray:
    """What `points_to_square` was given, from what it returned; up to float32."""
    scaled: np.ndarray = np.asarray(points, np.float64) / _axis_scales(frame)
    return scaled.astype(np.float32)


def _axis_scales(frame: Frame) -> np.ndarray:
    """(x, y): sizes are (height, width), so the two orders meet here."""
    (height, width), (square_height, square_width) = frame.original_size, frame.square_size
    return np.array([square_width / width, square_height / height])


def prompt_to_square(prompt: Prompt, frame: Frame, low_side: int) -> SquarePrompt:
    """A prompt in the coordinates of the square; empty queries are left out.

    A mask becomes logits of -`MASK_LOGIT` to `MASK_LOGIT` by the share of each cell's area that it
    covers; padding is land.

    Args:
        prompt: In the picture's own pixels.
        frame: Where the picture lies in the square.
        low_side: Cells along one side of the square.

    Raises:
        ImageError: A point or box lies outside the picture, or the mask has another size.
    """
    queries = []
    for query in prompt.queries:
        if query.is_empty:
            continue
        _check_inside(query, frame)
        box = None
        if query.box is not None:
            height, width = frame.original_size
            corners = np.minimum(query.box.reshape(2, 2), np.array([width, height]) - 0.5)
            box = points_to_square(corners, frame).reshape(4)
        points = points_to_square(query.points, frame)
        queries.append(Query(points=points, labels=query.labels, box=box))
    logits = None
    if prompt.mask is not None:
        logits = (2 * area_shares(prompt.mask, frame, low_side) - 1) * MASK_LOGIT
    return SquarePrompt(queries=tuple(queries), mask_logits=logits, fusion=prompt.fusion)


def _check_inside(query: Query, frame: Frame) -> None:
    height, width = frame.original_size
    kept = query.points[query.labels != PADDING_POINT]
    corners = np.zeros((0, 2)) if query.box is None else query.box.reshape(2, 2)
    # Half a pixel beyond the first and last index is still the picture; a box may count its edge as well.
    for name, places, beyond in (("points", kept, 0.5), ("box", corners, 0.0)):
        last = np.array([width, height]) - beyond
        outside = ((places < -0.5) | (places > last)).any(axis=1)
        if outside.any():
            x, y = places[outside][0].tolist()
            raise ImageError(
                f"{name} must lie inside the picture of {width} x {height} pixels, got ({x:g}, {y:g}). "
                "Give (x, y) in the picture's own pixels."
            )
