"""Question: what is a prompt worth, by the method it prompts and by where it comes from?

Each method is trained once per seed with the same number of steps, on the same split and SAM, then judged on
the held-back part under every prompt that it can take: none, a box round the picture, a coarse HSV mask, the
masks of an `autosam` run of the same split, and, as an upper bound, the true mask (oracle).

Run:    python benchmarks/accuracy/prompt_sources.py --out runs/prompts [--data FOLDER] [--quick]
        Without --data on synthetic scenes; with it on usgs_coast, held back by flight.
"""

import argparse
import os
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from autosam.config import config_from_dict
from autosam.errors import PromptMismatchWarning
from autosam.evaluation.bootstrap import interval_of_mean
from autosam.files import write_json
from autosam.recipes.environment import environment
from autosam.recipes.evaluating import evaluate_run
from autosam.recipes.prompting import PromptChoice
from autosam.recipes.training import train_run

OWN = "autosam"
METHODS: dict[str, dict[str, Any]] = {
    OWN: {"method": "autosam"},
    "autosam+decoder": {"method": "autosam+decoder"},
    "decoder-null": {"method": "decoder-null"},
    "decoder-box-full": {"method": "decoder-box-full"},
    "decoder (points)": {"method": "decoder", "geometric": {"kind": "points"}},
    "decoder (box)": {"method": "decoder", "geometric": {"kind": "box"}},
    "zero-shot (points)": {"method": "zero-shot", "geometric": {"kind": "points"}},
    "zero-shot (box)": {"method": "zero-shot", "geometric": {"kind": "box"}},
}
SOURCES = ("null", "full box", "coarse", "own model", "oracle")
LEARNT = "learnt"
FLIGHT = r"\d{4}.?\d\d.?\d\d|\d{4}"


def choices(values: dict[str, Any], own: Path) -> dict[str, PromptChoice | None]:
    """The prompts under which a method is judged; its own where nothing is to be chosen."""
    if values["method"] in (OWN, "autosam+decoder"):
        return {LEARNT: None}
    if values["method"] == "decoder-null":
        return {"null": None}
    if values["method"] == "decoder-box-full":
        return {"full box": None}
    return {
        "null": PromptChoice(kind="null"),
        "full box": PromptChoice(kind="full-box"),
        "coarse": None,
        "own model": PromptChoice(coarse_from=own),
        "oracle": PromptChoice(oracle=True),
    }


def run_seed(seed: int, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Every method under every prompt, for one seed: a row each, with the IoU of each picture."""
    own = arguments.out / f"seed-{seed}" / OWN
    rows = []
    for name, values in METHODS.items():
        folder = own.parent / name
        start = time.perf_counter()
        trained = train_run(configuration(values, seed, arguments), folder, replace=True)
        seconds = time.perf_counter() - start
        for source, choice in choices(values, own).items():
            with (
                warnings.catch_warnings()
            ):  # prompts of another kind than trained with are the point
                warnings.simplefilter("ignore", PromptMismatchWarning)
                result = evaluate_run(folder, prompts=choice)
            rows.append(
                {
                    "method": name,
                    "source": source,
                    "seed": seed,
                    "prompt": result.context["prompt"],
                    "steps": trained.steps,
                    "training_seconds": round(seconds, 1),
                    "split": result.context["split"]["hash"],
                    "iou": {row["name"]: row["iou"] for row in result.rows},
                    "false_water": result.summary["false_water"]["mean"],
                }
            )
            print(
                f"seed {seed}  {name:20} {source:10} IoU {result.summary['iou']['mean']:.3f}",
                flush=True,
            )
    return rows


def configuration(values: dict[str, Any], seed: int, arguments: argparse.Namespace) -> Any:
    """One method's settings; data, budget and SAM are the same for all."""
    data: dict[str, Any] = {
        "synthetic_count": 12 if arguments.quick else 60,
        "synthetic_side": 128 if arguments.quick else 256,
        "validation_share": 0.2,
        "test_share": 0.3,
    }
    if arguments.data:
        data = {
            "source": [os.path.relpath(arguments.data / "usgs_coast")],
            "group_by": FLIGHT,
            "validation_share": 0.15,
            "test_share": 0.35,
        }
    return config_from_dict(
        {
            **values,
            "seed": seed,
            "data": data,
            "sam": {"name": arguments.sam},
            "prompt": {"weights": "imagenet", "side": 192},
            "train": {
                "epochs": 2 if arguments.quick else arguments.epochs,
                "patience": 0,
                "learning_rate": 1e-3,
                "decoder_learning_rate": 3e-4,
            },
            "cache": {"directory": str(arguments.out / "embeddings")},
        }
    )


def summarised(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One line per method and source: mean over pictures and seeds, interval over pictures."""
    lines = []
    for method in METHODS:
        for source in (*SOURCES, LEARNT):
            found = [row for row in rows if (row["method"], row["source"]) == (method, source)]
            if not found:
                continue
            pairs = [(name, iou) for row in found for name, iou in row["iou"].items()]
            scores = np.array([iou for _, iou in pairs])
            low, high = interval_of_mean(scores, [n for n, _ in pairs], resamples=2000, seed=0)
            by_seed = [float(np.mean(list(row["iou"].values()))) for row in found]
            lines.append(
                {
                    "method": method, "source": source, "is_oracle": source == "oracle",
                    "mean": float(scores.mean()), "low": low, "high": high,
                    "median": float(np.median(scores)), "by_seed": by_seed,
                }
            )  # fmt: skip
    return lines


def table(lines: list[dict[str, Any]]) -> str:
    """Methods down, sources across, as Markdown."""
    cells = {
        (
            line["method"],
            line["source"],
        ): f"{line['mean']:.3f} [{line['low']:.2f}, {line['high']:.2f}]"
        for line in lines
    }
    columns = (*SOURCES, LEARNT)
    head = ["method", *("*oracle*" if c == "oracle" else c for c in columns)]
    body = [[f"`{m}`", *(cells.get((m, c), "") for c in columns)] for m in METHODS]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *body])


def main() -> None:
    """Run every seed and write what came of it after each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for runs")
    parser.add_argument("--data", type=Path, help="folder that holds usgs_coast/")
    parser.add_argument("--sam", default="nano", help="as sam.name; nano has random weights")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="a few scenes, to see that it runs")
    parser.add_argument(
        "--results", type=Path, help="JSON file; OUT/prompt_sources.json by default"
    )
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for seed in range(1 if arguments.quick else arguments.seeds):
        rows += run_seed(seed, arguments)
        result = {
            "question": "prompt_sources",
            "data": "usgs_coast, by flight" if arguments.data else "synthetic scenes",
            "sam": f"{arguments.sam} (random weights)"
            if arguments.sam == "nano"
            else arguments.sam,
            "config": configuration({}, seed, arguments).to_dict(),
            "summary": summarised(rows),
            "rows": rows,
            "environment": environment(),
        }
        write_json(arguments.results or arguments.out / "prompt_sources.json", result)
    print(table(summarised(rows)))


if __name__ == "__main__":
    main()
