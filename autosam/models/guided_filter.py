"""Mask logits drawn along the picture's own edges, by the guided filter."""

import dataclasses

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from autosam.types import MaskLogits

Levels = Float[Tensor, "batch 3 side side"]
"""Red, green and blue in 0..255."""
FineLogits = Float[Tensor, "batch 1 side side"]

GREY = (0.299, 0.587, 0.114)
"""Shares of red, green and blue in luma (ITU-R BT.601)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class GuidedFilter:
    """Takes a decoder's grid of logits to the side of the square, where a pixel of it was a cell before.

    In every window of the grid logits are written as a line in the grey of the picture; the lines, averaged
    over the windows that hold a place, are then read at the grey of the fine pixels. What SAM's upscaling
    leaves as a pattern of its cells is averaged away, and a bank lies where the picture has its edge.

    Args:
        radius: Of a window, in cells of the decoder's grid; 1 or more.
        epsilon: Variance of grey, which is in 0..1, below which a window counts as flat and is averaged.

    Source:
        He, Sun and Tang 2013, https://arxiv.org/abs/1505.00996 for the fast form with a coarse grid.
    """

    radius: int
    epsilon: float

    def __call__(self, mask_logits: MaskLogits, levels: Levels) -> FineLogits:
        """Logits at the side of the square.

        Args:
            mask_logits: (batch, 1, low, low); low must divide the square's side.
            levels: (batch, 3, side, side) of the same squares, padding included.
        """
        red, green, blue = GREY
        colours = levels.float() / 255
        guide = red * colours[:, :1] + green * colours[:, 1:2] + blue * colours[:, 2:]
        side, low_side = guide.shape[-1], mask_logits.shape[-1]
        coarse = functional.avg_pool2d(guide, side // low_side)
        logits = mask_logits.float()
        mean_guide, mean_logits = self._mean(coarse), self._mean(logits)
        variance = self._mean(coarse * coarse) - mean_guide * mean_guide
        covariance = self._mean(coarse * logits) - mean_guide * mean_logits
        slope = covariance / (variance.clamp(min=0) + self.epsilon)
        offset = mean_logits - slope * mean_guide
        lines = torch.cat([self._mean(slope), self._mean(offset)], dim=1)
        fine = functional.interpolate(
            lines, size=(side, side), mode="bilinear", align_corners=False
        )
        return fine[:, :1] * guide + fine[:, 1:]

    def _mean(self, values: Tensor) -> Tensor:
        """Over each window; at the edge over what of it lies inside."""
        return functional.avg_pool2d(
            values, 2 * self.radius + 1, stride=1, padding=self.radius, count_include_pad=False
        )
