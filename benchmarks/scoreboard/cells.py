"""One cell of the scoreboard: a method, a fold and a seed, trained, judged under its prompts, and recorded.

A cell runs in a process of its own, so that its memory is its own and its end, however it comes, is a row of
the table. What it has done already is not done again.
"""

import argparse
import copy
import dataclasses
import hashlib
import json
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from autosam import AutoSam
from autosam.config import Config, config_from_dict
from autosam.data.manifests import Split, read_split, write_split
from autosam.data.sources import open_data
from autosam.embeddings.claims import Claims
from autosam.errors import MissingPathError, PromptMismatchWarning
from autosam.evaluation.result import Evaluation
from autosam.files import read_json, write_json
from autosam.inference.raster_plan import peak_memory
from autosam.recipes.environment import environment
from autosam.recipes.evaluating import evaluate_run
from autosam.recipes.prompting import PromptChoice, prompted_model
from autosam.recipes.training import starting_overrides, train_run
from benchmarks.scoreboard.judging import Predict, adapted, judge
from benchmarks.scoreboard.methods import Method
from benchmarks.scoreboard.records import RECORD_VERSION, write_record


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
    """What is to be run."""

    suite: str
    pictures: str
    """'real' or 'synthetic'."""
    fold: str
    method: Method
    seed: int
    sam: str
    values: Mapping[str, Any]
    """The suite's configuration, which the method changes."""
    steps: int
    """Optimiser steps that every method which trains is given."""

    def folder(self, out: Path) -> Path:
        """Of this cell, under the folder of all."""
        return out / self.suite / self.fold / self.method.name / f"seed-{self.seed}"

    def to_json(self) -> dict[str, Any]:
        """As the cell's own process reads it."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Cell":
        """From what `to_json` gave."""
        method = {k: tuple(v) if isinstance(v, list) else v for k, v in values["method"].items()}
        return cls(**{**values, "method": Method(**method)})


def run_cell(cell: Cell, out: Path) -> dict[str, Any]:
    """Train, judge, record. The fold's split lies at ``out/suite/fold/split.json``.

    Args:
        cell: What to run.
        out: Folder of all cells.
    """
    folder, start = cell.folder(out), (time.perf_counter(), time.process_time())
    folder.mkdir(parents=True, exist_ok=True)
    split = _own_split(cell, read_split(folder.parent.parent / "split.json"))
    write_split(folder / "split.json", split)
    config = configuration(cell, folder / "split.json", split)
    with warnings.catch_warnings():  # prompts of another kind than trained with are the point
        warnings.simplefilter("ignore", PromptMismatchWarning)
        judges, training = _trained(cell, config, folder, split)
        test = open_data(config.data).samples.select(split.test)
        judgements = [
            judge(
                predict, test, folder / "judged" / source.replace(" ", "-"),
                source=source, evaluated=evaluated,
            )
            for source, (predict, evaluated) in judges.items()
        ]  # fmt: skip
    record = {
        **_identity(cell),
        "status": "done",
        "has_seen": cell.suite in cell.method.has_seen,
        "split": split.hash,
        "data": hashlib.sha256("".join(sorted(split.hashes.values())).encode()).hexdigest(),
        "counts": {part: len(split.part(part)) for part in ("train", "validation", "test")},
        "sam": config.sam.name if cell.method.sam or cell.method.values.get("start") else None,
        "config": portable(config),
        "training": training,
        "judgements": judgements,
        "wall_seconds": round(time.perf_counter() - start[0], 1),
        "cpu_seconds": round(time.process_time() - start[1], 1),
        "peak_memory_mb": round(peak_memory() / 2**20),
        "environment": environment(),
    }
    write_record(folder, record)
    return record


def write_failure(cell: Cell, out: Path, error: str) -> dict[str, Any]:
    """A cell that did not come to its end is a row of the table too."""
    record = {**_identity(cell), "status": "failed", "error": error, "environment": environment()}
    folder = cell.folder(out)
    folder.mkdir(parents=True, exist_ok=True)
    write_record(folder, record)
    return record


def _identity(cell: Cell) -> dict[str, Any]:
    return {
        "version": RECORD_VERSION, "suite": cell.suite, "pictures": cell.pictures, "fold": cell.fold,
        "method": cell.method.name, "seed": cell.seed,
    }  # fmt: skip


def _own_split(cell: Cell, split: Split) -> Split:
    """The fold's split, with a share of its training pictures where the method says so."""
    if cell.method.share >= 1:
        return split
    ordered = sorted(
        split.train, key=lambda name: hashlib.sha256(f"{cell.seed}/{name}".encode()).digest()
    )
    kept = ordered[: max(1, round(cell.method.share * len(ordered)))]
    names = {*kept, *split.validation, *split.test}
    return dataclasses.replace(
        split,
        train=tuple(sorted(kept)),
        unused=(),
        groups={name: group for name, group in split.groups.items() if name in names},
        hashes={name: found for name, found in split.hashes.items() if name in names},
    )


