"""Train a run: open the data, divide it, encode once, fit, choose the threshold, write the model.

A run's folder holds ``config.yaml`` (resolved), ``split.json``, ``environment.json``, the history, the
state to go on from, ``best.safetensors`` and ``last.safetensors``, and, last of all, the checkpoint.
"""

import dataclasses
import json
import math
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from autosam.config import Config
from autosam.data.bands import band_statistics
from autosam.data.label_noise import add_label_noise
from autosam.data.sources import OpenedData, open_data
from autosam.data.splits import Split, leak_report
from autosam.errors import AutoSamError, ConfigError
from autosam.evaluation.gauge_fitting import LEAST_PICTURES
from autosam.files import PathLike
from autosam.inference.devices import choose_device
from autosam.inference.segmenter import AutoSam
from autosam.models.autosam import PromptedSam
from autosam.models.baselines import HsvThreshold
from autosam.models.checkpoints import Decision, describe, load_checkpoint
from autosam.models.contract import MaskNetwork
from autosam.models.methods import (
    bands_needed,
    build_network,
    method_prompts,
)
from autosam.models.weight_files import read_weights
from autosam.recipes.coarse_sources import find_coarse
from autosam.recipes.encoding import (
    EncodedImages,
    Say,
    encode_split,
    training_views,
)
from autosam.recipes.environment import environment, hardware
from autosam.recipes.gauging import fit_gauges
from autosam.recipes.run_folders import claim, settle_split
from autosam.recipes.validating import CHOOSES, Validation
from autosam.training.batches import TrainingItems
from autosam.training.loop import FitResult, fit
from autosam.training.processes import is_main_process, main_process_first
from autosam.types import Sample


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainedRun:
    """What came of a training run."""

    directory: Path
    validation_iou: float
    """Mean per-image IoU at native size on the part that chose the checkpoint."""
    decision: Decision
    epochs: int
    steps: int
    stopped: str
    """Why it ended."""
    prompt: str
    """Where prompts came from in validation; begins with 'oracle' where that was the true mask."""
    seconds: float
    is_main_process: bool

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {**dataclasses.asdict(self), "directory": str(self.directory)}

    def sentence(self) -> str:
        """Two lines for the console."""
        prompts = "" if self.prompt == "learnt" else f" ({self.prompt} prompts)"
        return (
            f"{self.epochs} epochs, {self.steps} steps, {self.seconds:.0f} s ({self.stopped}). Validation "
            f"IoU {self.validation_iou:.3f}{prompts}, threshold {self.decision.threshold:.2f}, "
            f"temperature {self.decision.temperature:.2f}.\nJudge it once: autosam evaluate {self.directory}"
        )


def starting_overrides(source: str) -> list[str]:
    """The settings of a trained model that training from it must share, as ``section.key=value``.

    Args:
        source: 'river-nano', or the folder of a run.

    Raises:
        MissingPathError: There is no such model.
        CheckpointError: It is damaged.
    """
    description = describe(source)
    shared = {"start": source, "method": description["method"]}
    folder = Path(source)
    bundled = (description.get("sam") or {}).get("bundled") and folder.is_dir()
    sam = {**description["config"]["sam"], **({"name": str(folder / "sam")} if bundled else {})}
    others = {name: description["config"].get(name, {}) for name in ("prompt", "refine")}
    for section, values in {"sam": sam, **others}.items():
        shared |= {f"{section}.{key}": value for key, value in values.items()}
    return [f"{key}={json.dumps(value)}" for key, value in shared.items()]


def train_run(
    config: Config,
    directory: PathLike,
    *,
    resume: bool = False,
    replace: bool = False,
    token: str | None = None,
    say: Say = lambda line: None,
) -> TrainedRun:
    """Train what a configuration describes, in a folder of its own.

    Args:
        config: Method, data, settings.
        directory: Must be new or empty, unless the run is to be resumed or replaced.
        resume: Go on where a run of the same configuration was cut off; the end is the same to the bit.
        replace: Throw away an earlier run in the folder.
        token: For a private dataset or SAM.
        say: Told what happens next.

    Raises:
        OutputError: The folder holds another run.
        TrainingError: There is nothing to resume, or the configuration has changed.
        DataError, SplitError, ModelError, CacheError: What their names say.
    """
    directory = Path(directory)
    with main_process_first():
        claim(directory, config, resume=resume, replace=replace)
    try:
        return _train_claimed(config, directory, resume=resume, token=token, say=say)
    except AutoSamError:
        if is_main_process() and not (resume or (directory / "state").exists()):
            shutil.rmtree(directory)  # nothing was learnt: leave the name free for the next try
        raise


