"""The land of a synthetic scene: soil, meadow, gravel, trees and driftwood.

Each function paints on a `Ground` in place; the order in which they are called is the order in
which they cover each other.
"""

import dataclasses

import cv2
import numpy as np

from autosam.data.scenery.infrared import Infrared, Material
from autosam.data.scenery.textures import (
    Colour,
    Size,
    blended,
    noise,
    smooth_step,
    speckle,
    tinted,
)

GREENS: tuple[Colour, ...] = (
    (88, 112, 58),
    (74, 100, 62),
    (110, 132, 74),
    (60, 82, 54),
    (66, 92, 78),
)
AUTUMN: tuple[Colour, ...] = ((128, 112, 66), (118, 96, 74), (104, 100, 62))
BARE_TREES: tuple[Colour, ...] = ((122, 112, 104), (108, 104, 96))
SOILS: tuple[Colour, ...] = ((148, 134, 112), (122, 108, 92), (98, 88, 78), (168, 156, 138))
GRAVELS: tuple[Colour, ...] = ((178, 176, 170), (156, 152, 146), (196, 192, 182), (134, 130, 124))


@dataclasses.dataclass(kw_only=True, eq=False)
class Ground:
    """A scene while it is painted."""

    image: np.ndarray
    """(height, width, 3) float32 RGB, about 0..255, before light and haze."""
    height: np.ndarray
    """(height, width) float32, pixels above the ground: what casts shadows."""
    covered: np.ndarray
    """(height, width) bool, True where a road, roof, boulder or crown hides what lies below."""
    unit: float
    """Pixels that are one pixel in a picture of side 384 at the middle zoom."""
    infrared: Infrared | None = None
    """Painted along where it is wanted."""

    def cover(self, layer: np.ndarray, share: np.ndarray, *, material: Material) -> None:
        """Paint a (height, width, 3) layer over a (height, width) share of 0..1."""
        self.image = blended(self.image, layer, share)
        if self.infrared is not None:
            self.infrared.cover(layer, share, material=material)

    def fill(self, area: np.ndarray, layer: np.ndarray, *, material: Material) -> None:
        """Paint a (height, width, 3) layer or one (3,) colour where a (height, width) bool is True."""
        if layer.ndim == 3:
            np.copyto(self.image, layer, where=area[..., None])
        else:
            self.image[area] = layer
        if self.infrared is not None:
            self.infrared.cover(layer, area, material=material)

    @property
    def size(self) -> Size:
        """(height, width)."""
        return self.height.shape[0], self.height.shape[1]


def picked(
    generator: np.random.Generator, palette: tuple[Colour, ...], *, spread: float = 6
) -> np.ndarray:
    """One colour of the palette, (3,) float32, changed by up to `spread` in each channel."""
    colour = np.array(palette[generator.integers(len(palette))])
    changed = colour * generator.uniform(0.82, 1.15) + generator.uniform(-spread, spread, 3)
    return changed.astype(np.float32)


def bare_ground(
    generator: np.random.Generator, size: Size, *, unit: float, infrared: Infrared | None = None
) -> Ground:
    """Meadow of two plants with patches of bare soil."""
    ground = Ground(
        image=np.zeros((*size, 3), dtype=np.float32),
        height=np.zeros(size, dtype=np.float32),
        covered=np.zeros(size, dtype=bool),
        unit=unit,
        infrared=infrared,
    )
    wide = noise(generator, size, cell=110 * unit, octaves=4)
    fine = noise(generator, size, cell=9 * unit, octaves=3)
    tone = 1 + 0.10 * wide + 0.09 * fine + 0.05 * speckle(generator, size)
    season = GREENS if generator.random() < 0.7 else AUTUMN + BARE_TREES
    meadow = tinted(picked(generator, season), tone)
    ground.fill(np.ones(size, dtype=bool), meadow, material="leaf")
    other = tinted(picked(generator, season), 1 + 0.16 * fine)
    patches = noise(generator, size, cell=60 * unit, octaves=5)
    ground.cover(other, smooth_step(patches, -0.3, 0.6), material="leaf")
    soil = tinted(picked(generator, SOILS), 1 + 0.07 * wide + 0.06 * fine)
    # In some scenes soil is rare, in some it is everywhere.
    rarity = generator.uniform(-0.6, 2.2)
    share = smooth_step(wide + 0.5 * patches, rarity, rarity + 0.35)
    ground.cover(soil, share, material="mineral")
    return ground


def gravel(
    generator: np.random.Generator, size: Size, *, unit: float, near: np.ndarray
) -> np.ndarray:
    """Pebbles and sand, (height, width, 3) float32.

    Args:
        generator: Where the numbers come from.
        size: (height, width).
        unit: See `Ground.unit`.
        near: (3,) colour of the silt that water and stones share; in half of the scenes the stones
            have nearly that colour.
    """
    colour = picked(generator, GRAVELS)
    if generator.random() < 0.5:
        low, high = (0.72, 0.88) if generator.random() < 0.3 else (1.1, 1.4)
        # Stones are never as dark as deep water.
        colour = np.maximum(
            near * np.float32(generator.uniform(low, high)), near - near.mean() + np.float32(98)
        )
    beds = noise(generator, size, cell=40 * unit, octaves=4)
    pebbles = noise(generator, size, cell=max(3 * unit, 1.5), octaves=2)
    coarse = generator.uniform(0.03, 0.16)
    tone = 1 + 0.06 * beds + coarse * pebbles * smooth_step(beds, -1, 1)
    tone += generator.uniform(0.02, 0.08) * speckle(generator, size)
    return tinted(colour, tone)


