"""The water of a synthetic scene: grey, brown, dark or milky, smooth or broken, never simply blue."""

import cv2
import numpy as np

from autosam.data.scenery.channels import Channels
from autosam.data.scenery.terrain import Ground, picked
from autosam.data.scenery.textures import (
    Colour,
    Size,
    blended,
    flow_noise,
    noise,
    smooth_step,
    speckle,
    tinted,
    varying,
)

WATERS: tuple[Colour, ...] = (
    (105, 115, 120),
    (137, 152, 143),
    (163, 165, 170),
    (122, 124, 125),
    (58, 63, 63),
    (74, 76, 72),
    (100, 92, 80),
    (116, 118, 120),
    (190, 195, 196),
    (128, 120, 106),
)
"""Medians under the masks of real tiles of the Elwha and the Sainte-Marguerite."""


def paint_water(
    generator: np.random.Generator,
    ground: Ground,
    channels: Channels,
    stones: np.ndarray,
    colour: np.ndarray,
) -> None:
    """Fill the channels: the bed shows through near the banks, waves and streaks follow the flow.

    Args:
        generator: Where the numbers come from.
        ground: Painted on in place.
        channels: Where the water lies.
        stones: (height, width, 3) float32, what the bed is made of.
        colour: (3,) of deep water.
    """
    unit, size = ground.unit, ground.size
    shoals = noise(generator, size, cell=70 * unit, octaves=4)
    waves, riffle = _waves(generator, channels, shoals, unit=unit)
    tone = 1 + generator.uniform(0.01, 0.07) * noise(generator, size, cell=150 * unit, octaves=2)
    streaks = flow_noise(generator, channels.along, channels.across, cells=(60 * unit, 3.5 * unit))
    tone += generator.uniform(0.005, 0.03) * streaks
    tone += (generator.uniform(0.005, 0.02) + generator.uniform(0.02, 0.11) * riffle) * waves
    depth = np.maximum(-channels.level * (1 + 0.45 * shoals), 0)
    clear = float(np.float32(generator.uniform(0.6, 9) * unit))
    seen = np.exp(-depth / np.float32(clear)) * np.float32(generator.uniform(0.2, 0.75))
    bottom = stones * np.array([0.66, 0.68, 0.66], dtype=np.float32)
    smooth = blended(tinted(colour, tone), bottom, seen)
    surface = smooth.copy()
    _add_foam(generator, surface, riffle=riffle, waves=waves, size=size, unit=unit)
    # Half a pixel of blending: the mask's edge is where the water has half of the pixel.
    share = np.clip(0.5 - channels.level, 0, 1).astype(np.float32)
    ground.image = blended(ground.image, surface, share)
    if ground.infrared is not None:
        dark = ground.infrared.water(bottom, colour=colour, tone=tone, depth=depth, clear=clear)
        # Bubbles and glitter are white in any light.
        ground.infrared.blend(dark + 0.8 * (surface - smooth).mean(axis=2), share)


def _waves(
    generator: np.random.Generator, channels: Channels, shoals: np.ndarray, *, unit: float
) -> tuple[np.ndarray, np.ndarray]:
    """Standing waves of mean 0, and 0..1 where the water runs over riffles; both (height, width)."""
    length = generator.uniform(2.5, 6) * unit
    waves = flow_noise(generator, channels.along, channels.across, cells=(length, 2.2 * length))
    calm, rough = sorted(generator.uniform(-1.2, 1.4, 2))
    steepness = varying(generator, channels.along, cell=90 * unit) + 0.25 * shoals
    return waves, smooth_step(steepness, calm, rough)


def _add_foam(
    generator: np.random.Generator,
    surface: np.ndarray,
    *,
    riffle: np.ndarray,
    waves: np.ndarray,
    size: Size,
    unit: float,
) -> None:
    """White water where the riffles are high, and in some scenes the sun's glitter; in place."""
    patches = noise(generator, size, cell=26 * unit, octaves=4)
    fine = noise(generator, size, cell=max(2.5 * unit, 1.5), octaves=2)
    crest = generator.uniform(3.2, 7.0)
    foam = smooth_step(waves + patches + fine + 1.2 * riffle, crest, crest + 1.0)
    surface += foam[..., None] * (np.float32(232) - surface) * np.float32(0.85)
    if generator.random() < 0.3:
        blot = noise(generator, size, cell=170 * unit, octaves=1)
        sparkle = smooth_step(waves + 0.8 * speckle(generator, size), 0.8, 2.2)
        glint = smooth_step(blot, 0.2, 1.6) * (0.25 + sparkle)
        surface += np.float32(generator.uniform(30, 100)) * glint[..., None]


def set_boulders(generator: np.random.Generator, ground: Ground, wet: np.ndarray) -> None:
    """Single stones in the water; they are no water."""
    height, width = ground.size
    stones = np.zeros(ground.size, dtype=np.uint8)
    for _ in range(int(generator.integers(0, 40)) * (generator.random() < 0.5)):
        x, y = int(generator.integers(width)), int(generator.integers(height))
        radius = generator.exponential(1.3) * ground.unit
        if wet[y, x] and radius >= 1:
            cv2.circle(stones, (x, y), round(radius), 1, thickness=-1)
    stone = stones.astype(bool)
    tone = 1 + 0.1 * noise(generator, ground.size, cell=3, octaves=1)
    boulders = tinted(picked(generator, ((170, 164, 154), (120, 116, 110))), tone)
    ground.fill(stone, boulders, material="mineral")
    ground.height[stone] = 2 * ground.unit
    ground.covered |= stone
