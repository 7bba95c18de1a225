"""Last stage: put a trained run into the package as river-nano, in float16, with its card.

Run:    python -m benchmarks.river_nano.ship --run runs/refined/river --sam runs/refined/sam --data FOLDER
        python -m benchmarks.river_nano.ship --data FOLDER
        (the second writes the card alone again, from what is in benchmarks/results; after `settle` of the
        shipped model, --sam is the sam folder of a copy of it)
"""

import argparse
import csv
import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file

from autosam import AutoSam
from autosam.files import replacing, write_json, write_text
from autosam.models.embedded import EMBEDDED_FOLDERS, RIVER_NANO
from autosam.overlap import mask_iou
from benchmarks.river_nano.promptable import RECIPE
from benchmarks.river_nano.refine import told_before
from benchmarks.river_nano.scenes import labelled_names

FOLDER = EMBEDDED_FOLDERS[RIVER_NANO]
SCENES = Path(__file__).parents[2] / "tests" / "river_scenes"
RESULTS = Path(__file__).parents[1] / "results"
REPORT, CLICKS = "river_nano--real--cpu.json", "river_nano_clicks--real--cpu.json"
FINE_TUNED = "fine_tune--*--cpu.json"
GROUND_RESOLUTION = {"low": 0.05, "high": 2.0}
"""Metres per pixel of the pictures that trained it, at SAM's side."""
STAGE_ONE = ("steps", "seconds", "refined_steps", "refined_seconds", "scenes")
"""What is told of how its SAM was trained."""


def ship_weights(run: Path, sam: Path, folder: Path) -> None:
    """Prompt network and SAM, in float16."""
    (folder / "sam").mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "model.safetensors"):
        shutil.copyfile(sam / name, folder / "sam" / name)
        (folder / "sam" / name).chmod(0o644)
    state = load_file(run / "model.safetensors")
    halved = {
        key: value.half() if value.is_floating_point() else value for key, value in state.items()
    }
    with replacing(folder / "model.safetensors") as beside:
        save_file(halved, beside, metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)
    shutil.copyfile(run / "preprocessor_config.json", folder / "preprocessor_config.json")


def shipped_description(run: Path, stage_one: Mapping[str, Any]) -> dict[str, Any]:
    """The run's own, without the paths of the machine that it ran on."""
    description: dict[str, Any] = json.loads((run / "config.json").read_text())
    config = description["config"]
    config["sam"]["name"] = RIVER_NANO
    config["prompt"]["weights"] = ""
    config["cache"]["directory"] = ""
    config["data"]["manifest"] = ""
    config["data"]["source"] = [Path(source).name for source in config["data"]["source"]]
    facts = description["facts"]
    for key, value in trained_before(config["start"]).items():
        facts[key] += value
    config["start"] = ""
    description["sam"] = {**description["sam"], "name": RIVER_NANO, "bundled": True}
    facts |= {
        "ground_resolution": GROUND_RESOLUTION,
        "promptable": {key: stage_one[key] for key in STAGE_ONE},
        "environment": {**facts["environment"], "commit": None},
    }
    return description


def trained_before(start: str) -> dict[str, float]:
    """What the prompt network had behind it where it did not begin anew: steps and seconds are added up."""
    if not start:
        return {}
    facts = json.loads((Path(start) / "config.json").read_text())["facts"]
    return {key: facts[key] for key in ("steps", "epochs", "training_seconds")}


