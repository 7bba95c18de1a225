"""The end of an epoch: validate, keep the best, write everything down, decide whether to go on."""

import logging
import math
import time
from typing import Any

import torch

from autosam.errors import TrainingError
from autosam.training.processes import from_main
from autosam.training.randomness import keeping_library_states
from autosam.training.run import TrainingRun
from autosam.training.weights import write_weights

logger = logging.getLogger(__name__)


def close_epoch(run: TrainingRun) -> None:
    """Validate, keep the best, write everything down, and decide whether to go on."""
    standing, settings = run.standing, run.job.settings
    passes = len(run.order())
    row = _training_row(run, share=standing.position / passes)
    began = time.monotonic()
    scores = _validated(run)
    times = _times(run, validation_seconds=time.monotonic() - began)
    whole = standing.position == passes
    _judge(run, scores[run.job.score], counts=whole)
    if whole:
        standing.epoch += 1
        standing.position, standing.epoch_seconds = 0, 0.0
        run.loss_sums.zero_()
        run.norm_sum.zero_()
    if standing.epoch == settings.epochs:
        standing.stopped = "epochs"
    elif not standing.stopped and 0 < settings.patience <= standing.epochs_without_better:
        standing.stopped = "patience"
    row |= {f"validation_{name}": value for name, value in scores.items()}
    standing.history_length += 1
    if run.is_main:
        _write_down(run, row, times)
    run.save()


def _training_row(run: TrainingRun, *, share: float) -> dict[str, Any]:
    """Means over the epoch and over the processes."""
    standing, settings = run.standing, run.job.settings
    means = run.accelerator.reduce(run.loss_sums, reduction="mean") / max(standing.position, 1)
    steps = math.ceil(standing.position / settings.accumulation)
    names = ["loss", *(f"loss_{name}" for name in run.terms)]
    return {
        "epoch": standing.epoch + 1,
        "epoch_share": share,
        "step": standing.step,
        "learning_rate": max(group["lr"] for group in run.optimiser.param_groups),
        "gradient_norm": float(run.norm_sum) / max(steps, 1),
        **dict(zip(names, means.tolist(), strict=True)),
    }


def _validated(run: TrainingRun) -> dict[str, float]:
    """The scores, from the main process to all; what it draws at random changes nothing."""
    network, scores = run.job.network, None
    try:
        if run.is_main:
            network.eval()
            with torch.no_grad(), keeping_library_states(run.device):
                given = run.job.validate(network)
            scores = {name: float(value) for name, value in given.items()}
    finally:  # the others wait, also when this one fails
        shared: dict[str, float] | None = from_main(scores)
        network.train()
    if shared is None:
        raise TrainingError("validation must succeed, got an error. See the main process's output.")
    value = shared.get(run.job.score, math.nan)
    if not math.isfinite(value):
        raise TrainingError(
            f"validation must give a finite {run.job.score!r}, got {value} (epoch "
            f"{run.standing.epoch + 1}; it gives {', '.join(shared) or 'nothing'}). "
            "Check the validation samples."
        )
    return shared


def _judge(run: TrainingRun, score: float, *, counts: bool) -> None:
    """Keep the best weights; an epoch that time cut short does not count towards patience."""
    standing = run.standing
    if standing.best_score is None or score > standing.best_score:
        standing.best_score, standing.best_epoch = score, standing.epoch + 1
        standing.epochs_without_better = 0
        if run.is_main:
            write_weights(run.job.directory / "best.safetensors", run.job.network)
    elif counts:
        standing.epochs_without_better += 1


def _write_down(run: TrainingRun, row: dict[str, Any], times: dict[str, Any]) -> None:
    write_weights(run.job.directory / "last.safetensors", run.job.network)
    run.history.append(row, times)
    numbers = {name: value for name, value in row.items() if name not in ("epoch", "step")}
    for tracker in run.trackers:
        tracker.log(numbers, step=row["step"])
    logger.info("epoch %d: %s", row["epoch"], numbers)


def _times(run: TrainingRun, *, validation_seconds: float) -> dict[str, Any]:
    """Seconds and speed of the epoch, and the device's peak memory where it is known."""
    standing, settings = run.standing, run.job.settings
    images = standing.position * settings.batch_size * run.accelerator.num_processes
    times: dict[str, Any] = {
        "epoch": standing.epoch + 1,
        "training_seconds": standing.epoch_seconds,
        "validation_seconds": validation_seconds,
        "images_per_second": images / max(standing.epoch_seconds, 1e-9),
    }
    if run.device.type == "cuda":
        times["peak_memory_mb"] = torch.cuda.max_memory_allocated(run.device) / 2**20
    return times
