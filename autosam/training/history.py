"""What is written down after each epoch: JSON lines, CSV, curves, and the times in a file of their own.

Times differ between equal runs; everything else is equal to the bit, so ``history.jsonl`` and
``history.csv`` of a run that was killed and resumed are those of one that never was.
"""

import csv
import io
import json
import math
import time
from collections.abc import Mapping
from pathlib import Path

from autosam.drawing import save_curves
from autosam.errors import TrainingError
from autosam.files import write_text

Row = dict[str, float | int | None]

_SECONDS_BETWEEN_CURVES = 20.0
"""Drawing takes a quarter of a second, which short epochs should not pay each time."""


class History:
    """The rows of one run, and the files made from them, each rewritten whole so none is ever half.

    Args:
        directory: Where ``history.jsonl``, ``history.csv``, ``times.jsonl`` and ``curves.png`` go.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.rows: list[Row] = []
        self.times: list[Row] = []
        self._drawn_at = time.monotonic()

    def resume(self, length: int) -> None:
        """Read what an earlier process wrote, and keep the rows that its state knows of.

        Raises:
            TrainingError: There are fewer rows than that.
        """
        rows = _read_lines(self.directory / "history.jsonl")
        if len(rows) < length:
            raise TrainingError(
                f"history.jsonl must hold the {length} rows of the state, got {len(rows)} "
                f"({self.directory}). Put the file back, or start in another folder."
            )
        self.rows = rows[:length]
        self.times = _read_lines(self.directory / "times.jsonl")[:length]
        self.write()

    def append(self, row: Mapping[str, float | int], times: Mapping[str, float | int]) -> None:
        """Add one validation's row; what is not finite becomes null."""
        self.rows.append({key: _finite(value) for key, value in row.items()})
        self.times.append({key: _finite(value) for key, value in times.items()})
        self.write()
        if time.monotonic() - self._drawn_at > _SECONDS_BETWEEN_CURVES:
            self.draw()

    def write(self) -> None:
        """Write the rows as JSON lines and as CSV."""
        write_text(self.directory / "history.jsonl", _json_lines(self.rows))
        write_text(self.directory / "times.jsonl", _json_lines(self.times))
        write_text(self.directory / "history.csv", _csv(self.rows))

    def draw(self) -> None:
        """Plot losses, validation scores and learning rate over the epochs as ``curves.png``."""
        panels: dict[str, dict[str, list[tuple[float, float]]]] = {
            "training loss": {}, "validation": {}, "learning rate": {},
        }  # fmt: skip
        for row in self.rows:
            for key, value in row.items():
                panel = _panel(key)
                if panel is not None and value is not None:
                    name = key.removeprefix("loss_").removeprefix("validation_")
                    points = panels[panel].setdefault(name, [])
                    points.append((float(row["epoch"] or 0), float(value)))
        save_curves(self.directory / "curves.png", panels)
        self._drawn_at = time.monotonic()


def _panel(key: str) -> str | None:
    if key == "loss" or key.startswith("loss_"):
        return "training loss"
    if key.startswith("validation_"):
        return "validation"
    return "learning rate" if key.startswith("learning_rate") else None


def _finite(value: float | int) -> float | int | None:
    return value if math.isfinite(value) else None


def _json_lines(rows: list[Row]) -> str:
    return "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows)


def _csv(rows: list[Row]) -> str:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def _read_lines(path: Path) -> list[Row]:
    if not path.is_file():
        return []
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise TrainingError(
            f"{path.name} must be JSON lines, got damage ({error}). Start in another folder."
        ) from error
