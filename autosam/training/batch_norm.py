"""Batch normalisation whose batch is the one of all processes together.

With two processes of batch 2 the published BatchNorm would see 2 pictures at a time and train another
network than one process with batch 4. `torch.nn.SyncBatchNorm` mends that on GPUs only; this works with
every backend of torch.distributed, in place, and leaves keys, parameters and hooks as they are.
"""

import contextlib
import types
from collections.abc import Iterable, Iterator
from typing import Any

import torch
import torch.distributed
from jaxtyping import Float
from torch import Tensor, nn

from autosam.errors import TrainingError

Features = Float[Tensor, "batch channels height width"]


@contextlib.contextmanager
def shared_batch_norm(parts: Iterable[nn.Module]) -> Iterator[None]:
    """Let every BatchNorm2d inside `parts` use the statistics of all processes while the block runs.

    Does nothing with a single process. BatchNorm layers in eval mode keep to their running statistics.

    Raises:
        TrainingError: A layer derives from BatchNorm2d in a way that is not known here.
    """
    layers: list[nn.BatchNorm2d] = []
    if torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
        layers = [
            layer for part in parts for layer in part.modules() if isinstance(layer, nn.BatchNorm2d)
        ]
    for layer in layers:
        _check_known(layer)
    try:
        for layer in layers:
            # An attribute of the object hides the method of its class until it is deleted again.
            layer.forward = types.MethodType(_forward, layer)  # type: ignore[method-assign]
        yield
    finally:
        for layer in layers:
            vars(layer).pop("forward", None)


def _check_known(layer: nn.BatchNorm2d) -> None:
    """Plain, or timm's BatchNormAct2d, which goes on with `drop` and `act`."""
    plain = type(layer).forward is nn.BatchNorm2d.forward
    if not plain and not (hasattr(layer, "act") and hasattr(layer, "drop")):
        raise TrainingError(
            f"batch normalisation must be torch's or timm's to be shared by several processes, got "
            f"{type(layer).__name__}. Train with one process, or with another prompt network."
        )


def _forward(layer: Any, features: Features) -> Features:
    if not layer.training:
        outcome: Features = type(layer).forward(layer, features)
        return outcome
    # Half precision would lose the statistics; torch's own kernels take float32 here too.
    with torch.autocast(features.device.type, enabled=False):
        normalised = _normalised(layer, features.float()).to(features.dtype)
    for name in ("drop", "act"):
        follower = getattr(layer, name, None)
        normalised = follower(normalised) if follower is not None else normalised
    return normalised


def _normalised(layer: nn.BatchNorm2d, features: Features) -> Features:
    """Two passes, mean then squared distance from it: one pass would cancel in float32."""
    channels = features.shape[1]
    here = torch.full((1,), features.numel() / channels, device=features.device)
    sums = torch.cat([features.sum(dim=(0, 2, 3)), here])
    sums = _summed(sums)
    count = sums[-1].detach()
    mean = sums[:-1] / count
    centred = features - mean[:, None, None]
    variance = _summed(centred.square().sum(dim=(0, 2, 3))) / count
    if layer.track_running_stats:
        _track(layer, mean.detach(), variance.detach() * (count / (count - 1).clamp(min=1)))
    normalised: Tensor = centred * torch.rsqrt(variance + layer.eps)[:, None, None]
    if layer.affine:
        normalised = normalised * layer.weight[:, None, None] + layer.bias[:, None, None]
    return normalised


class _SumOverProcesses(torch.autograd.Function):
    """What every process adds to a sum is changed by what every process makes of it."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        summed = values.clone()
        torch.distributed.all_reduce(summed)
        return summed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _summed(gradients[0])


def _summed(values: Tensor) -> Tensor:
    summed: Tensor = _SumOverProcesses.apply(values)
    return summed


def _track(layer: nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
    """Move the running statistics as torch does; a momentum of None means a plain average."""
    running_mean, running_variance = layer.running_mean, layer.running_var
    if running_mean is None or running_variance is None or layer.num_batches_tracked is None:
        return
    with torch.no_grad():
        layer.num_batches_tracked += 1
        share = layer.momentum
        if share is None:
            share = 1 / int(layer.num_batches_tracked)
        running_mean.lerp_(mean, share)
        running_variance.lerp_(variance, share)
