"""The coarse mask: where water probably is, found without a click, so that a SAM can be prompted.

What it may be, and how a rule of colour or band is fitted to training masks. On grey rivers like the Elwha
every fixed colour rule is poor, with an IoU of .20 to .32; a trained model can stand in for any rule.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from autosam.config import CoarseSettings
from autosam.errors import ConfigError
from autosam.overlap import mask_iou
from autosam.prompts.band_rules import INDEX_BANDS, RATIOS, Threshold, band_scale, tune_threshold
from autosam.prompts.coarse_rules import CoarseRule, HsvRule, IndexRule, ThermalRule
from autosam.prompts.colour_rules import tune_hsv_range
from autosam.prompts.mask_cleaning import Cleaning
from autosam.prompts.range_search import shrunk
from autosam.types import Sample

MOST_SAMPLES = 400
"""Training samples that are looked at; of more, so many are drawn."""
TUNING_SIDE = 128
"""Longer side at which rules are tuned. Single pixels are taken, so the IoU is about that at full size."""
_ROUNDS = 10


class CoarseMask(Protocol):
    """Anything that finds water in a sample by itself: a rule of this room, or a trained model."""

    @property
    def name(self) -> str:
        """Short, for tables: 'coarse hsv'."""
        ...

    def __call__(self, sample: Sample) -> np.ndarray:
        """(height, width) bool at the sample's own size, True for water; may be empty."""
        ...


def fit_coarse(
    settings: CoarseSettings,
    training: Sequence[Sample],
    validation: Sequence[Sample],
    *,
    seed: int = 0,
) -> tuple[CoarseRule, dict[str, Any]]:
    """Make the rule of the settings, tuned where it has something to tune.

    The range of 'hsv', and the threshold 'fit' of an index or of heat, are tuned on the masks of the
    training samples for the mean of each picture's IoU, on valid pixels, before cleaning. 'otsu' and numbers
    are taken as they are; the scale of an index's band is measured on the training bands. Validation samples
    are only scored. On grey rivers prefer a trained model over 'hsv': its IoU there is .20 to .32.

    Args:
        settings: Which rule, and how its masks are cleaned.
        training: At most 400 of them are looked at, drawn by the seed.
        validation: May be empty.
        seed: Of the draw; without effect up to 400.

    Returns:
        The rule, and a report of JSON values: ``training_iou`` and ``validation_iou``, the mean of each
        picture's IoU of the cleaned mask at full size on valid pixels, where two empty masks agree (None
        without a labelled sample); and ``rule``, its `to_dict`.

    Raises:
        ConfigError: The source names a run, which is loaded and not fitted.
        DataError: A sample lacks the band.
        ModelError: Something is to be tuned and no training sample has water.
    """
    drawn = _Drawn(training, seed=seed)
    rule = _tuned(settings, drawn)
    report = {
        "training_iou": _mean_iou(rule, drawn),
        "validation_iou": _mean_iou(rule, validation),
        "rule": rule.to_dict(),
    }
    return rule, report


class _Drawn(Iterable[Sample]):
    """All samples, or as many as are looked at, read again each time; few stay in memory."""

    def __init__(self, samples: Sequence[Sample], *, seed: int) -> None:
        self._samples = samples
        count = len(samples)
        chosen = np.random.default_rng(seed).permutation(count)[:MOST_SAMPLES]
        self._places = sorted(chosen.tolist())

    def __iter__(self) -> Iterator[Sample]:
        return (self._samples[place] for place in self._places)


def _tuned(settings: CoarseSettings, training: Iterable[Sample]) -> CoarseRule:
    cleaning = Cleaning(
        minimum_area=settings.minimum_area,
        largest_hole=settings.largest_hole,
        erosions=settings.erosions,
    )
    if settings.source == "hsv":
        low, high, _ = tune_hsv_range(training, side=TUNING_SIDE, rounds=_ROUNDS, smooth=False)
        return HsvRule(low=_triple(low), high=_triple(high), cleaning=cleaning)
    rule: IndexRule | ThermalRule
    if settings.source == "thermal":
        rule = ThermalRule(cleaning=cleaning)
    elif settings.source == "index":
        rule = IndexRule(index=settings.index, cleaning=cleaning)
    else:
        raise ConfigError(
            f"coarse.source must be hsv, index or thermal to be fitted, got {settings.source!r}. "
            "Load the run and pass its mask instead."
        )
    return _with_threshold(rule, settings.threshold, training)


def _triple(bounds: np.ndarray) -> tuple[float, float, float]:
    hue, saturation, value = bounds.tolist()
    return hue, saturation, value


def _with_threshold(
    rule: IndexRule | ThermalRule, threshold: str, training: Iterable[Sample]
) -> CoarseRule:
    """The rule with the scale and the threshold that belong to the training samples."""
    scaled = isinstance(rule, IndexRule) and rule.index in RATIOS
    if threshold != "fit" and not scaled:
        return dataclasses.replace(rule, threshold=_threshold(threshold))
    small = [shrunk(sample, TUNING_SIDE, smooth=False) for sample in training]
    if isinstance(rule, IndexRule) and scaled:
        rule = dataclasses.replace(rule, scale=band_scale(small, INDEX_BANDS[rule.index]))
    if threshold != "fit":
        return dataclasses.replace(rule, threshold=_threshold(threshold))
    above, standardised = tune_threshold(small, rule.values)
    usual = -above if rule.water_is_low else above
    return dataclasses.replace(rule, threshold=usual, standardised=standardised)


def _threshold(text: str) -> Threshold:
    return "otsu" if text == "otsu" else float(text)


def _mean_iou(coarse: CoarseMask, samples: Iterable[Sample]) -> float | None:
    """Mean of each labelled picture's IoU on valid pixels; None without a labelled picture."""
    scores = [
        mask_iou(coarse(sample), sample.mask, valid=sample.valid)
        for sample in samples
        if sample.mask is not None
    ]
    return float(np.mean(scores)) if scores else None
