"""Light, air and lens: a painted scene becomes a photograph."""

from typing import NamedTuple

import cv2
import numpy as np

from autosam.data.scenery.infrared import Infrared
from autosam.data.scenery.terrain import Ground
from autosam.data.scenery.textures import cast_shadow, noise, speckle


class Light(NamedTuple):
    """Of sun and sky on a scene."""

    bright: np.ndarray
    """(height, width) float32 around 1/255, lower under thin clouds."""
    shadow: np.ndarray
    """(height, width) float32, 0 in the sun to 1 where it does not reach."""
    depth: float
    """Share of the red light that a shadow takes."""


def light_up(generator: np.random.Generator, ground: Ground, *, sun: float) -> Light:
    """Sun, clouds and shadows.

    Args:
        generator: Where the numbers come from.
        ground: The painted scene; left as it is.
        sun: Direction in which shadows fall, radians from +x towards +y.
    """
    shadow = cast_shadow(ground.height, direction=sun, steepness=generator.uniform(0.6, 2.0))
    depth = generator.uniform(0.35, 0.75) if generator.random() < 0.7 else generator.uniform(0, 0.2)
    clouds = noise(generator, ground.size, cell=260 * ground.unit, octaves=2)
    bright = (1 + np.float32(generator.uniform(0, 0.09)) * clouds) * np.float32(1 / 255)
    return Light(bright, shadow, float(depth))


def photographed(generator: np.random.Generator, ground: Ground, light: Light) -> np.ndarray:
    """The lit scene seen through air and lens.

    Args:
        generator: Where the numbers come from.
        ground: The painted scene; left as it is.
        light: On it.

    Returns:
        (height, width, 3) uint8 RGB.
    """
    bright, shadow, depth = light
    # The blue of the sky still lights the shadows.
    lights = [bright * (1 - shadow * np.float32(depth * red)) for red in (1.0, 0.97, 0.88)]
    exposed = np.maximum(ground.image, 0) * cv2.merge(lights)
    exposed = cv2.transform(exposed, np.diag(_gain(generator, exposed)))
    exposed = _blurred(generator, _hazy(generator, exposed))
    grain = speckle(generator, ground.size) * np.float32(generator.uniform(0.002, 0.018))
    image = (_shouldered(exposed) + grain[..., None]) * 255
    picture: np.ndarray = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    return picture


def photographed_infrared(infrared: Infrared, light: Light) -> np.ndarray:
    """The lit scene by a second, smaller lens: noisier, and never quite in register with the colours.

    Returns:
        (height, width) float32, whole numbers of 0..255 as a camera of 8 bits stores them.
    """
    generator, (height, width) = infrared.generator, infrared.image.shape
    # The sky, which lights the shadows, has next to no infrared.
    shade = 1 - light.shadow * np.float32(min(1.15 * light.depth, 0.95))
    exposed = np.maximum(infrared.image, 0) * light.bright * shade
    mean = float(exposed.mean())
    exposed *= np.float32(min(max(generator.uniform(0.8, 1.2), 0.18 / mean), 0.6 / mean))
    moved = np.array([[1, 0, generator.uniform(-0.5, 0.5)], [0, 1, generator.uniform(-0.5, 0.5)]])
    exposed = cv2.warpAffine(exposed, moved, (width, height), borderMode=cv2.BORDER_REPLICATE)
    exposed = cv2.GaussianBlur(exposed, (0, 0), generator.uniform(0.4, 1.1))
    grain = speckle(generator, (height, width)) * np.float32(generator.uniform(0.006, 0.02))
    veil = np.float32(generator.uniform(0, 0.03))
    band: np.ndarray = np.clip(np.rint((_shouldered(exposed + veil) + grain) * 255), 0, 255)
    return band.astype(np.float32)


def _hazy(generator: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Contrast as cameras choose it, and in one scene of five the pale air between."""
    curved: np.ndarray = cv2.pow(image, generator.uniform(0.85, 1.25))
    if generator.random() < 0.2:
        air = np.array([0.86, 0.88, 0.91], dtype=np.float32)
        curved += (air - curved) * np.float32(generator.uniform(0.15, 0.5))
    return curved


def _blurred(generator: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Out of focus or moved by up to 1.1 pixels; below a third of a pixel nothing is seen."""
    deviation = generator.uniform(0.0, 1.1)
    if deviation <= 0.35:
        return image
    soft: np.ndarray = cv2.GaussianBlur(image, (0, 0), deviation)
    return soft


def _gain(generator: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """(3,) float32 that exposes the picture: sometimes dark, sometimes too bright, never blank."""
    bright = float(np.mean(image[::4, ::4]))
    gain = generator.uniform(0.75, 1.25)
    if generator.random() < 0.15:
        gain = generator.uniform(1.5, 2.1)
    gain = min(max(gain, 0.14 / bright), 0.72 / bright)
    return (gain * generator.uniform(0.975, 1.025, 3)).astype(np.float32)


def _shouldered(image: np.ndarray) -> np.ndarray:
    """0..1 from 0 or more: highlights above 0.8 are pressed together as cameras do, not cut off."""
    above = np.maximum(image - np.float32(0.8), 0)
    # y = x below the knee; above it x - x^2 / (x + 0.22), which tends to 1.02.
    pressed: np.ndarray = image - above * above / (above + np.float32(0.22))
    return pressed
