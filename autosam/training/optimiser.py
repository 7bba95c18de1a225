"""AdamW with a peak of its own for each part, and the schedule that scales all peaks alike."""

import math
from collections.abc import Mapping

import torch
from torch import nn

from autosam.config import TrainSettings
from autosam.errors import TrainingError
from autosam.models.contract import MaskNetwork


def build_optimiser(network: MaskNetwork, settings: TrainSettings) -> torch.optim.AdamW:
    """AdamW over what trains: decay on matrices and kernels only, a slower peak for SAM's decoder.

    Biases, normalisation weights and other vectors do not decay: pulling them to 0 regularises
    nothing. Each group remembers its peak under the key ``peak``.

    Raises:
        TrainingError: Nothing of the network trains.
    """
    groups = []
    for part, parameters in network.parameter_groups().items():
        decoder = part == "mask_decoder"
        peak = settings.decoder_learning_rate if decoder else settings.learning_rate
        matrices = [parameter for parameter in parameters if parameter.ndim >= 2]
        vectors = [parameter for parameter in parameters if parameter.ndim < 2]
        for members, decay in ((matrices, settings.weight_decay), (vectors, 0.0)):
            if members:
                groups.append({"params": members, "lr": peak, "peak": peak, "weight_decay": decay})
    if not groups:
        raise TrainingError(
            f"network must have parameters that train, got none (method {network.method!r}). "
            "Choose another method; this one needs no training."
        )
    return torch.optim.AdamW(groups)


def rate_factor(step: int, *, warmup: int, planned: int) -> float:
    """Share of the peak learning rate at one optimiser step: up in a line, down to 0 in a cosine.

    The first step already moves by 1/warmup of the peak, the peak is reached at step `warmup`, and
    the step after the last planned one would have 0.

    Args:
        step: From 0.
        warmup: Steps from 0 to the peak; at most half of the planned ones are used.
        planned: Steps in all.
    """
    warmup = min(warmup, planned // 2)
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(planned - warmup, 1)
    return 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def set_rates(optimiser: torch.optim.Optimizer, factor: float) -> None:
    """Give every group its peak times a factor."""
    for group in optimiser.param_groups:
        group["lr"] = group["peak"] * factor


def moments(network: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The optimiser's memory, keyed ``parameter name|kind``; a parameter without gradient has none."""
    names = {parameter: name for name, parameter in network.named_parameters()}
    return {
        f"{names[parameter]}|{kind}": value
        for group in optimiser.param_groups
        for parameter in group["params"]
        for kind, value in optimiser.state.get(parameter, {}).items()
    }


def restore_moments(
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    saved: Mapping[str, torch.Tensor],
) -> None:
    """Put `moments` back, each on its parameter's device (step counters stay on the CPU)."""
    parameters = dict(network.named_parameters())
    optimiser.state.clear()
    for key, value in saved.items():
        name, _, kind = key.rpartition("|")
        parameter = parameters[name]
        place = value if kind == "step" else value.to(parameter.device)
        optimiser.state[parameter][kind] = place
