"""fit(): the whole loop, with accelerate inside; it knows networks only by their contract."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch

from autosam.config import TrainSettings
from autosam.errors import TrainingError
from autosam.files import PathLike
from autosam.models.contract import MaskNetwork
from autosam.progress import progress_bar
from autosam.training.banks import without_banks
from autosam.training.batch_norm import shared_batch_norm
from autosam.training.batches import TrainingItems
from autosam.training.clicking import with_clicks
from autosam.training.epoch_end import close_epoch
from autosam.training.inputs import network_inputs
from autosam.training.losses import iou_head_loss, total_loss
from autosam.training.optimiser import rate_factor, set_rates
from autosam.training.processes import least
from autosam.training.randomness import (
    Address,
    clicks_generator,
    keeping_library_states,
    seed_libraries,
)
from autosam.training.run import NEVER, Job, TrainingRun, Validate
from autosam.training.trackers import open_trackers
from autosam.training.weights import remove_leftovers
from autosam.types import Batch

_STEPS_BETWEEN_CHECKS = 20
"""On a GPU, where asking whether the loss is finite makes the processor wait for the device."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FitResult:
    """How a run ended."""

    best_score: float
    """Of the weights in ``best.safetensors``, on validation."""
    best_epoch: int
    """From 1."""
    epochs: int
    """Finished."""
    steps: int
    """Optimiser steps done."""
    stopped: str
    """'epochs', 'patience' or 'time limit'."""


def fit(
    network: MaskNetwork,
    items: TrainingItems,
    settings: TrainSettings,
    *,
    directory: PathLike,
    seed: int,
    validate: Validate,
    score: str = "iou",
    resume: bool = False,
    progress: bool = True,
    workers: int = 0,
) -> FitResult:
    """Train the parts of a network that train, and write down everything about it.

    Writes into `directory`: ``best.safetensors`` and ``last.safetensors`` (`trained_state`),
    ``history.jsonl``, ``history.csv``, ``times.jsonl``, ``curves.png``, and ``state/``, from which a
    killed run goes on. On the CPU a resumed run ends with the very bits of an uninterrupted one; on a
    GPU that also needs ``torch.use_deterministic_algorithms``.

    Under `accelerate launch` or torchrun every process calls this with equal arguments; batches,
    gradients and batch normalisation are then those of one process with a batch size as many times
    larger.

    Args:
        network: Moved to the device, and left there with its last weights.
        items: What to learn from.
        settings: How.
        directory: A folder of this run's own.
        seed: Of the order and of dropout; `items` has its own for views, crops and colours.
        validate: Scores of the network, given in eval mode and without gradients; called on the main
            process only, after each epoch and when time is up.
        score: Which of them chooses the best weights: the higher, the better.
        resume: Go on from the last state of `directory`, or start if it has none.
        progress: Show a bar; only ever on the main process's terminal.
        workers: Processes that prepare batches; 0 prepares them in this one.

    Raises:
        TrainingError: Nothing trains, `directory` holds another run, a resumed run has other
            settings, the loss is not finite, or `validate` gives no finite `score`.
        MissingPackageError: A tracker's package is not installed.
        OutputError: A file cannot be written; the last state remains.
    """
    directory = Path(directory)
    _check_directory(directory, resume=resume)
    job = Job(
        network=network, items=items, settings=settings, directory=directory, seed=seed,
        validate=validate, score=score,
    )  # fmt: skip
    run = TrainingRun(job, workers=workers)
    with keeping_library_states(run.device), contextlib.ExitStack() as stack:
        seed_libraries(seed, run.accelerator.process_index)
        if resume:
            run.resume()
        if not _finished(run):
            _open_trackers(run, stack)
            stack.enter_context(shared_batch_norm(network.trained_parts().values()))
            bar = progress_bar("training", total=run.planned_steps, shown=progress)
            _train(run, stack.enter_context(bar))
    return FitResult(
        best_score=run.standing.best_score if run.standing.best_score is not None else math.nan,
        best_epoch=run.standing.best_epoch,
        epochs=run.standing.epoch,
        steps=run.standing.step,
        stopped=run.standing.stopped,
    )


def _check_directory(directory: Path, *, resume: bool) -> None:
    names = ("state", "history.jsonl", "best.safetensors", "last.safetensors")
    present = [name for name in names if (directory / name).exists()]
    if present and not resume:
        raise TrainingError(
            f"directory must hold no earlier run, got {directory} with {', '.join(present)}. "
            "Resume it, or choose another folder."
        )
    remove_leftovers(directory)


def _finished(run: TrainingRun) -> bool:
    """A run that time had stopped goes on when it is given more."""
    standing = run.standing
    if standing.stopped == "time limit" and not _out_of_time(run):
        standing.stopped = ""
    return bool(standing.stopped)


def _open_trackers(run: TrainingRun, stack: contextlib.ExitStack) -> None:
    if run.is_main:
        settings = run.job.settings
        run.trackers = open_trackers(
            settings.trackers, run.job.directory, run.identity(), step=run.standing.step
        )
        for tracker in run.trackers:
            stack.callback(tracker.close)


