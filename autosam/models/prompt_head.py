"""The small decoder at the end of the prompt network: three features in, the dense prompt out.

Source:
    Shaharabany et al. 2023, AutoSAM, https://arxiv.org/abs/2306.06370, written from its description.
"""

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

START = 0.05
"""Root mean square of the dense prompt before training; see `PromptHead`."""


class _Merge(nn.Module):
    """Double the side of the deeper feature, concatenate the finer one, and convolve twice."""

    def __init__(self, deep: int, fine: int, outputs: int) -> None:
        super().__init__()
        # As published: nothing between the two convolutions, and both biases although a norm follows.
        self.layers = nn.Sequential(
            nn.Conv2d(deep + fine, outputs, 3, padding=1),
            nn.Conv2d(outputs, outputs, 3, padding=1),
            nn.BatchNorm2d(outputs),
            nn.LeakyReLU(0.01),
        )

    def forward(self, deep: Tensor, fine: Tensor) -> Tensor:
        deep = functional.interpolate(
            deep, size=fine.shape[-2:], mode="bilinear", align_corners=False
        )
        merged: Tensor = self.layers(torch.cat([deep, fine], dim=1))
        return merged


def _convolution(inputs: int, outputs: int, *, separable: bool) -> nn.Sequential:
    if not separable:
        return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1))
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False),
        nn.Conv2d(inputs, outputs, 1),
    )


class PromptHead(nn.Module):
    """Features at strides 4, 8 and 16 → the dense prompt at stride 4, before its tanh.

    The last convolution starts small, so that the prompt does too: SAM's decoder adds the prompt to
    the image embedding, and at the usual scale noise of +-0.4 would drown what the encoder saw, and
    sit where tanh is already bending. It does not start at zero, which would hold back the gradient
    of everything before it.

    Args:
        channels: Of the features, finest first.
        widths: Channels after the merges at strides 8 and 4; None for those of the features there.
        outputs: Channels of the prompt.
        separable: Whether the two last convolutions are depth-wise and 1x1.
    """

    def __init__(
        self,
        channels: tuple[int, int, int],
        *,
        widths: tuple[int, int] | None = None,
        outputs: int = 256,
        separable: bool = False,
    ) -> None:
        super().__init__()
        fine, middle, deep = channels
        middle_width, fine_width = widths or (middle, fine)
        self.merge_middle = _Merge(deep, middle, middle_width)
        self.merge_fine = _Merge(middle_width, fine, fine_width)
        self.final = nn.Sequential(
            _convolution(fine_width, outputs, separable=separable),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            _convolution(outputs, outputs, separable=separable),
        )
        self._start_small(cast(nn.Sequential, self.final[3]))

    @staticmethod
    def _start_small(layers: nn.Sequential) -> None:
        """Give outputs a root mean square of `START` where inputs are normalised and rectified."""
        energy = 0.5  # mean square of a rectified standard normal
        for layer in cast(list[nn.Conv2d], list(layers)):
            inputs = layer.weight[0].numel()
            last = layer is layers[-1]
            scale = START if last else math.sqrt(0.5)
            nn.init.normal_(layer.weight, std=scale / math.sqrt(energy * inputs))
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Three features, finest first → (batch, outputs, side / 4, side / 4)."""
        fine, middle, deep = features
        merged = self.merge_fine(self.merge_middle(deep, middle), fine)
        prompt: Tensor = self.final(merged)
        return prompt
