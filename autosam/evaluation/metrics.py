"""Masks to counts, counts to scores: of one image, of many, and how far the many can be trusted."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from autosam.errors import DataError
from autosam.evaluation.bootstrap import interval_of_mean
from autosam.evaluation.boundaries import boundary_scores

Scores: TypeAlias = dict[str, float | None]
Row: TypeAlias = Mapping[str, Any]
"""The scores of one image, perhaps with its name and more."""

METRICS = (
    "iou", "f1", "precision", "recall", "accuracy", "boundary_iou", "boundary_f1", "hd95", "false_water",
)  # fmt: skip
"""All in 0..1 and better when larger, but `hd95` (pixels) and `false_water` (0..1): better when smaller."""
COUNTS = ("tp", "fp", "fn", "tn")


def score_mask(
    predicted: np.ndarray,
    truth: np.ndarray,
    *,
    valid: np.ndarray | None = None,
    boundary_pixels: int = 2,
    boundary_share: float = 0.02,
) -> Scores:
    """Judge one mask at its own size; pixels that are not valid are cut away before everything.

    Two empty masks agree: iou, f1, precision, recall and the boundary scores are then 1. A ratio whose
    denominator alone is 0 is 0: precision when nothing was predicted of a river, recall when
    something was predicted where none is. Without any valid pixel nothing is measured and all is None.

    Args:
        predicted: (height, width) bool, True for water.
        truth: (height, width) bool, True for water.
        valid: (height, width) bool, False where the label is ignored; None when all of it counts.
        boundary_pixels: Distance that still counts as on the bank, for boundary F1.
        boundary_share: Width of the band of boundary IoU as a share of the diagonal.

    Returns:
        The `METRICS`; ``water_share``, of the truth among valid pixels; and the counts ``tp``,
        ``fp``, ``fn``, ``tn`` in pixels. ``hd95`` is None when only one mask has a bank,
        ``false_water`` (predicted share of the valid pixels) is None when the truth has water.

    Raises:
        DataError: The arrays are not bool of one shape.
    """
    valid = np.ones(truth.shape, dtype=bool) if valid is None else valid
    _check_masks(predicted=predicted, truth=truth, valid=valid)
    predicted, truth = predicted & valid, truth & valid
    tp = int(np.count_nonzero(predicted & truth))
    fp = int(np.count_nonzero(predicted)) - tp
    fn = int(np.count_nonzero(truth)) - tp
    total = int(np.count_nonzero(valid))
    counts = {"tp": tp, "fp": fp, "fn": fn, "tn": total - tp - fp - fn}
    if not total:
        return {**dict.fromkeys((*METRICS, "water_share")), **counts}
    banks = boundary_scores(
        predicted,
        truth,
        valid=valid,
        boundary_pixels=boundary_pixels,
        boundary_share=boundary_share,
    )
    false_water = None if tp + fn else fp / total
    return {
        **_overlap_scores(counts),
        **banks,
        "false_water": false_water,
        "water_share": (tp + fn) / total,
        **counts,
    }


def _check_masks(**masks: np.ndarray) -> None:
    shape = masks["truth"].shape
    for name, mask in masks.items():
        if mask.dtype != np.bool_ or mask.ndim != 2 or mask.shape != shape:
            raise DataError(
                f"{name} must be bool of the truth's shape {shape}, got {mask.dtype} {mask.shape}. "
                "Compare masks at the picture's own size, after the threshold."
            )


def _overlap_scores(counts: Mapping[str, int]) -> Scores:
    tp, fp, fn, tn = (counts[name] for name in COUNTS)
    both_empty = tp + fp + fn == 0

    def ratio(part: float, whole: float) -> float:
        return 1.0 if both_empty else part / whole if whole else 0.0

    return {
        "iou": ratio(tp, tp + fp + fn),
        "f1": ratio(2 * tp, 2 * tp + fp + fn),
        "precision": ratio(tp, tp + fp),
        "recall": ratio(tp, tp + fn),
        "accuracy": (tp + tn) / (tp + fp + fn + tn),
    }


def pooled(rows: Sequence[Row]) -> Scores:
    """Scores of all pixels of all images together, so that large images and large rivers weigh more.

    Args:
        rows: From `score_mask`.

    Returns:
        iou, f1, precision, recall, accuracy; ``false_water`` over the images whose truth is empty
        (None without such an image); ``water_share``; and the summed counts. All but the counts are
        None when no pixel was valid.
    """
    counts = {name: sum(int(row[name]) for row in rows) for name in COUNTS}
    total = sum(counts.values())
    if not total:
        names = ("iou", "f1", "precision", "recall", "accuracy", "false_water", "water_share")
        return {**dict.fromkeys(names), **counts}
    dry = [row for row in rows if row["tp"] + row["fn"] == 0]
    dry_pixels = sum(int(row["fp"] + row["tn"]) for row in dry)
    false_water = sum(int(row["fp"]) for row in dry) / dry_pixels if dry_pixels else None
    return {
        **_overlap_scores(counts),
        "false_water": false_water,
        "water_share": (counts["tp"] + counts["fn"]) / total,
        **counts,
    }


def summarise(
    rows: Sequence[Row],
    *,
    bootstrap: int,
    seed: int,
    blocks: Sequence[str] | None = None,
) -> dict[str, dict[str, float | None]]:
    """Mean over the images, its 95 % bootstrap interval, and the median, of each metric.

    Images where a metric is undefined (None) are left out of that metric.

    Args:
        rows: From `score_mask`.
        bootstrap: Number of resamples.
        seed: Of the resampling; equal seeds give equal intervals.
        blocks: One name per row: images of one block (one place) are drawn together, since they are
            not independent. None: each image by itself.

    Returns:
        Metric -> ``mean``, ``median``, ``low``, ``high`` (percentiles 2.5 and 97.5 of the mean) and
        ``count`` (images where it is defined). None where nothing is defined; ``low`` and ``high``
        are None with fewer than two blocks, which say nothing about spread.
    """
    names = [str(index) for index in range(len(rows))] if blocks is None else list(blocks)
    found = {}
    for metric in METRICS:
        kept = [
            (float(row[metric]), name)
            for row, name in zip(rows, names, strict=True)
            if row[metric] is not None
        ]
        values = np.array([value for value, _ in kept])
        low, high = interval_of_mean(
            values, [name for _, name in kept], resamples=bootstrap, seed=seed
        )
        found[metric] = {
            "mean": float(values.mean()) if kept else None,
            "median": float(np.median(values)) if kept else None,
            "low": low,
            "high": high,
            "count": len(kept),
        }
    return found


def by_group(rows: Sequence[Row], group_of: Callable[[str], str]) -> dict[str, list[Row]]:
    """Sort rows by the group of their ``name``; groups in alphabetical order, rows as they came."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(group_of(str(row["name"])), []).append(row)
    return dict(sorted(groups.items()))
