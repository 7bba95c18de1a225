"""A coarse mask without its specks and pinholes, eroded where asked: geometry of one mask, no picture."""

import dataclasses

import cv2
import numpy as np
from scipy import ndimage

from autosam.errors import DataError
from autosam.prompts.points import check_mask


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cleaning:
    """What `clean_mask` does to every mask of a rule; by default nothing.

    Raises:
        DataError: A share is not in 0..1 or the passes are not a whole number of 0 or more.
    """

    minimum_area: float = 0.0
    """Components below this share of the picture are dropped."""
    largest_hole: float = 0.0
    """Holes up to this share of the picture are closed."""
    erosions: int = 0
    """Passes of a 3 x 3 erosion, fewer where a component would vanish."""

    def __post_init__(self) -> None:
        for name in ("minimum_area", "largest_hole"):
            share = getattr(self, name)
            is_number = isinstance(share, int | float) and not isinstance(share, bool)
            if not is_number or not 0 <= share <= 1:
                raise DataError(
                    f"{name} must be in 0..1, got {share!r}. It is a share of the picture's area."
                )
        passes = self.erosions
        if isinstance(passes, bool) or not isinstance(passes, int) or passes < 0:
            raise DataError(
                f"erosions must be a whole number of 0 or more, got {passes!r}. Use 0 for none."
            )

    def __call__(self, mask: np.ndarray) -> np.ndarray:
        """The mask, cleaned."""
        return clean_mask(mask, **dataclasses.asdict(self))


NO_CLEANING = Cleaning()
"""Leaves every mask as it is."""


def clean_mask(
    mask: np.ndarray, *, minimum_area: float, largest_hole: float, erosions: int
) -> np.ndarray:
    """Drop small components, then close small holes, then erode.

    Components are 8-connected. Holes are 4-connected land that does not touch the frame; land that does
    may go on beyond it. Nothing is kept for its own sake: when every component is small, all are dropped,
    and an empty mask stays empty.

    A component that so many passes would erase is eroded as far as something of it remains, so a narrow
    river never vanishes because a wide one is beside it. The frame is no bank and does not erode.

    Args:
        mask: (height, width) bool, True for water; left as it is.
        minimum_area: Share of the picture's area, 0..1, below which a component is dropped.
        largest_hole: Share of the picture's area, 0..1, up to which a hole is closed.
        erosions: Passes of a 3 x 3 erosion, 0 or more.

    Returns:
        (height, width) bool.

    Raises:
        DataError: The mask is not a bool picture, or a number is out of range.
    """
    check_mask(mask)
    Cleaning(minimum_area=minimum_area, largest_hole=largest_hole, erosions=erosions)
    cleaned = _without_components(mask, smallest=minimum_area * mask.size)
    cleaned |= _holes(cleaned, largest=largest_hole * mask.size)
    return _eroded_by_component(cleaned, passes=erosions)


def _without_components(mask: np.ndarray, *, smallest: float) -> np.ndarray:
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(
        mask.astype(np.uint8), connectivity=8
    )
    kept = statistics[:, cv2.CC_STAT_AREA] >= smallest
    kept[0] = False  # the land
    remaining: np.ndarray = kept[labels]
    return remaining


def _holes(mask: np.ndarray, *, largest: float) -> np.ndarray:
    """Land of at most so many pixels that water surrounds, (height, width) bool."""
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(
        (~mask).astype(np.uint8), connectivity=4
    )
    closed = statistics[:, cv2.CC_STAT_AREA] <= largest
    closed[0] = False  # the water
    for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        closed[np.unique(edge)] = False
    holes: np.ndarray = closed[labels]
    return holes


def _eroded_by_component(mask: np.ndarray, *, passes: int) -> np.ndarray:
    if passes == 0 or mask.all() or not mask.any():
        return mask
    water = mask.astype(np.uint8)
    count, labels = cv2.connectedComponents(water, connectivity=8)
    # A pixel at d king's moves from the nearest land survives d - 1 passes.
    moves = cv2.distanceTransform(water, cv2.DIST_C, cv2.DIST_MASK_3)
    deepest = np.asarray(ndimage.maximum(moves, labels, index=np.arange(count)))
    core: np.ndarray = mask & (moves > np.minimum(passes, deepest - 1)[labels])
    return core
