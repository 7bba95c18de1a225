"""All cells of a suite, one process after the other, gathered into one result."""

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from autosam.config import flattened
from autosam.data.manifests import Split, read_split, write_split
from autosam.data.sources import open_data
from autosam.errors import ConfigError, DataError
from autosam.files import read_json, write_json
from autosam.recipes.environment import environment
from benchmarks.scoreboard.cells import Cell, write_failure
from benchmarks.scoreboard.methods import Method
from benchmarks.scoreboard.records import FILE, RESULT_VERSION, SCORES, check_record, read_record
from benchmarks.scoreboard.strata import strata
from benchmarks.scoreboard.suites import Suite

REQUEST = "request.json"
_NO_SETTINGS = (
    "values.data.source",
    "values.cache",
    "method.studies",
    "method.has_seen",
    "pictures",
)
Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Budget:
    """What every method is given alike."""

    steps: int = 400
    batch: int = 4
    side: int = 256
    """Of the prompt network's input, and of the networks without a SAM."""
    seeds: int = 3
    weights: str = "imagenet"
    """Where backbones start that a method does not say otherwise of."""
    minutes: float = 60.0
    """After which a cell has failed."""

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("batch", 1), ("side", 32), ("seeds", 1)):
            if getattr(self, name) < least:
                raise ConfigError(
                    f"--{name} must be {least} or more, got {getattr(self, name)}. Leave it out for the "
                    "default."
                )
        if not self.minutes > 0:
            raise ConfigError(f"--minutes must be above 0, got {self.minutes:g}. Try 60.")


