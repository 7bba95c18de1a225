"""What lives from the first step of a run to its last, and how that is saved and put back."""

import dataclasses
import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from autosam.config import TrainSettings
from autosam.models.contract import MaskNetwork
from autosam.training.batches import TrainingItems, epoch_order
from autosam.training.history import History
from autosam.training.loader import AddressLoader
from autosam.training.optimiser import build_optimiser, moments, restore_moments
from autosam.training.processes import from_all, make_accelerator
from autosam.training.randomness import Address, library_states, restore_library_states
from autosam.training.state import SavedState, Standing, StateFolder, check_identity
from autosam.training.trackers import Tracker

Validate = Callable[[MaskNetwork], Mapping[str, float]]

NEVER = 2**52
"""More steps than any run has, and exact as a float: no step went wrong."""
_FREE = ("time_limit", "save_steps", "trackers")
"""Settings that a resumed run may change, since they decide nothing about the weights."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """What `fit` was asked to do."""

    network: MaskNetwork
    items: TrainingItems
    settings: TrainSettings
    directory: Path
    seed: int
    validate: Validate
    score: str


class _Forward(nn.Module):
    """What accelerate wraps and patches, so that the network itself stays as it was given."""

    def __init__(self, network: MaskNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, **inputs: Any) -> tuple[Tensor, Tensor | None]:
        return self.network.scored(**inputs)


class TrainingRun:
    """A job on this machine, and how far it has come.

    Args:
        job: What to do.
        workers: Processes that prepare batches.
    """

    def __init__(self, job: Job, *, workers: int) -> None:
        self.job = job
        self.accelerator = make_accelerator(job.settings.precision)
        self.device: torch.device = self.accelerator.device
        self.is_main: bool = self.accelerator.is_main_process
        optimiser = build_optimiser(job.network.to(self.device), job.settings)
        self.forward, self.optimiser = self.accelerator.prepare(_Forward(job.network), optimiser)
        self.loader = AddressLoader(job.items, workers=workers)
        self.standing = Standing()
        steps_per_epoch = math.ceil(len(self.order()) / job.settings.accumulation)
        self.planned_steps = steps_per_epoch * job.settings.epochs
        """Of the optimiser, if nothing stops the run early."""
        self.terms = [name for name, weight in job.settings.loss.items() if weight > 0]
        if job.settings.iou_head:
            self.terms.append("iou_head")
        self.loss_sums = torch.zeros(1 + len(self.terms), dtype=torch.float64, device=self.device)
        """Total and terms over the forward passes of this epoch, in this process."""
        self.norm_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        """Gradient norms over the optimiser steps of this epoch."""
        self.first_bad_step = torch.tensor(float(NEVER), dtype=torch.float64, device=self.device)
        self.history = History(job.directory)
        self.states = StateFolder(job.directory / "state")
        self.trackers: list[Tracker] = []
        self.began = time.monotonic()
        """On the clock, as if all of the run were in one piece."""

    def order(self) -> list[list[Address]]:
        """The batches of the epoch under way, all of them, for this process."""
        epoch, processes = self.standing.epoch, self.accelerator.num_processes
        batches = epoch_order(
            len(self.job.items), epoch=epoch, seed=self.job.seed,
            batch_size=self.job.settings.batch_size, processes=processes,
            process=self.accelerator.process_index,
        )  # fmt: skip
        return [[Address(epoch, index) for index in batch] for batch in batches]

    def identity(self) -> dict[str, Any]:
        """What decides the weights, as JSON values: equal in the run that resumes another."""
        job, items = self.job, self.job.items
        settings = {f"train.{k}": v for k, v in dataclasses.asdict(job.settings).items()}
        for name in _FREE:
            del settings[f"train.{name}"]
        facts = {
            "method": job.network.method,
            "seed": job.seed,
            "score": job.score,
            "processes": self.accelerator.num_processes,
            "training samples": len(items),
            "items": [items.side, items.low_side, items.prompt_side, items.seed, items.crop,
                      items.views, items.antialias, sorted(items.needs), items.cache is not None],
            "bands": items.bands,
            "geometric": items.geometric and dataclasses.asdict(items.geometric),
            "trained numbers": sum(p.numel() for p in job.network.trained_parameters()),
        }  # fmt: skip
        plain: dict[str, Any] = json.loads(json.dumps(facts | settings))
        return plain

    def save(self) -> None:
        """Write a state; all processes call it, the main one writes."""
        self.standing.seconds = time.monotonic() - self.began
        mine = (*library_states(self.device), self.loss_sums.cpu())
        everyone = from_all(mine)
        if not self.is_main:
            return
        tensors = {f"weights.{k}": v for k, v in self.job.network.trained_state().items()}
        optimiser_state = moments(self.job.network, self.optimiser.optimizer)
        tensors |= {f"moments.{k}": v for k, v in optimiser_state.items()}
        tensors["norm_sum"] = self.norm_sum
        plain: dict[str, Any] = {"random": [states for _, states, _ in everyone]}
        for process, (states, _, sums) in enumerate(everyone):
            tensors[f"loss_sums.{process}"] = sums
            tensors |= {f"random.{process}.{name}": state for name, state in states.items()}
        if self.accelerator.scaler is not None:
            plain["scaler"] = self.accelerator.scaler.state_dict()
        self.states.save(
            SavedState(
                tensors=tensors, standing=self.standing, identity=self.identity(), plain=plain
            )
        )

    def resume(self) -> None:
        """Go on from the newest state, if there is one.

        Raises:
            TrainingError: The state is damaged, or belongs to a run with other settings.
        """
        saved = self.states.load()
        if saved is None:
            return
        check_identity(saved.identity, self.identity())
        self.standing = saved.standing
        self.began = time.monotonic() - self.standing.seconds
        self.job.network.load_trained_state(_under(saved.tensors, "weights."))
        restore_moments(
            self.job.network, self.optimiser.optimizer, _under(saved.tensors, "moments.")
        )
        process = self.accelerator.process_index
        self.loss_sums.copy_(saved.tensors[f"loss_sums.{process}"])
        self.norm_sum.copy_(saved.tensors["norm_sum"])
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(saved.plain["scaler"])
        restore_library_states(
            _under(saved.tensors, f"random.{process}."), saved.plain["random"][process], self.device
        )
        if self.is_main:
            self.history.resume(self.standing.history_length)


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
