"""Mask logits and truth to numbers to minimise, image by image, always in float32.

Every loss is called as ``loss(logits, target, valid)`` with three tensors of shape
(batch, 1, low, low) and gives one value per image. Where `valid` is False nothing matters: neither the
value nor the gradient depends on what the logits or the target are there, so padding may be appended
without any change. An image without a single valid pixel gives 0 with gradient 0.
"""

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from autosam.errors import ConfigError, did_you_mean
from autosam.training.per_image import PerImage, image_sum, prepared, valid_mean
from autosam.training.robust_losses import bootstrap_loss, symmetric_loss
from autosam.types import LowMask, MaskLogits, PredictedIou

FOCAL_ALPHA, FOCAL_GAMMA = 0.25, 2.0
"""Lin et al. 2017, section 4.1: weight of water against land, and how little easy pixels count."""
TVERSKY_FALSE_WATER, TVERSKY_MISSED_WATER = 0.3, 0.7
"""Salehi et al. 2017: missing water costs more than inventing it."""
SMOOTH = 1.0
"""Added above and below each ratio, so that an image without water still yields a gradient."""
SKELETON_STEPS = 5
"""Erosions of the soft skeleton: banks up to about ten cells apart are thinned to a line."""


def bce_loss(logits: MaskLogits, target: LowMask, valid: LowMask) -> PerImage:
    """Cross-entropy of each pixel, averaged over the valid ones.

    Raises:
        ModelError: A tensor is not (batch, 1, height, width), or they differ.
    """
    logits, truth, valid = prepared(logits, target, valid)
    cross_entropy = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    return valid_mean(cross_entropy, valid)


def dice_loss(logits: MaskLogits, target: LowMask, valid: LowMask) -> PerImage:
    """Overlap that stays useful when most pixels are land.

    Returns:
        1 - Dice of the probabilities, between 0 (perfect) and 1.

    Raises:
        ModelError: A tensor is not (batch, 1, height, width), or they differ.

    Source:
        Milletari et al. 2016 (V-Net), https://arxiv.org/abs/1606.04797, with plain sums below the
        line where the paper squares.
    """
    logits, truth, valid = prepared(logits, target, valid)
    probability = torch.sigmoid(logits) * valid
    both = image_sum(probability * truth)
    either = image_sum(probability) + image_sum(truth)
    return 1 - (2 * both + SMOOTH) / (either + SMOOTH)


def tversky_loss(logits: MaskLogits, target: LowMask, valid: LowMask) -> PerImage:
    """Overlap in which missed water costs more than invented water.

    Returns:
        Between 0 (perfect) and 1.

    Raises:
        ModelError: A tensor is not (batch, 1, height, width), or they differ.

    Source:
        Salehi et al. 2017, https://arxiv.org/abs/1706.05721: alpha 0.3 on false positives, beta 0.7
        on false negatives.
    """
    logits, truth, valid = prepared(logits, target, valid)
    probability = torch.sigmoid(logits) * valid
    both = image_sum(probability * truth)
    invented = image_sum(probability * (1 - truth))
    missed = image_sum((1 - probability) * truth)
    whole = both + TVERSKY_FALSE_WATER * invented + TVERSKY_MISSED_WATER * missed
    return 1 - (both + SMOOTH) / (whole + SMOOTH)


def focal_loss(logits: MaskLogits, target: LowMask, valid: LowMask) -> PerImage:
    """Cross-entropy in which pixels that are already right hardly count.

    Raises:
        ModelError: A tensor is not (batch, 1, height, width), or they differ.

    Source:
        Lin et al. 2017, https://arxiv.org/abs/1708.02002, equation 5, averaged over valid pixels
        where the paper divides by the number of anchors.
    """
    logits, truth, valid = prepared(logits, target, valid)
    cross_entropy = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    wrong = -torch.expm1(-cross_entropy)  # 1 - p of the true class, exact where p is near 1
    weight = FOCAL_ALPHA * truth + (1 - FOCAL_ALPHA) * (1 - truth)
    return valid_mean(weight * wrong**FOCAL_GAMMA * cross_entropy, valid)


