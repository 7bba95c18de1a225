"""What may be wrong with a label, told from what a model says that has never seen it.

It knows arrays only: a probability map, a label, and where the label counts.
"""

import dataclasses
from typing import Literal, NamedTuple, get_args

import cv2
import numpy as np
from scipy import ndimage

from autosam.errors import DataError

FaultKind = Literal["bank under-filled", "channel missing", "false water", "none"]
FAULT_KINDS: tuple[FaultKind, ...] = get_args(FaultKind)
SURE = 0.8
"""Probability of water from which missing water counts, and 1 minus it up to which false water does."""
SMALLEST_PART = 12.0
"""Pixels of a part that counts, in a picture of 256 x 256; scaled with the picture's area."""
LEAST_SHARE = 0.05
"""Of the water of label and model together: less than this is no fault."""
LEAST_AREA = 0.002
"""Of the valid pixels: less than this is no fault either, so that a dry picture is not one for a speck."""
TOUCHING = 2.0
"""Pixels from the label's water up to which a part still lies along its bank."""
BANK_WEIGHT = 20.0
"""Of the bank share against the loss, in the ranking."""
_PROBABILITY_STEP = 1 / 255
"""Probabilities are kept from 0 and 1 by as much, for they are stored in a byte each."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelFault:
    """The likely fault of one label, and the pixels that speak for each kind."""

    kind: FaultKind
    bank_pixels: int
    """Water missing from the label along its bank."""
    channel_pixels: int
    """Water missing from the label in branches and in channels of their own."""
    false_pixels: int
    """Water of the label that the model is sure is land."""
    water_pixels: int
    """Water of the label or of the model: what the shares are of."""

    @property
    def shares(self) -> dict[str, float]:
        """``bank_share``, ``channel_share`` and ``false_share``, each in 0..1."""
        whole = max(self.water_pixels, 1)
        return {
            "bank_share": self.bank_pixels / whole,
            "channel_share": self.channel_pixels / whole,
            "false_share": self.false_pixels / whole,
        }


def label_loss(probability: np.ndarray, label: np.ndarray, *, valid: np.ndarray) -> float:
    """Mean binary cross-entropy of the label under the model's probabilities; 0 without a valid pixel.

    Args:
        probability: (height, width) in 0..1, of water.
        label: (height, width) bool.
        valid: (height, width) bool, where the label counts.

    Raises:
        DataError: The arrays are not of one shape.
    """
    _check_shapes(probability, label, valid)
    if not valid.any():
        return 0.0
    of_label = np.where(label, probability, 1 - probability)[valid]
    return float(-np.log(np.maximum(of_label, _PROBABILITY_STEP)).mean())


def suspicion(loss: float, fault: LabelFault) -> float:
    """What labels are ranked by: the loss, and `BANK_WEIGHT` times the share missing along the bank.

    A high loss says that label and model differ, but not who is wrong, and a model that fails on a
    picture fails by whole areas. Water that hugs the bank of a label is hardly ever the model's fault.
    On 130 real pictures, 37 of them spoiled, the loss alone had an average precision of .40, with a
    Dice term less (.34), with this term .82; on drawn scenes, with a weaker model, .22 and .25.

    Args:
        loss: From `label_loss`.
        fault: From `find_fault`.
    """
    return loss + BANK_WEIGHT * fault.shares["bank_share"]


def find_fault(
    probability: np.ndarray, label: np.ndarray, *, threshold: float, valid: np.ndarray
) -> LabelFault:
    """Name the likely fault of a label.

    Missing water (the model's, outside the label) is taken part by part, where the model is sure of a
    part on the whole. A part is a band along the bank while it touches the label's water and reaches no
    farther from it than the water there is wide; any other is a channel. The kind is that of the most
    pixels, if they are more than `LEAST_SHARE` of the water and `LEAST_AREA` of the picture.

    Args:
        probability: (height, width) in 0..1, of water.
        label: (height, width) bool.
        threshold: From which the model calls a pixel water.
        valid: (height, width) bool, where the label counts.

    Raises:
        DataError: The arrays are not of one shape.
    """
    _check_shapes(probability, label, valid)
    predicted = probability >= threshold
    water = (predicted | label) & valid
    missing = _parts_of(predicted & ~label & valid, certainty=probability)
    is_channel = _is_channel(missing, label=label, water=predicted | label)
    false = _parts_of(label & ~predicted & valid, certainty=1 - probability)
    counts: dict[FaultKind, int] = {
        "bank under-filled": int(missing.areas[~is_channel].sum()),
        "channel missing": int(missing.areas[is_channel].sum()),
        "false water": int(false.areas.sum()),
    }
    water_pixels = int(np.count_nonzero(water))
    least = max(LEAST_SHARE * water_pixels, LEAST_AREA * np.count_nonzero(valid))
    largest = max(counts, key=lambda kind: counts[kind])
    return LabelFault(
        kind=largest if counts[largest] > least else "none",
        bank_pixels=counts["bank under-filled"],
        channel_pixels=counts["channel missing"],
        false_pixels=counts["false water"],
        water_pixels=water_pixels,
    )


def sure_disagreement(
    probability: np.ndarray, label: np.ndarray, *, predicted: np.ndarray, valid: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Where the label lacks water, and where it has false water, by parts of which the model is sure.

    Whole parts, not single pixels: a probability that flickers about a limit would leave a label full of
    holes.

    Args:
        probability: (height, width) in 0..1, of water.
        label: (height, width) bool.
        predicted: (height, width) bool.
        valid: (height, width) bool, where the label counts.

    Returns:
        (missing, false), both (height, width) bool.
    """
    missing = _parts_of(predicted & ~label & valid, certainty=probability)
    false = _parts_of(label & ~predicted & valid, certainty=1 - probability)
    return missing.area(), false.area()


class _Parts(NamedTuple):
    """Some of the 8-connected components of an area."""

    labels: np.ndarray
    """(height, width), each component's number."""
    numbers: np.ndarray
    """Of the components that count."""
    areas: np.ndarray
    """Their pixels."""

    def area(self) -> np.ndarray:
        """(height, width) bool, all of them."""
        kept = np.zeros(int(self.labels.max()) + 1, dtype=bool)
        kept[self.numbers] = True
        area: np.ndarray = kept[self.labels]
        return area


def _parts_of(area: np.ndarray, *, certainty: np.ndarray) -> _Parts:
    """Components that are large enough, and of which the model is sure on the whole."""
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(
        area.astype(np.uint8), connectivity=8
    )
    areas = statistics[:, cv2.CC_STAT_AREA]
    numbers = np.flatnonzero(areas >= SMALLEST_PART * area.size / 256**2)
    numbers = numbers[numbers > 0]
    certain = np.asarray(ndimage.mean(certainty, labels, numbers)) >= SURE
    numbers = numbers[certain] if numbers.size else numbers
    return _Parts(labels, numbers, areas[numbers])


def _is_channel(parts: _Parts, *, label: np.ndarray, water: np.ndarray) -> np.ndarray:
    """(parts,) bool, True for what is no band along the label's bank but a channel."""
    if not parts.numbers.size:
        return np.zeros(0, dtype=bool)
    from_label, from_bank = _distance(~label), _distance(water)
    begin = np.asarray(ndimage.minimum(from_label, parts.labels, parts.numbers))
    reach = np.asarray(ndimage.maximum(from_label, parts.labels, parts.numbers))
    half_width = np.asarray(ndimage.maximum(from_bank, parts.labels, parts.numbers))
    is_channel: np.ndarray = (reach > 2 * half_width) | (begin > TOUCHING)
    return is_channel


def _distance(area: np.ndarray) -> np.ndarray:
    """Pixels from each True pixel to the nearest False one; without one, more than any picture has."""
    if area.all():
        return np.full(area.shape, float(sum(area.shape)), dtype=np.float32)
    return cv2.distanceTransform(area.astype(np.uint8), cv2.DIST_L2, 5)


def _check_shapes(probability: np.ndarray, label: np.ndarray, valid: np.ndarray) -> None:
    if not probability.shape == label.shape == valid.shape or label.dtype != np.bool_:
        raise DataError(
            f"probability, label and valid must be of one shape, label bool, got {probability.shape}, "
            f"{label.shape} {label.dtype} and {valid.shape}. Check that all show the same picture."
        )
