"""Question: does the label doctor find labels that were spoiled, and does a relabel round mend them?

Spoils a share of the labels of synthetic scenes (or of a folder of real ones) as the real Elwha labels
are: banks under-filled, channels missing, coarse polygons. The doctor ranks all labels without knowing
which. Then the labels are relabelled, and old labels, new labels and predictions are compared with the
labels before they were spoiled. With --unseen they are the real pictures with water that no stage of
river-nano saw, so that it can begin with river-nano's weights; sites stay together.

Run:    python -m benchmarks.accuracy.label_doctor --out runs/label_doctor [--data FOLDER] [--from RUN]
        python -m benchmarks.accuracy.label_doctor --out runs/label_doctor --unseen FOLDER --from river-nano
"""

import argparse
import dataclasses
import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.metrics import average_precision_score

from autosam.config import Config
from autosam.data.folders import FolderDataset
from autosam.data.label_noise import NOISE_KINDS, add_label_noise
from autosam.data.sources import SampleCollection, open_data
from autosam.data.synthetic import SyntheticDataset
from autosam.evaluation.label_faults import FAULT_KINDS
from autosam.files import write_json
from autosam.overlap import mask_iou
from autosam.recipes.cross_fit_folder import open_cross_fit
from autosam.recipes.environment import environment
from autosam.recipes.label_doctor import LabelReport, doctor_config, examine_labels
from autosam.recipes.relabelling import relabel
from autosam.types import Sample
from benchmarks.scoreboard.cells import portable
from benchmarks.scoreboard.sites import site_of
from benchmarks.scoreboard.suites import SuiteChoice, open_suite

CLEAN = "clean"
SITE = "^(.+?)__"
"""In the names of `unseen_pictures`."""


def unseen_pictures(data: Path, scratch: Path) -> list[Sample]:
    """Real pictures with water that river-nano never saw, as SITE__NAME."""
    suite = open_suite(SuiteChoice(name="river-nano", data=data, scratch=scratch))
    samples = open_data(suite.data).samples.select(suite.folds[0].split.test)
    return [
        dataclasses.replace(sample, name=f"{site_of(sample.name)}__{sample.name.split('/')[-1]}")
        for sample in samples
        if sample.mask is not None and (sample.mask & sample.valid_area).any()
    ]


