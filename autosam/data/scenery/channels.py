"""Where the rivers of a synthetic scene run: centre lines, widths, threads, islands and gravel bars.

Everything is a field over the picture in river coordinates (`along` and `across` the centre line),
so that a bank is the zero line of `level` at any picture size.
"""

import dataclasses

import cv2
import numpy as np

from autosam.data.scenery.textures import Size, noise, varying

COARSE_SIDE = 48
HALF_POINTS = 300
POINTS_PER_DIAGONAL = 200


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Channels:
    """River beds, each field (height, width) float32."""

    level: np.ndarray
    """About the distance to the nearest bank in pixels: negative in the bed, positive on land."""
    along: np.ndarray
    """Pixels downstream."""
    across: np.ndarray
    """Pixels from the centre line, negative on one side."""
    bar: np.ndarray
    """Bare gravel lies where 0 <= level < bar."""


def lay_channels(
    generator: np.random.Generator, size: Size, *, kind: str, limits: tuple[float, float]
) -> Channels:
    """Draw the river beds of one scene.

    Args:
        generator: Where the numbers come from.
        size: (height, width).
        kind: "meander", "braided", "island" or "narrow".
        limits: Least and greatest share of the picture that the beds take, 0..1.
    """
    extent = float(np.sqrt(size[0] * size[1]))
    bend = {"meander": 1.4, "braided": 0.5, "island": 0.9, "narrow": 1.5}[kind]
    points, turning = _centre_line(generator, size, bend=generator.uniform(0.1, bend))
    along, across, distance = _river_coordinates(points, size)
    rough = noise(generator, size, cell=0.09 * extent, octaves=6)
    if kind == "braided":
        level, bar = _braid(generator, along, across, extent=extent)
        level += rough * np.float32(0.006 * extent)
    else:
        level, bar = _single(generator, along, distance, extent=extent, kind=kind)
        bar *= 0.35 + np.clip(_looked_up(turning, along, size) * np.sign(across), -0.3, 1)
        roughness = 0.004 if kind == "narrow" else generator.uniform(0.003, 0.015)
        level += rough * np.float32(roughness * extent)
    if kind == "narrow":
        level = _branch(generator, level, points, size, extent=extent)
    if kind == "island":
        level = _islands(generator, level, along, across, extent=extent)
    level = _within(level, limits)
    bar += noise(generator, size, cell=0.12 * extent, octaves=4) * np.float32(0.02 * extent)
    return Channels(level=level, along=along, across=across, bar=bar)


def _centre_line(
    generator: np.random.Generator, size: Size, *, bend: float
) -> tuple[np.ndarray, np.ndarray]:
    """Sine-generated curve through the picture: (n, 2) points (x, y), and (n,) turning in -1..1.

    Source: Langbein and Leopold, "River meanders: theory of minimum variance", USGS 1966.
    """
    height, width = size
    step = np.hypot(height, width) / POINTS_PER_DIAGONAL
    arc = np.arange(-HALF_POINTS, HALF_POINTS + 1) * step
    wavelength = generator.uniform(0.7, 2.2) * np.sqrt(height * width)
    phase, second = generator.uniform(0, 2 * np.pi, 2)
    # The second, slower sine keeps two bends of one river from being copies.
    swing = np.sin(2 * np.pi * arc / wavelength + phase)
    swing += 0.35 * np.sin(2 * np.pi * arc / (2.7 * wavelength) + second)
    heading = generator.uniform(0, 2 * np.pi) + bend * swing
    steps = np.stack([np.cos(heading), np.sin(heading)], axis=1) * step
    points = np.cumsum(steps, axis=0)
    through = generator.uniform(0.25, 0.75, 2) * (width, height)
    turning = np.gradient(swing)
    turning = (turning / (np.abs(turning).max() + 1e-9)).astype(np.float32)
    return points - points[HALF_POINTS] + through, turning


def _river_coordinates(points: np.ndarray, size: Size) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(along, across, distance) of every pixel, each (height, width) float32 in pixels.

    The nearest point of the line is searched on a coarse grid and then followed along the line at
    full size, which is exact near the line.
    """
    height, width = size
    step = float(np.hypot(*(points[1] - points[0])))
    tangents = np.gradient(points, axis=0)
    tangents /= np.linalg.norm(tangents, axis=1, keepdims=True)
    coarse = (min(COARSE_SIDE, height), min(COARSE_SIDE, width))
    rows = (np.arange(coarse[0], dtype=np.float32) + 0.5) * (height / coarse[0]) - 0.5
    columns = (np.arange(coarse[1], dtype=np.float32) + 0.5) * (width / coarse[1]) - 0.5
    centre = np.array([width / 2, height / 2])
    grid = np.stack(np.meshgrid(columns, rows), axis=-1).reshape(-1, 2) - centre
    near = (points - centre).astype(np.float32)
    # argmin |g - p|^2 = argmin |p|^2 - 2 g.p
    nearest = np.argmin((near**2).sum(1) - 2 * grid.astype(np.float32) @ near.T, axis=1)
    index = _enlarged_index(nearest.reshape(coarse).astype(np.float32), size)
    x = np.arange(width, dtype=np.float32)[None, :]
    y = np.arange(height, dtype=np.float32)[:, None]
    bend = (
        tangents[:, 0] * np.gradient(tangents[:, 1]) - tangents[:, 1] * np.gradient(tangents[:, 0])
    ) / step
    table = np.column_stack([points, tangents, bend]).astype(np.float32)
    for repeat in range(3):
        here = cv2.split(np.take(table, index, axis=0))
        right, down = x - here[0], y - here[1]
        onward = right * here[2] + down * here[3]
        across = down * here[2] - right * here[3]
        # Newton's step: inside a bend, points of the line lie closer together than their feet.
        foot = onward / np.clip(1 - across * here[4], 0.3, 3)
        if repeat < 2:
            moved = index + np.rint(foot * np.float32(1 / step)).astype(np.int32)
            index = np.clip(moved, 0, len(points) - 1)
    beyond = np.maximum(np.abs(onward) - np.float32(step), 0)
    along = np.maximum(index.astype(np.float32) * np.float32(step) + foot, 0)
    return along, across, np.hypot(across, beyond)


def _enlarged_index(coarse: np.ndarray, size: Size) -> np.ndarray:
    """A coarse picture of point numbers at full size, (height, width) int32.

    Smooth where neighbours are near on the line; where two bends meet, a mean of their numbers would
    be a third place, so there the nearest is kept.
    """
    height, width = size
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    nearest = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_NEAREST)
    chosen = np.where(np.abs(smooth - nearest) < 20, smooth, nearest)
    index: np.ndarray = np.rint(chosen).astype(np.int32)
    return index


def _looked_up(table: np.ndarray, along: np.ndarray, size: Size) -> np.ndarray:
    """A (n,) value of the centre line's points for every pixel, (height, width) float32."""
    finer = 32
    dense = cv2.resize(table[None], (len(table) * finer, 1), interpolation=cv2.INTER_LINEAR)[0]
    place = along * np.float32(finer * POINTS_PER_DIAGONAL / float(np.hypot(*size)))
    values: np.ndarray = np.asarray(dense)[np.clip(place.astype(np.int32), 0, dense.size - 1)]
    return values