def _train(run: TrainingRun, advance: Callable[[int], None]) -> None:
    advance(run.standing.step)
    run.job.network.train()
    while not run.standing.stopped:
        _train_epoch(run, advance)
        close_epoch(run)
    if run.is_main:
        run.history.draw()
    run.accelerator.wait_for_everyone()


def _train_epoch(run: TrainingRun, advance: Callable[[int], None]) -> None:
    """The forward passes of one epoch that are still to be done, or as many as time allows."""
    standing, settings = run.standing, run.job.settings
    order = run.order()
    began = time.monotonic() - standing.epoch_seconds
    for addresses, batch in run.loader.read(order[standing.position :]):
        start = standing.position - standing.position % settings.accumulation
        group = min(settings.accumulation, len(order) - start)
        complete = standing.position + 1 == start + group
        # Processes exchange gradients once per group, with its last pass.
        quiet = run.accelerator.no_sync(run.forward) if not complete else contextlib.nullcontext()
        with quiet:
            _forward_and_back(run, addresses, batch, group)
        standing.position += 1
        standing.epoch_seconds = time.monotonic() - began
        if complete:
            _step(run)
            advance(1)
            _check_and_save(run, epoch_ends=standing.position == len(order))
        if standing.stopped:
            break


def _forward_and_back(run: TrainingRun, addresses: list[Address], batch: Batch, group: int) -> None:
    settings = run.job.settings
    inputs = network_inputs(
        batch, addresses, run.job.items, device=run.device, jitter=settings.jitter
    )
    target, valid = batch.target.to(run.device), batch.valid.to(run.device)
    valid = without_banks(target, valid, settings.ignore_bank)
    if settings.simulated_corrections:
        standing = run.standing
        clicks = clicks_generator(run.job.seed, standing.epoch, standing.position)
        count = int(clicks.integers(settings.simulated_corrections + 1))
        inputs = with_clicks(run.job.network, inputs, target, valid, count=count)
    logits, predicted_iou = run.forward(**inputs)
    loss, terms = total_loss(logits, target, valid, settings.loss)
    if predicted_iou is not None:
        terms["iou_head"] = iou_head_loss(predicted_iou, logits, target, valid)
        loss = loss + terms["iou_head"]
    # The mean over the group, whose size differs at the end of an epoch.
    run.accelerator.backward(loss / group)
    run.loss_sums += torch.stack([loss.detach(), *(terms[name].detach() for name in run.terms)])
    _note_bad(run, loss.detach())


def _step(run: TrainingRun) -> None:
    standing, settings = run.standing, run.job.settings
    factor = rate_factor(standing.step, warmup=settings.warmup_steps, planned=run.planned_steps)
    set_rates(run.optimiser, factor)
    limit = settings.clip if settings.clip > 0 else math.inf
    norm = run.accelerator.clip_grad_norm_(list(run.job.network.trained_parameters()), limit)
    if run.accelerator.scaler is None:
        _note_bad(run, norm)  # with a scaler an infinite gradient is a step left out, not a failure
    run.norm_sum += torch.where(norm.isfinite(), norm, 0.0)
    run.optimiser.step()
    run.optimiser.zero_grad()
    standing.step += 1


def _note_bad(run: TrainingRun, value: torch.Tensor) -> None:
    """Remember on the device, without waiting for it, the first step whose value is not finite."""
    step = run.first_bad_step.new_tensor(run.standing.step + 1.0)
    bad = torch.where(value.isfinite(), float(NEVER), step)
    torch.minimum(run.first_bad_step, bad, out=run.first_bad_step)


def _check_and_save(run: TrainingRun, *, epoch_ends: bool) -> None:
    """Now and then, see whether the loss is finite and time is left; save when it is time to."""
    standing, settings = run.standing, run.job.settings
    saves = standing.step % settings.save_steps == 0
    often = run.device.type == "cpu" or standing.step % _STEPS_BETWEEN_CHECKS == 0
    if not (often or saves or epoch_ends):
        return
    has_time = run.first_bad_step.new_tensor(0.0 if _out_of_time(run) else 1.0)
    bad_step, all_have_time = least(torch.stack([run.first_bad_step, has_time]))
    if bad_step < NEVER:
        raise TrainingError(
            f"loss and gradient must be finite, got NaN or infinity (epoch {standing.epoch + 1}, "
            f"step {int(bad_step)}). Try a smaller train.learning_rate (now "
            f"{settings.learning_rate:g}), train.clip=1, train.precision=no, or a longer "
            "train.warmup_steps; what was saved before is sound."
        )
    if not all_have_time:
        standing.stopped = "time limit"
    elif saves and not epoch_ends:
        run.save()


def _out_of_time(run: TrainingRun) -> bool:
    limit = run.job.settings.time_limit
    return limit > 0 and time.monotonic() - run.began >= limit
