"""Question: what are corrections worth, and does training on simulated clicks teach a model to follow them?

Each method is trained with and without `train.simulated_corrections` on the same scenes and steps; then a
simulated person, who sees the true mask (an *oracle*), clicks up to five times into the largest error.

Run:    python benchmarks/accuracy/clicks.py --out runs/clicks [--quick]
"""

import argparse
from pathlib import Path
from typing import Any

from autosam.config import config_from_dict
from autosam.files import read_json, write_json
from autosam.plotting import save_curves
from autosam.recipes.environment import environment
from autosam.recipes.evaluating import evaluate_run
from autosam.recipes.training import train_run

CLICKS = 5
ROWS = (("autosam", 0), ("autosam+decoder", 0), ("autosam+decoder", 3))


def run_row(method: str, corrections: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train, then click."""
    folder = arguments.out / f"{method}-{corrections}"
    config = config_from_dict(
        {
            "method": method,
            "data": {
                "synthetic_count": 12 if arguments.quick else 60,
                "synthetic_side": 128 if arguments.quick else 256,
                "validation_share": 0.2,
                "test_share": 0.3,
            },
            "sam": {"name": arguments.sam},
            "prompt": {"weights": "imagenet", "side": 192},
            "train": {
                "epochs": 2 if arguments.quick else arguments.epochs,
                "patience": 0,
                "learning_rate": 1e-3,
                "decoder_learning_rate": 1e-3,
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
        "config": config.to_dict(),
        **curve,
    }


def main() -> None:
    """Run every row, write the numbers and draw the curve."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for runs")
    parser.add_argument("--sam", default="nano", help="as sam.name; nano has random weights")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--quick", action="store_true", help="a few scenes, to see that it runs")
    parser.add_argument("--results", type=Path, help="JSON file; OUT/clicks.json by default")
    arguments = parser.parse_args()
    results = arguments.results or arguments.out / "clicks.json"
    rows = [run_row(method, corrections, arguments) for method, corrections in ROWS]
    write_json(
        results,
        {
            "question": "clicks",
            "data": "synthetic scenes",
            "sam": arguments.sam,
            "rows": rows,
            "environment": environment(),
        },
    )
    lines = {
        f"{row['method']}, {row['simulated_corrections'] or 'no'} simulated": list(
            enumerate(row["mean"])
        )
        for row in rows
    }
    panel = {f"IoU, mean of {rows[0]['images']} scenes": lines}
    save_curves(results.with_suffix(".png"), panel, x_label="oracle clicks")


if __name__ == "__main__":
    main()
