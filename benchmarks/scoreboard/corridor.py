"""A drawn river on several dates, in tiles named as the Elwha's, so that splits can leak as the real ones do.

Two reaches, each one long scene; its dates differ in light and by a few pixels, not in the river's course.
That flatters a leaky split more than a moving river would: the direction is the point, not the figure.
"""

import os
import shutil
import uuid
from pathlib import Path

import cv2
import numpy as np

from autosam.data.elwha import parse_tile_name
from autosam.data.synthetic import make_scene

TILE = 192
COLUMNS = 2
DATES = ("20120407", "20140619", "20160815")
REACHES = {"LR": 11, "MR": 47}
"""Seed of each reach's scene."""
LARGEST_SHIFT = 6
"""Pixels by which a date's mosaic lies beside another's."""


def corridor_place(name: str) -> str:
    """The piece of ground that a tile shows on any date."""
    return parse_tile_name(name).place


def write_corridor(folder: Path, *, rows: int) -> Path:
    """Draw both reaches on every date into folder/images and folder/masks; kept when it is there.

    Args:
        folder: Of the tiles.
        rows: Of tiles in each reach; at least 4, so that a blocked split has its buffer.
    """
    folder = folder.with_name(f"{folder.name}-{rows}")
    if folder.is_dir():
        return folder
    beside = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")
    for part in ("images", "masks"):
        (beside / part).mkdir(parents=True)
    for reach, seed in REACHES.items():
        size = (rows * TILE + 2 * LARGEST_SHIFT, COLUMNS * TILE + 2 * LARGEST_SHIFT)
        scene = make_scene(seed, side=size, kind="meander")
        if scene.mask is None:
            raise AssertionError("drawn scenes have a mask")
        for number, date in enumerate(DATES):
            generator = np.random.default_rng([seed, number])
            image = _another_light(scene.image, generator)
            down, right = generator.integers(0, 2 * LARGEST_SHIFT + 1, size=2)
            for row in range(rows):
                for column in range(COLUMNS):
                    top, left = int(down) + row * TILE, int(right) + column * TILE
                    place = np.s_[top : top + TILE, left : left + TILE]
                    name = f"Elwha_{reach}_{date}_{row:03}_{column:03}.png"
                    cv2.imwrite(str(beside / "images" / name), image[place][..., ::-1])
                    cv2.imwrite(
                        str(beside / "masks" / name), scene.mask[place].astype(np.uint8) * 255
                    )
    try:
        os.rename(beside, folder)
    except OSError:  # another process was first, with the same tiles
        shutil.rmtree(beside)
    return folder


def _another_light(image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Gain of each colour, exposure and gamma of one flight."""
    gain = generator.uniform(0.8, 1.2) * generator.uniform(0.92, 1.08, size=3)
    gamma = generator.uniform(0.8, 1.25)
    changed = 255 * np.clip(image / 255 * gain, 0, 1) ** gamma
    noise = generator.normal(0, 2.0, size=image.shape)
    return np.clip(changed + noise, 0, 255).astype(np.uint8)
