"""Rules that find water without a network: a colour range, a spectral index, heat; each mask cleaned.

On grey rivers colour is no evidence: on tiles of the Elwha, whose water has a median saturation of 8 to 40 of
255, fixed ranges of hue, saturation and value score an IoU of .20 to .32. Where a trained model exists, its
mask is the better coarse mask.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np

from autosam.config import CoarseSettings
from autosam.errors import CheckpointError, ModelError
from autosam.prompts.band_rules import (
    INDEX_BANDS,
    WATER_IS_LOW,
    Threshold,
    index_values,
    thermal_values,
    water_above,
)
from autosam.prompts.colour_rules import water_by_colour
from autosam.prompts.mask_cleaning import NO_CLEANING, Cleaning
from autosam.types import Sample


@dataclasses.dataclass(frozen=True, kw_only=True)
class HsvRule:
    """Water is a range of hue, saturation and value of an RGB picture; inside the range is water.

    On grey rivers it is a floor, not a method: the published ranges score an IoU of .20 to .32 on ten tiles
    of the Elwha, whose water is grey. One fitted on a coast scores .19 on three tiles, and one fitted on two
    of these .31, .77 and .02 on the third: the light changes more than the water. Prefer a trained model.

    Raises:
        ModelError: A bound is not in 0..1, or a range of saturation or value is turned round.
    """

    low: tuple[float, float, float]
    """Of hue, saturation and value, 0..1, inside the range."""
    high: tuple[float, float, float]
    """The same; a hue below the low one means from low through red to high."""
    cleaning: Cleaning = NO_CLEANING
    """Of each mask."""

    def __post_init__(self) -> None:
        triples = (self.low, self.high)
        if not all(isinstance(one, tuple | list) and len(one) == 3 for one in triples) or not all(
            isinstance(bound, int | float) for one in triples for bound in one
        ):
            raise ModelError(
                f"a colour range must be two triples of numbers, got {self.low!r} and {self.high!r}. "
                "Give hue, saturation and value in 0..1 for low and for high."
            )
        bounds = (*self.low, *self.high)
        pairs = zip(self.low[1:], self.high[1:], strict=False)
        ordered = all(low <= high for low, high in pairs)
        if not ordered or not all(0 <= one <= 1 for one in bounds):
            raise ModelError(
                "a colour range must be two triples of hue, saturation and value in 0..1, low before high "
                f"but for hue, got {self.low} and {self.high}. Divide OpenCV's by 180, 255 and 255."
            )

    @property
    def name(self) -> str:
        """'coarse hsv'."""
        return "coarse hsv"

    @property
    def bands(self) -> tuple[str, ...]:
        """None besides red, green and blue."""
        return ()

    def __call__(self, sample: Sample) -> np.ndarray:
        """The sample's water, (height, width) bool; none where the sample has no data."""
        water = water_by_colour(sample.image, low=self.low, high=self.high)
        return self.cleaning(water & sample.valid_area)

    def to_dict(self) -> dict[str, Any]:
        """JSON values, for `coarse_from_dict`."""
        return _to_dict("hsv", self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class IndexRule:
    """Water is where a spectral index passes a threshold; needs the band nir, or swir for mndwi.

    Raises:
        ModelError: There is no such index, or a number is not finite or a scale not positive.
    """

    index: str = "ndwi"
    """ndwi, mndwi (water is above the threshold), ndvi or nir (water is below it)."""
    threshold: Threshold = 0.0
    """On the index in its usual sign, nir in the band's own unit; or "otsu", of each picture."""
    scale: float = 1.0
    """Brings the band to 0..255, the unit of colours, before a ratio: 1 for 8 bits, 255 for reflectances of
    0..1. `fit_coarse` measures it on all training samples together, see `band_rules.band_scale`."""
    standardised: bool = False
    """Whether a number counts standard deviations of the picture from its mean."""
    cleaning: Cleaning = NO_CLEANING
    """Of each mask."""

    def __post_init__(self) -> None:
        if self.index not in INDEX_BANDS:
            raise ModelError(
                f"index must be one of {', '.join(INDEX_BANDS)}, got {self.index!r}. Choose one."
            )
        _check_threshold(self.threshold)
        if not isinstance(self.scale, int | float) or not 0 < self.scale < float("inf"):
            raise ModelError(f"scale must be positive, got {self.scale!r}. Use 1 for 8 bits.")

    @property
    def name(self) -> str:
        """'coarse ndwi' and the like."""
        return f"coarse {self.index}"

    @property
    def bands(self) -> tuple[str, ...]:
        """The one that the index compares with a colour."""
        return (INDEX_BANDS[self.index],)

    @property
    def water_is_low(self) -> bool:
        """Whether water is below the threshold."""
        return self.index in WATER_IS_LOW

    def values(self, sample: Sample) -> np.ndarray:
        """(height, width) float32, larger for water.

        Raises:
            DataError: The sample lacks the band.
        """
        return index_values(sample, self.index, scale=self.scale)

    def __call__(self, sample: Sample) -> np.ndarray:
        """The sample's water, (height, width) bool; none where the sample has no data.

        Raises:
            DataError: The sample lacks the band.
        """
        return _passing(self, sample)

    def to_dict(self) -> dict[str, Any]:
        """JSON values, for `coarse_from_dict`."""
        return _to_dict("index", self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ThermalRule:
    """Water is where the band thermal is below a threshold, for cold is dark.

    Otsu's threshold is for pictures of which water is a good part. On three frames of the Elwha, with 2 to
    4 % of water, it parts bare ground from everything else and scores an IoU of .02 to .06, where the best
    threshold of each frame scores .73, .78 and .99.

    Raises:
        ModelError: The threshold is not finite.
    """

    threshold: Threshold = "otsu"
    """In the band's own unit; or "otsu", of each picture."""
    standardised: bool = False
    """Whether a number counts standard deviations of the picture from its mean."""
    cleaning: Cleaning = NO_CLEANING
    """Of each mask."""

    def __post_init__(self) -> None:
        _check_threshold(self.threshold)

    @property
    def name(self) -> str:
        """'coarse thermal'."""
        return "coarse thermal"

    @property
    def bands(self) -> tuple[str, ...]:
        """'thermal'."""
        return ("thermal",)

    @property
    def water_is_low(self) -> bool:
        """Whether water is below the threshold: it always is."""
        return True

    def values(self, sample: Sample) -> np.ndarray:
        """(height, width) float32, larger for water.

        Raises:
            DataError: The sample lacks the band.
        """
        return thermal_values(sample)

    def __call__(self, sample: Sample) -> np.ndarray:
        """The sample's water, (height, width) bool; none where the sample has no data.

        Raises:
            DataError: The sample lacks the band.
        """
        return _passing(self, sample)

    def to_dict(self) -> dict[str, Any]:
        """JSON values, for `coarse_from_dict`."""
        return _to_dict("thermal", self)


CoarseRule: TypeAlias = HsvRule | IndexRule | ThermalRule
RULES: dict[str, type[CoarseRule]] = {"hsv": HsvRule, "index": IndexRule, "thermal": ThermalRule}
"""By the name that `coarse.source` has for them; any other source is a trained run."""


def rule_bands(settings: CoarseSettings) -> tuple[str, ...]:
    """Bands that the rule of the settings reads besides red, green and blue; none for a trained run."""
    if settings.source == "thermal":
        return ThermalRule().bands
    return IndexRule(index=settings.index).bands if settings.source == "index" else ()


def coarse_from_dict(values: Mapping[str, Any]) -> CoarseRule:
    """The rule that `to_dict` wrote, perhaps read back from JSON.

    Raises:
        CheckpointError: It is not a rule.
    """
    try:
        given = dict(values)
        kind = RULES[given.pop("kind")]
        cleaning = Cleaning(**given.pop("cleaning"))
        fields: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in given.items()
        }
        rule: CoarseRule = kind(cleaning=cleaning, **fields)
    except (KeyError, TypeError, ValueError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise CheckpointError(
            f"coarse rule must be as to_dict writes it, with a kind of {', '.join(RULES)}, got "
            f"{values!r} ({reason}). Fit it again."
        ) from error
    return rule


def _to_dict(kind: str, rule: CoarseRule) -> dict[str, Any]:
    fields = dataclasses.asdict(rule)
    plain = {
        name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()
    }
    return {"kind": kind, **plain}


def _passing(rule: IndexRule | ThermalRule, sample: Sample) -> np.ndarray:
    """Where the rule's values pass its threshold, cleaned."""
    threshold = rule.threshold
    if rule.water_is_low and threshold != "otsu":  # its values have the other sign
        threshold = -threshold
    valid = sample.valid_area
    water = water_above(
        rule.values(sample), threshold=threshold, standardised=rule.standardised, valid=valid
    )
    return rule.cleaning(water & valid)


def _check_threshold(threshold: Threshold) -> None:
    number = isinstance(threshold, int | float) and not isinstance(threshold, bool)
    if threshold != "otsu" and not (number and np.isfinite(threshold)):
        raise ModelError(
            f"threshold must be a finite number or 'otsu', got {threshold!r}. Fit it, or use 'otsu'."
        )
