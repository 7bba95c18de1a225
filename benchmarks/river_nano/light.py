"""Other light, other water, another camera: photometric changes of a crop.

Water is recoloured on its own, so that its colour tells nothing, and so are patches of land, so that a
recoloured patch tells nothing either.
"""

import cv2
import numpy as np

from benchmarks.river_nano.scenes import Crop

TINTS = np.array(
    [
        [60, 64, 62], [92, 98, 96], [120, 124, 120], [150, 152, 148], [38, 42, 40], [28, 34, 36],
        [84, 96, 84], [66, 82, 66], [104, 92, 74], [128, 112, 88], [96, 82, 62], [150, 138, 116],
        [52, 70, 78], [72, 96, 104], [104, 128, 132], [150, 172, 172], [180, 182, 178],
    ],
    np.float32,
)  # fmt: skip
"""Colours that rivers have been seen in, RGB: grey, dark, green, brown, milky, and few blues."""


def changed_light(crop: Crop, generator: np.random.Generator) -> np.ndarray:
    """(side, side, 3) uint8: the picture under a random change."""
    picture = crop.image.astype(np.float32)
    if generator.random() < 0.4 and crop.water.any():
        picture = _recoloured(picture, crop.water, generator)
    if generator.random() < 0.35:
        picture = _recoloured(picture, _patch(crop, generator), generator)
    if generator.random() < 0.15 and crop.water.any():
        picture = _glint(picture, crop.water, generator)
    if generator.random() < 0.35:
        picture *= _shadow(picture.shape[0], generator)[..., None]
    picture = _camera(picture, generator)
    return _recorded(picture, generator)


def _recoloured(
    picture: np.ndarray, area: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """An area drawn towards a tint, its texture kept or flattened."""
    tint = TINTS[generator.integers(len(TINTS))] * generator.uniform(0.75, 1.25)
    tint = tint + generator.normal(0, 6, 3)
    amount, flattening = generator.uniform(0.3, 0.95), generator.uniform(0.3, 1.0)
    soft = cv2.GaussianBlur(area.astype(np.float32), (0, 0), generator.uniform(0.6, 2.5))
    weight = (soft * amount)[..., None]
    mean = picture[area].mean(axis=0) if area.any() else tint
    texture = (picture - mean) * flattening
    slow = _noise(picture.shape[0], generator, cells=4)[..., None] * generator.uniform(0, 14)
    return picture * (1 - weight) + (tint + texture + slow) * weight


def _patch(crop: Crop, generator: np.random.Generator) -> np.ndarray:
    """A piece of land: a region of the picture, or a smooth blob."""
    labels = np.unique(crop.regions[::8, ::8])
    labels = labels[labels > 0]
    if len(labels) and generator.random() < 0.6:
        chosen = generator.choice(labels, size=min(len(labels), int(generator.integers(1, 5))))
        area = np.isin(crop.regions, chosen)
    else:
        area = _noise(crop.image.shape[0], generator, cells=6) > generator.uniform(0.3, 1.2)
    return area & ~crop.water


def _glint(picture: np.ndarray, water: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Sun on ripples: bright specks, and a veil over a part of the water."""
    side = picture.shape[0]
    veil = np.clip(_noise(side, generator, cells=3), 0, None) * generator.uniform(10, 60)
    specks = (generator.random((side, side)) < generator.uniform(0.002, 0.06)).astype(np.float32)
    specks = cv2.GaussianBlur(specks, (0, 0), generator.uniform(0.5, 1.2)) * 400
    return picture + ((veil + specks * (veil > 0)) * water)[..., None]


def _shadow(side: int, generator: np.random.Generator) -> np.ndarray:
    """(side, side): 1 in light, less in the shadow of clouds, crowns or banks."""
    cells = int(generator.integers(2, 24))
    edge = generator.uniform(0.02, 0.4)
    level = generator.uniform(-0.2, 1.2)
    depth = generator.uniform(0.25, 0.75)
    amount = np.clip((_noise(side, generator, cells=cells) - level) / edge, 0, 1)
    return 1 - depth * amount


def _noise(side: int, generator: np.random.Generator, *, cells: int) -> np.ndarray:
    """Smooth noise of about so many cells a side, mean 0, deviation about 1."""
    grid = generator.normal(0, 1.3, (cells + 2, cells + 2)).astype(np.float32)
    return cv2.resize(grid, (side, side), interpolation=cv2.INTER_CUBIC)


def _camera(picture: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Saturation, white balance, gamma, contrast, brightness and haze."""
    grey = picture.mean(axis=2, keepdims=True)
    draw = generator.random()
    saturation = (
        0.0
        if draw < 0.06
        else generator.uniform(0.1, 0.7)
        if draw < 0.35
        else generator.uniform(0.7, 1.5)
    )
    picture = grey + (picture - grey) * saturation
    picture = picture * generator.uniform(0.86, 1.16, 3)
    picture = 255 * np.clip(picture / 255, 0, None) ** np.exp(generator.normal(0, 0.28))
    centre = picture.mean()
    picture = (picture - centre) * np.exp(generator.normal(0, 0.25)) + centre
    picture = picture * np.exp(generator.normal(0, 0.22))
    if generator.random() < 0.15:
        haze = generator.uniform(0.1, 0.45)
        picture = picture * (1 - haze) + generator.uniform(150, 235) * haze
    return picture


def _recorded(picture: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Blur, noise, eight bits and JPEG."""
    if generator.random() < 0.2:
        picture = cv2.GaussianBlur(picture, (0, 0), generator.uniform(0.4, 1.6))
    if generator.random() < 0.25:
        noise = generator.standard_normal(picture.shape, dtype=np.float32)
        picture = picture + noise * generator.uniform(1, 9)
    recorded = np.clip(picture, 0, 255).astype(np.uint8)
    if generator.random() < 0.3:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(generator.integers(25, 92))]
        recorded = cv2.imdecode(cv2.imencode(".jpg", recorded, quality)[1], cv2.IMREAD_COLOR)
    return recorded
