"""Question: what do AutoSAM and a U-Net of the same backbone learn from real water, in equal steps?

Trains on usgs_coast, st_marguerite_dense, dubai and dry_land, split by site or flight, then judges each
run on its held-back sites and on the Elwha tiles, which nothing was trained or tuned on.

Run:    python benchmarks/accuracy/rivers.py --data FOLDER --out runs/rivers --epochs 6
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

from autosam.config import config_from_dict
from autosam.files import write_json
from autosam.recipes.environment import environment
from autosam.recipes.evaluating import evaluate_run
from autosam.recipes.training import train_run

GROUPS = ("usgs_coast", "st_marguerite_dense", "dubai", "dry_land")
SITE = r"usgs_coast/\d{4}.?\d\d.?\d\d|usgs_coast/\d{4}|dubai/tile\d+|st_marguerite_dense|dry_land/[a-z]+"
METHODS = {
    "autosam-light": {"method": "autosam", "prompt": {"network": "light", "weights": "imagenet"}},
    "autosam-hardnet68": {"method": "autosam", "prompt": {"network": "hardnet68"}},
    "unet-light": {"method": "unet", "prompt": {"network": "light", "weights": "imagenet"}},
}


def linked_elwha(data: Path, folder: Path) -> Path:
    """The Elwha tiles that have a mask, as a folder of links."""
    for name in ("images", "masks"):
        (folder / "elwha" / name).mkdir(parents=True)
    for mask in sorted((data / "elwha" / "masks").iterdir()):
        (folder / "elwha" / "masks" / mask.name).symlink_to(mask.resolve())
        image = next((data / "elwha" / "images").glob(f"{mask.stem}.*"))
        (folder / "elwha" / "images" / image.name).symlink_to(image.resolve())
    return folder / "elwha"


def run_method(name: str, arguments: argparse.Namespace) -> dict:
    """Train one method and judge it on held-back sites and on Elwha."""
    values = METHODS[name]
    config = config_from_dict(
        {
            **values,
            "data": {
                "source": [os.path.relpath(arguments.data / group) for group in GROUPS],
                "group_by": SITE,
            },
            "seed": arguments.seed,
            "train": {
                "epochs": arguments.epochs,
                "patience": 0,
                "learning_rate": 1e-3,
                "batch_size": 4,
                "jitter": 0.4,
            },
            "cache": {"directory": str(arguments.out / "embeddings")},
        }
    )
    start, folder = time.perf_counter(), arguments.out / name
    trained = train_run(config, folder, replace=True, say=print)
    held_back = evaluate_run(folder, group_by=r"^[^/]+", say=print)
    with tempfile.TemporaryDirectory() as scratch:
        elwha = evaluate_run(
            folder,
            data=[str(linked_elwha(arguments.data, Path(scratch)))],
            output=folder / "evaluation" / "elwha",
        )
    return {
        "method": name,
        "steps": trained.steps,
        "seconds": round(time.perf_counter() - start),
        "validation_iou": trained.validation_iou,
        "held_back": held_back.to_dict()["summary"]["iou"],
        "held_back_false_water": held_back.to_dict()["summary"]["false_water"],
        "groups": {
            group: found["summary"]["iou"] for group, found in held_back.to_dict()["groups"].items()
        },
        "elwha": elwha.to_dict()["summary"]["iou"],
        "elwha_images": {row["name"]: row["iou"] for row in elwha.rows},
        "split": json.loads((folder / "split.json").read_text())["hash"],
        "config": config.to_dict(),
    }


def main() -> None:
    """Run every method and write what came of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the groups")
    parser.add_argument("--out", type=Path, required=True, help="folder for runs")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--results", type=Path, help="JSON file; OUT/rivers.json by default")
    arguments = parser.parse_args()
    rows = []
    for name in arguments.methods.split(","):
        rows.append(run_method(name, arguments))
        result = {"question": "rivers", "rows": rows, "environment": environment()}
        write_json(arguments.results or arguments.out / "rivers.json", result)
        print(json.dumps({k: v for k, v in rows[-1].items() if k != "config"}, indent=1))


if __name__ == "__main__":
    main()
