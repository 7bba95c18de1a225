"""The baselines without a SAM, under the same contract: a U-Net and a colour range."""

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np
import segmentation_models_pytorch as smp
import timm
import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as vision

from autosam.data.geometry import PIXEL_MEAN, PIXEL_STD
from autosam.errors import ModelError
from autosam.models.backbones import load_backbone_weights
from autosam.models.contract import MaskNetwork, Need
from autosam.models.prompt_network import PRESETS, input_affine
from autosam.types import ImageEmbedding, MaskLogits, Pixels, Sample


class _PixelNetwork(MaskNetwork):
    """A network that looks at the picture alone, on a square of its own."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = self.low_side = self.prompt_side = side

    @property
    def training_needs(self) -> frozenset[Need]:
        """The picture."""
        return frozenset({"pixels"})

    def forward(
        self,
        pixels: Pixels | None = None,
        *,
        image_embedding: ImageEmbedding | None = None,
        prompt_pixels: Pixels | None = None,
    ) -> MaskLogits:
        """Mask logits at the input's own resolution; embeddings are ignored."""
        if pixels is None:
            raise ModelError(
                f"pixels must be given to {self.method!r}, got None. It has no encoder to do without."
            )
        return self._logits(pixels)

    def _logits(self, pixels: Pixels) -> MaskLogits:
        raise AssertionError("every pixel network computes logits")


class UNet(_PixelNetwork):
    """segmentation-models-pytorch's U-Net on the backbone of a prompt network.

    Args:
        network: A preset of the prompt network or a timm name, so that both sides of a comparison
            may stand on the same backbone.
        side: Height and width of its input, a multiple of 32.
        weights: As `prompt.weights`.

    Raises:
        ModelError: The backbone is unknown or the side does not fit.
    """

    method = "unet"
    input_scale: Tensor
    input_shift: Tensor

    def __init__(self, network: str = "light", *, side: int = 256, weights: str = "") -> None:
        if side % 32:
            raise ModelError(
                f"prompt.side must be a multiple of 32 for the U-Net, got {side}. "
                f"Try {(side // 32 + 1) * 32}."
            )
        super().__init__(side)
        backbone = PRESETS[network].backbone if network in PRESETS else network
        try:
            self.network = smp.Unet(f"tu-{backbone}", encoder_weights=None, classes=1)
        except (RuntimeError, KeyError, ValueError) as error:
            raise ModelError(
                f"prompt.network must be a timm backbone with features, got {network!r} ({error}). "
                f"Choose one of: {', '.join(sorted(PRESETS))}."
            ) from error
        if weights:
            load_backbone_weights(self.network.encoder.model, backbone, weights)
        self.network.to(memory_format=torch.channels_last)  # as the prompt network
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


class HsvThreshold(_PixelNetwork):
    """Water is a range of hue, saturation and value, tuned on training masks.

    On real rivers it is a floor, not a method: measured on Elwha tiles, whose water is grey, every such
    rule stays at an IoU of .20 to .32.

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
        colours = _hsv((pixels * std + mean).clamp(0, 1))
        low = self.range.get_buffer("low").view(3, 1, 1)
        high = self.range.get_buffer("high").view(3, 1, 1)
        inside = ((colours >= low) & (colours <= high)).all(dim=1, keepdim=True)
        return torch.where(inside, 4.0, -4.0)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Nothing trains by gradient."""
        return {}

    def trained_parts(self) -> dict[str, nn.Module]:
        """The range."""
        return {"range": self.range}

    def fit(self, samples: Sequence[Sample], *, side: int = 96, rounds: int = 2) -> float:
        """Tune the range on training samples by coordinate search over quantiles of the water's colour.

        Args:
            samples: With masks; those without any water only count against the rule.
            side: Pictures are shrunk to at most this many pixels a side first.
            rounds: Passes over the six bounds.

        Returns:
            Mean IoU of the rule on these samples, 0..1.
        """
        pictures = [_small(sample, side) for sample in samples if sample.mask is not None]
        water = np.concatenate([colours[truth] for colours, truth in pictures])
        if not len(water):
            raise ModelError("threshold must see water, got samples without any. Add some with.")
        grid = np.quantile(water, np.linspace(0, 1, 21), axis=0)
        low, high = grid[1].copy(), grid[-2].copy()
        best = _range_iou(pictures, low, high)
        for _ in range(rounds):
            for bound in (low, high):
                for channel in range(3):
                    for candidate in grid[:, channel]:
                        kept, bound[channel] = bound[channel], candidate
                        score = _range_iou(pictures, low, high)
                        if score > best:
                            best = score
                        else:
                            bound[channel] = kept
        self.range.get_buffer("low").copy_(torch.from_numpy(low))
        self.range.get_buffer("high").copy_(torch.from_numpy(high))
        return best


def _hsv(colours: Tensor) -> Tensor:
    """(batch, 3, height, width) RGB in 0..1 to hue, saturation and value in 0..1."""
    value, strongest = colours.max(dim=1)
    spread = value - colours.min(dim=1).values
    saturation = torch.where(value > 0, spread / value.clamp_min(1e-8), 0.0)
    red, green, blue = colours.unbind(dim=1)
    safe = spread.clamp_min(1e-8)
    sixth = torch.stack(
        [(green - blue) / safe % 6, (blue - red) / safe + 2, (red - green) / safe + 4]
    )
    hue = sixth.gather(0, strongest.unsqueeze(0)).squeeze(0) / 6
    return torch.stack([torch.where(spread > 0, hue, 0.0), saturation, value], dim=1)


def _small(sample: Sample, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Valid pixels' colours (pixels, 3) in 0..1 and truth (pixels,), from a shrunk picture."""
    scale = min(1.0, side / max(sample.size))
    size = tuple(max(1, round(length * scale)) for length in reversed(sample.size))
    image = cv2.resize(sample.image, size, interpolation=cv2.INTER_AREA)
    areas = (sample.mask, sample.valid_area)
    truth, valid = (
        cv2.resize(np.asarray(area, np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
        for area in areas
    )
    picture = vision.to_dtype(torch.from_numpy(image).permute(2, 0, 1)[None], scale=True)
    colours = _hsv(picture)[0].permute(1, 2, 0).numpy()
    return colours[valid], truth[valid]


def _range_iou(
    pictures: Sequence[tuple[np.ndarray, np.ndarray]], low: np.ndarray, high: np.ndarray
) -> float:
    scores = []
    for colours, truth in pictures:
        inside = ((colours >= low) & (colours <= high)).all(axis=1)
        union = np.count_nonzero(inside | truth)
        scores.append(np.count_nonzero(inside & truth) / union if union else 1.0)
    return float(np.mean(scores))
