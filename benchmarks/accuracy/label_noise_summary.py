"""What the rows of label_noise.py say: means with intervals, paired differences, and a figure."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from autosam.evaluation.bootstrap import interval_of_mean
from autosam.plotting import save_curves

Row = Mapping[str, Any]

RESAMPLES = 10_000


def mean_over_pictures(values: Sequence[tuple[str, float]]) -> dict[str, Any]:
    """Mean of (picture, value) pairs; all seeds of a picture are drawn together for the interval."""
    names, numbers = [name for name, _ in values], np.array([value for _, value in values])
    low, high = interval_of_mean(numbers, names, resamples=RESAMPLES, seed=0)
    return {"mean": float(numbers.mean()), "low": low, "high": high, "pictures": len(set(names))}


def compare_all(rows: Sequence[Row], plain: str, robust: str) -> list[dict[str, Any]]:
    """Two trainings at each share, over the seeds for which both are there."""
    by_key = {(row["share"], row["seed"], row["training"]): row for row in rows}
    pairs: dict[float, list[tuple[Row, Row]]] = {}
    for share, seed, training in sorted(by_key):
        if training == plain and (share, seed, robust) in by_key:
            pair = by_key[share, seed, plain], by_key[share, seed, robust]
            pairs.setdefault(share, []).append(pair)
    return [compare(found, share=share) for share, found in pairs.items()]


def compare(pairs: Sequence[tuple[Row, Row]], *, share: float) -> dict[str, Any]:
    """Plain and robust rows of equal seeds, on test and on the spoiled training pictures."""
    of_plain, of_robust = ([pair[side] for pair in pairs] for side in (0, 1))
    found: dict[str, Any] = {
        "share": share,
        "plain": mean_over_pictures([item for row in of_plain for item in row["test"].items()]),
        "robust": mean_over_pictures([item for row in of_robust for item in row["test"].items()]),
        "robust_minus_plain": mean_over_pictures(
            [(name, b["test"][name] - iou) for a, b in pairs for name, iou in a["test"].items()]
        ),
        "robust_minus_plain_by_seed": [b["test_iou"] - a["test_iou"] for a, b in pairs],
    }
    if share > 0:
        found["spoiled"] = compare_with_labels(of_plain, of_robust)
    return found


def compare_with_labels(plain: Sequence[Row], robust: Sequence[Row]) -> dict[str, Any]:
    """Spoiled labels and the models that learnt from them, against the truth of the same pictures."""
    found: dict[str, Any] = {}
    for name, rows in (("plain", plain), ("robust", robust)):
        scores = [(picture, s) for row in rows for picture, s in row["spoiled"].items()]
        better = [s["model"] > s["label"] for _, s in scores]
        found["label"] = mean_over_pictures([(picture, s["label"]) for picture, s in scores])
        found[name] = mean_over_pictures([(picture, s["model"]) for picture, s in scores])
        found[f"{name}_minus_label"] = mean_over_pictures(
            [(picture, s["model"] - s["label"]) for picture, s in scores]
        )
        found[f"{name}_better_than_label"] = float(np.mean(better))
    return found


def rank(rows: Sequence[Row], plain: str) -> dict[str, Any]:
    """Each training's IoU on validation, the best first, and its paired difference to the plain one."""
    of_plain = {row["seed"]: row["validation"] for row in rows if row["training"] == plain}
    found = {}
    for training in dict.fromkeys(row["training"] for row in rows):
        own = [row for row in rows if row["training"] == training]
        found[training] = {
            "iou": float(np.mean([row["validation_iou"] for row in own])),
            "by_seed": [row["validation_iou"] for row in own],
            "minus_plain": mean_over_pictures(
                [(n, v - of_plain[r["seed"]][n]) for r in own for n, v in r["validation"].items()]
            ),
        }
    return dict(sorted(found.items(), key=lambda item: -item[1]["iou"]))


def draw(path: Path, summary: Sequence[Row]) -> None:
    """IoU on test, on the spoiled training pictures, and the difference with its interval."""

    def line(*keys: str) -> list[tuple[float, float]]:
        points = []
        for found in summary:
            value: Any = found
            for key in keys:
                value = value.get(key, {}) if isinstance(value, Mapping) else value
            if isinstance(value, float):
                points.append((100 * found["share"], value))
        return points

    save_curves(
        path,
        {
            "IoU on test": {"plain": line("plain", "mean"), "robust": line("robust", "mean")},
            "robust \N{MINUS SIGN} plain": {
                "mean of pictures": line("robust_minus_plain", "mean"),
                "95 % low": line("robust_minus_plain", "low"),
                "95 % high": line("robust_minus_plain", "high"),
            },
            "IoU where the\nlabel is spoiled": {
                name: line("spoiled", name, "mean") for name in ("plain", "robust", "label")
            },
        },
        x_label="spoiled training labels (%)",
    )