def cldice_loss(logits: MaskLogits, target: LowMask, valid: LowMask) -> PerImage:
    """Dice of centre lines: a river cut in two costs, however narrow the gap.

    Returns:
        Between 0 (perfect) and 1. Use it beside an overlap loss, never alone.

    Raises:
        ModelError: A tensor is not (batch, 1, height, width), or they differ.

    Source:
        Shit et al. 2021, https://arxiv.org/abs/2003.07311, algorithms 1 and 2. Erosion and dilation
        look at valid neighbours only, so a river reaches the picture's edge unthinned.
    """
    logits, truth, valid = prepared(logits, target, valid)
    probability = torch.sigmoid(logits) * valid
    line, true_line = _soft_skeleton(probability, valid), _soft_skeleton(truth, valid)
    precision = (image_sum(line * truth) + SMOOTH) / (image_sum(line) + SMOOTH)
    recall = (image_sum(true_line * probability) + SMOOTH) / (image_sum(true_line) + SMOOTH)
    return 1 - 2 * precision * recall / (precision + recall)


LOSSES: dict[str, Callable[[MaskLogits, LowMask, LowMask], PerImage]] = {
    "bce": bce_loss,
    "dice": dice_loss,
    "focal": focal_loss,
    "tversky": tversky_loss,
    "cldice": cldice_loss,
    "bootstrap": bootstrap_loss,
    "symmetric": symmetric_loss,
}


def total_loss(
    logits: MaskLogits, target: LowMask, valid: LowMask, weights: Mapping[str, float]
) -> tuple[Float[Tensor, ""], dict[str, Float[Tensor, ""]]]:
    """The weighted sum of some losses, averaged over the images of a batch.

    All images count alike, also those without a valid pixel, so that the mean of two half batches
    is the mean of the whole.

    Args:
        logits: Before the sigmoid, of any floating type.
        target: True for water.
        valid: False on padding and where the label must be ignored.
        weights: By name in `LOSSES`; terms of weight 0 are left out.

    Returns:
        The scalar to minimise, and each term's own mean before weighting, detached.

    Raises:
        ModelError: A tensor is not (batch, 1, height, width), or they differ.
        ConfigError: A term is unknown, or none has a weight above 0.
    """
    for name in weights:
        if name not in LOSSES:
            raise ConfigError(f"train.loss.{name} is not a loss. {did_you_mean(name, LOSSES)}")
    chosen = {name: weight for name, weight in weights.items() if weight > 0}
    if not chosen:
        raise ConfigError(
            f"train.loss must have a term above 0, got {dict(weights)}. Try {{bce: 1, dice: 1}}."
        )
    terms = {name: LOSSES[name](logits, target, valid).mean() for name in chosen}
    total = torch.stack([chosen[name] * term for name, term in terms.items()]).sum()
    return total, {name: term.detach() for name, term in terms.items()}


def iou_head_loss(
    predicted: PredictedIou, logits: MaskLogits, target: LowMask, valid: LowMask
) -> Float[Tensor, ""]:
    """Squared error of the IoU that the decoder predicts for its own masks, averaged over the batch.

    The masks are taken as they are, at a logit of 0: no gradient reaches them through their IoU.

    Raises:
        ModelError: A tensor is not (batch, 1, height, width), or they differ.

    Source:
        Kirillov et al. 2023 (SAM), https://arxiv.org/abs/2304.02643, appendix A.
    """
    logits, truth, valid = prepared(logits.detach(), target, valid)
    water = (logits > 0).float() * valid
    both = image_sum(water * truth)
    either = image_sum(water) + image_sum(truth) - both
    iou = torch.where(either > 0, both / either.clamp(min=1), 1.0)
    return functional.mse_loss(predicted.float(), iou)


def _soft_skeleton(water: MaskLogits, valid: MaskLogits) -> MaskLogits:
    """Centre lines of a soft mask: what opening takes away at each of several erosions."""
    skeleton = functional.relu(water - _opened(water, valid))
    for _ in range(SKELETON_STEPS):
        water = _eroded(water, valid)
        ridge = functional.relu(water - _opened(water, valid))
        skeleton = skeleton + functional.relu(ridge - skeleton * ridge)
    return skeleton


def _opened(water: MaskLogits, valid: MaskLogits) -> MaskLogits:
    return functional.max_pool2d(_eroded(water, valid), 3, stride=1, padding=1) * valid


def _eroded(water: MaskLogits, valid: MaskLogits) -> MaskLogits:
    """Least of the 3 x 3 valid neighbours; 0 where not valid."""
    seen = torch.where(valid > 0, water, 1.0)  # the largest value never is the least
    return -functional.max_pool2d(-seen, 3, stride=1, padding=1) * valid
