"""Clicks drawn into SAM's mask prompt, for small SAMs that were trained to find them there.

A token says where a click lies by numbers that attention must learn to compare with those of every cell. That
takes SAM's millions of prompts; a disc in the mask prompt lies where the click lies from the first step on.
Source: discs as the input of interactive segmentation, Benenson et al. 2019 (arXiv 1903.10830).
"""

import dataclasses

import torch
from torch import Tensor

from autosam.types import LAND_POINT, WATER_POINT

CLICK_SETTING = "click_discs"
"""In the `prompt_encoder_config` of a hub `config.json`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClickDiscs:
    """How a SAM wants its clicks drawn."""

    radius: float
    """In cells of the mask prompt."""
    logit: float
    """Of water; land is its negative."""

    def drawn(
        self, mask_logits: Tensor | None, points: Tensor, labels: Tensor, *, low: int
    ) -> Tensor:
        """The mask prompts with a disc on every click; a later click lies over an earlier one.

        Args:
            mask_logits: (count, 1, low, low) of the masks before; None where there is none.
            points: (count, clicks, 2) as (x, y) in cells of the mask, (0, 0) the middle of the first.
            labels: (count, clicks): 1 water, 0 land; others are not drawn.
            low: Height and width of the mask prompt.
        """
        shape = (len(points), 1, low, low)
        drawn = points.new_zeros(shape) if mask_logits is None else mask_logits
        along = torch.arange(low, device=points.device, dtype=points.dtype)
        for click in range(points.shape[1]):
            x, y = points[:, click, 0], points[:, click, 1]
            away = (along[None, None, :] - x[:, None, None]) ** 2
            away = away + (along[None, :, None] - y[:, None, None]) ** 2
            for label, logit in ((WATER_POINT, self.logit), (LAND_POINT, -self.logit)):
                disc = (away <= self.radius**2) & (labels[:, click] == label)[:, None, None]
                drawn = drawn.masked_fill(disc[:, None], logit)
        return drawn