def _single(
    generator: np.random.Generator,
    along: np.ndarray,
    distance: np.ndarray,
    *,
    extent: float,
    kind: str,
) -> tuple[np.ndarray, np.ndarray]:
    """Level and bar of one river of varying width."""
    least, greatest = {"meander": (0.07, 0.45), "island": (0.22, 0.5), "narrow": (0.014, 0.045)}[
        kind
    ]
    full = float(np.exp(generator.uniform(np.log(least), np.log(greatest)))) * extent
    width = float(max(full, 2.5)) * (1 + 0.3 * varying(generator, along, cell=0.35 * extent))
    broad = generator.uniform(0, 0.05 if kind == "narrow" else 0.22) * extent
    bar = broad * (0.7 + varying(generator, along, cell=0.3 * extent))
    return distance - width / 2, bar.astype(np.float32)


def _braid(
    generator: np.random.Generator, along: np.ndarray, across: np.ndarray, *, extent: float
) -> tuple[np.ndarray, np.ndarray]:
    """Level and bar of threads that part and meet on one gravel plain."""
    plain = generator.uniform(0.3, 0.8) * extent
    level = np.full_like(along, 1e6)
    for _ in range(generator.integers(3, 7)):
        course = 0.5 * plain * varying(generator, along, cell=generator.uniform(0.2, 0.5) * extent)
        full = float(np.exp(generator.uniform(np.log(0.02), np.log(0.12)))) * extent
        width = float(max(full, 2.0)) * (1 + 0.7 * varying(generator, along, cell=0.15 * extent))
        # The slope of a thread against the plain makes it look wider across than it is.
        level = np.minimum(level, 0.85 * (np.abs(across - course) - width / 2))
    edge = 0.62 * plain * (1 + 0.3 * varying(generator, along, cell=0.4 * extent))
    bar = np.where(np.abs(across) < edge, 0.16 * extent, 0.02 * extent)
    return level, bar.astype(np.float32)


def _branch(
    generator: np.random.Generator,
    level: np.ndarray,
    points: np.ndarray,
    size: Size,
    *,
    extent: float,
) -> np.ndarray:
    """Add up to two tributaries that leave the main line inside the picture."""
    for _ in range(generator.integers(0, 3)):
        line, _ = _centre_line(generator, size, bend=generator.uniform(0.2, 1.2))
        origin = points[HALF_POINTS + generator.integers(-40, 40)]
        line = (line - line[HALF_POINTS] + origin)[HALF_POINTS:]
        _, _, distance = _river_coordinates(line, size)
        width = max(generator.uniform(0.008, 0.025) * extent, 2.0)
        level = np.minimum(level, distance - np.float32(width / 2))
    return level


def _islands(
    generator: np.random.Generator,
    level: np.ndarray,
    along: np.ndarray,
    across: np.ndarray,
    *,
    extent: float,
) -> np.ndarray:
    """Raise one to three islands, long with the flow."""
    size = (level.shape[0], level.shape[1])
    middle = HALF_POINTS / POINTS_PER_DIAGONAL * float(np.hypot(*size))
    shape = noise(generator, size, cell=0.12 * extent, octaves=5)
    for _ in range(generator.integers(1, 4)):
        half_width = generator.uniform(0.03, 0.11) * extent
        half_length = half_width * generator.uniform(1.3, 3.5)
        start = middle + generator.uniform(-0.4, 0.4) * extent
        aside = generator.uniform(-0.09, 0.09) * extent
        radius = np.hypot((along - start) / half_length, (across - aside) / half_width)
        level = np.maximum(level, (1 + 0.18 * shape - radius) * np.float32(half_width))
    return level


def _within(level: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """Raise or lower the river until the share of the picture below it is inside the limits."""
    share = float((level < 0).mean())
    least, greatest = limits
    if least <= share <= greatest:
        return level.astype(np.float32)
    # An even value well inside keeps the bank away from ties.
    level = level - np.quantile(level, np.clip(share, least * 1.1, greatest * 0.95))
    return level.astype(np.float32)
