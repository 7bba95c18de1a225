"""Mask logits drawn along the picture's own edges, by the guided filter."""

import dataclasses

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import functional

from autosam.types import MaskLogits

Levels = Float[Tensor, "batch 3 side side"]
"""Red, green and blue in 0..255."""
Inside = Shaped[Tensor, "batch 1 side side"]
"""True, or 1, where there is picture."""
FineLogits = Float[Tensor, "batch 1 side side"]

GREY = (0.299, 0.587, 0.114)
"""Shares of red, green and blue in luma (ITU-R BT.601)."""
_LEAST = 1e-6
"""Weight of a window below which it holds nothing."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class GuidedFilter:
    """Takes logits from the decoder's grid to the pixels of SAM's square.

    In every window of the grid logits are written as a line in the grey of the picture; the lines, averaged
    over the windows that hold a place, are then read at the grey of the fine pixels. What SAM's upscaling
    leaves as a pattern of its cells is averaged away, and a bank lies where the picture has its edge.

    Args:
        radius: Of a window, in cells of the decoder's grid; 1 or more.
        epsilon: Variance of grey, which is in 0..1, below which a window counts as flat and is averaged.

    Source:
        He and Sun 2015, https://arxiv.org/abs/1505.00996: the filter of He, Sun and Tang 2013 with its lines
        fitted on a coarse grid; the variance here is that of the fine guide, as in the first.
    """

    radius: int
    epsilon: float

    def __call__(
        self, mask_logits: MaskLogits, levels: Levels, *, inside: Inside | None = None
    ) -> FineLogits:
        """Logits at the side of the square.

        Args:
            mask_logits: (batch, 1, low, low); low must divide the square's side.
            levels: (batch, 3, side, side) of the same squares, padding included.
            inside: Where the squares hold picture; no line is fitted to padding. None: everywhere.
        """
        red, green, blue = GREY
        colours = levels.float() / 255
        guide = red * colours[:, :1] + green * colours[:, 1:2] + blue * colours[:, 2:]
        side, cell = guide.shape[-1], guide.shape[-1] // mask_logits.shape[-1]
        inside = torch.ones_like(guide) if inside is None else inside.float()
        weights = functional.avg_pool2d(inside, cell)
        coarse, squared = (
            functional.avg_pool2d(values * inside, cell) / weights.clamp(min=_LEAST)
            for values in (guide, guide * guide)
        )
        slope, offset = self._lines(mask_logits.float(), coarse, squared, weights)
        fine = functional.interpolate(
            torch.cat([slope, offset], dim=1),
            size=(side, side),
            mode="bilinear",
            align_corners=False,
        )
        return fine[:, :1] * guide + fine[:, 1:]

    def _lines(
        self, logits: Tensor, guide: Tensor, squared: Tensor, weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Slope and offset at each cell, averaged over the windows that hold it.

        The variance is that of the fine pixels: noise inside a cell makes a line flat, not a mask speckled.
        """
        total = self._sum(weights).clamp(min=_LEAST)

        def mean(values: Tensor) -> Tensor:
            return self._sum(values * weights) / total

        mean_guide, mean_logits = mean(guide), mean(logits)
        variance = mean(squared) - mean_guide * mean_guide
        covariance = mean(guide * logits) - mean_guide * mean_logits
        slope = covariance / (variance.clamp(min=0) + self.epsilon)
        return mean(slope), mean(mean_logits - slope * mean_guide)

    def _sum(self, values: Tensor) -> Tensor:
        """Over each window but for a constant; beyond the square there is nothing."""
        return functional.avg_pool2d(
            values, 2 * self.radius + 1, stride=1, padding=self.radius, count_include_pad=True
        )