def _train_claimed(
    config: Config, directory: Path, *, resume: bool, token: str | None, say: Say
) -> TrainedRun:
    start, device = time.perf_counter(), choose_device(None)
    with main_process_first():
        data = open_data(config.data, token=token, bands=bands_needed(config))
        split = settle_split(config, data, directory)
        say(_split_sentence(split))
        encoded = encode_split(config, data, split, device=device, token=token, say=say)
    network = build_network(config, encoder=encoded is None, token=token)
    _start_from(network, config, token)
    validation = data.samples.select(split.validation)
    training = _training_samples(config, data, split)
    _set_band_statistics(network, training)
    coarse, coarse_report = find_coarse(config, training, validation, split, token=token, say=say)
    model = AutoSam(config, network=network, coarse=coarse)
    judge = Validation(model, validation, encoded)
    fitted = _fit(network, training, judge, encoded, config, directory, resume=resume)
    network.to(device)
    model.decision, scores = judge.decide()
    model.gauges = fit_gauges(model, training, judge.samples, scores, encoded)
    if model.gauges.presence is None:
        say(
            f"no probability of a river at all: that takes {LEAST_PICTURES} validation pictures with water "
            f"and {LEAST_PICTURES} without, which differ"
        )
    run = TrainedRun(
        directory=directory,
        validation_iou=float(np.mean(scores)),
        decision=model.decision,
        epochs=fitted.epochs,
        steps=fitted.steps,
        stopped=fitted.stopped,
        prompt=model.prompt_source,
        seconds=time.perf_counter() - start,
        is_main_process=is_main_process(),
    )
    if run.is_main_process:
        model.facts = _facts(split, run, scores, model, coarse_report)
        model.save_pretrained(directory)
    return run


def _start_from(network: MaskNetwork, config: Config, token: str | None) -> None:
    """Put the weights of another model into a new network."""
    if not config.start:
        return
    begun = load_checkpoint(config.start, token=token, encoder=False)
    if begun.network.method != network.method:
        raise ConfigError(
            f"start must be a model of method {network.method!r}, got {begun.network.method!r} "
            f"({config.start}). Set method={begun.network.method}."
        )
    if isinstance(network, PromptedSam) and isinstance(begun.network, PromptedSam):
        before, now = begun.network.sam, network.sam
        if before.fingerprint != now.fingerprint:
            raise ConfigError(
                f"start must be a model behind the same SAM, got {config.start} behind {before.name!r} "
                f"for {now.name!r}. Use autosam train --from {config.start}, which takes its SAM along."
            )
    network.load_trained_state(begun.network.trained_state())


def _set_band_statistics(network: MaskNetwork, training: Sequence[Sample]) -> None:
    """A prompt network with bands normalises them by what the training pictures hold."""
    if isinstance(network, PromptedSam) and network.prompter is not None and network.bands:
        mean, std = band_statistics(training, network.bands)
        network.prompter.set_band_statistics(mean.tolist(), std.tolist())


def _split_sentence(split: Split) -> str:
    counts = ", ".join(
        f"{len(split.part(part))} {part}" for part in ("train", "validation", "test")
    )
    leak = leak_report(split.train, split.test)
    return f"Split {split.kind}: {counts}." + (f" {leak.sentence()}" if leak else "")


def _training_samples(config: Config, data: OpenedData, split: Split) -> Sequence[Sample]:
    training = data.samples.select(split.train)
    if config.data.label_noise:
        return add_label_noise(training, share=config.data.label_noise, seed=config.seed)
    return training


def _fit(
    network: MaskNetwork,
    training: Sequence[Sample],
    judge: Validation,
    encoded: EncodedImages | None,
    config: Config,
    directory: Path,
    *,
    resume: bool,
) -> FitResult:
    """Train, and leave the best weights in the network."""
    if isinstance(network, HsvThreshold):
        score = network.fit(training)
        return FitResult(best_score=score, best_epoch=0, epochs=1, steps=0, stopped="tuned")
    if not network.trained_parts():
        return FitResult(
            best_score=math.nan, best_epoch=0, epochs=0, steps=0, stopped="nothing to train"
        )
    items = TrainingItems.of(
        network,
        training,
        geometric=method_prompts(config),
        antialias=config.prompt.antialias,
        cache=encoded.cache if encoded else None,
        cache_keys=encoded.key if encoded else None,
        views=training_views(config),
        crop=0.0 if encoded else config.train.crop,
        seed=config.seed,
    )
    fitted = fit(
        network,
        items,
        config.train,
        directory=directory,
        seed=config.seed,
        validate=judge,
        score=CHOOSES,
        workers=config.data.workers,
        resume=resume,
    )
    network.load_trained_state(read_weights(directory / "best.safetensors"))
    return fitted


def _facts(
    split: Split, run: TrainedRun, iou: Sequence[float], model: AutoSam, coarse: Mapping[str, Any]
) -> dict[str, Any]:
    """What the checkpoint says of its training."""
    leak = leak_report(split.train, split.test)
    return {
        "split": {
            "kind": split.kind,
            "hash": split.hash,
            **{part: len(split.part(part)) for part in ("train", "validation", "test")},
            "leak": leak.sentence() if leak else None,
        },
        "scores": {
            "validation": {
                "images": len(iou),
                "iou_mean": float(np.mean(iou)),
                "iou_median": float(np.median(iou)),
                "prompt": model.prompt_source,
            }
        },
        "coarse": dict(coarse),
        "epochs": run.epochs,
        "steps": run.steps,
        "stopped": run.stopped,
        "training_seconds": round(run.seconds, 1),
        "hardware": hardware(),
        "environment": environment(),
    }