def plant_trees(
    generator: np.random.Generator,
    ground: Ground,
    roots: np.ndarray,
    *,
    radius: float,
    palette: tuple[Colour, ...],
    sun: float,
) -> None:
    """Cover the ground with tree crowns, whose edges hang over what lies beside them.

    Args:
        generator: Where the numbers come from.
        ground: Painted on in place.
        roots: (height, width) float32, 0..1, the chance that a tree stands here.
        radius: Middle radius of a crown in pixels.
        palette: Colours of the leaves.
        sun: Direction in which shadows fall, radians from +x towards +y.
    """
    seeds = _scattered(generator, roots, spacing=max(radius * generator.uniform(1.0, 1.5), 1.0))
    if not seeds.any():
        return
    distance, (slimness, growth, brightness, warmth) = _nearest_trees(generator, seeds, radius)
    leaves = noise(generator, ground.size, cell=max(radius / 1.8, 1.5), octaves=3)
    leaves = np.clip(leaves, -2.2, 2.2)
    inward = 1 - distance * (1 + 0.2 * leaves) * slimness
    cover = inward > 0
    # An exponent of 1 is a conifer's cone, 0.5 a round crown.
    dome = np.clip(inward, 0, 1) ** np.float32(generator.uniform(0.5, 1.0))
    tall = generator.uniform(1.0, 2.4) * radius
    top = tall * dome * growth
    tone = _lit_crown(top, leaves, sun=sun, tall=tall, contrast=generator.uniform(0.14, 0.3))
    tone *= brightness
    crowns = blended(
        tinted(picked(generator, palette, spread=10), tone),
        tinted(picked(generator, palette, spread=10), tone),
        warmth,
    )
    ground.fill(cover, crowns, material="leaf")
    ground.height = np.where(cover, np.maximum(ground.height, top + tall * 0.4), ground.height)
    ground.covered |= cover


def _nearest_trees(
    generator: np.random.Generator, seeds: np.ndarray, radius: float
) -> tuple[np.ndarray, list[np.ndarray]]:
    """What every pixel knows of the tree nearest to it, each (height, width) float32.

    Returns:
        Its distance in pixels; and its slimness (one over its radius), growth, brightness, warmth.
    """
    distance, labels = cv2.distanceTransformWithLabels(
        (~seeds).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    count = int(labels.max()) + 1
    low = [0.5 * radius, 0.6, 0.78, 0.0]
    high = [1.5 * radius, 1.2, 1.2, 1.0]
    trees = generator.uniform(low, high, (count, 4)).astype(np.float32)
    trees[:, 0] = 1 / trees[:, 0]
    # One look-up of four values is faster than four of one.
    return np.asarray(distance), list(cv2.split(np.take(trees, np.asarray(labels), axis=0)))


def _scattered(generator: np.random.Generator, roots: np.ndarray, *, spacing: float) -> np.ndarray:
    """(height, width) bool with single True pixels about `spacing` apart, where roots allow."""
    height, width = roots.shape
    rows = np.arange(0, height + spacing, spacing)
    columns = np.arange(0, width + spacing, spacing)
    shape = (len(rows), len(columns))
    y = (rows[:, None] + generator.uniform(-0.8, 0.8, shape) * spacing).astype(int)
    x = (columns[None, :] + generator.uniform(-0.8, 0.8, shape) * spacing).astype(int)
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    y, x = y[inside], x[inside]
    grown = generator.random(len(y)) < roots[y, x]
    seeds = np.zeros((height, width), dtype=bool)
    seeds[y[grown], x[grown]] = True
    return seeds


def _lit_crown(
    top: np.ndarray, leaves: np.ndarray, *, sun: float, tall: float, contrast: float
) -> np.ndarray:
    """Tone of crowns: dark between them, bright on the side towards the sun."""
    slope_x = cv2.Sobel(top, cv2.CV_32F, 1, 0, scale=1 / 8)
    slope_y = cv2.Sobel(top, cv2.CV_32F, 0, 1, scale=1 / 8)
    facing = slope_x * np.float32(np.cos(sun)) + slope_y * np.float32(np.sin(sun))
    # A slope that rises along the shadow's direction faces the sun.
    lit = np.clip(facing, -1.2, 1.2) * np.float32(1.2 * contrast)
    tone = 0.55 + 0.5 * np.clip(top / tall, 0, 1) + lit + contrast * 0.7 * leaves
    limited: np.ndarray = np.clip(tone, 0.12, 1.8)
    return limited


def strew_logs(
    generator: np.random.Generator, ground: Ground, free: np.ndarray, *, count: int
) -> None:
    """Lay driftwood on free gravel: pale or dark lines that cast a little shadow."""
    height, width = ground.size
    drawn = np.zeros(ground.size, dtype=np.uint8)
    for _ in range(count):
        x, y = generator.uniform(0, width), generator.uniform(0, height)
        heading, length = generator.uniform(0, 2 * np.pi), generator.uniform(6, 34) * ground.unit
        if free[int(y), int(x)]:
            end = (round(x + length * np.cos(heading)), round(y + length * np.sin(heading)))
            thick = max(1, round(ground.unit * generator.uniform(0.6, 1.8)))
            cv2.line(drawn, (round(x), round(y)), end, 1, thickness=thick)
    wood = drawn.astype(bool) & free
    colour = picked(generator, ((178, 168, 152), (92, 80, 70)))
    ground.fill(wood, colour, material="mineral")
    ground.height[wood] = 1.5 * ground.unit