def licences(data: Path, recipe: Mapping[str, Any]) -> dict[str, list[str]]:
    """Licence texts of the groups that trained it."""
    trained = {name.split("/")[0] for name in labelled_names(data, recipe["data"], "train")}
    found: dict[str, set[str]] = {}
    with (data / "manifest.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if row["dataset"] in trained or row["dataset"] == "unlabelled":
                found.setdefault(row["dataset"], set()).add(
                    f"{row['licence']} ({row['repository']})"
                )
    return {group: sorted(texts) for group, texts in sorted(found.items())}


def card(
    description: Mapping[str, Any],
    report: Mapping[str, Any],
    clicks: Mapping[str, Any],
    tuned: Sequence[Mapping[str, Any]],
    licensed: Mapping[str, list[str]],
) -> str:
    """README.md of the model: data, licences, numbers with intervals, clicks, fine-tuning, limits."""
    facts, decision = description["facts"], description["decision"]
    stage = facts["promptable"]
    template = Template(Path(__file__).with_name("card_template.md").read_text())
    return template.substitute(
        table=_table(report),
        calibration=f"{report['models'][RIVER_NANO]['calibration_error']:.3f}",
        sam_minutes=round(stage["seconds"] / 60),
        refined_minutes=round(stage["refined_seconds"] / 60),
        sam_steps=stage["steps"],
        refined_steps=stage["refined_steps"],
        clicks=_click_table(clicks),
        click_objects=clicks["objects"],
        tuned=_tuned_table(tuned),
        river_minutes=round(facts["training_seconds"] / 60),
        river_steps=facts["steps"],
        threshold=f"{decision['threshold']:.2f}",
        temperature=f"{decision['temperature']:.2f}",
        dry_share=f"{100 * description['config']['train']['most_false_water']:g}".removeprefix("0"),
        licences="\n".join(f"- `{group}`: {'; '.join(texts)}" for group, texts in licensed.items()),
    )


def checksums(folder: Path) -> str:
    """One line for each file, as sha256sum writes them."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder).as_posix()}"
        for path in files
        if path.name != "SHA256SUMS"
    ]
    return "\n".join(lines) + "\n"


def scene_scores(model: AutoSam) -> dict[str, float]:
    """IoU on the committed scenes, which a test compares with."""
    scores = {}
    for path in sorted(SCENES.glob("*_mask.png")):
        kind = path.stem.removesuffix("_mask")
        image = np.asarray(Image.open(SCENES / f"{kind}.png"))
        truth = np.asarray(Image.open(path)) > 127
        scores[kind] = round(mask_iou(model.predict_image(image).mask, truth), 4)
    return scores


def _table(report: Mapping[str, Any]) -> str:
    rows = ["| model | pictures | mean IoU with water | false water of dry |", "|---|---|---|---|"]
    for name, found in report["models"].items():
        for group, row in found["groups"].items():
            interval = row["iou_interval"]
            spread = (
                f" [{interval[0]:.2f}, {interval[1]:.2f}]"
                if interval and interval[0] is not None
                else ""
            )
            iou = "-" if row["iou"] is None else f"{row['iou']:.3f}{spread} (n = {row['wet']})"
            dry = row["false_water_of_dry"]
            false = "-" if dry is None else f"{dry:.2%} (n = {row['dry']})"
            rows.append(f"| {name} | `{group}` | {iou} | {false} |")
    return "\n".join(rows)


def _click_table(clicks: Mapping[str, Any]) -> str:
    counts = [str(count) for count in clicks["clicks"]]
    rows = [
        "| objects | by | " + " | ".join(f"{count} clicks" for count in counts) + " |",
        "|---" * (2 + len(counts)) + "|",
    ]
    for kind in ("water", "region"):
        for name, found in clicks["summary"][kind].items():
            cells = " | ".join(f"{found[count]['mean']:.2f}" for count in counts)
            rows.append(f"| {kind} | {name} | {cells} |")
    return "\n".join(rows).replace("| 1 clicks |", "| 1 click |")


def _tuned_table(tuned: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        "| place | tiles | steps | IoU before | after | pictures |",
        "|---|---|---|---|---|---|",
    ]
    for found in tuned:
        before, after = (
            f"{found[when]['iou']:.2f} "
            f"[{found[when]['iou_interval'][0]:.2f}, {found[when]['iou_interval'][1]:.2f}]"
            for when in ("before", "after")
        )
        rows.append(
            f"| `{found['folder']}` | {found['tiles']} | {found['steps']} | {before} | {after} "
            f"| {len(found['after']['rows'])} |"
        )
    return "\n".join(rows)


def write_card(description: Mapping[str, Any], data: Path, recipe: Mapping[str, Any]) -> None:
    """From the results that are committed, beside the weights that they are of."""
    report, clicks = (json.loads((RESULTS / name).read_text()) for name in (REPORT, CLICKS))
    tuned = [json.loads(path.read_text()) for path in sorted(RESULTS.glob(FINE_TUNED))]
    licensed = licences(data, recipe)
    write_text(FOLDER / "README.md", card(description, report, clicks, tuned, licensed))


def main() -> None:
    """Write the folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--run", type=Path, help="finished run of stage two; else the card alone")
    parser.add_argument("--sam", type=Path, help="the SAM of stage one")
    parser.add_argument(
        "--data", type=Path, required=True, help="folder of the groups, for the licences"
    )
    parser.add_argument("--recipe", type=Path, default=RECIPE)
    arguments = parser.parse_args()
    recipe = yaml.safe_load(arguments.recipe.read_text())
    if (arguments.run is None) != (arguments.sam is None):
        parser.error("--run and --sam must both be given, or neither, for the card alone")
    if arguments.run:
        stage_one = told_before(arguments.sam)
        write_json(FOLDER / "config.json", shipped_description(arguments.run, stage_one))
        ship_weights(arguments.run, arguments.sam, FOLDER)
    write_card(json.loads((FOLDER / "config.json").read_text()), arguments.data, recipe)
    write_text(FOLDER / "SHA256SUMS", checksums(FOLDER))
    write_json(SCENES / "shipped_iou.json", scene_scores(AutoSam.from_pretrained()))


if __name__ == "__main__":
    main()
