"""The pictures that river-nano learns from: found by the recipe's lists, kept in memory, cut at random."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from autosam.data.synthetic import make_scene

cv2.setNumThreads(1)  # a forked worker waits for ever for threads that it did not inherit

Part = str
"""'train', 'validation' or 'test'."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """One picture with what is known of it."""

    name: str
    """group/stem."""
    image: np.ndarray
    """(height, width, 3) uint8, RGB."""
    water: np.ndarray
    """(height, width) uint8: 255 water."""
    valid: np.ndarray
    """(height, width) uint8: 255 where `water` counts; all 0 for unlabelled pictures."""
    regions: np.ndarray
    """(height, width) uint16: stable regions of the picture from 1 on, 0 for none; see `regions.py`."""


def part_of(name: str, lists: Mapping[str, Any]) -> Part:
    """Whether a picture trains, validates or tests."""
    for part in ("test", "validation"):
        if any(re.fullmatch(pattern, name) for pattern in lists[part]):
            return part
    return "train"


def labelled_names(data: Path, lists: Mapping[str, Any], part: Part) -> list[str]:
    """group/stem of every labelled picture of one part, in order."""
    groups = sorted({*lists["groups"], "brighton_negatives"})
    stems = [
        f"{group}/{path.stem}"
        for group in groups
        for path in sorted((data / group / "masks").glob("*.png"))
    ]
    return [name for name in stems if part_of(name, lists) == part]


def read_scene(data: Path, name: str, *, longest: int) -> Scene:
    """A labelled picture, shrunk to at most `longest` pixels a side."""
    group, stem = name.split("/")
    image = _read_image(next((data / group / "images").glob(f"{stem}.*")))
    water = cv2.imread(str(data / group / "masks" / f"{stem}.png"), cv2.IMREAD_GRAYSCALE)
    path = data / group / "valid" / f"{stem}.png"
    valid = (
        cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) if path.is_file() else np.full_like(water, 255)
    )
    return _shrunk(name, image, water, valid, longest=longest)


def unlabelled_scenes(data: Path, folders: Sequence[str], *, longest: int) -> list[Scene]:
    """Pictures without a label."""
    scenes = []
    for folder in folders:
        for path in sorted((data / "unlabelled" / folder).rglob("*.jpg")):
            image = _read_image(path)
            nothing = np.zeros(image.shape[:2], np.uint8)
            scenes.append(
                _shrunk(f"{folder}/{path.stem}", image, nothing, nothing, longest=longest)
            )
    return scenes


def drawn_scene(seed: int, *, side: int = 512) -> Scene:
    """A scene of the library's own drawing."""
    sample = make_scene(seed, side=side)
    water = np.zeros(sample.size, np.uint8) if sample.mask is None else sample.mask * np.uint8(255)
    name, labelled = f"drawn/{sample.name}", np.full_like(water, 255)
    return _shrunk(name, sample.image, water, labelled, longest=side)


def _read_image(path: Path) -> np.ndarray:
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    return np.ascontiguousarray(picture[..., ::-1])


def _shrunk(
    name: str, image: np.ndarray, water: np.ndarray, valid: np.ndarray, *, longest: int
) -> Scene:
    factor = min(1.0, longest / max(image.shape[:2]))
    if factor < 1:
        size = (round(image.shape[1] * factor), round(image.shape[0] * factor))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        water, valid = (
            cv2.resize(a, size, interpolation=cv2.INTER_NEAREST) for a in (water, valid)
        )
    regions = np.zeros(image.shape[:2], np.uint16)
    return Scene(name=name, image=image, water=water, valid=valid, regions=regions)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Crop:
    """A square cut out of a scene: (side, side) each."""

    image: np.ndarray
    water: np.ndarray
    """bool."""
    valid: np.ndarray
    """bool."""
    regions: np.ndarray
    inside: np.ndarray
    """bool: False beyond the picture."""


def random_crop(
    scene: Scene,
    side: int,
    generator: np.random.Generator,
    *,
    zooms: tuple[float, float] = (0.4, 2.0),
    water_share: float = 0.6,
) -> Crop:
    """A turned, mirrored and zoomed square window of a scene.

    Args:
        scene: Where from.
        side: Of the square, in pixels.
        generator: Of place, turn and zoom.
        zooms: Range of the scale, in pixels of the crop for one of the scene.
        water_share: How often the window is centred near water, where there is any.
    """
    height, width = scene.image.shape[:2]
    least = max(zooms[0], side / (1.25 * max(height, width)))
    zoom = float(np.exp(generator.uniform(np.log(least), np.log(max(least * 1.01, zooms[1])))))
    centre = _centre(scene, side / zoom, generator, water_share=water_share)
    quarter = float(generator.integers(4)) * 90
    angle = np.deg2rad(quarter + generator.normal(0, 12) * (generator.random() < 0.5))
    mirror = -1.0 if generator.random() < 0.5 else 1.0
    cosine, sine = np.cos(angle) * zoom, np.sin(angle) * zoom
    matrix = np.array([[cosine * mirror, -sine, 0], [sine * mirror, cosine, 0]])
    matrix[:, 2] = side / 2 - matrix[:, :2] @ centre
    picture = scene.image
    if zoom < 0.7:  # smooth before sampling, or fine texture turns into noise
        picture = cv2.GaussianBlur(picture, (0, 0), 0.45 / zoom)
    fill = tuple(float(v) for v in scene.image.reshape(-1, 3)[::997].mean(axis=0))
    image = cv2.warpAffine(picture, matrix, (side, side), flags=cv2.INTER_LINEAR, borderValue=fill)
    warp = {"dsize": (side, side), "flags": cv2.INTER_NEAREST, "borderValue": 0}
    water, valid, regions = (
        cv2.warpAffine(a, matrix, **warp) for a in (scene.water, scene.valid, scene.regions)
    )
    inside = cv2.warpAffine(np.full((height, width), 255, np.uint8), matrix, **warp)
    return Crop(
        image=image, water=water > 127, valid=valid > 127, regions=regions, inside=inside > 127
    )


def _centre(
    scene: Scene, window: float, generator: np.random.Generator, *, water_share: float
) -> np.ndarray:
    """(x, y) of a window's centre, near water or anywhere, mostly inside the picture."""
    height, width = scene.image.shape[:2]
    centre = np.array([generator.uniform(0, width), generator.uniform(0, height)])
    if generator.random() < water_share:
        for _ in range(12):
            point = np.array([generator.uniform(0, width), generator.uniform(0, height)])
            if scene.water[int(point[1]), int(point[0])]:
                centre = point + generator.normal(0, window / 5, 2)
                break
    margin = 0.4 * window
    lows = np.minimum([margin, margin], [width / 2, height / 2])
    highs = np.maximum([width - margin, height - margin], [width / 2, height / 2])
    return np.clip(centre, lows, highs)
