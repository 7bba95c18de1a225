"""Noise, tones and shadows: what every surface of a synthetic scene is painted with.

Nothing here loops over pixels: noise is a sum of small random grids enlarged to the picture, and a
shadow is found by shifting the height field a few times.
"""

import cv2
import numpy as np

Size = tuple[int, int]
"""(height, width) in pixels."""
Colour = tuple[float, float, float]
"""RGB, each 0..255."""

TILE_SIDE = 256
TILE_CELL = 4
COARSE_STEP = 4


def noise(
    generator: np.random.Generator, size: Size, *, cell: float, octaves: int = 3
) -> np.ndarray:
    """Smooth random field with detail at `octaves` scales, each half as wide and half as strong.

    Args:
        generator: Where the numbers come from.
        size: (height, width).
        cell: Width of the coarsest bumps in pixels; bumps below one pixel are left out.
        octaves: Number of scales.

    Returns:
        (height, width) float32 of mean 0 and standard deviation 1.
    """
    height, width = size
    # Wide bumps are summed on a small picture and enlarged once: a quarter of the time.
    small = (height // COARSE_STEP, width // COARSE_STEP)
    is_small = min(small) >= 2
    total: np.ndarray = np.zeros(small if is_small else size, dtype=np.float32)
    for octave in range(octaves):
        spacing = cell / 2**octave
        if octave and spacing < 1:
            break
        if is_small and spacing < 4 * COARSE_STEP:
            is_small = False
            total = cv2.resize(total, (width, height), interpolation=cv2.INTER_LINEAR)
        rows, columns = (max(2, round(one / spacing)) + 1 for one in size)
        grid = generator.random((rows, columns), dtype=np.float32) - np.float32(0.5)
        # Below a few pixels the corners of linear enlargement are not seen.
        smooth = cv2.INTER_CUBIC if spacing > 6 else cv2.INTER_LINEAR
        enlarged = cv2.resize(grid, total.shape[::-1], interpolation=smooth)
        cv2.scaleAdd(enlarged, 0.5**octave, total, total)
    if total.shape != size:
        total = cv2.resize(total, (width, height), interpolation=cv2.INTER_LINEAR)
    mean, deviation = cv2.meanStdDev(total)
    spread = float(deviation.item()) + 1e-6
    scaled: np.ndarray = total * np.float32(1 / spread) - np.float32(mean.item() / spread)
    return scaled


def speckle(generator: np.random.Generator, size: Size) -> np.ndarray:
    """Independent pixels, (height, width) float32 of mean 0 and standard deviation 1."""
    even = generator.random(size, dtype=np.float32)
    centred: np.ndarray = (even - np.float32(0.5)) * np.float32(12**0.5)
    return centred


def varying(generator: np.random.Generator, along: np.ndarray, *, cell: float) -> np.ndarray:
    """Smooth random value that depends on one coordinate only.

    Args:
        generator: Where the numbers come from.
        along: (height, width) float32 coordinate in pixels, from 0.
        cell: Distance in pixels over which the value changes.

    Returns:
        (height, width) float32 of mean about 0, in about -1.2..1.2.
    """
    steps = 256
    knots = int(along.max() / cell) + 3
    grid = generator.uniform(-1, 1, (1, knots)).astype(np.float32)
    table = cv2.resize(grid, (knots * steps, 1), interpolation=cv2.INTER_CUBIC)[0]
    position = (along * np.float32(steps / cell)).astype(np.int32)
    looked_up: np.ndarray = table[np.clip(position, 0, table.size - 1)]
    return looked_up


def flow_noise(
    generator: np.random.Generator,
    along: np.ndarray,
    across: np.ndarray,
    *,
    cells: tuple[float, float],
) -> np.ndarray:
    """Noise that follows a river round its bends.

    Args:
        generator: Where the numbers come from.
        along: (height, width) float32, pixels downstream.
        across: (height, width) float32, pixels from the centre line, negative on one side.
        cells: (along, across) width of the bumps in pixels: short along and long across gives
            standing waves, the opposite gives streaks.

    Returns:
        (height, width) float32 of mean about 0 and standard deviation about 1.
    """
    tile = noise(generator, (TILE_SIDE, TILE_SIDE), cell=TILE_CELL, octaves=2)
    start = generator.uniform(0, TILE_SIDE, 2).astype(np.float32)
    followed: np.ndarray = cv2.remap(
        tile,
        along * np.float32(TILE_CELL / cells[0]) + start[0],
        across * np.float32(TILE_CELL / cells[1]) + start[1],
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    return followed


def tinted(colour: np.ndarray, tone: np.ndarray) -> np.ndarray:
    """A (3,) colour made darker and lighter by a (height, width) tone around 1: (height, width, 3)."""
    tone = tone.astype(np.float32, copy=False)
    painted: np.ndarray = cv2.merge([tone * np.float32(channel) for channel in colour])
    return painted


def blended(below: np.ndarray, above: np.ndarray, share: np.ndarray) -> np.ndarray:
    """`below` where the (height, width) share is 0, `above` where it is 1; both (height, width, 3)."""
    mixed: np.ndarray = cv2.blendLinear(above, below, share, 1 - share)
    return mixed


def smooth_step(value: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 below `low`, 1 above `high` and a smooth rise between; `low` > `high` gives a fall."""
    position = np.clip((value - np.float32(low)) / np.float32(high - low), 0, 1)
    risen: np.ndarray = position * position * (3 - 2 * position)
    return risen


def cast_shadow(height: np.ndarray, *, direction: float, steepness: float) -> np.ndarray:
    """Where the sun does not reach.

    The horizon towards the sun is the highest of all points that way, each lowered by `steepness`
    per pixel of distance. Doubling the shift each time finds it in log2(length) steps.

    Args:
        height: (height, width) float32, pixels above the ground.
        direction: Direction in which shadows fall, radians from +x towards +y.
        steepness: Tangent of the sun's elevation, above 0.

    Returns:
        (height, width) float32, 0 in the sun to 1 in full shadow, with a soft edge of one pixel.
    """
    rows, columns = height.shape
    horizon: np.ndarray = height
    reach = 1.0
    longest = float(height.max()) / steepness
    while reach <= max(longest, 1.0):
        shift = np.array(
            [[1, 0, reach * np.cos(direction)], [0, 1, reach * np.sin(direction)]], dtype=np.float64
        )
        moved = cv2.warpAffine(horizon, shift, (columns, rows), borderMode=cv2.BORDER_REPLICATE)
        horizon = np.maximum(horizon, moved - np.float32(reach * steepness))
        reach *= 2
    hidden = (horizon > height + np.float32(0.5)).astype(np.float32)
    softened: np.ndarray = cv2.blur(hidden, (3, 3))
    return softened