def configuration(cell: Cell, manifest: Path, split: Split) -> Config:
    """The suite's settings, changed as the method says, with as many epochs as give the steps."""
    values = copy.deepcopy(dict(cell.values))
    _merge(
        values, {"seed": cell.seed, "sam": {"name": cell.sam}, "data": {"manifest": str(manifest)}}
    )
    _merge(values, cell.method.values)
    if start := cell.method.values.get("start"):
        for override in starting_overrides(start):
            key, _, text = override.partition("=")
            section, _, name = key.rpartition(".")
            _merge(
                values, {section: {name: json.loads(text)}} if section else {name: json.loads(text)}
            )
    batch = values.setdefault("train", {}).setdefault("batch_size", 4)
    batches = max(1, len(split.train) // batch)  # training leaves a short last batch out
    values["train"]["epochs"] = max(1, round(cell.steps / batches))
    return config_from_dict(values)


def _merge(values: dict[str, Any], others: Mapping[str, Any]) -> None:
    for key, value in others.items():
        if isinstance(value, Mapping) and key != "loss":
            _merge(values.setdefault(key, {}), value)
        else:
            values[key] = value


def portable(config: Config) -> dict[str, Any]:
    """The configuration without the paths of one machine."""
    values = config.to_dict()
    values["data"]["source"] = [Path(source).name for source in values["data"]["source"]]
    values["data"]["manifest"] = values["cache"]["directory"] = ""
    for section, key in (("sam", "name"), ("prompt", "weights"), ("coarse", "source")):
        values[section][key] = Path(values[section][key]).name
    return values


Judges = dict[str, tuple[Predict, Callable[[Path], Evaluation] | None]]


def _trained(
    cell: Cell, config: Config, folder: Path, split: Split
) -> tuple[Judges, dict[str, Any]]:
    """What judges under each source of prompts, and what the training was."""
    method, start = cell.method, (time.perf_counter(), time.process_time())

    def facts(**found: Any) -> dict[str, Any]:
        seconds = round(time.perf_counter() - start[0], 1)
        return {
            "seconds": seconds,
            "cpu_seconds": round(time.process_time() - start[1], 1),
            **found,
        }

    if method.shipped:
        model = AutoSam.from_pretrained(method.shipped)
        return {"learnt": (model.predict_sample, None)}, facts(steps=0, stopped="shipped")
    if method.adapter:
        samples = open_data(config.data).samples
        predict, threshold = adapted(
            method.adapter,
            samples.select(split.train),
            samples.select(split.validation),
            seed=cell.seed,
        )
        return {"none": (predict, None)}, facts(steps=0, stopped="fitted", threshold=threshold)
    run = folder / "run"
    if not (folder / "training.json").is_file():
        going_on = (run / "state").exists() and not (run / "model.safetensors").is_file()
        trained = train_run(config, run, resume=going_on, replace=not going_on, say=print)
        found = facts(
            resumed=going_on, steps=trained.steps, epochs=trained.epochs, stopped=trained.stopped,
            validation_iou=trained.validation_iou, threshold=trained.decision.threshold,
            temperature=trained.decision.temperature, prompt=trained.prompt,
        )  # fmt: skip
        write_json(folder / "training.json", found)
    judges: Judges = {}
    for source in method.sources:
        choice = _choice(source, folder)
        model = prompted_model(run, choice)

        def predict_judged(sample: Any, model: AutoSam = model) -> Any:
            return model.predict_sample(model.judged(sample))

        def evaluated(place: Path, choice: PromptChoice | None = choice) -> Evaluation:
            return evaluate_run(run, prompts=choice, output=place, say=print)

        judges[source] = (predict_judged, evaluated)
    return judges, read_json(folder / "training.json", what="facts of a training")


def _choice(source: str, folder: Path) -> PromptChoice | None:
    """How a run is prompted for one source; None for its own way."""
    if source == "own model":
        own = folder.parent.parent / "autosam" / folder.name / "run"
        if not (own / "model.safetensors").is_file():
            raise MissingPathError(
                f"'own model' must have the run of the method autosam of the same fold and seed, got none "
                f"at {own}. Run autosam too."
            )
        return PromptChoice(coarse_from=own)
    kinds = {"null": PromptChoice(kind="null"), "full box": PromptChoice(kind="full-box")}
    return PromptChoice(oracle=True) if source == "oracle" else kinds.get(source)


def main() -> None:
    """Run the cell that a file describes; a failure is recorded and told by the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("request", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    cell = Cell.from_json(read_json(arguments.request, what="description of a cell"))
    folder = cell.folder(arguments.out)
    claims = Claims(folder)
    if not claims.take("lock"):
        sys.exit(f"{folder} has another process at work on it. Wait for its end.")
    try:
        run_cell(cell, arguments.out)
    except Exception as error:
        traceback.print_exc()
        said = str(error).strip() or "it says no more; log.txt beside the cell has the traceback"
        write_failure(cell, arguments.out, f"{type(error).__name__}: {said}".splitlines()[0])
        sys.exit(1)
    finally:
        claims.release_all()


if __name__ == "__main__":
    main()