def cells_of(suite: Suite, methods: Sequence[Method], budget: Budget, out: Path) -> Iterator[Cell]:
    """Seed by seed, so that whatever time is left, every method has had a turn."""
    data = {
        key: value for key, value in dataclasses.asdict(suite.data).items() if key != "manifest"
    }
    values = {
        "data": {**data, "source": list(suite.data.source)},
        "prompt": {"network": "light", "weights": budget.weights, "side": budget.side},
        "train": {
            "batch_size": budget.batch, "patience": 0, "learning_rate": 1e-3,
            "decoder_learning_rate": 3e-4, "warmup_steps": min(20, budget.steps // 5), "jitter": 0.4,
        },
        "cache": {"directory": str(out / "embeddings")},
    }  # fmt: skip
    for seed in range(budget.seeds):
        for fold in suite.folds:
            for method in methods:
                yield Cell(
                    suite=suite.name, pictures=suite.pictures, fold=fold.name, method=method,
                    seed=seed, sam=suite.sam, values=values, steps=budget.steps,
                )  # fmt: skip


def prepare(suite: Suite, out: Path, *, resume: bool) -> None:
    """Write each fold's split; refuse a folder whose splits are others, or that was not to be gone on with.

    Raises:
        ConfigError: The folder holds cells of another division, or cells though nothing is to be resumed.
    """
    for fold in suite.folds:
        path = out / suite.name / fold.name / "split.json"
        if path.is_file() and not resume:
            raise ConfigError(
                f"--out must be new, got {out}, which holds cells of the suite {suite.name!r}. "
                "Go on with them with --resume, or choose another folder."
            )
        if path.is_file() and _division(read_split(path)) != _division(fold.split):
            raise ConfigError(
                f"--resume must go on with the same pictures and division, got others in {path}. "
                "Choose another --out."
            )
        write_split(path, fold.split)


def _division(split: Split) -> tuple[object, ...]:
    parts = (sorted(split.part(part)) for part in ("train", "validation", "test"))
    return (*parts, dict(split.hashes))


def check_settings(cells: Sequence[Cell], out: Path) -> None:
    """Refuse to keep what was run with another budget, SAM or method under the same name.

    Raises:
        ConfigError: A cell that has come to its end was run with other settings.
    """
    for cell in cells:
        folder = cell.folder(out)
        record = read_record(folder)
        if record is None or record["status"] != "done" or not (folder / REQUEST).is_file():
            continue
        before = _settings(read_json(folder / REQUEST, what="description of a cell"))
        now = _settings(json.loads(json.dumps(cell.to_json())))
        for name in sorted(before.keys() | now.keys()):
            if before.get(name) != now.get(name):
                raise ConfigError(
                    f"--resume must go on with the same settings, got {name} {now.get(name)!r} for "
                    f"{before.get(name)!r} in {folder}. Choose another --out."
                )


def _settings(request: Mapping[str, Any]) -> dict[str, Any]:
    """What decides a cell's scores, by dotted name; where files lie does not."""
    return {
        name: value
        for name, value in flattened(request).items()
        if not name.startswith(_NO_SETTINGS)
    }


def check_results(path: Path, suite: Suite, cells: Sequence[Cell]) -> None:
    """Refuse to write over a file that is not the scoreboard's, or over rows that would be lost.

    Raises:
        ConfigError: It is one of these.
    """
    if not path.exists():
        return
    try:
        result = read_json(path, what="result")
        kept = {(cell["fold"], cell["method"], cell["seed"]) for cell in result["cells"]}
        ours = result["question"] == "scoreboard" and result["suite"] == suite.name
    except (DataError, OSError, KeyError, TypeError):
        kept, ours = set(), False
    if not ours:
        raise ConfigError(
            f"--results must be new or of the same suite, got {path}, which is something else. Choose "
            "another file."
        )
    lost = sorted({row[1] for row in kept - {(c.fold, c.method.name, c.seed) for c in cells}})
    if lost:
        raise ConfigError(
            f"--results must keep its rows, got {path}, which holds {lost[0]!r} beyond what is wanted now. "
            "Name those methods and seeds too, or choose another file."
        )


def run_all(cells: Sequence[Cell], out: Path, budget: Budget, *, say: Say = print) -> None:
    """Run what has not come to its end; a cell that fails is recorded, and the next one follows."""
    for number, cell in enumerate(cells, 1):
        name = f"[{number}/{len(cells)}] {cell.fold}  {cell.method.name}  seed {cell.seed}"
        done = read_record(cell.folder(out))
        if done is not None and done["status"] == "done":
            say(f"{name}: kept")
            continue
        say(f"{name}: {_outcome(_in_own_process(cell, out, minutes=budget.minutes))}")


def _outcome(record: Mapping[str, Any]) -> str:
    if record["status"] == "failed":
        return f"FAILED, {record['error']}"
    scores = []
    for judgement in record["judgements"]:
        wet = [row["iou"] for row in judgement["rows"] if row["water_share"]]
        mean = f"{sum(wet) / len(wet):.3f}" if wet else "-"
        source = "ORACLE" if judgement["is_oracle"] else judgement["source"]
        scores.append(mean if source in ("learnt", "none") else f"{source} {mean}")
    return f"IoU {', '.join(scores)}; {record['wall_seconds']:.0f} s"


def _in_own_process(cell: Cell, out: Path, *, minutes: float) -> dict[str, Any]:
    folder = cell.folder(out)
    write_json(folder / REQUEST, cell.to_json())
    (folder / FILE).unlink(missing_ok=True)  # of an earlier failure, which this one may not be
    command = [
        sys.executable, "-m", "benchmarks.scoreboard.cells", str(folder / REQUEST), str(out),
    ]  # fmt: skip
    with (folder / "log.txt").open("w") as log:
        try:
            code = subprocess.run(
                command, stdout=log, stderr=log, timeout=60 * minutes, check=False
            ).returncode
        except subprocess.TimeoutExpired:
            return write_failure(cell, out, f"took longer than {minutes:g} minutes")
    record = read_record(folder)
    if record is None or (code and record["status"] == "done"):
        return write_failure(cell, out, f"its process ended with {code}; see log.txt")
    return record


def strata_of_test(suite: Suite) -> dict[str, dict[str, str]]:
    """What kind of picture each test picture of any fold is; every one is read."""
    test = dict.fromkeys(name for fold in suite.folds for name in fold.split.test)
    return strata(open_data(suite.data).samples.select(test))


def gather(
    suite: Suite,
    cells: Sequence[Cell],
    out: Path,
    budget: Budget,
    kinds: Mapping[str, Mapping[str, str]],
) -> dict[str, Any]:
    """One result of all cells that were begun, as it is committed; every row is kept.

    Args:
        suite: What was run.
        cells: All that were wanted.
        out: Folder of all cells.
        budget: Of every cell.
        kinds: From `strata_of_test`.
    """
    records = [record for cell in cells if (record := read_record(cell.folder(out))) is not None]
    return {
        "question": "scoreboard",
        "version": RESULT_VERSION,
        "suite": suite.name,
        "pictures": suite.pictures,
        "note": suite.note,
        "sam": suite.sam if suite.sam in ("nano", "river-nano", "base") else Path(suite.sam).name,
        "budget": dataclasses.asdict(budget),
        "wanted": len(cells),
        "blocks": {name: suite.block_of(name) for name in kinds},
        "strata": {name: dict(kind) for name, kind in kinds.items()},
        "score_names": list(SCORES),
        "cells": [compact(record) for record in records],
        "environment": environment(),
    }


def compact(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record whose pictures are rows of numbers, in the order of `score_names`."""
    check_record(record)
    if record["status"] == "failed":
        return dict(record)
    judgements = [
        {
            **{key: value for key, value in judgement.items() if key != "rows"},
            "rows": {row["name"]: [row[score] for score in SCORES] for row in judgement["rows"]},
        }
        for judgement in record["judgements"]
    ]
    return {**record, "judgements": judgements}
