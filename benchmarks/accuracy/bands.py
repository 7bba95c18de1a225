"""Question: what does one more band bring a prompt network, in front of the same frozen RGB SAM?

Trains `autosam` with and without the band on the same split with the same steps: on synthetic scenes with
their near-infrared, and, with --data, on the three registered RGB and thermal frames of elwha_thermal, each
held back once. Three frames are an anecdote; the scenes are drawn. Neither is a result on rivers.

Run:    python benchmarks/accuracy/bands.py --sam river-nano --out runs/bands [--data FOLDER] [--quick]
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from autosam.config import config_from_dict
from autosam.data.manifests import Split, add_hashes, write_split
from autosam.data.sources import open_data
from autosam.evaluation.bootstrap import interval_of_mean
from autosam.files import write_json
from autosam.recipes.environment import environment
from autosam.recipes.evaluating import evaluate_run
from autosam.recipes.training import train_run


def configuration(
    data: dict[str, Any], band: str, seed: int, arguments: argparse.Namespace
) -> dict[str, Any]:
    """One run's settings; the band is all that differs."""
    return {
        "seed": seed,
        "data": data,
        "sam": {"name": arguments.sam},
        "prompt": {"weights": "imagenet", "side": 192, "bands": [band] if band else []},
        "train": {"epochs": arguments.epochs, "patience": 0, "learning_rate": 1e-3, "views": 8},
        "cache": {"directory": str(arguments.out / "embeddings")},
    }


def run_pair(
    name: str, data: dict[str, Any], band: str, seed: int, arguments: argparse.Namespace
) -> list[dict[str, Any]]:
    """RGB alone and RGB with the band, on the same pictures."""
    rows = []
    for bands in ("", band):
        folder = arguments.out / f"{name}-{seed}-{bands or 'rgb'}"
        config = config_from_dict(configuration(data, bands, seed, arguments))
        trained = train_run(config, folder, replace=True)
        result = evaluate_run(folder)
        rows.append(
            {
                "data": name,
                "bands": f"rgb + {bands}" if bands else "rgb",
                "seed": seed,
                "steps": trained.steps,
                "split": result.context["split"]["hash"],
                "iou": {row["name"]: row["iou"] for row in result.rows},
            }
        )
        print(
            f"{name} seed {seed} {rows[-1]['bands']:14} IoU {result.summary['iou']['mean']:.3f}",
            flush=True,
        )
    return rows


def thermal_rows(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Each thermal frame tested once, by a run trained on one other and chosen on the third."""
    source = [str(arguments.data / "elwha_thermal")]
    data = open_data(config_from_dict({"data": {"source": source}}).data)
    names, rows = data.samples.names, []
    for turn in range(len(names)):
        train, validation, test = (names[(turn + shift) % len(names)] for shift in range(3))
        split = Split(kind="grouped", train=(train,), validation=(validation,), test=(test,))
        path = arguments.out / f"thermal-{turn}.json"
        write_split(path, add_hashes(split, data.samples))
        rows += run_pair(
            f"thermal-{turn}", {"source": source, "manifest": str(path)}, "thermal", turn, arguments
        )
    return [{**row, "data": "elwha_thermal"} for row in rows]


def summarised(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means, and the mean of each picture's difference with its interval."""
    lines = []
    for name in dict.fromkeys(row["data"] for row in rows):
        some = [row for row in rows if row["data"] == name]
        pairs = [
            (f"{picture}", without, row["iou"][picture])
            for plain, row in zip(some[::2], some[1::2], strict=True)
            for picture, without in plain["iou"].items()
        ]
        gains = np.array([with_band - without for _, without, with_band in pairs])
        low, high = interval_of_mean(gains, [p for p, _, _ in pairs], resamples=2000, seed=0)
        lines.append(
            {
                "data": name,
                "rgb": float(np.mean([without for _, without, _ in pairs])),
                some[1]["bands"]: float(np.mean([with_band for _, _, with_band in pairs])),
                "gain": float(gains.mean()),
                "gain_low": low,
                "gain_high": high,
                "images": len({p for p, _, _ in pairs}),
                "runs": len(some),
            }
        )
    return lines


def main() -> None:
    """Run every pair and write what came of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for runs")
    parser.add_argument("--data", type=Path, help="folder that holds elwha_thermal/")
    parser.add_argument("--sam", default="nano", help="as sam.name; nano has random weights")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="a few scenes, to see that it runs")
    parser.add_argument("--results", type=Path, help="JSON file; OUT/bands.json by default")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.epochs, arguments.seeds = 2, 1
    scenes = {
        "synthetic_count": 12 if arguments.quick else 48,
        "synthetic_side": 128 if arguments.quick else 256,
        "validation_share": 0.2,
        "test_share": 0.3,
    }
    rows: list[dict[str, Any]] = []
    for seed in range(arguments.seeds):
        rows += run_pair("synthetic", scenes, "nir", seed, arguments)
    if arguments.data:
        rows += thermal_rows(arguments)
    config = configuration(scenes, "", 0, arguments)
    del config["cache"]  # a path of this machine
    result = {
        "question": "bands",
        "config": config,
        "summary": summarised(rows),
        "rows": rows,
        "environment": environment(),
    }
    write_json(arguments.results or arguments.out / "bands.json", result)
    for line in result["summary"]:
        print(line)


if __name__ == "__main__":
    main()
