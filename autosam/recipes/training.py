"""Train a run: open the data, divide it, encode once, fit, choose the threshold, write the model.

A run's folder holds ``config.yaml`` (resolved), ``split.json``, ``environment.json``, the history, the
state to go on from, ``best.safetensors`` and ``last.safetensors``, and, last of all, the checkpoint.
"""

import dataclasses
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from autosam.config import Config, dump_config, load_config
from autosam.data.label_noise import add_label_noise
from autosam.data.sources import OpenedData, SampleCollection, make_split, open_data
from autosam.data.splits import Split, add_hashes, check_split, leak_report, read_split, write_split
from autosam.errors import AutoSamError, ConfigError, DataError, OutputError, TrainingError
from autosam.evaluation.calibration import LogitHistogram
from autosam.files import PathLike, write_json, write_text
from autosam.inference.segmenter import choose_device, network_logits
from autosam.models.baselines import HsvThreshold
from autosam.models.checkpoints import Decision, save_checkpoint
from autosam.models.contract import MaskNetwork
from autosam.models.methods import build_network, has_frozen_encoder
from autosam.models.weight_files import read_weights
from autosam.recipes.encoding import (
    EncodedImages,
    Say,
    encode_samples,
    image_digests,
    training_views,
)
from autosam.recipes.environment import environment, hardware
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
    seconds: float
    is_main_process: bool

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {**dataclasses.asdict(self), "directory": str(self.directory)}

    def sentence(self) -> str:
        """Two lines for the console."""
        return (
            f"{self.epochs} epochs, {self.steps} steps, {self.seconds:.0f} s ({self.stopped}). Validation "
            f"IoU {self.validation_iou:.3f}, threshold {self.decision.threshold:.2f}, temperature "
            f"{self.decision.temperature:.2f}.\nJudge it once: autosam evaluate {self.directory}"
        )


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
        _claim(directory, config, resume=resume, replace=replace)
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
        data = open_data(config.data, token=token)
        split = _settle_split(config, data, directory)
        say(_split_sentence(split))
        encoded = _encode(config, data, split, device, token, say)
    network = build_network(config, encoder=encoded is None, token=token)
    validation = data.samples.select(split.validation)
    training = _training_samples(config, data, split)
    fitted = _fit(network, training, validation, encoded, config, directory, resume=resume)
    network.to(device)
    decision, scores = _decide(network, validation, encoded)
    run = TrainedRun(
        directory=directory,
        validation_iou=float(np.mean(scores)),
        decision=decision,
        epochs=fitted.epochs,
        steps=fitted.steps,
        stopped=fitted.stopped,
        seconds=time.perf_counter() - start,
        is_main_process=is_main_process(),
    )
    if run.is_main_process:
        facts = _facts(split, run, scores)
        save_checkpoint(directory, network, config, decision=decision, facts=facts)
    return run


def _claim(directory: Path, config: Config, *, resume: bool, replace: bool) -> None:
    """Make the folder this run's own, or make sure that it is."""
    written = directory / "config.yaml"
    if directory.exists() and not directory.is_dir():
        raise OutputError(f"output must be a folder, got the file {directory}. Choose another.")
    if resume:
        if not written.is_file():
            raise TrainingError(
                f"--resume must find a run, got no config.yaml in {directory}. Train without --resume."
            )
        _check_same_config(load_config(written), config, directory)
        return
    if not is_main_process():
        return
    if replace and written.is_file():
        shutil.rmtree(directory)
    if directory.is_dir() and any(directory.iterdir()):
        raise OutputError(
            f"output must be a new or empty folder, got {directory}. "
            "Choose another with -o, or go on with --resume."
        )
    write_json(directory / "environment.json", environment())
    write_text(written, dump_config(config))


def _check_same_config(before: Config, now: Config, directory: Path) -> None:
    """All but the time limit must be as it was, or the end would not be the same."""
    old, new = _flat(before.to_dict()), _flat(now.to_dict())
    changed = sorted(key for key in old if old[key] != new.get(key) and key != "train.time_limit")
    if changed:
        key = changed[0]
        raise TrainingError(
            f"--resume must use the run's own configuration, got {key}={new.get(key)!r} where {directory} "
            f"has {old[key]!r}. Resume with {directory / 'config.yaml'}."
        )


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _settle_split(config: Config, data: OpenedData, directory: Path) -> Split:
    """The run's split: as it was written, as it was given, or made now and written down."""
    path = directory / "split.json"
    given = Path(config.data.manifest) if config.data.manifest else None
    if path.is_file() or given is not None:
        split = read_split(path if path.is_file() else given or path)
        check_split(split, data.samples)
    else:
        split = make_split(config.data, data, seed=config.seed)
        split = add_hashes(split, data.samples.select(split.names))
    if not path.is_file() and is_main_process():
        write_split(path, split)
    return split


