"""Question: does a model learn past imperfect labels, and what does a noise-robust training add to that?

Method: a share of the training labels is spoiled as the real ones are (data.label_noise); validation and
        test labels stay clean, as in the Elwha protocol. For each share and seed the plain training (bce and
        dice) and the robust one start from equal weights, order and spoiled labels, on one split, for equal
        steps. IoU is the mean over pictures with water, since noise leaves the others as they are; intervals
        draw whole pictures. Spoiled training pictures are predicted too: model and label against the truth.
        The robust training is the best of TRAININGS on validation, at one share and seed (--choose).
Run:    python benchmarks/accuracy/label_noise.py --out runs/label_noise --choose
        python benchmarks/accuracy/label_noise.py --out runs/label_noise
        (--quick to try, --data FOLDER for usgs_coast instead of drawn scenes)
"""

import argparse
import concurrent.futures
import dataclasses
import multiprocessing
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from label_noise_summary import compare_all, draw, rank

from autosam.config import Config, config_from_dict
from autosam.data.label_noise import add_label_noise
from autosam.data.sources import make_split, open_data
from autosam.data.splits import read_split, write_split
from autosam.evaluation.metrics import score_mask
from autosam.files import read_json, write_json
from autosam.inference.segmenter import AutoSam
from autosam.recipes.encoding import embed_data
from autosam.recipes.environment import environment
from autosam.recipes.evaluating import evaluate_run
from autosam.recipes.training import train_run

PLAIN = "bce + dice"
TRAININGS: dict[str, dict[str, Any]] = {
    PLAIN: {"loss": {"bce": 1, "dice": 1}},
    "bootstrap + dice": {"loss": {"bootstrap": 1, "dice": 1}},
    "symmetric + dice": {"loss": {"symmetric": 1, "dice": 1}},
    "bce + dice, no banks": {"loss": {"bce": 1, "dice": 1}, "ignore_bank": 1.5},
    "symmetric + dice, no banks": {"loss": {"symmetric": 1, "dice": 1}, "ignore_bank": 1.5},
    "bootstrap + tversky": {"loss": {"bootstrap": 1, "tversky": 1}},
}
SEEDS = (10, 11, 12)
CHOOSING_SHARE, CHOOSING_SEED = 0.4, 10
"""Where --choose looks, at validation alone; its two winners need not be trained again."""
FLIGHT = r"^(\d{4})(?:[-_](\d\d)-?(\d\d))?"
"""Of usgs_coast: the date, which is written 2018-10-06 or 2018-1006."""
MOST_SPOILED = 24
"""Training pictures that a run is asked for, to end in time."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """One run: train, then judge on a part."""

    training: str
    share: float
    seed: int
    config: Config
    folder: Path
    part: str


def make_config(arguments: argparse.Namespace, *, training: str, share: float, seed: int) -> Config:
    """A small AutoSAM behind the random nano SAM, on the one split of this comparison."""
    data: dict[str, Any] = {
        "source": ["synthetic"],
        "synthetic_count": arguments.scenes,
        "synthetic_side": 256,
    }
    if arguments.data:
        data = {"source": [os.path.relpath(arguments.data / "usgs_coast")], "group_by": FLIGHT}
    manifest = arguments.out / "split.json"
    train = {"warmup_steps": 10, "patience": 0, "learning_rate": 1e-3, **TRAININGS[training]}
    if manifest.is_file():
        data["manifest"] = str(manifest)
        batches = len(read_split(manifest).train) // 4
        train["epochs"] = max(1, round(arguments.steps / batches))
    return config_from_dict(
        {
            "seed": seed,
            "data": {**data, "validation_share": 0.15, "test_share": 0.25, "label_noise": share},
            "prompt": {"network": "light", "weights": "imagenet", "side": 192},
            "train": {"batch_size": 4, **train},
            "cache": {"directory": str(arguments.out / "embeddings")},
        }
    )


def make_jobs(arguments: argparse.Namespace) -> list[Job]:
    """All runs, seed by seed, so that an early end leaves whole comparisons."""
    trainings, seeds = (PLAIN, arguments.robust), SEEDS[: arguments.seeds]
    shares = tuple(map(float, arguments.shares.split(",")))
    if arguments.choose:
        trainings, shares, seeds = tuple(TRAININGS), (CHOOSING_SHARE,), (CHOOSING_SEED,)
    jobs = []
    for seed in seeds:
        for share in shares:
            for training in trainings:
                config = make_config(arguments, training=training, share=share, seed=seed)
                name = f"{training.replace(' ', '')}--{share:g}--{seed}"
                jobs.append(
                    Job(training=training, share=share, seed=seed, config=config,
                        folder=arguments.out / name, part="validation" if arguments.choose else "test")
                )  # fmt: skip
    return jobs


def run_job(job: Job) -> dict[str, Any]:
    """The row of a run; what an earlier call has done of it is read again."""
    written = job.folder / "row.json"
    row: dict[str, Any] = read_json(written) if written.is_file() else {}
    for do, is_done in ((learn, bool(row)), (judge, job.part in row)):
        if not is_done:
            start, busy = time.perf_counter(), time.process_time()
            row |= do(job)
            row["seconds"] = row.get("seconds", 0) + time.perf_counter() - start
            row["processor_seconds"] = row.get("processor_seconds", 0) + time.process_time() - busy
            write_json(written, row)
    return row


def learn(job: Job) -> dict[str, Any]:
    """Train a run."""
    trained = train_run(job.config, job.folder, replace=True)
    shutil.rmtree(job.folder / "state")  # three times the weights, and the run is over
    return {
        "training": job.training,
        "share": job.share,
        "seed": job.seed,
        "steps": trained.steps,
        "validation_iou_with_dry": trained.validation_iou,
        "threshold": trained.decision.threshold,
    }


def judge(job: Job) -> dict[str, Any]:
    """A run's IoU on each picture with water, and how much water it sees where none is."""
    judged = evaluate_run(job.folder, split=job.part).rows
    wet = {found["name"]: found["iou"] for found in judged if found["water_share"]}
    dry = [found["false_water"] for found in judged if not found["water_share"]]
    row: dict[str, Any] = {
        job.part: wet,
        f"{job.part}_iou": float(np.mean(list(wet.values()))),
        f"{job.part}_false_water": float(np.mean(dry)) if dry else None,
    }
    if job.part == "test" and job.share > 0:
        row["spoiled"] = spoiled_scores(job)
    return row


