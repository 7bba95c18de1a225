"""The network that looks at the image and writes SAM's dense prompt: a backbone and a small head.

Source:
    Shaharabany et al. 2023, AutoSAM, https://arxiv.org/abs/2306.06370, written from its description. The
    backbone ends at stride 16, where the authors carry an unused stride-32 stage along.
"""

import dataclasses
import math
import types
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from autosam.config import PromptSettings
from autosam.data.geometry import PIXEL_MEAN, PIXEL_STD
from autosam.errors import ModelError
from autosam.models.backbones import STRIDES, build_backbone, load_backbone_weights
from autosam.types import Pixels, PromptEmbedding

__all__ = [
    "PRESETS",
    "Preset",
    "PromptHead",
    "PromptNetwork",
    "build_prompt_network",
    "load_backbone_weights",
]

START = 0.05
"""Root mean square of the dense prompt before training; see `PromptHead`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preset:
    """A backbone and the head that suits it."""

    backbone: str
    """timm's name."""
    widths: tuple[int, int] | None = None
    """Channels after the merges at strides 8 and 4; None for those of the backbone there, as published."""
    separable: bool = False
    """Whether the two last convolutions are depth-wise and 1x1, a ninth of the work."""


PRESETS: Mapping[str, Preset] = types.MappingProxyType(
    {
        "hardnet85": Preset(backbone="hardnet85"),
        "hardnet68": Preset(backbone="hardnet68"),
        "hardnet68ds": Preset(backbone="hardnet68ds"),
        "hardnet39ds": Preset(backbone="hardnet39ds"),
        # Lite0 has 40 and 24 channels at these strides, too few to carry 256 outputs.
        "light": Preset(backbone="tf_efficientnet_lite0", widths=(96, 64), separable=True),
    }
)
"""By the name in `prompt.network`; hardnet85 is the paper's."""


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


class PromptNetwork(nn.Module):
    """Normalised pixels → the dense prompt that takes the place of SAM's no-mask embedding.

    Args:
        backbone: A timm feature network with features at strides 4, 8 and 16, and with `feature_info`.
            The mean and standard deviation it expects are read from its `pretrained_cfg`.
        side: Height and width of the input in pixels, a multiple of 16.
        grid: Height and width of SAM's image embedding.
        channels: Channels of SAM's image embedding.
        antialias: How the caller shrinks SAM's square to `side`; kept here, not used.
        widths: See `PromptHead`.
        separable: See `PromptHead`.

    Raises:
        ModelError: The backbone has other strides.
    """

    input_scale: Tensor
    input_shift: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        *,
        side: int,
        grid: int,
        channels: int = 256,
        antialias: bool = True,
        widths: tuple[int, int] | None = None,
        separable: bool = False,
    ) -> None:
        super().__init__()
        info = cast(Any, backbone).feature_info
        strides = tuple(info.reduction())
        if strides != STRIDES:
            raise ModelError(
                f"backbone must have features at strides {STRIDES}, got {strides} "
                f"({type(backbone).__name__}). Choose them with out_indices."
            )
        self.side = side
        self.grid = grid
        self.channels = channels
        self.antialias = antialias
        self.backbone = backbone
        self.head = PromptHead(
            tuple(info.channels()), widths=widths, outputs=channels, separable=separable
        )
        scale, shift = input_affine(getattr(backbone, "pretrained_cfg", None) or {})
        # Not saved: both follow from the backbone's name, like its layers.
        self.register_buffer("input_scale", scale, persistent=False)
        self.register_buffer("input_shift", shift, persistent=False)

    def forward(self, prompt_pixels: Pixels) -> PromptEmbedding:
        """(batch, 3, side, side), normalised as for SAM → (batch, channels, grid, grid) in -1..1.

        Raises:
            ModelError: The pixels have another side.
        """
        if prompt_pixels.shape[-2:] != (self.side, self.side):
            raise ModelError(
                f"prompt_pixels must be {self.side} x {self.side}, got "
                f"{tuple(prompt_pixels.shape)}. Shrink SAM's square to the prompt network's side."
            )
        features = self.backbone(prompt_pixels * self.input_scale + self.input_shift)
        prompt = torch.tanh(self.head(features))
        return functional.interpolate(
            prompt, size=(self.grid, self.grid), mode="bilinear", align_corners=True
        )


def input_affine(settings: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """Scale and shift from SAM's normalisation to the backbone's, each (1, 3, 1, 1).

    SAM's mean and standard deviation are ImageNet's, which most backbones expect: then these are 1
    and 0. EfficientNet-Lite0 expects 0.5 and 0.5.
    """
    sam_mean, sam_std = torch.tensor(PIXEL_MEAN) / 255, torch.tensor(PIXEL_STD) / 255
    mean = torch.tensor(settings["mean"]) if "mean" in settings else sam_mean
    std = torch.tensor(settings["std"]) if "std" in settings else sam_std
    scale, shift = sam_std / std, (sam_mean - mean) / std
    return scale.view(1, 3, 1, 1), shift.view(1, 3, 1, 1)


def build_prompt_network(
    settings: PromptSettings, *, grid: int, channels: int = 256
) -> PromptNetwork:
    """Make the prompt network that the settings describe.

    Args:
        settings: Which backbone, at which side, with which weights.
        grid: Height and width of SAM's image embedding.
        channels: Channels of SAM's image embedding.

    Raises:
        ModelError: The network is unknown, lacks a stride, or has no ImageNet weights to be had.
        MissingPackageError: The package of the ImageNet weights is not installed.
        MissingPathError: The weights are no file.
        CheckpointError: The weights do not belong to this network.
        AccessError: The hub refuses the weights without a login.
    """
    preset = PRESETS.get(settings.network, Preset(backbone=settings.network))
    backbone = build_backbone(
        preset.backbone, side=settings.side, weights=settings.weights, choices=sorted(PRESETS)
    )
    network = PromptNetwork(
        backbone,
        side=settings.side,
        grid=grid,
        channels=channels,
        antialias=settings.antialias,
        widths=preset.widths,
        separable=preset.separable,
    )
    # Channels last: measured 1.5 times as fast forward and back on two cores, and what a GPU prefers.
    return network.to(memory_format=torch.channels_last)