def _split_sentence(split: Split) -> str:
    counts = ", ".join(
        f"{len(split.part(part))} {part}" for part in ("train", "validation", "test")
    )
    leak = leak_report(split.train, split.test)
    return f"Split {split.kind}: {counts}." + (f" {leak.sentence()}" if leak else "")


def _encode(
    config: Config,
    data: OpenedData,
    split: Split,
    device: torch.device,
    token: str | None,
    say: Say,
) -> EncodedImages | None:
    if not (has_frozen_encoder(config) and config.train.cache):
        return None
    if config.train.crop:
        raise ConfigError(
            f"train.crop must be 0 with cached embeddings, got {config.train.crop}: the cache knows whole "
            "pictures. Set train.cache=false to crop."
        )
    training, validation = data.samples.select(split.train), data.samples.select(split.validation)
    digests = image_digests(data.samples.select(split.train + split.validation))
    common = {"digests": digests, "device": device, "token": token, "say": say}
    views = training_views(config)
    encode_samples(config, validation, views=(0,), **common)  # type: ignore[arg-type]
    return encode_samples(config, training, views=views, **common)  # type: ignore[arg-type]


def _training_samples(config: Config, data: OpenedData, split: Split) -> Sequence[Sample]:
    training = data.samples.select(split.train)
    if config.data.label_noise:
        return add_label_noise(training, share=config.data.label_noise, seed=config.seed)
    return training


def _fit(
    network: MaskNetwork,
    training: Sequence[Sample],
    validation: SampleCollection,
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
    items = TrainingItems.of(
        network,
        training,
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
        validate=_Validation(validation, encoded),
        workers=config.data.workers,
        resume=resume,
    )
    network.load_trained_state(read_weights(directory / "best.safetensors"))
    return fitted


class _Validation:
    """Mean per-image IoU at native size, at a probability of one half.

    Pictures are kept in memory up to a bound, for they are looked at after every epoch.
    """

    memory_bytes = 2**30

    def __init__(self, samples: Sequence[Sample], encoded: EncodedImages | None) -> None:
        self._samples, self._encoded = samples, encoded
        self._kept: dict[int, Sample] = {}
        self._kept_bytes = 0

    def __call__(self, network: MaskNetwork) -> dict[str, float]:
        scores = []
        for index in range(len(self._samples)):
            sample = self._sample(index)
            logits = _native_logits(network, sample, self._encoded)
            scores.append(_iou(logits > 0, sample))
        return {"iou": float(np.mean(scores))}

    def _sample(self, index: int) -> Sample:
        if index not in self._kept:
            sample = self._samples[index]
            size = sample.image.nbytes + 2 * sample.image.nbytes // 3
            if self._kept_bytes + size > self.memory_bytes:
                return sample
            self._kept[index] = sample
            self._kept_bytes += size
        return self._kept[index]


def _native_logits(
    network: MaskNetwork, sample: Sample, encoded: EncodedImages | None
) -> np.ndarray:
    embedding = encoded.embedding(sample.name) if encoded else None
    logits: np.ndarray = (
        network_logits(network, sample.image, image_embedding=embedding).cpu().numpy()
    )
    return logits


def _iou(predicted: np.ndarray, sample: Sample) -> float:
    truth, valid = _labelled(sample), sample.valid_area
    union = np.count_nonzero((predicted | truth) & valid)
    return np.count_nonzero(predicted & truth & valid) / union if union else 1.0


def _labelled(sample: Sample) -> np.ndarray:
    if sample.mask is None:
        raise DataError(
            f"validation samples must have a mask, got none (sample {sample.name!r}). "
            "Leave it out, or give it a mask."
        )
    return sample.mask


def _decide(
    network: MaskNetwork, samples: Sequence[Sample], encoded: EncodedImages | None
) -> tuple[Decision, list[float]]:
    """Choose temperature and threshold on validation; the scores are each picture's IoU with them."""
    network.eval()
    histogram = LogitHistogram()
    for sample in samples:
        logits = _native_logits(network, sample, encoded)
        histogram.add(logits, truth=_labelled(sample), valid=sample.valid)
    temperature = histogram.temperature()
    threshold, _ = histogram.threshold(temperature=temperature)
    boundary = temperature * float(np.log(threshold / (1 - threshold)))
    scores = [
        _iou(_native_logits(network, sample, encoded) >= boundary, sample) for sample in samples
    ]
    return Decision(temperature=temperature, threshold=threshold), scores


def _facts(split: Split, run: TrainedRun, iou: Sequence[float]) -> dict[str, Any]:
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
            }
        },
        "epochs": run.epochs,
        "steps": run.steps,
        "stopped": run.stopped,
        "training_seconds": round(run.seconds, 1),
        "hardware": hardware(),
        "environment": environment(),
    }
