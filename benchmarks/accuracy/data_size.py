"""Question: does more data help, and whom?

Method: test and validation stay the same; the training part is 5, 10, 20 or 40 pictures of one pool (of
        real ones a tenth, a quarter, half and all), the smaller inside the larger, drawn anew for each seed.
        All runs make equally many optimiser steps, so that a smaller set is seen more often, not less long.
        IoU is the mean over test pictures; intervals draw whole pictures, all seeds of a picture together;
        differences are between the same pictures. SAM is `nano`, whose weights are random: `autosam` sees
        through its prompt network, `decoder-null` through the random encoder alone.
Run:    python benchmarks/accuracy/data_size.py --out runs/data_size
        (--quick to try, --data FOLDER for usgs_coast, divided by flight, instead of drawn scenes)
"""

import argparse
import concurrent.futures
import dataclasses
import multiprocessing
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from autosam.config import Config, config_from_dict
from autosam.data.sources import make_split, open_data
from autosam.data.splits import Split, write_split
from autosam.evaluation.bootstrap import interval_of_mean
from autosam.files import read_json, write_json
from autosam.plotting import save_curves
from autosam.recipes.encoding import embed_data
from autosam.recipes.environment import environment
from autosam.recipes.evaluating import evaluate_run
from autosam.recipes.training import train_run

