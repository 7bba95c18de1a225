"""From the rows of cells to lines of a table: means with intervals over sites, and differences of pairs."""

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from autosam.evaluation.bootstrap import interval_of_mean

RESAMPLES = 2000
MOST_SIGNS = 4096
"""Sign patterns of the permutation test: all of them where there are no more, otherwise so many drawn."""
WATERLESS = ("false_water",)
"""Scores of pictures without water; all others are of pictures with water, where an IoU is not 0 or 1."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
    """A method under one source of prompts."""

    method: str
    source: str
    is_oracle: bool
    has_seen: bool
    scores: Mapping[str, Mapping[str, float]]
    """Picture -> score -> mean over the seeds that judged it."""
    by_seed: Mapping[int, float]
    """Seed -> mean IoU of pictures with water."""
    costs: Mapping[str, float | None]
    """Means over cells: steps, seconds, cpu_seconds, peak_memory_mb, milliseconds; and ece."""
    done: int
    failed: int
    """Cells."""

    @property
    def label(self) -> str:
        """As tables and plots show it."""
        if self.source in ("learnt", "none") or set(self.source.split()) <= set(
            self.method.split("-")
        ):
            return self.method
        return f"{self.method}, {'*oracle*' if self.is_oracle else self.source}"

    def values(self, score: str) -> dict[str, float]:
        """Picture -> value, of the pictures that the score is about."""
        return {
            name: scores[score]
            for name, scores in self.scores.items()
            if scores.get(score) is not None
            and (score in WATERLESS or scores.get("water_share", 0) > 0)
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Summary:
    """One score of a line."""

    mean: float | None
    median: float | None
    low: float | None
    high: float | None
    count: int
    blocks: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Difference:
    """Of two lines on the pictures that both were judged on."""

    mean: float
    low: float | None
    high: float | None
    p: float | None
    """Of a sign-flip permutation test over sites; None with fewer than 5, where it cannot reach .05."""
    blocks: int
    pictures: int


def lines_of(result: Mapping[str, Any]) -> list[Line]:
    """Every method and source of a result, in the order in which they were run; failures are counted."""
    names, found = result["score_names"], {}
    failed: dict[str, int] = {}
    for cell in result["cells"]:
        if cell["status"] == "failed":
            failed[cell["method"]] = failed.get(cell["method"], 0) + 1
            found.setdefault((cell["method"], None), [])
            continue
        for judgement in cell["judgements"]:
            found.setdefault((cell["method"], judgement["source"]), []).append((cell, judgement))
    lines = []
    for (method, source), pairs in found.items():
        if source is None and any(other == method and s is not None for other, s in found):
            continue  # its failures are counted in the lines that it has
        lines.append(_line(method, source or "none", pairs, names, failed.get(method, 0)))
    return lines


def _line(
    method: str, source: str, pairs: Sequence[Any], names: Sequence[str], failed: int
) -> Line:
    rows: dict[str, list[list[float | None]]] = {}
    by_seed: dict[int, list[float]] = {}
    iou, share = names.index("iou"), names.index("water_share")
    for cell, judgement in pairs:
        for name, row in judgement["rows"].items():
            rows.setdefault(name, []).append(row)
            if row[share]:
                by_seed.setdefault(cell["seed"], []).append(row[iou])
    scores = {
        name: {
            score: float(np.mean(kept))
            for index, score in enumerate(names)
            if (kept := [row[index] for row in several if row[index] is not None])
        }
        for name, several in rows.items()
    }
    costs: dict[str, float | None] = {
        key: _mean([get(cell, judgement) for cell, judgement in pairs])
        for key, get in _COSTS.items()
    }
    return Line(
        method=method, source=source, is_oracle=source == "oracle",
        has_seen=any(cell["has_seen"] for cell, _ in pairs), scores=scores,
        by_seed={seed: float(np.mean(some)) for seed, some in sorted(by_seed.items())}, costs=costs,
        done=len(pairs), failed=failed,
    )  # fmt: skip


def _whole(cell: Mapping[str, Any], cost: float | None) -> float | None:
    """None for a cell that was killed and gone on with: what it took before is not known."""
    return None if cell["training"].get("resumed") else cost


_COSTS: Mapping[str, Callable[[Any, Any], float | None]] = {
    "steps": lambda cell, judgement: cell["training"].get("steps"),
    "seconds": lambda cell, judgement: _whole(cell, cell["training"].get("seconds")),
    "cpu_seconds": lambda cell, judgement: _whole(cell, cell["training"].get("cpu_seconds")),
    "peak_memory_mb": lambda cell, judgement: _whole(cell, cell["peak_memory_mb"]),
    "milliseconds": lambda cell, judgement: judgement["milliseconds"],
    "ece": lambda cell, judgement: judgement["ece"],
}


def _mean(values: Sequence[float | None]) -> float | None:
    kept = [value for value in values if value is not None]
    return float(np.mean(kept)) if kept else None


def summary(
    line: Line, score: str, blocks: Mapping[str, str], *, only: Callable[[str], bool] | None = None
) -> Summary:
    """Mean, median and interval of a score; whole sites are drawn in the bootstrap.

    Args:
        line: Whose pictures.
        score: One of the result's `score_names`.
        blocks: Picture -> site.
        only: Which pictures; None for all that the score is about.
    """
    kept = {n: v for n, v in line.values(score).items() if only is None or only(n)}
    if not kept:
        return Summary(mean=None, median=None, low=None, high=None, count=0, blocks=0)
    values, owner = np.array(list(kept.values())), [blocks[name] for name in kept]
    low, high = interval_of_mean(values, owner, resamples=RESAMPLES, seed=0)
    return Summary(
        mean=float(values.mean()), median=float(np.median(values)), low=low, high=high,
        count=len(values), blocks=len(set(owner)),
    )  # fmt: skip


def difference(first: Line, second: Line, score: str, blocks: Mapping[str, str]) -> Difference:
    """First minus second, paired by picture; interval and test draw whole sites.

    Raises:
        ValueError: No picture was judged by both.
    """
    ours, theirs = first.values(score), second.values(score)
    both = [name for name in ours if name in theirs]
    if not both:
        raise ValueError(f"no picture has {score} of both {first.label} and {second.label}")
    gains = np.array([ours[name] - theirs[name] for name in both])
    owner = [blocks[name] for name in both]
    low, high = interval_of_mean(gains, owner, resamples=RESAMPLES, seed=0)
    return Difference(
        mean=float(gains.mean()), low=low, high=high, p=sign_flip_p(gains, owner),
        blocks=len(set(owner)), pictures=len(both),
    )  # fmt: skip


def sign_flip_p(gains: np.ndarray, owner: Sequence[str]) -> float | None:
    """Two-sided p of the mean gain when the sign of each whole block is arbitrary.

    Exact up to 12 blocks, otherwise from drawn signs with the observed one among them.

    Source:
        Good 2005, Permutation, Parametric and Bootstrap Tests of Hypotheses, chapter 3.
    """
    _, index = np.unique(np.array(owner, dtype=str), return_inverse=True)
    count = int(index.max()) + 1
    if count < 5:
        return None
    sums = np.bincount(index, weights=gains)
    if 2**count <= MOST_SIGNS:
        signs = np.array(list(itertools.product((1, -1), repeat=count)))
    else:
        signs = np.random.default_rng(0).choice((1, -1), size=(MOST_SIGNS, count))
        signs[0] = 1
    totals = np.abs(signs @ sums)
    return float((totals >= abs(sums.sum()) - 1e-12).mean())
