"""The list of decisions that a person may change, and the pictures to decide by."""

import csv
import dataclasses
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from autosam.drawing import (
    IGNORED,
    PREDICTED_OUTLINE,
    WATER,
    contact_sheet,
    hatched,
    overlay,
    shrink,
)
from autosam.errors import DataError, MissingPathError, did_you_mean
from autosam.evaluation.label_decisions import CHOICES, Choice
from autosam.files import PathLike, write_text
from autosam.types import Sample

PANEL_SIDE = 420
"""Longest side in pixels: four panels side by side fill a screen."""
CHANGE_LEGEND = (("water", WATER), ("its bank", PREDICTED_OUTLINE), ("ignored", IGNORED))
"""What the colours of `change_strip` mean."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReviewRow:
    """What was decided on one label, and why."""

    name: str
    decision: Choice
    """What a person may change."""
    suggested: Choice
    """The rule's own decision."""
    agreement: float
    """IoU of label and pruned prediction, 0..1."""
    kind: str
    """The label's likely fault."""
    changed_share: float
    """Of the pixels that counted: whose label changes, or that are ignored from now on."""
    old_water_share: float
    new_water_share: float

    def to_dict(self) -> dict[str, Any]:
        """JSON values, fractions rounded to four digits."""
        values = dataclasses.asdict(self)
        return {k: round(v, 4) if isinstance(v, float) else v for k, v in values.items()}


def write_table(path: PathLike, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows of equal keys as CSV, in one step."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def read_decisions(path: PathLike, names: Sequence[str]) -> dict[str, Choice]:
    """The decision on each sample, as a person left it.

    Args:
        path: A CSV file with the columns name and decision; others do not matter.
        names: Of all samples.

    Raises:
        MissingPathError: There is no such file.
        DataError: A column, a sample or a decision is missing, unknown or there twice.
    """
    rows = _read_rows(Path(path))
    found: dict[str, Choice] = {}
    for number, row in enumerate(rows, start=2):
        name, decision = row["name"] or "", (row["decision"] or "").strip().lower()
        choice = next((choice for choice in CHOICES if choice == decision), None)
        if choice is None:
            raise DataError(
                f"decision must be keep, replace or look, got {row['decision']!r} (line {number} of {path}). "
                f"{did_you_mean(decision, CHOICES)}"
            )
        if name in found:
            raise DataError(
                f"review must name each sample once, got {name!r} twice ({path}). Remove one."
            )
        found[name] = choice
    strangers = sorted(found.keys() ^ set(names))
    if strangers:
        raise DataError(
            f"review must name the samples of the data, got {len(strangers)} that are only in one of them, "
            f"{strangers[0]!r} among them ({path}). Use the review of this data."
        )
    return found


def _read_rows(path: Path) -> list[dict[str, str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")  # a spreadsheet may put a mark in front
    except FileNotFoundError as error:
        raise MissingPathError(f"review must exist, got {path}. Check the path.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"review must be a CSV file in UTF-8, got {path} ({error}). Save it as such."
        ) from error
    first = text.splitlines()[0] if text.strip() else ""
    reader = csv.DictReader(
        io.StringIO(text), delimiter=";" if first.count(";") > first.count(",") else ","
    )
    if not {"name", "decision"} <= set(reader.fieldnames or ()):
        raise DataError(
            f"review must have the columns name and decision, got {first[:60]!r} ({path}). "
            "Keep the first line as it was."
        )
    try:
        return list(reader)
    except csv.Error as error:
        raise DataError(
            f"review must be a CSV file, got one that cannot be read from line {reader.line_num} on "
            f"({error}; {path}). Look there for a quote that is not closed."
        ) from error


def change_strip(
    sample: Sample,
    *,
    predicted: np.ndarray,
    mask: np.ndarray,
    valid: np.ndarray,
    row: ReviewRow,
) -> list[tuple[str, np.ndarray]]:
    """(title, picture) of the image, its old label, what the model says, and the new label.

    Args:
        sample: With its old label.
        predicted: (height, width) bool, the model's, pruned: what 'replace' would take.
        mask: (height, width) bool, new.
        valid: (height, width) bool, new.
        row: For the titles.
    """
    old = np.zeros(sample.size, dtype=bool) if sample.mask is None else sample.mask
    image = shrink(sample.image, PANEL_SIDE)
    before = overlay(image, shrunk(old & sample.valid_area))
    after = overlay(image, shrunk(mask & valid))
    return [
        (sample.name, image),
        ("label", hatched(before, ~shrunk(sample.valid_area))),
        (f"model, IoU {row.agreement:.2f}", overlay(image, shrunk(predicted))),
        (f"{row.decision}: {row.changed_share:.0%} differ", hatched(after, ~shrunk(valid))),
    ]


def shrunk(area: np.ndarray) -> np.ndarray:
    """A (height, width) bool area, as small as `shrink` makes its picture."""
    half: np.ndarray = shrink(area.astype(np.uint8) * 255, PANEL_SIDE) >= 128
    return half


def lay_out(
    strips: Sequence[Sequence[tuple[str, np.ndarray]]], legend: Sequence[tuple[str, Any]]
) -> np.ndarray:
    """(height, width, 3) uint8, RGB: one strip of four panels a row."""
    panels = [panel for strip in strips for panel in strip]
    return contact_sheet(
        [picture for _, picture in panels], [title for title, _ in panels], 4, legend=legend
    )
