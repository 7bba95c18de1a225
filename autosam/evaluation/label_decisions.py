"""Keep a label, replace it by what a model says that has never seen it, or ask a person to look.

It knows arrays only. Pruning is the reference pipeline's: components of fewer than 12 pixels of a
256 x 256 picture are dropped from predictions, never from labels; holes stay.
"""

from typing import Literal, get_args

import cv2
import numpy as np

from autosam.evaluation.label_faults import FaultKind, sure_disagreement

Choice = Literal["keep", "replace", "look"]
CHOICES: tuple[Choice, ...] = get_args(Choice)
KEPT_AGREEMENT = 0.9
"""IoU of label and prediction from which a label is kept: two careful people hardly agree better."""
REPLACED_AGREEMENT = 0.6
"""IoU below which no label is replaced unseen: the two do not even mean the same water."""
TRUSTED_AGREEMENT = 0.7
"""Median IoU of all labels and predictions below which the models are too weak to replace any label."""
CERTAIN = 0.9
"""Probability from which, and 1 minus it up to which, a disagreement in a label to look at still counts."""
MINIMUM_AREA = 12.0
"""Pixels of a component, in a picture of 256 x 256 pixels; scaled with the picture's area."""


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


def decide(agreement: float, fault: FaultKind, *, trusted: bool) -> Choice:
    """Judge a label by how far a model agrees, and by where it confidently does not.

    A label is replaced for one fault only: sure water along its bank. A model that fails on a picture
    fails by whole areas, hardly ever by a band along somebody else's bank; so of a missing channel or of
    false water it cannot be told whether label or model is wrong, and a person must look.

    Args:
        agreement: IoU of label and pruned prediction, 0..1.
        fault: From `find_fault`.
        trusted: Whether the median agreement over all labels is `TRUSTED_AGREEMENT` or more.

    Returns:
        'keep' at `KEPT_AGREEMENT` or more; otherwise 'replace' when the fault is 'bank under-filled', the
        agreement `REPLACED_AGREEMENT` or more and the models trusted; otherwise 'look'.
    """
    if agreement >= KEPT_AGREEMENT:
        return "keep"
    if fault == "bank under-filled" and agreement >= REPLACED_AGREEMENT and trusted:
        return "replace"
    return "look"


def new_label(
    choice: Choice,
    label: np.ndarray,
    predicted: np.ndarray,
    *,
    probability: np.ndarray,
    valid: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """The mask and valid area that follow from a decision.

    'keep' changes nothing. 'replace' takes the prediction where the label counted, in each part of the
    disagreement of which the model is sure (`sure_disagreement`). 'look' keeps the label, and leaves out
    of the valid area where the two disagree without the model being certain (`CERTAIN`). What was not
    valid stays so, with the label that it had.

    Args:
        choice: 'keep', 'replace' or 'look'.
        label: (height, width) bool.
        predicted: (height, width) bool, pruned.
        probability: (height, width) in 0..1, of water.
        valid: (height, width) bool.

    Returns:
        (mask, valid), both (height, width) bool.
    """
    if choice == "replace":
        missing, false = sure_disagreement(probability, label, predicted=predicted, valid=valid)
        return (label | missing) & ~false, valid
    if choice == "look":
        certain = np.maximum(probability, 1 - probability) >= CERTAIN
        return label, valid & ~((label ^ predicted) & ~certain)
    return label, valid
