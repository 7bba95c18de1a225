"""From strips of labels to polygons: what goes on in the next strip is joined, the rest is done.

Memory is one strip plus the outlines of the areas that the last strip left open, never the raster.
"""

import dataclasses
from typing import Any, TypeAlias

import cv2
import numpy as np
import shapely
from affine import Affine
from rasterio.features import shapes

Geometry: TypeAlias = Any
"""A shapely geometry; shapely has no type information."""
_ROWS_AT_ONCE = 64


@dataclasses.dataclass(eq=False)
class Patch:
    """One connected area; pixels that only meet at a corner are apart."""

    pieces: list[Geometry]
    """In pixel coordinates, one for each strip at least."""
    area: float
    """Square metres, summed over pixels."""
    probability: float
    """Area times mean probability; NaN where that is unknown throughout."""
    known: float
    """Area whose probability is known."""

    def polygon(self) -> Geometry:
        """The outline with its holes, in pixel coordinates, the same whatever the strips were.

        Rebuilt by a union, whose rings touch themselves nowhere, begun at the leftmost corner and freed
        of corners that are none.
        """
        outline = shapely.normalize(shapely.union_all(self.pieces))
        return shapely.normalize(shapely.simplify(outline, 0))

    def take(self, other: "Patch") -> None:
        """Join another."""
        self.pieces += other.pieces
        self.area += other.area
        self.probability += other.probability
        self.known += other.known


class Dissolver:
    """Joins areas across the borders of strips, given from top to bottom."""

    def __init__(self, width: int, *, minimum_area: float) -> None:
        self._minimum = minimum_area
        self._open: dict[int, Patch] = {}
        self._last = np.full(width, -1, dtype=np.int64)
        self._next = 0

    def add(
        self,
        water: np.ndarray,
        *,
        first_row: int,
        row_areas: np.ndarray,
        probability: np.ndarray | None = None,
    ) -> list[Patch]:
        """Take the next strip; gives back the patches that cannot grow any more.

        Args:
            water: (rows, width) bool.
            first_row: Its place in the raster.
            row_areas: (rows,) square metres of a pixel.
            probability: (rows, width), NaN where unknown.
        """
        count, labels = cv2.connectedComponents(water.astype(np.uint8), connectivity=4)
        areas = _sums(labels, count, row_areas)
        kept = areas >= self._minimum
        kept[np.unique(labels[0])] = True
        kept[np.unique(labels[-1])] = True
        kept[0] = False
        known, weighted = _probability_sums(labels, count, row_areas, probability)
        fresh: dict[int, Patch] = {
            int(label): Patch([], float(areas[label]), float(weighted[label]), float(known[label]))
            for label in np.flatnonzero(kept)
        }
        for outline, value in shapes(
            labels.astype(np.int32),
            mask=kept[labels],
            connectivity=4,
            transform=Affine.translation(0, first_row),
        ):
            fresh[int(value)].pieces.append(shapely.geometry.shape(outline))
        return self._join(labels, fresh)

    def finish(self) -> list[Patch]:
        """What the last strip left open."""
        patches, self._open = list(self._open.values()), {}
        return self._large(patches)

    def _join(self, labels: np.ndarray, fresh: dict[int, Patch]) -> list[Patch]:
        home = {label: self._next + place for place, label in enumerate(fresh)}
        self._next += len(fresh)
        self._open.update({home[label]: patch for label, patch in fresh.items()})
        moved: dict[int, int] = {}
        for above, below in np.unique(np.stack([self._last, labels[0]]), axis=1).T.tolist():
            if above >= 0 and below > 0:
                kept, gone = _root(moved, above), _root(moved, home[below])
                if kept != gone:
                    self._open[kept].take(self._open.pop(gone))
                    moved[gone] = kept
        last, places = np.unique(labels[-1], return_inverse=True)
        roots = np.array([_root(moved, home[label]) if label else -1 for label in last.tolist()])
        self._last = roots[places.reshape(-1)]
        going_on = set(roots.tolist())
        done = [self._open.pop(key) for key in list(self._open) if key not in going_on]
        return self._large(done)

    def _large(self, patches: list[Patch]) -> list[Patch]:
        return [patch for patch in patches if patch.area >= self._minimum]


def _root(moved: dict[int, int], key: int) -> int:
    while key in moved:
        key = moved[key]
    return key


def _sums(
    labels: np.ndarray, count: int, row_areas: np.ndarray, *, values: np.ndarray | None = None
) -> np.ndarray:
    """(count,) area of each label, times values if given; few rows at a time, for doubles are large."""
    sums = np.zeros(count)
    for first in range(0, len(labels), _ROWS_AT_ONCE):
        rows = slice(first, first + _ROWS_AT_ONCE)
        areas = np.broadcast_to(row_areas[rows, None], labels[rows].shape)
        weights = areas if values is None else areas * values[rows]
        sums += np.bincount(labels[rows].ravel(), weights=weights.ravel(), minlength=count)
    return sums


def _probability_sums(
    labels: np.ndarray, count: int, row_areas: np.ndarray, probability: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """(count,) area whose probability is known, and that area times probability."""
    if probability is None:
        return np.zeros(count), np.zeros(count)
    known = np.isfinite(probability)
    filled = np.where(known, probability, np.float32(0))
    return (
        _sums(labels, count, row_areas, values=known),
        _sums(labels, count, row_areas, values=filled),
    )