METHODS = ("autosam", "decoder-null")
BATCH = 4
COUNTS, SHARES = (5, 10, 20, 40), (0.1, 0.25, 0.5, 1.0)
FLIGHT = r"^(\d{4})(?:[-_](\d\d)-?(\d\d))?"
"""Of usgs_coast: the date, which is written 2018-10-06 or 2018-1006."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """One run: train on so many pictures, then judge on test."""

    method: str
    pictures: int
    seed: int
    config: Config
    folder: Path


def make_config(
    arguments: argparse.Namespace, method: str, *, seed: int = 0, split: Path | None = None
) -> Config:
    """One method's settings; `split` is the manifest of its training part."""
    data: dict[str, Any] = {"synthetic_count": arguments.scenes, "synthetic_side": 256}
    shares = {"validation_share": 0.1, "test_share": 0.26}
    if arguments.data:
        data = {"source": [os.path.relpath(arguments.data / "usgs_coast")], "group_by": FLIGHT}
        shares = {"validation_share": 0.1, "test_share": 0.3}
    epochs = 1
    if split is not None:
        data["manifest"] = str(split)
        batches = max(1, len(read_json(split)["train"]) // BATCH)
        epochs = max(1, round(arguments.steps / batches))
    return config_from_dict(
        {
            "method": method,
            "seed": seed,
            "data": data | shares,
            "prompt": {"network": "light", "weights": "imagenet", "side": 192},
            "train": {
                "epochs": epochs,
                "batch_size": BATCH,
                "warmup_steps": 10,
                "patience": 0,
                "learning_rate": 1e-3,
                "decoder_learning_rate": 3e-4,
            },
            "evaluate": {"bootstrap": 100, "worst": 1},
            "cache": {"directory": str(arguments.out / "embeddings")},
        }
    )


def part_of(whole: Split, count: int, *, seed: int) -> Split:
    """The same test and validation, and the first pictures of a shuffled training part."""
    shuffled = np.random.default_rng(seed).permutation(whole.train).tolist()
    return dataclasses.replace(
        whole, train=tuple(shuffled[:count]), unused=whole.unused + tuple(shuffled[count:])
    )


def make_jobs(arguments: argparse.Namespace, whole: Split) -> list[Job]:
    """All runs, seed by seed, so that an early end leaves whole comparisons."""
    counts = [count for count in COUNTS if count <= len(whole.train)]
    if arguments.data:
        counts = [round(share * len(whole.train)) for share in SHARES]
    jobs = []
    for seed in range(arguments.seeds):
        for count in (counts[0], counts[-1]) if arguments.quick else counts:
            manifest = arguments.out / f"split--{count}--{seed}.json"
            write_split(manifest, part_of(whole, count, seed=seed))
            for method in METHODS:
                config = make_config(arguments, method, seed=seed, split=manifest)
                folder = arguments.out / f"{method}--{count}--{seed}"
                jobs.append(
                    Job(method=method, pictures=count, seed=seed, config=config, folder=folder)
                )
    return jobs


def run_job(job: Job) -> dict[str, Any]:
    """The row of a run; one that was finished earlier is read again."""
    written = job.folder / "row.json"
    if written.is_file():
        row: dict[str, Any] = read_json(written)
        return row
    start = time.perf_counter()
    trained = train_run(job.config, job.folder, replace=True)
    judged = evaluate_run(job.folder)
    row = {
        "method": job.method,
        "pictures": job.pictures,
        "seed": job.seed,
        "steps": trained.steps,
        "validation_iou": trained.validation_iou,
        "split": judged.context["split"]["hash"],
        "test_iou": judged.summary["iou"]["mean"],
        "iou": {found["name"]: found["iou"] for found in judged.rows},
        "seconds": round(time.perf_counter() - start, 1),
    }
    shutil.rmtree(job.folder / "state")  # three times the weights, and the run is over
    write_json(written, row)
    return row


def use_one_thread() -> None:
    """Two runs side by side on one core each take less time than one after the other on both."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def mean_over_pictures(pairs: Sequence[tuple[str, float]]) -> dict[str, Any]:
    """Mean of (picture, value), with its interval."""
    names, values = [name for name, _ in pairs], np.array([value for _, value in pairs])
    low, high = interval_of_mean(values, names, resamples=10_000, seed=0)
    return {"mean": float(values.mean()), "low": low, "high": high}


def summarised(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A line for each method and number of pictures, with the difference to the fewest."""
    fewest = min(row["pictures"] for row in rows)
    first = {(row["method"], row["seed"]): row["iou"] for row in rows if row["pictures"] == fewest}
    lines = []
    for method in METHODS:
        for count in sorted({row["pictures"] for row in rows}):
            own = [row for row in rows if (row["method"], row["pictures"]) == (method, count)]
            if not own:
                continue
            gains = [
                (name, iou - first[method, row["seed"]][name])
                for row in own
                for name, iou in row["iou"].items()
            ]
            lines.append(
                {
                    "method": method,
                    "pictures": count,
                    "iou": mean_over_pictures([item for row in own for item in row["iou"].items()]),
                    "by_seed": [row["test_iou"] for row in own],
                    "minus_fewest": mean_over_pictures(gains),
                }
            )
    return lines


def draw(path: Path, lines: Sequence[Mapping[str, Any]], *, of: str) -> None:
    """IoU against training pictures of a kind, and what each addition gained over the fewest."""

    def curve(method: str, *keys: str) -> list[tuple[float, float]]:
        points = []
        for line in lines:
            value: Any = line
            for key in keys:
                value = value[key]
            if line["method"] == method:
                points.append((line["pictures"], value))
        return points

    names = {"mean": "mean of pictures", "low": "95 % low", "high": "95 % high"}
    gains = {
        f"{method}:\ngain over fewest": {
            name: curve(method, "minus_fewest", key) for key, name in names.items()
        }
        for method in METHODS
    }
    iou = {method: curve(method, "iou", "mean") for method in METHODS}
    save_curves(path, {"IoU on test": iou, **gains}, x_label=f"training pictures ({of})")


def kind(is_real: bool) -> str:
    """What a reader must know of the pictures first."""
    return "real: usgs_coast, by flight" if is_real else "DRAWN scenes, no rivers"


def write_results(
    path: Path, rows: Sequence[Mapping[str, Any]], arguments: argparse.Namespace, whole: Split
) -> None:
    """JSON and the figure beside it, of the runs that are finished."""
    summary = summarised(rows)
    write_json(
        path,
        {
            "question": "data_size",
            "data": "usgs_coast, by flight" if arguments.data else "synthetic scenes",
            "summary": summary,
            "rows": list(rows),
            "whole_split": {
                part: len(whole.part(part)) for part in ("train", "validation", "test")
            },
            "config": make_config(arguments, METHODS[0]).to_dict(),
            "environment": environment(),
        },
    )
    draw(path.with_suffix(".png"), summary, of=kind(bool(arguments.data)))


def main() -> None:
    """Run everything and write what came of it after each run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for runs; a second call goes on"
    )
    parser.add_argument("--data", type=Path, help="folder that holds usgs_coast/")
    parser.add_argument("--scenes", type=int, default=62)
    parser.add_argument("--steps", type=int, default=60, help="of each run, to the nearest epoch")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2, help="runs side by side, a thread each")
    parser.add_argument("--quick", action="store_true", help="does it run?")
    parser.add_argument("--results", type=Path, help="JSON file; OUT/data_size.json by default")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.scenes, arguments.steps, arguments.seeds = 16, 2, 1
    config = make_config(arguments, METHODS[0])
    whole = make_split(config.data, open_data(config.data), seed=0)
    embed_data(config, say=lambda line: print(line, flush=True))
    rows: list[dict[str, Any]] = []
    with concurrent.futures.ProcessPoolExecutor(
        arguments.workers, multiprocessing.get_context("spawn"), initializer=use_one_thread
    ) as pool:
        for row in pool.map(run_job, make_jobs(arguments, whole)):
            rows.append(row)
            told = f"{row['method']:13} {row['pictures']:3} pictures, seed {row['seed']}"
            print(
                f"{told}: IoU {row['test_iou']:.3f}, {row['steps']} steps, {row['seconds']} s",
                flush=True,
            )
            write_results(
                arguments.results or arguments.out / "data_size.json", rows, arguments, whole
            )


if __name__ == "__main__":
    main()