def plant(
    samples, folder: Path, *, share: float, seed: int
) -> tuple[dict[str, str], dict[str, Sample]]:
    """Write the samples with spoiled labels; what was done to each, and the samples as they were."""
    noisy = add_label_noise(samples, share=share, seed=seed)
    planted, before = {}, {}
    for kind in ("images", "masks", "valid"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for sample, spoiled in zip(samples, noisy, strict=True):
        name = sample.name
        changed = bool(((sample.mask != spoiled.mask) & sample.valid_area).any())
        # A dry scene has no label to spoil.
        planted[name] = noisy.spoiled.get(name, CLEAN) if changed else CLEAN
        before[name] = sample
        Image.fromarray(sample.image).save(folder / "images" / f"{name}.png")
        Image.fromarray(spoiled.mask).save(folder / "masks" / f"{name}.png")
        Image.fromarray(sample.valid_area).save(folder / "valid" / f"{name}.png")
    return planted, before


def judge_ranking(report: LabelReport, planted: dict[str, str]) -> dict:
    """Average precision beside chance, recall of each kind, and what was named for what was planted."""
    rankings = {
        "suspicion": [finding.suspicion for finding in report.findings],
        "loss": [finding.loss for finding in report.findings],
        "one_minus_iou": [1 - finding.iou for finding in report.findings],
    }
    is_planted = [planted[finding.name] != CLEAN for finding in report.findings]
    count = sum(is_planted)
    first = Counter(planted[finding.name] for finding in report.findings[:count])
    total = Counter(planted.values())
    named = {
        kind: Counter(f.fault.kind for f in report.findings if planted[f.name] == kind)
        for kind in (*NOISE_KINDS, CLEAN)
    }
    return {
        "labels": len(planted),
        "planted": count,
        "average_precision": {
            by: float(average_precision_score(is_planted, scores))
            for by, scores in rankings.items()
        },
        "chance": count / len(planted),
        "recall_at_planted": {k: first[k] / total[k] for k in NOISE_KINDS if total[k]},
        "named": {kind: {k: found[k] for k in FAULT_KINDS} for kind, found in named.items()},
        "agreement": report.agreement,
    }


def judge_relabelling(
    fits: Path, data: Path, output: Path, *, planted: dict[str, str], before: dict[str, Sample]
) -> dict:
    """IoU with the labels before they were spoiled: of old labels, new labels and predictions."""
    link = output.with_name(f"{output.name}.cross_fitting")
    if not link.exists():
        link.symlink_to(fits.resolve())
    made = relabel(fits, str(data), output)
    old, new = FolderDataset(data), FolderDataset(output)
    cross = open_cross_fit(fits, _collection(old))
    rows = []
    for spoiled, mended, row in zip(old, new, made.rows, strict=True):
        truth, valid = before[spoiled.name].mask, before[spoiled.name].valid_area
        predicted = cross.probability(spoiled.name) >= cross.threshold(spoiled.name)
        rows.append(
            {
                "planted": planted[spoiled.name] != CLEAN,
                "decision": row.decision,
                "old": mask_iou(spoiled.mask, truth, valid=valid),
                "old_where_kept": mask_iou(spoiled.mask, truth, valid=valid & mended.valid_area),
                "new": mask_iou(mended.mask, truth, valid=valid & mended.valid_area),
                "model": mask_iou(predicted, truth, valid=valid),
                "ignored": 1 - mended.valid_area[valid].mean() if valid.any() else 0.0,
            }
        )
    return {
        "all": _means(rows),
        "planted": _means([row for row in rows if row["planted"]]),
        "clean": _means([row for row in rows if not row["planted"]]),
    }


def _collection(dataset: FolderDataset):
    where = {name: index for index, name in enumerate(dataset.names)}
    return SampleCollection(lambda name: dataset[where[name]], dataset.names)


def _means(rows: list[dict]) -> dict:
    if not rows:
        return {"labels": 0}
    keys = ("old", "old_where_kept", "new", "model", "ignored")
    replaced = [row for row in rows if row["decision"] == "replace"]
    return {
        "labels": len(rows),
        "decisions": dict(Counter(row["decision"] for row in rows)),
        **{key: float(np.mean([row[key] for row in rows])) for key in keys},
        "model_better_than_label": float(np.mean([row["model"] > row["old"] for row in rows])),
        "replaced_for_the_better": float(np.mean([row["new"] > row["old"] for row in replaced]))
        if replaced
        else None,
    }


def run_once(samples, config: Config, folder: Path, *, share: float, seed: int) -> dict:
    """One seed at one share."""
    start, data = time.perf_counter(), Path(config.data.source[0])
    planted, before = plant(samples, data, share=share, seed=seed)
    report = examine_labels(config, folder / "report", say=print)
    fits = folder / "report" / "cross_fitting"
    return {
        "share": share,
        "seed": seed,
        "doctor": judge_ranking(report, planted),
        "relabelling": judge_relabelling(
            fits, data, folder / "data2", planted=planted, before=before
        ),
        "seconds": round(time.perf_counter() - start),
    }


def main() -> None:
    """Run every share and seed and write what came of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for data and runs; goes on")
    parser.add_argument("--data", type=Path, help="folder dataset in the place of synthetic scenes")
    parser.add_argument("--unseen", type=Path, help="folder of the real pictures, as of the suites")
    parser.add_argument("--group-by", default="", help="regular expression on its names")
    parser.add_argument("--shares", default="0.2,0.4")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--scenes", type=int, default=60)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument(
        "--from",
        dest="start",
        default="nothing",
        help="as for autosam labels; it must not have seen DATA",
    )
    parser.add_argument(
        "--set", action="append", default=[], help="settings, as for autosam labels"
    )
    parser.add_argument("--quick", action="store_true", help="a few small scenes, to see it run")
    parser.add_argument("--results", type=Path, help="JSON file; OUT/label_doctor.json by default")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.shares, arguments.seeds, arguments.scenes, arguments.side = "0.4", "0", 9, 96
        arguments.set += ["train.epochs=2", "train.views=1"]
    settings = [*arguments.set, f"cache.directory={arguments.out / 'embeddings'}"]
    if arguments.unseen:
        arguments.group_by = SITE
    quoted = "'" + arguments.group_by.replace("'", "''") + "'"  # YAML keeps backslashes so
    rows: list[dict] = []
    opened: Sequence[Sample] = ()
    if arguments.unseen:
        opened = unseen_pictures(arguments.unseen, arguments.out)
    elif arguments.data:
        opened = FolderDataset(arguments.data)
    for seed in map(int, arguments.seeds.split(",")):
        for share in map(float, arguments.shares.split(",")):
            folder = arguments.out / f"share-{share}-seed-{seed}"
            config = doctor_config(
                str(folder / "data"),
                None,
                [*settings, f"data.group_by={quoted}"],
                start=arguments.start,
            )
            samples = opened or SyntheticDataset(arguments.scenes, side=arguments.side, seed=seed)
            rows.append(run_once(samples, config, folder, share=share, seed=seed))
            drawn = "real pictures that river-nano never saw" if arguments.unseen else "synthetic"
            result = {"question": "label_doctor"}
            result |= {"data": arguments.data.name if arguments.data else drawn}
            result |= {"start": arguments.start, "rows": rows}
            result |= {"config": portable(config), "environment": environment()}
            write_json(arguments.results or arguments.out / "label_doctor.json", result)
            print(json.dumps(rows[-1], indent=1))


if __name__ == "__main__":
    main()
