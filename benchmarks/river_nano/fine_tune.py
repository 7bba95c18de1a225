"""Question: what do twenty tiles of a new place bring river-nano, in how many minutes?

Method: pictures that no stage of river-nano saw are cut in two. Most halves train, every fifth validates and
        chooses threshold and temperature. river-nano before and after is judged on other pictures of the
        place, whole. IoU is the mean over those with water, false water that over those without.
Run:    python -m benchmarks.river_nano.fine_tune --pictures FOLDER --train REGEX --test REGEX --out runs/it
"""

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from autosam import AutoSam
from autosam.config import load_config
from autosam.data.folders import FolderDataset
from autosam.data.manifests import Split, write_split
from autosam.evaluation.bootstrap import interval_of_mean
from autosam.files import write_json
from autosam.models.embedded import RIVER_NANO
from autosam.overlap import mask_iou
from autosam.recipes.environment import environment
from autosam.recipes.training import starting_overrides, train_run
from autosam.types import Sample

SETTINGS = ("train.batch_size=4", "train.patience=0", "train.learning_rate=3e-4", "train.views=8")
VALIDATES = 5
"""Every so-many-th tile."""


def halves(sample: Sample) -> list[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """(name, picture, mask, valid) of the two halves along the longer side."""
    assert sample.mask is not None
    height, width = sample.size
    cuts = (
        [np.s_[:, : width // 2], np.s_[:, width // 2 :]]
        if width >= height
        else [np.s_[: height // 2], np.s_[height // 2 :]]
    )
    return [
        (f"{sample.name}_{part}", sample.image[cut], sample.mask[cut], sample.valid_area[cut])
        for part, cut in zip("ab", cuts, strict=True)
    ]


def write_tiles(samples: Sequence[Sample], folder: Path) -> list[str]:
    """As a user would keep them: images/, masks/ and valid/; their names."""
    names = []
    for part in ("images", "masks", "valid"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for sample in samples:
        for name, image, mask, valid in halves(sample):
            Image.fromarray(image).save(folder / "images" / f"{name}.png")
            Image.fromarray(mask).save(folder / "masks" / f"{name}.png")
            Image.fromarray(valid).save(folder / "valid" / f"{name}.png")
            names.append(name)
    return names


def judged(model: AutoSam, samples: Sequence[Sample]) -> dict[str, Any]:
    """IoU of wet pictures and false water of dry ones, with every row."""
    rows = []
    for sample in samples:
        assert sample.mask is not None
        mask, valid = model.predict_image(sample.image).mask, sample.valid_area
        wet = bool((sample.mask & valid).any())
        iou = mask_iou(mask, sample.mask, valid=sample.valid) if wet else None
        false = float((mask & valid & ~sample.mask).sum() / max(1, valid.sum()))
        rows.append({"name": sample.name, "iou": iou, "false_water": None if wet else false})
    wet_rows = [row["iou"] for row in rows if row["iou"] is not None]
    dry_rows = [row["false_water"] for row in rows if row["false_water"] is not None]
    names = [str(index) for index in range(len(wet_rows))]
    return {
        "iou": float(np.mean(wet_rows)) if wet_rows else None,
        "iou_interval": interval_of_mean(np.array(wet_rows), names, resamples=1000, seed=0)
        if wet_rows
        else None,
        "false_water": float(np.mean(dry_rows)) if dry_rows else None,
        "rows": rows,
    }


def main() -> None:
    """Cut, train, judge before and after."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--pictures", type=Path, required=True, help="labelled folder")
    parser.add_argument("--train", required=True, help="regular expression on names")
    parser.add_argument("--test", required=True, help="regular expression on names")
    parser.add_argument("--out", type=Path, required=True, help="folder of tiles and run")
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--results", type=Path, help="JSON file; OUT/fine_tune.json by default")
    arguments = parser.parse_args()
    dataset = FolderDataset(arguments.pictures)
    train, test = (
        [dataset[index] for index, name in enumerate(dataset.names) if re.search(pattern, name)]
        for pattern in (arguments.train, arguments.test)
    )
    if {s.name for s in train} & {s.name for s in test} or not (train and test):
        parser.error("--train and --test must each find pictures, and none in common.")
    names = write_tiles(train, arguments.out / "tiles")
    chosen = tuple(names[::VALIDATES])
    learnt = tuple(name for name in names if name not in chosen)
    split = Split(kind="grouped", train=learnt, validation=chosen, test=())
    write_split(arguments.out / "split.json", split)
    config = load_config(
        None,
        [
            *starting_overrides(RIVER_NANO), *SETTINGS, f"train.epochs={arguments.epochs}",
            f"data.source={json.dumps([str(arguments.out / 'tiles')])}",
            f"data.manifest={arguments.out / 'split.json'}",
            f"cache.directory={arguments.out / 'embeddings'}",
        ],
    )  # fmt: skip
    trained = train_run(config, arguments.out / "run", replace=True, say=print)
    result = {
        "question": "fine_tune", "folder": arguments.pictures.name,
        "tiles": len(names), "trained": len(learnt), "chose": len(chosen),
        "pictures": [sample.name for sample in train], "seconds": trained.seconds,
        "steps": trained.steps,
        "before": judged(AutoSam.from_pretrained(), test),
        "after": judged(AutoSam.from_pretrained(arguments.out / "run"), test),
        "environment": environment(),
    }  # fmt: skip
    write_json(arguments.results or arguments.out / "fine_tune.json", result)
    for when in ("before", "after"):
        print(when, {key: value for key, value in result[when].items() if key != "rows"})  # type: ignore[union-attr]
    print(f"{trained.seconds:.0f} s, {trained.steps} steps")


if __name__ == "__main__":
    main()