def spoiled_scores(job: Job) -> dict[str, dict[str, Any]]:
    """IoU with the clean label: of a spoiled training label, and of the model that learnt from it."""
    model, settings = AutoSam.from_pretrained(job.folder), job.config.data
    clean = open_data(settings).samples.select(read_split(settings.manifest).train)
    noisy = add_label_noise(clean, share=settings.label_noise, seed=job.config.seed)
    scores: dict[str, dict[str, Any]] = {}
    for true, given in zip(clean, noisy, strict=True):
        if true.name in noisy.spoiled and (true.mask & true.valid_area).any():
            learnt = model.predict_image(true.image, name=true.name).mask
            scores[true.name] = {
                "kind": noisy.spoiled[true.name],
                "label": score_mask(given.mask, true.mask, valid=true.valid)["iou"],
                "model": score_mask(learnt, true.mask, valid=true.valid)["iou"],
            }
        if len(scores) == MOST_SPOILED:
            break
    return scores


def use_one_thread() -> None:
    """Two runs side by side on one core each take less time than one after the other on both."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def run_all(jobs: Sequence[Job], *, workers: int) -> Iterator[dict[str, Any]]:
    """Rows in the order of the jobs, each as soon as it is there."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(
        workers, mp_context=context, initializer=use_one_thread
    ) as pool:
        for row in pool.map(run_job, jobs):
            scores = ", ".join(f"{k} {v:.3f}" for k, v in row.items() if k.endswith("_iou"))
            print(
                f"{row['training']}, share {row['share']}, seed {row['seed']}: {scores}", flush=True
            )
            yield row


def parse_arguments() -> argparse.Namespace:
    """What was asked for, and which training is the robust one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for runs; a second call goes on"
    )
    parser.add_argument("--data", type=Path, help="folder that holds usgs_coast")
    parser.add_argument("--scenes", type=int, default=128)
    parser.add_argument("--steps", type=int, default=76, help="of each run, to the nearest epoch")
    parser.add_argument("--shares", default="0,0.2,0.4,0.6", help="of spoiled labels")
    parser.add_argument("--seeds", type=int, help="only the first so many")
    parser.add_argument(
        "--workers", type=int, default=2, help="runs side by side, of one thread each"
    )
    parser.add_argument("--choose", action="store_true", help="compare the trainings on validation")
    parser.add_argument("--quick", action="store_true", help="does it run?")
    parser.add_argument("--results", type=Path, help="JSON file; by default in OUT")
    arguments = parser.parse_args()
    choice = arguments.out / "choice.json"
    arguments.robust = "bootstrap + dice"
    if arguments.quick:
        arguments.scenes, arguments.steps = 16, 6
        arguments.shares, arguments.seeds = "0,0.4", 1
    elif not arguments.choose:
        arguments.robust = read_json(choice, what="choice, made by --choose,")["robust"]
    own = choice if arguments.choose else arguments.out / "label_noise.json"
    arguments.results = arguments.results or own
    return arguments


def main() -> None:
    """Run everything and write what came of it."""
    arguments = parse_arguments()
    start = time.perf_counter()
    config = make_config(arguments, training=PLAIN, share=0.0, seed=0)
    if not config.data.manifest:
        split = make_split(config.data, open_data(config.data), seed=0)
        write_split(arguments.out / "split.json", split)
    embed_data(config, say=print)
    rows: list[dict[str, Any]] = []
    for row in run_all(make_jobs(arguments), workers=arguments.workers):
        rows.append(row)  # written each time, so that a run that is cut off leaves what it found
        write_results(arguments.results, rows, arguments, seconds=time.perf_counter() - start)


def best_robust(ranked: Mapping[str, Any]) -> str | None:
    """The best on validation but the plain one, which may be better still; None before there is one."""
    return next((training for training in ranked if training != PLAIN), None)


def write_results(
    path: Path,
    rows: Sequence[Mapping[str, Any]],
    arguments: argparse.Namespace,
    *,
    seconds: float,
) -> None:
    """JSON, and the figure beside it."""
    config = make_config(arguments, training=PLAIN, share=0.0, seed=0).to_dict()
    config["cache"]["directory"] = config["data"]["manifest"] = ""  # paths of this machine
    summary: Any = (
        rank(rows, PLAIN) if arguments.choose else compare_all(rows, PLAIN, arguments.robust)
    )
    write_json(
        path,
        {
            "question": "label_noise",
            "rows": rows,
            "summary": summary,
            "trainings": {row["training"]: TRAININGS[row["training"]] for row in rows},
            "plain": PLAIN,
            "robust": best_robust(summary) if arguments.choose else arguments.robust,
            "seeds": sorted({row["seed"] for row in rows}),
            "seconds": round(seconds),
            "processor_seconds": round(sum(row["processor_seconds"] for row in rows)),
            "workers": arguments.workers,
            "config": config,
            "environment": environment(),
        },
    )
    if not arguments.choose:
        draw(path.with_suffix(".png"), summary)


if __name__ == "__main__":
    main()
