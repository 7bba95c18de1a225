"""A training of so many minutes that goes on where it was killed."""

import json
import math
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from autosam.files import replacing, write_json

SAVED_EVERY = 120.0
"""Seconds."""
LONGEST_STEP = 60.0
"""Seconds that count: a machine that slept has not trained."""
WARM_UP = 50
"""Steps from 0 to the peak of the learning rate."""


class TimedTraining(ABC):
    """The state of one run, which can be written and read.

    Args:
        module: What is written; what of it trains is in the optimiser.
        optimiser: Each group has its `peak`, the highest of its learning rates.
        out: Folder of the run; a run that is there goes on.
        told_every: Steps whose mean is printed and kept in history.json.
    """

    def __init__(
        self, module: nn.Module, optimiser: torch.optim.Optimizer, out: Path, *, told_every: int
    ) -> None:
        self.module, self.optimiser, self.out = module, optimiser, out
        self.told_every = told_every
        self.step, self.seconds = 0, 0.0
        self.history: list[dict[str, Any]] = []
        if (out / "state.pt").is_file():
            state = torch.load(out / "state.pt", weights_only=True)
            module.load_state_dict(state["module"])
            optimiser.load_state_dict(state["optimiser"])
            self.step, self.seconds = state["step"], state["seconds"]
            self.history = json.loads((out / "history.json").read_text())

    @abstractmethod
    def losses(self, progress: float) -> dict[str, Tensor]:
        """Of the next batch, by name, each with its gradient; their sum is descended.

        Args:
            progress: Share of the time that is over, 0..1.
        """

    def save(self) -> None:
        """Write all that is needed to go on."""
        state = {
            "module": self.module.state_dict(), "optimiser": self.optimiser.state_dict(),
            "step": self.step, "seconds": self.seconds,
        }  # fmt: skip
        write_json(self.out / "history.json", self.history)
        with replacing(self.out / "state.pt") as beside:
            torch.save(state, beside)

    def run(self, minutes: float) -> None:
        """Train until the time is over."""
        budget, last_saved = 60 * minutes, time.monotonic()
        told: list[dict[str, Tensor]] = []
        while self.seconds < budget:
            started = time.monotonic()
            told.append(self._descend(self.seconds / budget))
            self.step += 1
            self.seconds += min(time.monotonic() - started, LONGEST_STEP)
            if self.step % self.told_every == 0:
                self._tell(told)
                told = []
            if time.monotonic() - last_saved > SAVED_EVERY:
                self.save()
                last_saved = time.monotonic()
        self.save()

    def _descend(self, progress: float) -> dict[str, Tensor]:
        """One step, the gradient's norm at most 1."""
        rate = min(1.0, (self.step + 1) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * progress))
        for group in self.optimiser.param_groups:
            group["lr"] = group["peak"] * rate
        losses = self.losses(progress)
        self.optimiser.zero_grad(set_to_none=True)
        torch.stack([*losses.values()]).sum().backward()
        held = [parameter for group in self.optimiser.param_groups for parameter in group["params"]]
        nn.utils.clip_grad_norm_(held, 1.0)
        self.optimiser.step()
        return {name: loss.detach() for name, loss in losses.items()}

    def _tell(self, told: list[dict[str, Tensor]]) -> None:
        means = {name: torch.stack([one[name] for one in told]).mean().item() for name in told[0]}
        rounded = {name: round(mean, 4) for name, mean in means.items()}
        row = {"step": self.step, "seconds": round(self.seconds), **rounded}
        self.history.append(row)
        print(json.dumps(row), flush=True)
