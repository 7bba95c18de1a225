"""Question: how good is river-nano on real water that no stage of its training has seen?

Judges models on the test pictures of the recipe, and, for the one and only time, on the Elwha tiles. A
picture without water scores by its false water; IoU there would be 0 or 1.

Run:    python -m benchmarks.river_nano.report --data FOLDER --out OUT.json --sheet OUT.png
            [--model river-nano=river-nano] [--model unet=runs/unet]
"""

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rich.progress import track

from autosam import AutoSam
from autosam.config import EvaluateSettings
from autosam.drawing import ERROR_LEGEND, contact_sheet, error_map, overlay, save_picture
from autosam.evaluation.bootstrap import interval_of_mean
from autosam.evaluation.calibration import (
    LogitHistogram,
    expected_calibration_error,
    reliability_table,
)
from autosam.files import write_json
from autosam.models.embedded import embedded_folder
from autosam.overlap import mask_iou
from autosam.recipes.click_curves import click_curve
from autosam.recipes.environment import environment
from autosam.types import Prediction, Sample
from benchmarks.river_nano.promptable import RECIPE
from benchmarks.river_nano.scenes import labelled_names, read_scene

OUT_OF_DOMAIN = ("elwha", "elwha_thermal")
LEAST_WATER = 0.001
"""Share of a picture below which it counts as dry."""


def test_samples(data: Path, recipe: Mapping[str, Any]) -> list[Sample]:
    """Whole pictures, named group/stem."""
    names = labelled_names(data, recipe["data"], "test")
    for group in OUT_OF_DOMAIN:
        names += [f"{group}/{path.stem}" for path in sorted((data / group / "masks").glob("*.png"))]
    samples = []
    for name in names:
        scene = read_scene(data, name, longest=10_000)
        samples.append(
            Sample(name=name, image=scene.image, mask=scene.water > 127, valid=scene.valid > 127)
        )
    return samples


def judge(model: AutoSam, sample: Sample, *, dihedral: bool) -> dict[str, Any]:
    """One picture's row."""
    start = time.perf_counter()
    prediction = _predicted(model, sample, dihedral)
    seconds = time.perf_counter() - start
    if sample.mask is None:
        raise AssertionError("test samples are labelled")
    valid = sample.valid_area
    truth, mask = sample.mask & valid, prediction.mask & valid
    wet = bool(truth.sum() > LEAST_WATER * valid.sum())
    return {
        "name": sample.name,
        "group": sample.name.split("/")[0],
        "iou": mask_iou(mask, truth) if wet else None,
        "false_water": float((mask & ~truth).sum() / max(1, valid.sum())),
        "confidence": prediction.confidence,
        "presence": prediction.presence,
        "domain_distance": prediction.domain_distance,
        "expected_iou": prediction.expected_iou,
        "seconds": round(seconds, 3),
    }


def _predicted(model: AutoSam, sample: Sample, dihedral: bool) -> Prediction:
    return model.predict_sample(Sample(name=sample.name, image=sample.image), dihedral=dihedral)


def calibration_error(model: AutoSam, samples: Sequence[Sample], *, dihedral: bool) -> float:
    """Expected calibration error over all valid pixels."""
    histogram = LogitHistogram()
    for sample in samples:
        probability = _predicted(model, sample, dihedral).probability
        if sample.mask is not None:
            histogram.add_probability(probability, truth=sample.mask, valid=sample.valid)
    error = expected_calibration_error(reliability_table(histogram))
    if error is None:
        raise AssertionError("there are test pictures")
    return error


