"""The network that looks at the image and writes SAM's dense prompt: a backbone and a small head.

Source:
    Shaharabany et al. 2023, AutoSAM, https://arxiv.org/abs/2306.06370, written from its description. The
    backbone ends at stride 16, where the authors carry an unused stride-32 stage along.
"""

import dataclasses
import types
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from autosam.config import PromptSettings
from autosam.data.geometry import PIXEL_MEAN, PIXEL_STD
from autosam.errors import ModelError
from autosam.models.backbones import STRIDES, build_backbone, load_backbone_weights
from autosam.models.prompt_head import PromptHead
from autosam.types import Bands, Pixels, PromptEmbedding

__all__ = [
    "PRESETS",
    "Preset",
    "PromptHead",
    "PromptNetwork",
    "build_prompt_network",
    "load_backbone_weights",
]

FARTHEST = 10.0
"""Deviations from its mean at which the value of a band is cut off: a broken sensor's or another region's."""


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


class PromptNetwork(nn.Module):
    """Normalised pixels, and perhaps bands → the dense prompt in the place of SAM's no-mask embedding.

    Bands are normalised here, by statistics that are saved with the weights: see
    `set_band_statistics`. Until they are set, the bands are read as they are.

    Args:
        backbone: A timm feature network with features at strides 4, 8 and 16, and with `feature_info`;
            it reads three channels and one more for each band. The mean and standard deviation it
            expects of the three are read from its `pretrained_cfg`.
        side: Height and width of the input in pixels, a multiple of 16.
        grid: Height and width of SAM's image embedding.
        channels: Channels of SAM's image embedding.
        antialias: How the caller shrinks SAM's square to `side`; kept here, not used.
        widths: See `PromptHead`.
        separable: See `PromptHead`.
        bands: Names of what it reads besides red, green and blue, in this order.

    Raises:
        ModelError: The backbone has other strides.
    """

    input_scale: Tensor
    input_shift: Tensor
    band_mean: Tensor
    """(bands,) float32, in the bands' own units; only with bands, as the next."""
    band_std: Tensor

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
        bands: Sequence[str] = (),
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
        self.bands = tuple(bands)
        self.backbone = backbone
        self.head = PromptHead(
            tuple(info.channels()), widths=widths, outputs=channels, separable=separable
        )
        scale, shift = input_affine(getattr(backbone, "pretrained_cfg", None) or {})
        # Not saved: both follow from the backbone's name, like its layers.
        self.register_buffer("input_scale", scale, persistent=False)
        self.register_buffer("input_shift", shift, persistent=False)
        if self.bands:
            self.register_buffer("band_mean", torch.zeros(len(self.bands)))
            self.register_buffer("band_std", torch.ones(len(self.bands)))

    def set_band_statistics(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Say what is normal for each band: the training set's mean and standard deviation, in its unit.

        Raises:
            ModelError: Not one of each for every band, not finite, or a deviation not above 0.
        """
        means, deviations = [float(value) for value in mean], [float(value) for value in std]
        fits = len(means) == len(deviations) == len(self.bands) > 0
        if not fits or not np.isfinite(means + deviations).all() or min(deviations) <= 0:
            raise ModelError(
                f"statistics must be a finite mean and a deviation above 0 for each of "
                f"{len(self.bands)} bands ({', '.join(self.bands) or 'none'}), got mean {means} and "
                f"std {deviations}. Take them from band_statistics."
            )
        self.band_mean.copy_(torch.tensor(means))
        self.band_std.copy_(torch.tensor(deviations))

    def forward(self, prompt_pixels: Pixels, prompt_bands: Bands | None = None) -> PromptEmbedding:
        """Pixels, and bands where it reads them → the prompt.

        Args:
            prompt_pixels: (batch, 3, side, side), normalised as for SAM.
            prompt_bands: (batch, bands, side, side), in their own units. NaN counts as the mean.

        Returns:
            (batch, channels, grid, grid) in -1..1.

        Raises:
            ModelError: The pixels have another side, or the bands another shape than is expected.
        """
        if prompt_pixels.shape[-2:] != (self.side, self.side):
            raise ModelError(
                f"prompt_pixels must be {self.side} x {self.side}, got "
                f"{tuple(prompt_pixels.shape)}. Shrink SAM's square to the prompt network's side."
            )
        pixels = prompt_pixels * self.input_scale + self.input_shift
        bands = self._normalised_bands(prompt_bands, batch=pixels.shape[0])
        features = self.backbone(
            pixels if bands is None else torch.cat([pixels, bands.to(pixels.dtype)], dim=1)
        )
        prompt = torch.tanh(self.head(features))
        return functional.interpolate(
            prompt, size=(self.grid, self.grid), mode="bilinear", align_corners=True
        )

    def _normalised_bands(self, bands: Bands | None, *, batch: int) -> Bands | None:
        """(value - mean) / std, within `FARTHEST`; in float32, which heights and temperatures need."""
        expected = (batch, len(self.bands), self.side, self.side) if self.bands else None
        given = None if bands is None else tuple(bands.shape)
        if given != expected:
            names = ", ".join(self.bands) or "no bands"
            remedy = (
                "Open the data with these bands." if self.bands else "Name them in prompt.bands."
            )
            raise ModelError(
                f"prompt_bands must be {expected} for a network that reads {names}, got {given}. {remedy}"
            )
        if bands is None:
            return None
        mean, std = (v.float().view(1, -1, 1, 1) for v in (self.band_mean, self.band_std))
        normalised = (bands.float() - mean) / std
        return normalised.nan_to_num(nan=0.0).clamp(-FARTHEST, FARTHEST)


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
        preset.backbone,
        side=settings.side,
        weights=settings.weights,
        bands=len(settings.bands),
        choices=sorted(PRESETS),
    )
    network = PromptNetwork(
        backbone,
        side=settings.side,
        grid=grid,
        channels=channels,
        antialias=settings.antialias,
        widths=preset.widths,
        separable=preset.separable,
        bands=settings.bands,
    )
    # Channels last: measured 1.5 times as fast forward and back on two cores, and what a GPU prefers.
    return network.to(memory_format=torch.channels_last)
