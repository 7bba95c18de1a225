"""Stage two's pictures: crops of training scenes under changed light, in a folder for `autosam train`.

Embeddings of a frozen encoder are kept per picture, so what chance changes is drawn once, before them.
Validation and test are whole pictures, as at inference.

Run:    python -m benchmarks.river_nano.crops --data FOLDER --run runs/river_nano [--count 1600]
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from rich.progress import track

from autosam.data.manifests import Split, write_split
from autosam.files import write_json
from benchmarks.river_nano.collection import training_scenes
from benchmarks.river_nano.light import changed_light
from benchmarks.river_nano.promptable import RECIPE
from benchmarks.river_nano.scenes import Scene, labelled_names, random_crop

SIDE = 512
LEAST_LABELLED = 0.1
"""Of a crop: with less, it teaches nothing."""

DRY_WEIGHT = 2.0
"""Of a scene without water against one with: most ground is dry, most training pictures are not."""


def write_crops(
    scenes: Sequence[Scene], folder: Path, count: int, *, seed: int, unchanged: float
) -> list[str]:
    """Draw crops into folder/images, masks and valid; their names.

    Args:
        scenes: Labelled ones are used; groups are drawn by the root of their size, dry scenes twice as often.
        folder: Made if it is not there.
        count: How many.
        seed: Of all.
        unchanged: Share that keeps its own light and colours.
    """
    for part in ("images", "masks", "valid"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    labelled = [scene for scene in scenes if scene.valid.any()]
    groups = [scene.name.split("/")[0] for scene in labelled]
    weights = np.array([groups.count(group) ** -0.5 for group in groups])
    weights *= np.where([scene.water.any() for scene in labelled], 1, DRY_WEIGHT)
    generator, names = np.random.default_rng([seed, 1]), []
    for number in track(range(count), description="Crops"):
        crop, name = None, ""
        while crop is None or crop.valid.mean() < LEAST_LABELLED:
            scene = labelled[generator.choice(len(labelled), p=weights / weights.sum())]
            crop = random_crop(scene, SIDE, generator, water_share=0.5)
            name = f"{scene.name.replace('/', '__')}__{number:05d}"
        image = crop.image if generator.random() < unchanged else changed_light(crop, generator)
        cv2.imwrite(
            str(folder / "images" / f"{name}.jpg"), image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95]
        )
        for part, area in (("masks", crop.water & crop.valid), ("valid", crop.valid)):
            cv2.imwrite(str(folder / part / f"{name}.png"), area.astype(np.uint8) * 255)
        names.append(name)
    return names


def river_split(data: Path, recipe: Mapping[str, Any], names: Sequence[str]) -> Split:
    """Crops train; whole pictures of other sites validate and test."""
    validation = labelled_names(data, recipe["data"], "validation")
    test = labelled_names(data, recipe["data"], "test")
    return Split(
        kind="grouped",
        train=tuple(f"crops/{name}" for name in names),
        validation=tuple(validation),
        test=tuple(test),
    )


def main() -> None:
    """Write the crops, the split, and the sources for `data.source`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the groups")
    parser.add_argument("--run", type=Path, required=True, help="folder of stage one")
    parser.add_argument("--recipe", type=Path, default=RECIPE)
    parser.add_argument("--count", type=int, default=1600)
    arguments = parser.parse_args()
    recipe = yaml.safe_load(arguments.recipe.read_text())
    scenes = training_scenes(arguments.data, recipe, arguments.run / "prepared")
    names = write_crops(
        scenes, arguments.run / "crops", arguments.count, seed=recipe["seed"], unchanged=0.25
    )
    split = river_split(arguments.data, recipe, names)
    write_split(arguments.run / "river_split.json", split)
    groups = sorted({name.split("/")[0] for name in (*split.validation, *split.test)})
    sources = [str(arguments.run / "crops"), *(str(arguments.data / group) for group in groups)]
    write_json(arguments.run / "river_sources.json", sources)
    print(
        f"{len(names)} crops; {len(split.validation)} validation, {len(split.test)} test pictures"
    )


if __name__ == "__main__":
    main()
