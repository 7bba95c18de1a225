"""What a person adds to an automatic prompt: clicks, a box, scribbles; and a simulated person, to measure it.

Simulated clicks are made from the true mask: whatever they touch is an *oracle* in tables and plots.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from autosam.errors import DataError
from autosam.types import LAND_POINT, WATER_POINT, Prompt, Query

SCRIBBLE_POINTS = 8
"""Of one scribble, evenly along it: enough to follow it, few enough for a decoder trained on a handful."""
LARGEST_PLACE = 1e6
"""Beyond it no picture reaches, and float32 no longer tells pixels apart."""
_PAIRS = ("(count, 2)", "Give (x, y) pairs as rows.")
_SHAPES = {
    "points": _PAIRS,
    "scribble": _PAIRS,
    "labels": ("a flat list", "Give one for each point: 1 water, 0 land."),
    "box": ("four numbers", "Give one box as left, top, right, bottom."),
}
"""What each must be, and what to do where it is not."""


def correction(
    *,
    points: Sequence[Sequence[float]] | np.ndarray | None = None,
    labels: Sequence[int] | np.ndarray | None = None,
    box: Sequence[float] | np.ndarray | None = None,
    scribbles: Sequence[tuple[np.ndarray, int]] = (),
) -> Query | None:
    """A person's clicks, box and scribbles as one query, or None when there are none.

    Args:
        points: (x, y) pairs in the picture's pixels.
        labels: One for each point: 1 water, 0 land. None when there are no points.
        box: Left, top, right, bottom.
        scribbles: Pairs of a line, (count, 2) of (x, y), and its label.

    Raises:
        DataError: Points without labels or labels without points, or values that cannot be used.
    """
    if (points is None) != (labels is None):
        given, absent = ("points", "labels") if labels is None else ("labels", "points")
        raise DataError(
            f"points and labels must come together, got {given} without {absent}. "
            "Give one label for each point: 1 water, 0 land."
        )
    places = _numbers("points", [] if points is None else points)
    kinds = _numbers("labels", [] if labels is None else labels)
    for line, label in _checked_scribbles(scribbles):
        along = scribble_points(line)
        places = np.vstack([places, along])
        kinds = np.concatenate([kinds, np.full(len(along), label)])
    if not np.isin(kinds, (WATER_POINT, LAND_POINT)).all():
        raise DataError(
            f"labels must be 1 (water) or 0 (land), got {kinds.tolist()!s:.80}. Change them."
        )
    corners = None if box is None else _numbers("box", box)
    for name, numbers in (("points", places), ("box", corners)):
        if numbers is not None:
            _check_near(name, numbers)
    query = Query(points=places, labels=kinds, box=corners)
    return None if query.is_empty else query


def _check_near(name: str, numbers: np.ndarray) -> None:
    if (np.abs(numbers) > LARGEST_PLACE).any():
        raise DataError(
            f"{name} must lie in the picture, got {numbers.tolist()!s:.80}. Mend the numbers."
        )


def _checked_scribbles(scribbles: object) -> list[tuple[np.ndarray, float]]:
    """Pairs of a line and one label."""
    advice = "Give pairs such as [(line, 1)], with a line of (x, y) rows: 1 water, 0 land."
    if not isinstance(scribbles, list | tuple):
        raise DataError(f"scribbles must be a list, got {type(scribbles).__name__}. {advice}")
    pairs = []
    for scribble in scribbles:
        fits = isinstance(scribble, list | tuple) and len(scribble) == 2
        label = scribble[1] if fits else None
        if not fits or isinstance(label, bool) or not isinstance(label, int | float | np.number):
            raise DataError(
                f"scribble must be a line and its label, got {scribble!r:.80}. {advice}"
            )
        pairs.append((scribble[0], float(label)))
    return pairs


def _numbers(name: str, values: object) -> np.ndarray:
    """As float array, of the shape that `_SHAPES` names: (count, 2) or (count,)."""
    wanted, advice = _SHAPES[name]
    try:
        given = np.asarray(values)
        if given.dtype.kind not in "biufO":  # complex numbers and text would be cast in silence
            raise TypeError(given.dtype)
        array = given.astype(np.float64)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise DataError(
            f"{name} must be real numbers, got {values!r:.80}. Give plain lists or arrays."
        ) from error
    pairs = _SHAPES[name] is _PAIRS
    if array.size == 0:
        return np.zeros((0, 2) if pairs else 0)
    if array.ndim != (2 if pairs else 1) or (pairs and array.shape[1] != 2):
        got = f"shape {array.shape}" if array.ndim else f"the one number {values!r:.80}"
        raise DataError(f"{name} must be {wanted}, got {got}. {advice}")
    return array


def scribble_points(line: np.ndarray) -> np.ndarray:
    """`SCRIBBLE_POINTS` places evenly along a line, its two ends among them; a dot gives one.

    Args:
        line: (count, 2) of (x, y), at least one.

    Raises:
        DataError: It has another shape, or leads beyond every picture.
    """
    line = _numbers("scribble", line)
    _check_near("scribble", line)
    if not len(line):
        raise DataError("scribble must have at least one point, got none. Draw a line or a dot.")
    steps = np.linalg.norm(np.diff(line, axis=0), axis=1)
    along = np.concatenate([[0.0], np.cumsum(steps)])
    if along[-1] == 0:
        return line[:1]
    at = np.linspace(0, along[-1], SCRIBBLE_POINTS)
    return np.stack([np.interp(at, along, line[:, axis]) for axis in range(2)], axis=1)


def corrected(prompt: Prompt, query: Query | None, *, mask: np.ndarray | None = None) -> Prompt:
    """An automatic prompt with a person's correction on top: every query takes it along.

    Args:
        prompt: The automatic one; its boxes yield to the person's.
        query: From `correction`; None for none.
        mask: (height, width) bool, the mask before it, fed back as SAM's mask prompt; None for none.
    """
    queries = prompt.queries
    source = prompt.source
    if query is not None:
        source = f"{source} + human"
        queries = tuple(
            Query(
                points=np.vstack([own.points, query.points]),
                labels=np.concatenate([own.labels, query.labels]),
                box=own.box if query.box is None else query.box,
            )
            for own in (queries or (Query(),))
        )
    return Prompt(
        source=source,
        queries=queries,
        mask=prompt.mask if mask is None else mask,
        fusion=prompt.fusion,
    )


def next_click(
    predicted: np.ndarray, truth: np.ndarray, *, valid: np.ndarray | None = None
) -> tuple[np.ndarray, int] | None:
    """Where a careful person would click next: the middle of the largest error.

    The middle is the pixel farthest from the error's edge; the picture's frame is an edge as well.

    Args:
        predicted: (height, width) bool.
        truth: (height, width) bool.
        valid: (height, width) bool, False where the label is ignored.

    Returns:
        (2,) float32 (x, y) and the label it asks for, or None when nothing is wrong.

    Source:
        Sofiiuk et al. 2022, https://arxiv.org/abs/2102.06583, section 3.2, as in SAM's own evaluation.
    """
    kept = np.ones_like(truth) if valid is None else valid
    wrong = (predicted != truth) & kept
    if not wrong.any():
        return None
    # Water that was missed and land called water are told apart even where they touch.
    largest: np.ndarray | None = None
    most = 0
    for area in (wrong & truth, wrong & ~truth):
        count, parts, statistics, _ = cv2.connectedComponentsWithStats(area.astype(np.uint8))
        if count > 1:
            part = 1 + int(statistics[1:, cv2.CC_STAT_AREA].argmax())
            if statistics[part, cv2.CC_STAT_AREA] > most:
                most, largest = int(statistics[part, cv2.CC_STAT_AREA]), parts == part
    framed = np.pad(np.asarray(largest, np.uint8), 1)
    depth = cv2.distanceTransform(framed, cv2.DIST_L2, 5)[1:-1, 1:-1]
    row, column = np.unravel_index(int(depth.argmax()), depth.shape)
    label = WATER_POINT if truth[row, column] else LAND_POINT
    return np.array([column, row], dtype=np.float32), label
