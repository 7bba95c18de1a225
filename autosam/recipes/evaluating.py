"""Judge a run: its own test part, or pictures from elsewhere."""

import dataclasses
import datetime
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from autosam.config import DataSettings
from autosam.data.sources import SampleCollection, open_data
from autosam.data.splits import check_split, group_names, leak_report, read_split
from autosam.errors import ConfigError, DataError, MissingPathError, did_you_mean
from autosam.evaluation.report import check_evaluation_folder, evaluate
from autosam.evaluation.result import Evaluation
from autosam.files import PathLike, read_json, write_json
from autosam.inference.segmenter import AutoSam
from autosam.models.autosam import PromptedSam
from autosam.recipes.click_curves import click_curve
from autosam.recipes.coarse_sources import flattery, seen_before
from autosam.recipes.environment import environment
from autosam.recipes.prompting import PromptChoice, prompted_model
from autosam.recipes.run_folders import check_apart
from autosam.types import Prediction, Sample
from autosam.wording import counted

_PARTS = ("train", "validation", "test")


def evaluate_run(
    run: PathLike,
    *,
    split: str = "test",
    output: PathLike | None = None,
    data: Sequence[str] = (),
    group_by: str = "",
    prompts: PromptChoice | None = None,
    clicks: int = 0,
    device: str | None = None,
    token: str | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Evaluation:
    """Score a run's masks at native size and write tables, plots and masks.

    Args:
        run: Folder of a finished run.
        split: 'train', 'validation' or 'test'. Every opening of the test part is written down.
        output: Folder; ``RUN/evaluation/<split>`` by default.
        data: Folders with labelled pictures to judge on instead, for another place than the run's.
        group_by: Regular expression on the names; scores are also given per group.
        prompts: Other prompts than the run's own.
        clicks: Also correct each mask by up to this many clicks of a simulated person (an oracle).
        device: As for `AutoSam`.
        token: For a private dataset.
        say: Told which part is judged, how it may leak, and how often the test was opened.

    Raises:
        ConfigError: The part is unknown.
        MissingPathError: The run has no checkpoint or no split.
        SplitError: The data is no longer what the run was made from.
    """
    run = Path(run)
    if split not in _PARTS:
        raise ConfigError(f"--split must be a part, got {split!r}. {did_you_mean(split, _PARTS)}")
    model = prompted_model(run, prompts, device=device, token=token)
    if clicks and not isinstance(model.network, PromptedSam):
        raise ConfigError(
            f"--clicks must be for a method with a SAM, got {model.config.method!r}. Leave it out."
        )
    name = _part_name(split if not data else "elsewhere", prompts, oracle=model.uses_truth)
    if data:
        samples = open_data(DataSettings(source=tuple(data)), bands=model.bands).samples
        context: dict[str, Any] = {"part": "elsewhere", "sources": list(data)}
        directory = Path(output or run / "evaluation" / name)
        say(f"Judging on {counted(len(samples), 'labelled picture')} of {', '.join(data)}.")
    else:
        samples, context = _part_of_run(run, model, split, token)
        directory = Path(output or run / "evaluation" / name)
        say(f"Judging on the {split} part: {counted(len(samples), 'picture')}. {context['leak']}")
        if prompts is not None and prompts.coarse_from is not None:
            seen = seen_before(prompts.coarse_from, samples.names)
            context["seen_by_coarse_run"] = len(seen)
            if seen:
                say(flattery(prompts.coarse_from, seen))
    groups = group_names(samples.names, group_by) if group_by else None
    check_apart(directory, data or model.config.data.source)
    check_evaluation_folder(directory)  # before the test part is opened
    if split == "test" and not data:
        opened = _write_opening(run, context)
        context["test_opened"] = opened
        times = "once" if opened == 1 else f"{opened} times"
        say(f"This run's test part has now been opened {times}.")

    context["prompt"] = model.prompt_source
    context["grid"] = model.network.low_side
    if model.uses_truth:
        say("ORACLE: its prompts are made from the true masks. This is an upper bound, no result.")

    def predicted(sample: Sample) -> Prediction:
        prediction = model.predict_sample(model.judged(sample))
        return dataclasses.replace(prediction, valid=None)

    evaluation = evaluate(
        predicted,
        samples,
        settings=model.config.evaluate,
        directory=directory,
        context={**context, "config": model.config.to_dict(), "environment": environment()},
        groups=groups.__getitem__ if groups else None,
    )
    if clicks:
        settings = model.config.evaluate
        click_curve(model, samples, most=clicks, settings=settings, directory=directory, say=say)
    return evaluation


def _part_name(part: str, prompts: PromptChoice | None, *, oracle: bool) -> str:
    """Other prompts than the run's own have a folder of their own, and so has every oracle."""
    if prompts is not None:
        return f"{part}--{prompts.name}"
    return f"{part}--oracle" if oracle else part


def _part_of_run(
    run: Path, model: AutoSam, part: str, token: str | None
) -> tuple[SampleCollection, dict[str, Any]]:
    path = run / "split.json"
    if not path.is_file():
        raise MissingPathError(
            f"run must hold split.json, got none in {run}. "
            "Give the folder of a run, or judge elsewhere with --data."
        )
    division = read_split(path)
    opened = open_data(model.config.data, token=token, bands=model.bands)
    samples = opened.samples.select(division.part(part))
    check_split(division, opened.samples, contents=False)
    leak = leak_report(division.train, division.part(part)) if part != "train" else None
    known = leak.sentence() if leak else "The names do not tell whether it leaks."
    return samples, {
        "part": part,
        "split": {"kind": division.kind, "hash": division.hash, "groups": bool(division.groups)},
        "leak": known if part != "train" else "These were trained on.",
        "leak_counts": leak.to_dict() if leak else None,
    }


def read_openings(run: Path) -> list[dict[str, Any]]:
    """When and with which weights a run's test part was looked at; empty when it never was.

    Raises:
        DataError: The list is damaged.
    """
    path = run / "test_openings.json"
    openings = read_json(path, what="list of test openings") if path.is_file() else []
    if not isinstance(openings, list):
        raise DataError(
            f"list of test openings must be a JSON list, got {path}. Restore it: it is the record of "
            "how often the test part was looked at."
        )
    return openings


def _write_opening(run: Path, context: dict[str, Any]) -> int:
    """Note that the test part was looked at, so that a report can say how often; returns how often."""
    path = run / "test_openings.json"
    openings = read_openings(run)
    weights = hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest()
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    openings.append({"time": now, "split": context["split"]["hash"], "weights": weights})
    write_json(path, openings)
    return len(openings)
