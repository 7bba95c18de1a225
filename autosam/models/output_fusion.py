"""What transformers' `SamModel` returns for several queries of a picture, fused to one mask a picture."""

from typing import Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from autosam.errors import ConfigError, ModelError
from autosam.types import PADDING_POINT, MaskLogits


class MasksOfQueries(Protocol):
    """Returned for ``multimask_output=False``."""

    pred_masks: Float[Tensor, "batch queries 1 low low"]
    iou_scores: Float[Tensor, "batch queries 1"]


def check_multi_mask(multi_mask: str) -> str:
    """The way to fuse, once it is known to be one.

    Raises:
        ConfigError: It is neither 'mean' nor 'best'.
    """
    if multi_mask not in ("mean", "best"):
        raise ConfigError(
            f"multi_mask must be 'mean' or 'best', got {multi_mask!r}. Leave it out for the mean."
        )
    return multi_mask


def fuse_masks(
    outputs: MasksOfQueries,
    multi_mask: str = "mean",
    *,
    input_labels: Int[Tensor, "batch queries points"] | None = None,
) -> MaskLogits:
    """The masks of each picture's queries as one.

    Queries of padding points alone never enter; the article lets them. A picture that has no others, being
    without water, keeps theirs, which are all equal. Queries of land points enter, as in the article.

    Args:
        outputs: Of ``SamModel`` with ``multimask_output=False``.
        multi_mask: 'mean' of the logits, or 'best' for those of the highest predicted IoU.
        input_labels: The batch's, when it was asked with points.

    Returns:
        Logits (batch, 1, low, low), the shape that losses take. A loss for (batch, channels, height, width)
        that is given (batch, height, width) takes rows for channels: it does not fail, and means nothing.

    Raises:
        ConfigError: `multi_mask` is neither.
        ModelError: The outputs hold several masks a query, or the labels are not theirs.
    """
    check_multi_mask(multi_mask)
    logits, scores = outputs.pred_masks, outputs.iou_scores
    if logits.ndim != 5 or logits.shape[2] != 1 or scores.shape != logits.shape[:3]:
        raise ModelError(
            "outputs must hold one mask a query (batch, queries, 1, height, width), got "
            f"{tuple(logits.shape)}. Call the model with multimask_output=False."
        )
    asked = _asked(logits, input_labels)
    if multi_mask == "best":
        best = scores[:, :, 0].masked_fill(~asked, -torch.inf).argmax(dim=1)
        return logits[torch.arange(len(logits), device=logits.device), best]
    kept = torch.where(asked[:, :, None, None, None], logits, 0.0)
    return kept.sum(dim=1) / asked.sum(dim=1)[:, None, None, None]


def _asked(logits: Tensor, input_labels: Tensor | None) -> Bool[Tensor, "batch queries"]:
    """Which queries enter: those with a point other than padding, or all where there are none such."""
    if input_labels is None:
        return torch.ones(logits.shape[:2], dtype=torch.bool, device=logits.device)
    if input_labels.ndim != 3 or input_labels.shape[:2] != logits.shape[:2]:
        raise ModelError(
            f"input_labels must be (batch, queries, points) of the outputs' {tuple(logits.shape[:2])}, "
            f"got {tuple(input_labels.shape)}. Give those of the same batch."
        )
    asked = (input_labels != PADDING_POINT).any(dim=2)
    return asked | ~asked.any(dim=1, keepdim=True)