def summarised(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean IoU of pictures with water and false water of those without, by group."""
    found: dict[str, Any] = {}
    for group in sorted({row["group"] for row in rows}):
        mine = [row for row in rows if row["group"] == group]
        wet = np.array([row["iou"] for row in mine if row["iou"] is not None])
        dry = np.array([row["false_water"] for row in mine if row["iou"] is None])
        blocks = [str(index) for index in range(len(wet))]
        found[group] = {
            "wet": len(wet),
            "iou": float(wet.mean()) if len(wet) else None,
            "iou_interval": interval_of_mean(wet, blocks, resamples=1000, seed=0)
            if len(wet)
            else None,
            "dry": len(dry),
            "false_water_of_dry": float(dry.mean()) if len(dry) else None,
        }
    return found


def corrected(model: AutoSam, samples: Sequence[Sample], most: int) -> dict[str, Any]:
    """IoU of the pictures with water after 0 to `most` clicks of a simulated person: an oracle."""
    wet = [s for s in samples if s.mask is not None and (s.mask & s.valid_area).any()]
    with tempfile.TemporaryDirectory() as folder:
        return click_curve(
            model, wet, most=most, settings=EvaluateSettings(), directory=Path(folder)
        )


def cost(folder: Path, model: AutoSam) -> dict[str, float]:
    """Size on disk, time to load, time of a picture of 1024 px."""
    start = time.perf_counter()
    AutoSam.from_pretrained(folder)
    loading = time.perf_counter() - start
    image = np.random.default_rng(0).integers(0, 255, (1024, 1024, 3), dtype=np.uint8)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        model.predict_image(image)
        times.append(time.perf_counter() - start)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return {
        "megabytes": round(size / 1e6, 2),
        "load_seconds": round(loading, 2),
        "seconds_at_1024": round(float(np.median(times)), 3),
    }


def draw(
    model: AutoSam, samples: Sequence[Sample], rows: Sequence[Mapping[str, Any]], path: Path
) -> None:
    """Elwha and the worst of each group: picture, truth, mask, errors."""
    chosen = [row for row in rows if row["group"] in OUT_OF_DOMAIN]
    for group in sorted({row["group"] for row in rows} - set(OUT_OF_DOMAIN)):
        mine = [row for row in rows if row["group"] == group]
        chosen.append(
            min(
                mine,
                key=lambda row: row["iou"] if row["iou"] is not None else 1 - row["false_water"],
            )
        )
    by_name = {sample.name: sample for sample in samples}
    pictures, titles = [], []
    for row in chosen:
        sample = by_name[row["name"]]
        if sample.mask is None:
            continue
        mask = model.predict_image(sample.image).mask
        pictures += [
            sample.image, overlay(sample.image, sample.mask), overlay(sample.image, mask),
            error_map(sample.image, mask, sample.mask, sample.valid),
        ]  # fmt: skip
        score = (
            f"IoU {row['iou']:.2f}" if row["iou"] is not None else f"false {row['false_water']:.1%}"
        )
        titles += [row["name"][:28], "truth", score, "errors"]
    save_picture(path, contact_sheet(pictures, titles, 4, legend=ERROR_LEGEND))


def judged(
    model: AutoSam, samples: Sequence[Sample], name: str, *, dihedral: bool
) -> dict[str, Any]:
    """All rows of a model, by group, and its calibration on what is not out of domain."""
    rows = [judge(model, s, dihedral=dihedral) for s in track(samples, description=name)]
    own = [sample for sample in samples if sample.name.split("/")[0] not in OUT_OF_DOMAIN]
    groups, error = summarised(rows), calibration_error(model, own, dihedral=dihedral)
    for group, found in groups.items():
        print(name, group, found, flush=True)
    print(name, "ECE", error, flush=True)
    return {
        "method": model.config.method, "groups": groups, "calibration_error": error, "rows": rows,
    }  # fmt: skip


def main() -> None:
    """Judge every model and write one result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the groups")
    parser.add_argument("--out", type=Path, required=True, help="JSON file")
    parser.add_argument("--sheet", type=Path, help="PNG of Elwha and the worst pictures")
    parser.add_argument("--model", action="append", help="NAME=FOLDER, or NAME=river-nano")
    parser.add_argument("--clicks", type=int, default=5, help="of a simulated person, an oracle")
    parser.add_argument("--dihedral", action="store_true", help="also the mean of eight views")
    parser.add_argument("--recipe", type=Path, default=RECIPE)
    arguments = parser.parse_args()
    recipe = yaml.safe_load(arguments.recipe.read_text())
    samples = test_samples(arguments.data, recipe)
    result: dict[str, Any] = {"question": "river-nano on unseen real water", "models": {}}
    for pair in arguments.model or ["river-nano=river-nano"]:
        name, _, folder = pair.partition("=")
        model = AutoSam.from_pretrained(folder)
        once = judged(model, samples, name, dihedral=False)
        result["models"][name] = {
            **once,
            "cost": cost(embedded_folder(folder) or Path(folder), model),
            "oracle_clicks": corrected(model, samples, arguments.clicks),
        }
        if arguments.dihedral:
            views = f"{name}, eight views"
            result["models"][views] = judged(model, samples, views, dihedral=True)
        if arguments.sheet and name == "river-nano":
            draw(model, samples, once["rows"], arguments.sheet)
    write_json(arguments.out, {**result, "environment": environment()})


if __name__ == "__main__":
    main()
