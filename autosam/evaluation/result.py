"""What an evaluation found, as values, as JSON and as a table for the console."""

import dataclasses
import datetime
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from autosam.evaluation.metrics import Row
from autosam.wording import counted

LABELS = {
    "iou": "IoU",
    "f1": "F1",
    "precision": "precision",
    "recall": "recall",
    "accuracy": "accuracy",
    "boundary_iou": "boundary IoU",
    "boundary_f1": "boundary F1",
    "hd95": "HD95 (px)",
    "false_water": "false water",
}


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """How well masks agree with the truth: of each image, of all, of each group."""

    rows: tuple[Row, ...]
    """One per image: name, group, place, mask file, size, threshold, confidence, scores and counts."""
    summary: Mapping[str, Mapping[str, float | None]]
    """Metric -> mean, median, low, high, count over the images; see `metrics.summarise`."""
    pooled: Mapping[str, float | None]
    """Scores of all pixels together; see `metrics.pooled`."""
    groups: Mapping[str, Mapping[str, Any]]
    """Group -> images, summary and pooled, as above; empty when no grouping was asked for."""
    calibration: Mapping[str, Any]
    """``ece`` (None without valid pixels) and ``reliability``, the table behind it."""
    settings: Mapping[str, Any]
    """How the scores were made: boundary widths, bootstrap, seed, and what was drawn together."""
    context: Mapping[str, Any]
    """What was judged: split, leak, model, versions; as the caller gave it."""

    @property
    def prompt(self) -> str | None:
        """Where the prompts came from, e.g. 'oracle points'; None where a network prompts itself."""
        source = self.context.get("prompt")
        return None if source in (None, "learnt") else str(source)

    def to_dict(self) -> dict[str, Any]:
        """Everything but the rows, as JSON knows it; what is undefined is None."""
        whole = {
            "images": len(self.rows),
            "context": self.context,
            "settings": self.settings,
            "summary": self.summary,
            "pooled": self.pooled,
            "groups": self.groups,
            "calibration": self.calibration,
        }
        return {key: _plain(value) for key, value in whole.items()}

    def table(self) -> str:
        """Aligned plain text: every metric, then the groups."""
        count = len(self.rows)
        prompt = "" if self.prompt is None else f", prompt: {self.prompt}"
        head = f"{counted(count, 'image')}{prompt}"
        parts = [f"{head}\n{self._metric_table()}"]
        if self.groups:
            parts.append(self._group_table())
        return "\n\n".join(parts)

    def _metric_table(self) -> str:
        lines = [("metric", "mean", "95 % interval", "median", "pooled", "images")]
        for metric, label in LABELS.items():
            found = self.summary[metric]
            lines.append(
                (
                    label,
                    _number(found["mean"]),
                    _interval(found),
                    _number(found["median"]),
                    _number(self.pooled.get(metric)),
                    str(found["count"]),
                )
            )
        lines.append(("calibration error", "", "", "", _number(self.calibration["ece"]), ""))
        return _aligned(lines)

    def _group_table(self) -> str:
        lines = [
            ("group", "images", "IoU", "95 % interval", "median", "pooled", "boundary IoU", "false water")
        ]  # fmt: skip
        for name, group in self.groups.items():
            found = group["summary"]
            lines.append(
                (
                    name,
                    str(group["images"]),
                    _number(found["iou"]["mean"]),
                    _interval(found["iou"]),
                    _number(found["iou"]["median"]),
                    _number(group["pooled"]["iou"]),
                    _number(found["boundary_iou"]["mean"]),
                    _number(found["false_water"]["mean"]),
                )
            )
        return _aligned(lines)


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if value < 10 else f"{value:.1f}"


def _interval(found: Mapping[str, float | None]) -> str:
    if found["low"] is None:
        return "-"
    return f"{_number(found['low'])} to {_number(found['high'])}"


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    """Words to the left, numbers to the right, a rule below the head."""
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    shown = [
        "  ".join(
            [line[0].ljust(widths[0])]
            + [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        ).rstrip()
        for line in lines
    ]
    return "\n".join([shown[0], "-" * (sum(widths) + 2 * len(widths) - 2), *shown[1:]])


def _plain(value: Any) -> Any:
    """Values as JSON has them: no NaN, no infinity, no numpy, no tuples, no paths."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Path | datetime.date):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain(dataclasses.asdict(value))
    return value
