"""What every loss does first and last: check its tensors, keep to the valid pixels, average per image."""

import torch
from jaxtyping import Float
from torch import Tensor

from autosam.errors import ModelError
from autosam.types import MaskLogits

PerImage = Float[Tensor, " batch"]


def prepared(
    logits: Tensor, target: Tensor, valid: Tensor
) -> tuple[MaskLogits, MaskLogits, MaskLogits]:
    """Logits, truth and validity as float32, the first two 0 where not valid.

    Raises:
        ModelError: A tensor is not (batch, 1, height, width), or they differ.
    """
    if logits.ndim != 4 or logits.shape[1] != 1 or not logits.is_floating_point():
        raise ModelError(
            f"logits must be (batch, 1, height, width) of a floating type, got "
            f"{tuple(logits.shape)} {logits.dtype}. Add the channel with logits[:, None]."
        )
    for name, tensor in (("target", target), ("valid", valid)):
        if tensor.shape != logits.shape or tensor.dtype != torch.bool:
            raise ModelError(
                f"{name} must be bool with the logits' shape {tuple(logits.shape)}, got "
                f"{tuple(tensor.shape)} {tensor.dtype}. Compare with > 0 and add the channel."
            )
    # `where` and not a product: infinity or NaN under the padding must not come through.
    return torch.where(valid, logits.float(), 0.0), (target & valid).float(), valid.float()


def valid_mean(values: MaskLogits, valid: MaskLogits) -> PerImage:
    """Of each image; 0 where nothing is valid."""
    return image_sum(values * valid) / image_sum(valid).clamp(min=1)


def image_sum(values: MaskLogits) -> PerImage:
    """Of each image."""
    return values.flatten(start_dim=1).sum(dim=1)
