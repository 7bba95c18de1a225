"""From a skeleton of pixels to a network of lines, and from that what is only noise of the banks taken away.

Everything is a line of points in metres between two *knots*: places where three or more lines meet, or
free ends.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Set

import cv2
import numpy as np
from scipy import ndimage, sparse
from scipy.sparse import csgraph
from skimage.morphology import skeletonize

from autosam.maps.metric_ground import Ground


@dataclasses.dataclass(eq=False)
class Segment:
    """A line between two knots."""

    start: int
    end: int
    """Knots; equal for a ring."""
    points: np.ndarray
    """(count, 2) in metres, at least two."""
    radii: np.ndarray
    """(count,) distance in metres to the nearest land."""

    @property
    def length(self) -> float:
        """Metres."""
        return float(np.linalg.norm(np.diff(self.points, axis=0), axis=1).sum())

    @property
    def width(self) -> float:
        """Metres, twice the median distance to land."""
        return 2 * float(np.median(self.radii))

    def reversed(self) -> "Segment":
        """The same from its end."""
        return Segment(self.end, self.start, self.points[::-1], self.radii[::-1])


def skeleton_network(water: np.ndarray, ground: Ground) -> list[Segment]:
    """The middle lines of some water, with spurs that the banks' roughness makes taken away.

    A free branch is a spur when it sticks out of the water it branches from by less than its own width or
    three quarters of that water's width, unless it runs to the frame and is at least half as wide there.

    Args:
        water: (height, width) bool; at the frame it is thought to go on as it ends, so that middle
            lines run to the frame and not into its corners. Where that would put most of the middle
            outside, as along a river with one bank in the picture, it ends at the frame.
        ground: Of this picture.
    """
    radii = distance_to_land(water, ground)
    margin = min(int(radii.max(initial=0) / min(ground.sides)) + 2, 2 * max(water.shape))
    going_on = np.pad(water, margin, mode="edge")
    inner = slice(margin, -margin), slice(margin, -margin)
    skeleton = _skeleton(going_on)[inner]
    ending = _skeleton(water)
    if 2 * np.count_nonzero(skeleton) < np.count_nonzero(ending):
        skeleton = ending
    else:
        radii = distance_to_land(going_on, ground)[inner]
    segments, at_frame = _segments(skeleton, radii, ground)
    return pruned(segments, at_frame=at_frame)


def _skeleton(water: np.ndarray) -> np.ndarray:
    skeleton: np.ndarray = skeletonize(np.pad(water, 1))[1:-1, 1:-1]  # type: ignore[no-untyped-call]
    return skeleton


def distance_to_land(water: np.ndarray, ground: Ground) -> np.ndarray:
    """(height, width) metres from the middle of each pixel to the nearest bank; 0 on land.

    Half a pixel less than to the middle of the nearest pixel of land.
    """
    height, width = ground.sides
    if abs(height / width - 1) < 0.01:
        distance = ground.pixel * cv2.distanceTransform(
            water.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE
        )
    else:
        distance = ndimage.distance_transform_edt(water, sampling=(height, width))
    if water.all():
        distance = np.full(water.shape, max(water.shape) * ground.pixel)
    away: np.ndarray = np.maximum(distance - ground.pixel / 2, 0)
    return away


def pruned(segments: list[Segment], *, at_frame: Set[int] = frozenset()) -> list[Segment]:
    """Without spurs; the longest line always stays.

    Args:
        segments: Of one network.
        at_frame: Free knots where water goes on outside.
    """
    while True:
        segments = _merged(segments)
        ends = _ends(segments)
        spurs = [segment for segment in segments if _is_spur(segment, ends, at_frame)]
        if not spurs:
            return segments
        if len(spurs) == len(segments):
            spurs.remove(max(spurs, key=lambda segment: segment.length))
            gone = {id(spur) for spur in spurs}
            return [segment for segment in segments if id(segment) not in gone]
        gone = {id(spur) for spur in spurs}
        segments = [segment for segment in segments if id(segment) not in gone]


def _is_spur(segment: Segment, ends: dict[int, int], at_frame: Set[int]) -> bool:
    free_start, free_end = ends[segment.start] == 1, ends[segment.end] == 1
    if free_start == free_end:  # both free: a line of its own; none: inside the network
        return False
    outward = segment if free_end else segment.reversed()
    if outward.end in at_frame and 2 * outward.radii[-1] >= outward.radii[0]:
        return False
    sticks_out = outward.length - outward.radii[0]
    return bool(sticks_out < max(outward.width, 1.5 * outward.radii[0]))


def _ends(segments: list[Segment]) -> dict[int, int]:
    """Knot -> how many lines begin or end there; a ring does both."""
    counts: dict[int, int] = defaultdict(int)
    for segment in segments:
        counts[segment.start] += 1
        counts[segment.end] += 1
    return counts


def _merged(segments: list[Segment]) -> list[Segment]:
    """Lines that meet alone become one."""
    at: dict[int, list[Segment]] = defaultdict(list)
    for segment in segments:
        at[segment.start].append(segment)
        at[segment.end].append(segment)
    alive = {id(segment): segment for segment in segments}
    for knot in list(at):
        meeting = at[knot]
        if len(meeting) != 2 or meeting[0] is meeting[1]:
            continue
        first, second = meeting
        first = first if first.end == knot else first.reversed()
        second = second if second.start == knot else second.reversed()
        joined = Segment(
            first.start,
            second.end,
            np.concatenate([first.points, second.points[1:]]),
            np.concatenate([first.radii, second.radii[1:]]),
        )
        for old in meeting:
            alive.pop(id(old))
        at[knot] = []
        for end in (joined.start, joined.end):
            at[end] = [one for one in at[end] if one is not meeting[0] and one is not meeting[1]]
        at[joined.start].append(joined)
        at[joined.end].append(joined)
        alive[id(joined)] = joined
    return list(alive.values())


def _segments(
    skeleton: np.ndarray, radii: np.ndarray, ground: Ground
) -> tuple[list[Segment], set[int]]:
    """Pixels with one or two neighbours are chained, the others are knots; and free knots at the frame."""
    rows, columns = np.nonzero(skeleton)
    count = len(rows)
    if count == 0:
        return [], set()
    place = ground.to_metres(np.column_stack([columns + 0.5, rows + 0.5]))
    reach = radii[rows, columns].astype(float)
    pairs = _neighbours(skeleton, rows, columns)
    degree = np.bincount(pairs.ravel(), minlength=count)
    is_knot = degree > 2
    inside = ~is_knot[pairs].any(axis=1)
    knots = _labels(pairs[is_knot[pairs].all(axis=1)], count)
    chains = _labels(pairs[inside], count)
    orders = _ordered(chains, pairs[inside], ~is_knot)
    touching: dict[int, list[int]] = defaultdict(list)
    for one, other in pairs[is_knot[pairs].sum(axis=1) == 1].tolist():
        pixel, knot = (other, one) if is_knot[one] else (one, other)
        touching[pixel].append(knot)
    segments = [
        _segment(order, closed, touching, (knots, place, reach, pairs)) for order, closed in orders
    ]
    height, width = skeleton.shape
    border = (rows == 0) | (rows == height - 1) | (columns == 0) | (columns == width - 1)
    return segments, set((count + np.flatnonzero(border)).tolist())


def _segment(
    order: np.ndarray,
    closed: bool,
    touching: dict[int, list[int]],
    pixels: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
) -> Segment:
    """A chain of pixels with the knots at its ends; a free end is a knot by its own pixel."""
    knots, place, reach, _ = pixels
    count = len(place)
    first, last = int(order[0]), int(order[-1])
    if closed:
        order = np.append(order, first)
        return Segment(count + first, count + first, place[order], reach[order])
    before, after = touching[first][:1], touching[last][-1:]
    if first == last and len(touching[first]) == 1:
        after = []
    path = np.array([*before, *order, *after], dtype=int)
    if len(path) == 1:
        path = np.repeat(path, 2)
    start = int(knots[before[0]]) if before else count + first
    end = int(knots[after[0]]) if after else count + last + (count if first == last else 0)
    return Segment(start, end, place[path], reach[path])


def _neighbours(skeleton: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """(count, 2) pairs of pixels side by side, or corner to corner where no third lies between."""
    number = np.full((skeleton.shape[0] + 2, skeleton.shape[1] + 2), -1, dtype=np.int64)
    number[rows + 1, columns + 1] = np.arange(len(rows))
    own = np.arange(len(rows))
    right = number[rows + 1, columns + 2]
    left = number[rows + 1, columns]
    below = number[rows + 2, columns + 1]
    right_below = np.where((right < 0) & (below < 0), number[rows + 2, columns + 2], -1)
    left_below = np.where((left < 0) & (below < 0), number[rows + 2, columns], -1)
    found = [
        np.column_stack([own, other])[other >= 0]
        for other in (right, below, right_below, left_below)
    ]
    return np.concatenate(found)


def _graph(pairs: np.ndarray, count: int) -> sparse.csr_matrix:
    both = np.concatenate([pairs, pairs[:, ::-1]])
    return sparse.csr_matrix((np.ones(len(both)), (both[:, 0], both[:, 1])), shape=(count, count))


def _labels(pairs: np.ndarray, count: int) -> np.ndarray:
    labels: np.ndarray = csgraph.connected_components(_graph(pairs, count), directed=False)[1]
    return labels


def _ordered(
    chains: np.ndarray, pairs: np.ndarray, wanted: np.ndarray
) -> list[tuple[np.ndarray, bool]]:
    """The pixels of each chain from end to end, and whether it is a ring."""
    count = len(chains)
    degree = np.bincount(pairs.ravel(), minlength=count)
    numbers = np.arange(count)
    # The first pixel of each chain in order of (inner or not, number): an end if there is one.
    ranked = np.lexsort([numbers, degree > 1, chains])
    ranked = ranked[wanted[ranked]]
    if not len(ranked):
        return []
    starts = ranked[np.unique(chains[ranked], return_index=True)[1]]
    rings = starts[degree[starts] > 1]
    cut = np.zeros(len(pairs), dtype=bool)
    for ring in rings.tolist():  # one step is taken out, which makes it a chain
        cut[np.flatnonzero((pairs == ring).any(axis=1))[0]] = True
    steps = csgraph.dijkstra(
        _graph(pairs[~cut], count), directed=False, indices=starts, min_only=True, unweighted=True
    )
    order = np.lexsort([steps, chains])
    order = order[wanted[order]]
    borders = np.flatnonzero(np.diff(chains[order])) + 1
    is_ring = set(chains[rings].tolist())
    return [(part, int(chains[part[0]]) in is_ring) for part in np.split(order, borders)]
