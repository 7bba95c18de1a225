"""Control points inside the eroded core of a mask, kept apart: the article's prompts, at any size.

The article's constants hold for masks of 256 px. Here lengths grow with the mask's longer side and areas
with its square, so that one river gets the same points, up to scale, however many pixels show it.
"""

import math

import cv2
import numpy as np

from autosam.errors import DataError
from autosam.types import LAND_POINT, PADDING_POINT, WATER_POINT

REFERENCE_SIDE = 256
"""Longer side, in pixels, of the masks for which the article gives its constants."""
AREA_POWER = 0.6
"""Passes of erosion grow with this power of the area."""
WATER_DIVISOR, LAND_DIVISOR = 35, 50
"""Of that power, for the passes before water and before land points."""
WATER_GAP, LAND_GAP = 2.75, 2.0
"""Radius around a point that no other enters, in units of the root of the core's area per point."""


def erosions(mask: np.ndarray, *, land: bool = False) -> int:
    """Passes of a 3 x 3 erosion before points are drawn from an area.

    Args:
        mask: (height, width) bool, True for the area to erode.
        land: Whether it is the land, of which less is eroded.

    Returns:
        At a longer side of 256 px floor(area^0.6 / 35), for land / 50; at other sizes that of the mask
        brought to 256 px, times longer side / 256, rounded down. 0 for an empty mask.

    Raises:
        DataError: The mask is not a bool picture.

    Source:
        geo-smart/water-surf (MIT), whose constants are for 256 px only.
    """
    check_mask(mask)
    side: int = max(mask.shape)
    area = float(np.count_nonzero(mask)) * (REFERENCE_SIDE / side) ** 2
    passes: int = math.floor(area**AREA_POWER / (LAND_DIVISOR if land else WATER_DIVISOR))
    return passes * side // REFERENCE_SIDE


def eroded(mask: np.ndarray, *, passes: int) -> tuple[np.ndarray, int]:
    """The core of a mask, which is never empty unless the mask is.

    Where so many passes would leave nothing, the largest number that leaves something is taken. It is one
    number for the whole mask: a narrow component may vanish as long as a wider one stays. What lies
    outside the picture does not erode, because the river goes on beyond the frame.

    Args:
        mask: (height, width) bool; left as it is.
        passes: Of a 3 x 3 erosion, 0 or more.

    Returns:
        The core, (height, width) bool, and the passes that it took; 0 for an empty mask.

    Raises:
        DataError: The mask is not a bool picture, or the passes are not a number of 0 or more.
    """
    check_mask(mask)
    _check_count("passes", passes)
    if not mask.any():
        return mask.copy(), 0
    if passes == 0 or mask.all():
        return mask.copy(), int(passes)
    # A pixel at d king's moves from the nearest pixel outside the mask survives d - 1 passes.
    moves = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_C, cv2.DIST_MASK_3)
    used = min(int(passes), int(moves.max()) - 1)
    core: np.ndarray = moves > used
    return core, used


