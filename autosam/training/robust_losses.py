"""Cross-entropies that believe a label less where the network is sure of the opposite.

For training labels that are partly wrong, as the real ones are. Called as those of `losses`; use them in
the place of "bce", beside an overlap loss or alone.
"""

import torch
from torch.nn import functional

from autosam.training.per_image import PerImage, prepared, valid_mean
from autosam.types import LowMask, MaskLogits

BOOTSTRAP_LABEL_SHARE = 0.8
"""Reed et al. 2015: beta of the hard form (0.95 is the soft form's); the rest is the network's decision."""
SYMMETRIC_FORWARD, SYMMETRIC_REVERSE = 0.1, 1.0
"""Wang et al. 2019, for CIFAR-10: alpha on cross-entropy, beta on reverse cross-entropy."""
LOG_OF_ZERO = -4.0
"""Wang et al. 2019: A, which stands for the logarithm of a label's 0."""


def bootstrap_loss(logits: MaskLogits, target: LowMask, valid: LowMask) -> PerImage:
    """Cross-entropy against a label that is mixed with the network's own decision.

    A pixel on which both agree counts as in plain cross-entropy; one on which they disagree pulls with 0.6
    (in doubt) to 0.8 (certain) of that strength.

    Raises:
        ModelError: A tensor is not (batch, 1, height, width), or they differ.

    Source:
        Reed et al. 2015, https://arxiv.org/abs/1412.6596, hard bootstrapping. Not the soft form: with the
        network's probability p as a constant target its gradient is beta * (p - label), which is plain
        cross-entropy at another weight; with the gradient through p it only adds a pull away from
        p = 0.5, whatever the label.
    """
    logits, truth, valid = prepared(logits, target, valid)
    decided = (logits > 0).float()
    believed = BOOTSTRAP_LABEL_SHARE * truth + (1 - BOOTSTRAP_LABEL_SHARE) * decided
    cross_entropy = functional.binary_cross_entropy_with_logits(logits, believed, reduction="none")
    return valid_mean(cross_entropy, valid)


def symmetric_loss(logits: MaskLogits, target: LowMask, valid: LowMask) -> PerImage:
    """Cross-entropy plus its reverse, in which label and probability change places.

    With labels of 0 and 1 the reverse is 4 * |p - label|: its gradient vanishes where the network is sure
    of the opposite, and what is left there is a tenth of plain cross-entropy's.

    Raises:
        ModelError: A tensor is not (batch, 1, height, width), or they differ.

    Source:
        Wang et al. 2019, https://arxiv.org/abs/1908.06112, with two classes.
    """
    logits, truth, valid = prepared(logits, target, valid)
    cross_entropy = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    reverse = -LOG_OF_ZERO * (torch.sigmoid(logits) - truth).abs()
    return valid_mean(SYMMETRIC_FORWARD * cross_entropy + SYMMETRIC_REVERSE * reverse, valid)
