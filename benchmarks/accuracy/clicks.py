"""Question: what are corrections worth, and does training on simulated clicks teach a model to follow them?

Each method is trained with and without `train.simulated_corrections` on the same pictures and steps; then a
simulated person, who sees the true mask (an *oracle*), clicks up to five times into the largest error. With
--data the pictures are real, divided as in the scoreboard's suite `river-nano`: those with water that no
stage of river-nano saw are clicked into, its own SAM (--sam river-nano) among what can be trained.

Run:    python -m benchmarks.accuracy.clicks --out runs/clicks [--quick]
        python -m benchmarks.accuracy.clicks --out runs/clicks --data FOLDER --sam river-nano
"""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from autosam.config import config_from_dict
from autosam.data.manifests import write_split
from autosam.data.sources import open_data
from autosam.files import read_json, write_json
from autosam.plotting import save_curves
from autosam.recipes.environment import environment
from autosam.recipes.evaluating import evaluate_run
from autosam.recipes.training import train_run
from benchmarks.scoreboard.cells import portable
from benchmarks.scoreboard.suites import SuiteChoice, open_suite

CLICKS = 5
ROWS = (("autosam", 0), ("autosam", 3), ("autosam+decoder", 0), ("autosam+decoder", 3))


def pictures(arguments: argparse.Namespace) -> dict[str, Any]:
    """The configuration's `data`."""
    if arguments.data is None:
        return {
            "synthetic_count": 12 if arguments.quick else 60,
            "synthetic_side": 128 if arguments.quick else 256,
            "validation_share": 0.2,
            "test_share": 0.3,
        }
    suite = open_suite(
        SuiteChoice(
            name="river-nano", data=arguments.data, scratch=arguments.out,
            pictures=4 if arguments.quick else 0,
        )
    )  # fmt: skip
    split = suite.folds[0].split
    test = open_data(suite.data).samples.select(split.test)
    wet = [sample.name for sample in test if sample.mask is not None and sample.mask.any()]
    dry = [name for name in split.test if name not in wet]
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_split(
        arguments.out / "split.json",
        dataclasses.replace(split, test=tuple(wet), unused=(*split.unused, *dry)),
    )
    return {"source": list(suite.data.source), "manifest": str(arguments.out / "split.json")}


def run_row(
    method: str, corrections: int, data: dict[str, Any], arguments: argparse.Namespace
) -> dict[str, Any]:
    """Train, then click."""
    folder = arguments.out / f"{method}-{corrections}"
    config = config_from_dict(
        {
            "method": method,
            "seed": arguments.seed,
            "data": data,
            "sam": {"name": arguments.sam},
            "prompt": {"weights": "imagenet", "side": 192},
            "train": {
                "epochs": 2 if arguments.quick else arguments.epochs,
                "patience": 0,
                "learning_rate": 1e-3,
                "decoder_learning_rate": arguments.decoder_learning_rate,
                "simulated_corrections": corrections,
            },
            "cache": {"directory": str(arguments.out / "embeddings")},
        }
    )
    trained = train_run(config, folder, replace=True)
    evaluate_run(folder, clicks=CLICKS, say=print)
    curve = read_json(folder / "evaluation" / "test" / "clicks.json")
    return {
        "method": method,
        "simulated_corrections": corrections,
        "steps": trained.steps,
        "training_seconds": round(trained.seconds, 1),
        "config": portable(config),
        **curve,
    }


def main() -> None:
    """Run every row, write the numbers and draw the curve."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for runs")
    parser.add_argument("--sam", default="nano", help="as sam.name; nano has random weights")
    parser.add_argument("--data", type=Path, help="folder of the real groups; drawn scenes if none")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--decoder-learning-rate", type=float, default=1e-4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="a few scenes, to see that it runs")
    parser.add_argument("--results", type=Path, help="JSON file; OUT/clicks.json by default")
    arguments = parser.parse_args()
    results = arguments.results or arguments.out / "clicks.json"
    data = pictures(arguments)
    rows = [run_row(method, corrections, data, arguments) for method, corrections in ROWS]
    write_json(
        results,
        {
            "question": "clicks",
            "data": "real pictures" if arguments.data else "synthetic scenes",
            "sam": Path(arguments.sam).name,
            "rows": rows,
            "environment": environment(),
        },
    )
    lines = {
        f"{row['method']}, trained with {row['simulated_corrections'] or 'no'} clicks": list(
            enumerate(row["mean"])
        )
        for row in rows
    }
    panel = {f"IoU, mean of {rows[0]['images']} pictures": lines}
    of = "real rivers" if arguments.data else "DRAWN scenes, no rivers"
    save_curves(results.with_suffix(".png"), panel, x_label=f"oracle clicks ({of})")


if __name__ == "__main__":
    main()
