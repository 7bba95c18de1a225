"""The baselines without a SAM, under the same contract: U-Net, SegFormer and a colour range."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import segmentation_models_pytorch as smp
import timm
import torch
from torch import Tensor, nn

from autosam.data.geometry import PIXEL_MEAN, PIXEL_STD
from autosam.errors import ModelError
from autosam.models.backbones import load_backbone_weights
from autosam.models.pixel_network import PixelNetwork
from autosam.models.prompt_network import PRESETS, input_affine
from autosam.prompts.colour_rules import tune_hsv_range, water_by_colour
from autosam.types import MaskLogits, Pixels, Sample


class _TrainedFromPixels(PixelNetwork):
    """An architecture of segmentation-models-pytorch on the backbone of a prompt network.

    Args:
        network: A preset of the prompt network or a timm name, so that both sides of a comparison
            may stand on the same backbone.
        side: Height and width of its input, a multiple of 32.
        weights: As `prompt.weights`.

    Raises:
        ModelError: The backbone is unknown or the side does not fit.
    """

    architecture: Callable[..., nn.Module]
    input_scale: Tensor
    input_shift: Tensor

    def __init__(self, network: str = "light", *, side: int = 256, weights: str = "") -> None:
        if side % 32:
            raise ModelError(
                f"prompt.side must be a multiple of 32 for {self.method!r}, got {side}. "
                f"Try {(side // 32 + 1) * 32}."
            )
        super().__init__(side)
        backbone = PRESETS[network].backbone if network in PRESETS else network
        try:
            built: Any = type(self).architecture(f"tu-{backbone}", encoder_weights=None, classes=1)
        except (RuntimeError, KeyError, ValueError) as error:
            raise ModelError(
                f"prompt.network must be a timm backbone with features, got {network!r} ({error}). "
                f"Choose one of: {', '.join(sorted(PRESETS))}."
            ) from error
        if weights:
            load_backbone_weights(built.encoder.model, backbone, weights)
        self.network: nn.Module = built.to(
            memory_format=torch.channels_last
        )  # as the prompt network
        settings = timm.get_pretrained_cfg(backbone)
        scale, shift = input_affine(dataclasses.asdict(settings) if settings else {})
        self.register_buffer("input_scale", scale, persistent=False)
        self.register_buffer("input_shift", shift, persistent=False)

    def _logits(self, pixels: Pixels) -> MaskLogits:
        logits: Tensor = self.network(pixels * self.input_scale + self.input_shift)
        return logits

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """All of it."""
        return {"network": list(self.network.parameters())}

    def trained_parts(self) -> dict[str, nn.Module]:
        """All of it."""
        return {"network": self.network}


class UNet(_TrainedFromPixels):
    """The U-Net (Ronneberger et al. 2015), arguments as above."""

    method = "unet"
    architecture = staticmethod(smp.Unet)


class SegFormer(_TrainedFromPixels):
    """The all-MLP decoder of SegFormer (Xie et al. 2021), arguments as above."""

    method = "segformer"
    architecture = staticmethod(smp.Segformer)


class HsvThreshold(PixelNetwork):
    """Water is a range of hue, saturation and value, tuned on training masks.

    On real rivers it is a floor, not a method: on Elwha tiles, whose water is grey, every
    fixed range stays at an IoU of .20 to .32.

    Args:
        side: Height and width at which colours are looked at.
    """

    method = "threshold"

    def __init__(self, *, side: int = 256) -> None:
        super().__init__(side)
        self.range = nn.Module()
        self.range.register_buffer("low", torch.zeros(3))
        self.range.register_buffer("high", torch.ones(3))

    def _logits(self, pixels: Pixels) -> MaskLogits:
        mean = pixels.new_tensor(PIXEL_MEAN).view(3, 1, 1) / 255
        std = pixels.new_tensor(PIXEL_STD).view(3, 1, 1) / 255
        colours = (pixels.detach() * std + mean).clamp(0, 1).permute(0, 2, 3, 1).float().cpu()
        low, high = (self.range.get_buffer(bound).tolist() for bound in ("low", "high"))
        found = [water_by_colour(one, low=low, high=high) for one in colours.numpy()]
        inside = torch.from_numpy(np.stack(found))[:, None].to(pixels.device)
        return torch.where(inside, 4.0, -4.0)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Nothing trains by gradient."""
        return {}

    def trained_parts(self) -> dict[str, nn.Module]:
        """The range."""
        return {"range": self.range}

    def fit(self, samples: Sequence[Sample], *, side: int = 96, rounds: int = 2) -> float:
        """Tune the range on training samples by a search over quantiles of the water's colour.

        Args:
            samples: With masks; those without any water only count against the rule.
            side: Pictures are shrunk to at most this many pixels a side first.
            rounds: Passes over hue, saturation and value.

        Returns:
            Mean IoU of the rule on these samples, 0..1.

        Raises:
            ModelError: No sample has water.
        """
        low, high, score = tune_hsv_range(samples, side=side, rounds=rounds, smooth=True)
        self.range.get_buffer("low").copy_(torch.from_numpy(low))
        self.range.get_buffer("high").copy_(torch.from_numpy(high))
        return score
