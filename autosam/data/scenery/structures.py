"""What people built beside a synthetic river: smooth, grey and straight, and not water."""

import cv2
import numpy as np

from autosam.data.scenery.terrain import Ground, picked
from autosam.data.scenery.textures import Colour, Size, noise, speckle, tinted

ROADS: tuple[Colour, ...] = ((84, 85, 88), (112, 112, 112), (150, 148, 144), (150, 134, 112))
ROOFS: tuple[Colour, ...] = (
    (92, 94, 100),
    (150, 150, 152),
    (126, 84, 70),
    (206, 204, 200),
    (64, 64, 70),
)


def lay_road(
    generator: np.random.Generator,
    ground: Ground,
    wet: np.ndarray,
    *,
    width: float,
    colour: np.ndarray,
) -> None:
    """Draw one gently curved road or track from border to border; it bridges what it crosses.

    Args:
        generator: Where the numbers come from.
        ground: Painted on in place.
        wet: (height, width) bool, where water lies: a verge stops there.
        width: Pixels.
        colour: (3,) of the surface.
    """
    size = ground.size
    line = _route(generator, size)
    area = _drawn(size, line, width)
    fine = noise(generator, size, cell=max(18 * ground.unit, 2), octaves=5)
    tone = 1 + 0.04 * fine + 0.03 * speckle(generator, size)
    tracks = _drawn(size, line, width * 0.72) & ~_drawn(size, line, width * 0.5)
    tone -= 0.07 * tracks
    verge = _drawn(size, line, width * 1.5 + 2) & ~ground.covered & ~wet
    gravelled = colour * np.float32(1.1)
    ground.image[verge] = 0.5 * (ground.image[verge] + gravelled)
    if ground.infrared is not None:
        ground.infrared.cover(gravelled, 0.5 * verge, material="mineral")
    ground.fill(area, tinted(colour, tone), material="mineral")
    if width > 7 and generator.random() < 0.4:
        marking = _drawn(size, line, max(width * 0.06, 1))
        ground.fill(marking, np.full(3, 205, dtype=np.float32), material="mineral")
    ground.covered |= area


def _route(generator: np.random.Generator, size: Size) -> np.ndarray:
    """(80, 2) points (x, y) of a gentle curve that begins and ends outside the picture."""
    reach = float(np.hypot(*size))
    heading = generator.uniform(0, 2 * np.pi)
    arc = np.linspace(-1, 1, 80)
    aside = generator.uniform(-0.25, 0.25) * np.sin(arc * generator.uniform(1, 4)) * reach
    middle = generator.uniform(0.15, 0.85, 2) * (size[1], size[0])
    forward = np.array([np.cos(heading), np.sin(heading)])
    sideways = np.array([-forward[1], forward[0]])
    route: np.ndarray = middle + arc[:, None] * reach * forward + aside[:, None] * sideways
    return route


def _drawn(size: Size, line: np.ndarray, width: float) -> np.ndarray:
    """(height, width) bool, True within half the width of a polyline of (x, y) points."""
    area = np.zeros(size, dtype=np.uint8)
    # Far ends would overflow the fixed-point coordinates that OpenCV draws with.
    corners = np.clip(np.rint(line), -30000, 30000).astype(np.int32)
    cv2.polylines(area, [corners], False, 1, thickness=max(1, round(width)))
    return area.astype(bool)


def raise_buildings(
    generator: np.random.Generator, ground: Ground, free: np.ndarray, *, count: int
) -> None:
    """Set gabled and flat roofs on free land.

    Args:
        generator: Where the numbers come from.
        ground: Painted on in place.
        free: (height, width) bool, where a building may have its middle.
        count: How many are tried; those whose middle is not free are left out.
    """
    height, width = ground.size
    heading = generator.uniform(0, np.pi)
    for _ in range(count):
        x, y = generator.uniform(0, width), generator.uniform(0, height)
        long_side = generator.uniform(12, 42) * ground.unit
        short_side = long_side * generator.uniform(0.35, 0.9)
        turned = heading + generator.choice([0, np.pi / 2]) + generator.normal(0, 0.05)
        colour = picked(generator, ROOFS)
        shade = generator.uniform(0.7, 1.0)
        if not free[int(y), int(x)]:
            continue
        ahead = np.array([np.cos(turned), np.sin(turned)]) * long_side / 2
        beside = np.array([-np.sin(turned), np.cos(turned)]) * short_side / 2
        middle = np.array([x, y])
        ends = (middle - ahead, middle + ahead)
        for half, tone in ((beside, 1.0), (-beside, shade)):
            corners = np.array([*ends, ends[1] + half, ends[0] + half])
            _fill_roof(ground, np.rint(corners).astype(np.int32), colour * np.float32(tone))


def _fill_roof(ground: Ground, corners: np.ndarray, colour: np.ndarray) -> None:
    area = np.zeros(ground.size, dtype=np.uint8)
    cv2.fillPoly(area, [corners], 1)
    roof = area.astype(bool)
    ground.fill(roof, colour, material="mineral")
    ground.height[roof] = 7 * ground.unit
    ground.covered |= roof
