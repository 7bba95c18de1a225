"""The middle line of a river: the longest way through its water, its branches, both made smooth."""

import dataclasses

import numpy as np
from scipy import sparse
from scipy.ndimage import gaussian_filter1d
from scipy.sparse import csgraph
from scipy.spatial import cKDTree

from autosam.maps.metric_ground import Ground
from autosam.maps.skeletons import Segment, skeleton_network

_MOST_ENDS = 400
"""Up to so many free ends the longest way is exact; above it is found by two sweeps."""
LARGEST_MISS = 0.2
"""Widths by which an end that is drawn out again may miss the water's middle at the frame."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Centreline:
    """The middle of a river."""

    main: np.ndarray
    """(count, 2) metres, points one pixel apart."""
    branches: tuple[np.ndarray, ...]
    """The other lines, each (count, 2) metres."""
    closed: bool
    """Whether the main line is a ring."""
    reach: float
    """Metres from the main line to the water furthest from it, beside it."""

    @property
    def length(self) -> float:
        """Of the main line, in metres."""
        return line_length(self.main)

    @property
    def sinuosity(self) -> float | None:
        """Length over the straight distance of its ends; None for a ring."""
        straight = float(np.linalg.norm(self.main[-1] - self.main[0]))
        return None if self.closed or straight < 1e-9 else self.length / straight


def find_centreline(water: np.ndarray, ground: Ground) -> Centreline | None:
    """The centreline of connected water; None where there is no bank to be in the middle of.

    The skeleton (Zhang and Suen 1984) becomes a network without spurs. The main line joins the two free
    ends that lie furthest apart along the network, and between them prefers short and wide ways. Lines are
    smoothed over a width and drawn out to the bank or the frame at free ends. The main line begins at its end
    further left in the picture; which way the water flows is not known.

    Args:
        water: (height, width) bool, one connected area, without holes that are noise.
        ground: Of this picture.
    """
    if water.all():
        return None
    segments = skeleton_network(water, ground)
    if not segments:
        return None
    way, rest = _main_way(segments)
    ends = ground.to_pixels(np.stack([way[0].points[0], way[-1].points[-1]]))
    if tuple(ends[1]) < tuple(ends[0]):
        way = [segment.reversed() for segment in way[::-1]]
    points = np.concatenate([way[0].points[:1], *(segment.points[1:] for segment in way)])
    radii = np.concatenate([way[0].radii[:1], *(segment.radii[1:] for segment in way)])
    closed = way[0].start == way[-1].end
    width = 2 * float(np.median(radii))
    whole = points
    if not closed:
        points = _cut_back(points, radii, water.shape, ground, most=width)
    main = smoothed(points, step=ground.pixel, scale=width, closed=closed)
    if len(main) < 2:
        return None
    if not closed:
        main = _drawn_out(main, water, ground, span=width)
    branches = tuple(
        smoothed(one.points, step=ground.pixel, scale=one.width, closed=one.start == one.end)
        for one in rest
    )
    reach = _reach(main, [way, rest], points=whole)
    return Centreline(
        main=main,
        branches=tuple(branch for branch in branches if len(branch) > 1),
        closed=closed,
        reach=reach,
    )


def line_length(points: np.ndarray) -> float:
    """Of a line of (count, 2) points."""
    return float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum())


def resampled(points: np.ndarray, step: float) -> np.ndarray:
    """Points at equal distances of about `step` along a line, its ends among them."""
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    along = np.concatenate([[0.0], np.cumsum(steps)])
    if along[-1] == 0:
        return points[:1]
    places = np.linspace(0, along[-1], max(2, round(along[-1] / step) + 1))
    return np.column_stack([np.interp(places, along, points[:, axis]) for axis in (0, 1)])


def smoothed(points: np.ndarray, *, step: float, scale: float, closed: bool) -> np.ndarray:
    """A line without the steps of its pixels; open ends stay where they are.

    A Gaussian of half the `scale`, applied again to what it took away: a bend ten scales long keeps more
    than 99 % of its height, where one pass would keep 95 %.
    """
    line = resampled(points, step)
    if len(line) < 4:
        return line
    sigma = max(scale / 2 / step, 2.0)
    once = _blurred(line, sigma, closed=closed)
    twice: np.ndarray = once + _blurred(line - once, sigma, closed=closed)
    if closed:
        twice[-1] = twice[0]
    return twice


def _blurred(line: np.ndarray, sigma: float, *, closed: bool) -> np.ndarray:
    if closed:
        ring: np.ndarray = gaussian_filter1d(line[:-1], sigma, axis=0, mode="wrap")
        return np.concatenate([ring, ring[:1]])
    count = min(len(line) - 1, round(4 * sigma))
    # Turned round its ends, so that they stay in place and straight lines straight.
    before = 2 * line[:1] - line[count:0:-1]
    after = 2 * line[-1:] - line[-2 : -2 - count : -1]
    blurred = gaussian_filter1d(np.concatenate([before, line, after]), sigma, axis=0)
    inner: np.ndarray = blurred[count : count + len(line)]
    return inner


def _main_way(segments: list[Segment]) -> tuple[list[Segment], list[Segment]]:
    """The lines of the main way, in order and direction, and all others."""
    best: dict[tuple[int, int], Segment] = {}
    for segment in segments:
        key = min(segment.start, segment.end), max(segment.start, segment.end)
        if key not in best or _cost(segment) < _cost(best[key]):
            best[key] = segment
    links = [segment for (start, end), segment in best.items() if start != end]
    if not links:
        ring = max(segments, key=lambda segment: segment.length)
        return [ring], [segment for segment in segments if segment is not ring]
    knots, ends = np.unique([(one.start, one.end) for one in links], return_inverse=True)
    ends = ends.reshape(-1, 2)
    first, last = _furthest(links, ends, len(knots))
    costs = _link_graph(ends, [_cost(link) for link in links], len(knots))
    before = csgraph.dijkstra(costs, directed=False, indices=first, return_predecessors=True)[1]
    way: list[Segment] = []
    while last != first:
        previous = int(before[last])
        start, end = int(knots[previous]), int(knots[last])
        link = best[min(start, end), max(start, end)]
        way.append(link if link.start == start else link.reversed())
        last = previous
    used = {frozenset((link.start, link.end)) for link in way}
    taken = {id(one) for one in links if frozenset((one.start, one.end)) in used}
    return way[::-1], [segment for segment in segments if id(segment) not in taken]


def _cost(segment: Segment) -> float:
    """Length over width: of two ways of one length the wider is the main one."""
    return segment.length / max(segment.width, 1e-9)


def _link_graph(ends: np.ndarray, weights: list[float], count: int) -> sparse.csr_matrix:
    return sparse.csr_matrix(
        (np.maximum(weights, 1e-12), (ends[:, 0], ends[:, 1])), shape=(count, count)
    )


def _furthest(links: list[Segment], ends: np.ndarray, count: int) -> tuple[int, int]:
    """The two free ends, or two knots where nothing is free, that lie furthest apart along the network."""
    graph = _link_graph(ends, [link.length for link in links], count)
    free = np.flatnonzero(np.bincount(ends.ravel(), minlength=count) == 1)
    candidates = free if len(free) >= 2 else np.arange(count)
    sources = candidates
    if len(candidates) > _MOST_ENDS:
        away = csgraph.dijkstra(graph, directed=False, indices=candidates[0])[candidates]
        sources = candidates[[int(np.argmax(np.where(np.isfinite(away), away, -1)))]]
    away = csgraph.dijkstra(graph, directed=False, indices=sources)[:, candidates]
    row, column = np.unravel_index(
        int(np.argmax(np.where(np.isfinite(away), away, -1))), away.shape
    )
    return int(sources[row]), int(candidates[column])


def _cut_back(
    points: np.ndarray, radii: np.ndarray, size: tuple[int, ...], ground: Ground, *, most: float
) -> np.ndarray:
    """Without the ends that lie nearer to the frame than to the banks, which are cut off beside them.

    Water is thought to go straight out of the picture, so the middle of an oblique river bends there; drawn
    out again it keeps its own direction.

    Args:
        points: (count, 2) metres.
        radii: (count,) metres to the nearest bank.
        size: (height, width) of the picture.
        ground: Of the picture.
        most: Metres that are cut off at most at an end.
    """
    pixels = ground.to_pixels(points)
    away = np.minimum(pixels, np.array(size[::-1]) - pixels)
    at_frame = away.min(axis=1) < 1
    near = (away * ground.sides[::-1]).min(axis=1) < radii
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    head = int(np.argmin(near & (along < most))) if at_frame[0] else 0
    tail = int(np.argmin((near & (along[-1] - along < most))[::-1])) if at_frame[-1] else 0
    head = head if _meets_again(points, along, head, most=most) else 0
    tail = tail if _meets_again(points[::-1], along[-1] - along[::-1], tail, most=most) else 0
    kept = points[head : len(points) - tail]
    return kept if 2 * len(kept) > len(points) else points


def _meets_again(points: np.ndarray, along: np.ndarray, cut: int, *, most: float) -> bool:
    """Whether a line without its first points, drawn out again, passes by the first of them.

    That one lies near the middle of the water at the frame, to which a straight river leads; a line that is
    still swinging round an island would miss it.
    """
    further = min(int(np.searchsorted(along, along[cut] + most)), len(points) - 1)
    direction, missing = points[cut] - points[further], points[0] - points[cut]
    length = float(np.hypot(*direction))
    off = abs(direction[0] * missing[1] - direction[1] * missing[0]) / max(length, 1e-9)
    return length > 0 and off <= LARGEST_MISS * most


def _drawn_out(main: np.ndarray, water: np.ndarray, ground: Ground, *, span: float) -> np.ndarray:
    """Both ends go straight on to the bank or the frame."""
    count = max(2, min(len(main) // 2, round(span / 2 / ground.pixel)))
    head = _ray(main[0], main[0] - main[count - 1], water, ground, span)
    tail = _ray(main[-1], main[-1] - main[-count], water, ground, span)
    return resampled(np.concatenate([head[::-1], main, tail]), ground.pixel)


def _ray(
    origin: np.ndarray, direction: np.ndarray, water: np.ndarray, ground: Ground, span: float
) -> np.ndarray:
    """Points from an end outwards while there is water, at most twice the span."""
    size = float(np.linalg.norm(direction))
    if size == 0:
        return origin[None][:0]
    step = ground.pixel / 4
    distances = np.arange(1, max(2, int(2 * span / step) + 4)) * step
    points = origin + distances[:, None] * direction / size
    columns, rows = np.floor(ground.to_pixels(points)).astype(int).T
    height, width = water.shape
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    wet = inside & water[rows.clip(0, height - 1), columns.clip(0, width - 1)]
    reached = int(np.argmin(wet)) if not wet.all() else len(wet)
    ray: np.ndarray = points[:reached]
    return ray[-1:]


def _reach(main: np.ndarray, groups: list[list[Segment]], *, points: np.ndarray) -> float:
    every = [segment for group in groups for segment in group]
    places = np.concatenate([segment.points for segment in every])
    radii = np.concatenate([segment.radii for segment in every])
    away = cKDTree(np.concatenate([main, points])).query(places)[0]
    return float((away + radii).max())
