"""Keep a label, replace it by what a model says that has never seen it, or ask a person to look.

It knows arrays only. Pruning is the reference pipeline's: components of fewer than 12 pixels of a
256 x 256 picture are dropped from predictions, never from labels; holes stay.
"""

import dataclasses
from typing import Literal, get_args

import cv2
import numpy as np

from autosam.overlap import mask_iou

Choice = Literal["keep", "replace", "look"]
CHOICES: tuple[Choice, ...] = get_args(Choice)
AGREEMENT = 0.85
"""IoU of label and prediction from which a label is kept: two careful people do not agree better."""
CONFIDENT = 0.9
"""Probability from which, and 1 minus it up to which, the model is sure of a pixel."""
SURE_SHARE = 0.5
"""Of the disagreement the model must be sure of this much to replace a label unseen."""
MINIMUM_AREA = 12.0
"""Pixels of a component, in a picture of 256 x 256 pixels; scaled with the picture's area."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelDecision:
    """What becomes of a label, and the two numbers from which that follows."""

    choice: Choice
    agreement: float
    """IoU of label and pruned prediction over valid pixels, 0..1."""
    sureness: float
    """Share of the disagreeing pixels of which the model is sure, 0..1; 1 when nothing disagrees."""


def prune(mask: np.ndarray, *, minimum_area: float = MINIMUM_AREA) -> np.ndarray:
    """Drop small 8-connected components; a mask without water stays empty.

    Args:
        mask: (height, width) bool, True for water.
        minimum_area: Pixels in a picture of 256 x 256; a component of exactly as many stays. 0 keeps all.

    Returns:
        (height, width) bool.
    """
    least = minimum_area * mask.size / 256**2
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(
        mask.astype(np.uint8), connectivity=8
    )
    large = statistics[:, cv2.CC_STAT_AREA] >= least
    large[0] = False
    pruned: np.ndarray = large[labels]
    return pruned


def decide(
    label: np.ndarray, predicted: np.ndarray, *, probability: np.ndarray, valid: np.ndarray
) -> LabelDecision:
    """Judge a label by agreement and confidence.

    Args:
        label: (height, width) bool.
        predicted: (height, width) bool, pruned.
        probability: (height, width) in 0..1, of water.
        valid: (height, width) bool.

    Returns:
        'keep' at an agreement of `AGREEMENT` or more. Otherwise 'replace' when the model is sure
        (`CONFIDENT`) of `SURE_SHARE` of the disagreeing pixels or more, and 'look' when it is not.
    """
    agreement = mask_iou(predicted, label, valid=valid)
    differing = (label ^ predicted) & valid
    total = np.count_nonzero(differing)
    sureness = np.count_nonzero(differing & sure(probability)) / total if total else 1.0
    choice: Choice = "keep"
    if agreement < AGREEMENT:
        choice = "replace" if sureness >= SURE_SHARE else "look"
    return LabelDecision(choice=choice, agreement=agreement, sureness=sureness)


def sure(probability: np.ndarray) -> np.ndarray:
    """(height, width) bool, where the model is sure of water or of land."""
    certain: np.ndarray = np.maximum(probability, 1 - probability) >= CONFIDENT
    return certain


def new_label(
    choice: str,
    label: np.ndarray,
    predicted: np.ndarray,
    *,
    probability: np.ndarray,
    valid: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """(mask, valid) after a decision, both (height, width) bool.

    'keep' changes nothing. 'replace' takes the prediction where the label counted. 'look' keeps the
    label, but leaves out of the valid area where the two disagree and the model is not sure. What was
    not valid stays so, with the label that it had.
    """
    if choice == "replace":
        return np.where(valid, predicted, label), valid
    if choice == "look":
        return label, valid & ~((label ^ predicted) & ~sure(probability))
    return label, valid