def control_points(
    mask: np.ndarray,
    *,
    positive: int = 3,
    negative: int = 0,
    erode: bool = True,
    spacing: bool = True,
    generator: np.random.Generator,
    valid: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Random points on water and on land, away from the banks and from each other.

    Fewer come back than were asked for where the spacing leaves no room, but at least one of a kind that
    was asked for and has a pixel. Invalid pixels are neither water nor land: they hold no point, and the
    core keeps away from them as from a bank.

    Args:
        mask: (height, width) bool, True for water; an empty one gives no water points.
        positive: Water points to draw, 0 or more.
        negative: Land points to draw, 0 or more.
        erode: Draw from the eroded water and land only.
        spacing: Keep points of one kind apart by 2.75 (land: 2) * sqrt(area of the core) / count pixels.
        generator: Where the numbers come from; equal ones give equal points.
        valid: (height, width) bool; None when every pixel counts.

    Returns:
        (count, 2) float32, (x, y) in pixel indices, and (count,) int64 labels, 1 for water and 0 for land;
        water comes first, each kind in the order drawn.

    Raises:
        DataError: The mask or valid is not a bool picture, they differ in size, a count is not 0 or more,
            or the generator is not numpy's.

    Source:
        The article's dynamic spacing and erosion (geo-smart/water-surf, MIT); the back-off for narrow
        rivers and the scaling are ours.
    """
    check_mask(mask)
    check_generator(generator)
    _check_count("positive", positive)
    _check_count("negative", negative)
    water, land = _kinds(mask, valid)
    points: list[tuple[int, int]] = []
    labels: list[int] = []
    for area, count, label in ((water, positive, WATER_POINT), (land, negative, LAND_POINT)):
        if count and area.any():
            if erode:
                area, _ = eroded(area, passes=erosions(area, land=label == LAND_POINT))
            factor = LAND_GAP if label == LAND_POINT else WATER_GAP
            gap = factor * math.sqrt(np.count_nonzero(area)) / count if spacing else 0.0
            drawn = _drawn(area, count=count, gap=gap, generator=generator)
            points += drawn
            labels += [label] * len(drawn)
    return np.array(points, dtype=np.float32).reshape(-1, 2), np.array(labels, dtype=np.int64)


def pad_points(
    points: np.ndarray, labels: np.ndarray, *, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Fill up with padding points at (0, 0), so that sets of points can be stacked.

    Args:
        points: (given, 2), (x, y).
        labels: (given,), one per point.
        count: Points to return, no fewer than given.

    Returns:
        (count, 2) float32 and (count,) int64, with label -10 behind the given ones.

    Raises:
        DataError: Points and labels do not belong together, or there are more than `count`.
    """
    if points.ndim != 2 or points.shape[1] != 2 or labels.shape != points.shape[:1]:
        raise DataError(
            f"points must be (count, 2) with one label each, got {points.shape} and "
            f"{labels.shape}. Give (x, y) pairs and as many labels."
        )
    _check_count("count", count)
    missing = count - len(points)
    if missing < 0:
        raise DataError(
            f"points must be at most {count} to be padded to {count}, got {len(points)}. "
            "Raise count or draw fewer."
        )
    padded = np.pad(points.astype(np.float32), ((0, missing), (0, 0)))
    return padded, np.pad(labels.astype(np.int64), (0, missing), constant_values=PADDING_POINT)


def _kinds(mask: np.ndarray, valid: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Water and land, without what is not valid."""
    if valid is None:
        return mask, ~mask
    check_mask(valid, name="valid")
    if valid.shape != mask.shape:
        raise DataError(
            f"valid must have the mask's height and width {mask.shape}, got {valid.shape}. "
            "Check that both show the same picture and that neither was resized."
        )
    return mask & valid, ~mask & valid


def _drawn(
    area: np.ndarray, *, count: int, gap: float, generator: np.random.Generator
) -> list[tuple[int, int]]:
    """Up to `count` pixels (x, y) of an area, each uniform over what the discs before it left."""
    remaining = area.copy()
    per_row = np.count_nonzero(remaining, axis=1)
    points: list[tuple[int, int]] = []
    while len(points) < count and per_row.any():
        # First the row, then the column: equal numbers then fall on equal places at every size.
        until = np.cumsum(per_row)
        row = int(np.searchsorted(until, int(generator.random() * until[-1]), side="right"))
        columns = np.flatnonzero(remaining[row])
        column = int(columns[int(generator.random() * columns.size)])
        points.append((column, row))
        rows = _clear_disc(remaining, centre=(column, row), radius=gap)
        per_row[rows] = np.count_nonzero(remaining[rows], axis=1)
    return points


def _clear_disc(area: np.ndarray, *, centre: tuple[int, int], radius: float) -> slice:
    """Take all pixels within a distance of the centre (x, y) out of the area; returns the rows touched."""
    column, row = centre
    reach = int(radius)
    rows = slice(max(0, row - reach), row + reach + 1)
    columns = slice(max(0, column - reach), column + reach + 1)
    window = area[rows, columns]
    down = np.arange(window.shape[0])[:, None] + rows.start - row
    right = np.arange(window.shape[1])[None] + columns.start - column
    window &= down**2 + right**2 > radius**2
    return rows


def check_mask(mask: np.ndarray, *, name: str = "mask") -> None:
    """Refuse what is not a (height, width) bool picture of at least one pixel.

    Raises:
        DataError: It is something else.
    """
    if isinstance(mask, np.ndarray) and mask.ndim == 2 and mask.dtype == np.bool_ and mask.size:
        return
    given = f"{mask.dtype} {mask.shape}" if isinstance(mask, np.ndarray) else type(mask).__name__
    raise DataError(
        f"{name} must be bool (height, width) with at least one pixel, got {given}. "
        "Compare it with 0 first: mask != 0."
    )


def check_generator(generator: np.random.Generator) -> None:
    """Refuse what is not numpy's generator: a seed, or torch's.

    Raises:
        DataError: It is something else.
    """
    if not isinstance(generator, np.random.Generator):
        raise DataError(
            f"generator must be a numpy.random.Generator, got {type(generator).__name__}. "
            "Make one with np.random.default_rng(seed)."
        )


def _check_count(name: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 0:
        raise DataError(f"{name} must be a whole number of 0 or more, got {value!r}. Use 0 or 3.")
