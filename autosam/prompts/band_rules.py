"""Water by a band that no camera for colours has: spectral indices and heat, above a threshold."""

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import numpy as np
from skimage.filters import threshold_otsu

from autosam.errors import DataError, did_you_mean
from autosam.prompts.range_search import LabelledPixels, best_threshold
from autosam.types import Sample

Threshold: TypeAlias = float | Literal["otsu"]
"""A number, or Otsu's of each picture."""

RATIOS = {"ndwi": (1, "nir"), "mndwi": (1, "swir"), "ndvi": (0, "nir")}
"""Channel of the picture and band of each normalised difference, the one that water reflects first."""
INDEX_BANDS = {**{index: band for index, (_, band) in RATIOS.items()}, "nir": "nir"}
"""The band that each index needs."""
WATER_IS_LOW = frozenset({"ndvi", "nir"})
"""Indices whose usual sign makes water the smaller value."""

_BRIGHT_SHARE = 0.995
"""Quantile of a band that stands for its brightest value; a glint or a broken pixel may exceed it."""

_LEAST_GAIN = 0.01
"""In IoU on the training samples, by which standardised values must win."""


def index_values(sample: Sample, index: str, *, scale: float = 1.0) -> np.ndarray:
    """A spectral index, with the sign that makes water the larger value.

    - ``ndwi``: (green - nir) / (green + nir).
    - ``mndwi``: (green - swir) / (green + swir).
    - ``ndvi``: (red - nir) / (red + nir), the negative of the usual NDVI.
    - ``nir``: -nir in the band's own unit, for water is dark.

    A ratio needs both sides in one unit. Colours are 0..255, so the band is multiplied by a scale that
    brings it there, see `band_scale`; a tuned threshold absorbs what the scale leaves.

    Args:
        sample: With the band.
        index: Its name.
        scale: Of the band; without effect on ``nir`` alone.

    Returns:
        (height, width) float32; ratios lie in -1..1, and are -1, the driest, where the denominator is
        not positive.

    Raises:
        DataError: There is no such index, or the sample lacks the band.

    Source:
        NDWI: McFeeters 1996. MNDWI: Xu 2006. NDVI: Rouse et al. 1974.
    """
    if index not in INDEX_BANDS:
        raise DataError(
            f"index must be a spectral index, got {index!r}. {did_you_mean(index, INDEX_BANDS)}"
        )
    band = band_of(sample, INDEX_BANDS[index], user=f"the index {index}")
    if index not in RATIOS:
        return -band
    wet = sample.image[..., RATIOS[index][0]].astype(np.float32)
    dry = band * np.float32(scale)
    total = wet + dry
    driest = np.full(sample.size, -1, dtype=np.float32)
    ratio = np.divide(wet - dry, total, out=driest, where=total > 0)
    return np.asarray(np.clip(ratio, -1, 1))


def thermal_values(sample: Sample) -> np.ndarray:
    """The negative of the band thermal, so that cold water is the larger value.

    Returns:
        (height, width) float32.

    Raises:
        DataError: The sample lacks the band.
    """
    return -band_of(sample, "thermal", user="a thermal mask")


def band_of(sample: Sample, name: str, *, user: str) -> np.ndarray:
    """A band of a sample.

    Args:
        sample: With the band.
        name: Of the band.
        user: What needs it, for the message.

    Raises:
        DataError: The sample lacks it.
    """
    if name not in sample.bands:
        others = ", ".join(("red", "green", "blue", *sample.bands))
        raise DataError(
            f"{user} must have the band {name!r}, got only {others} (sample {sample.name!r}). "
            f"Put a folder {name}/ beside images/, paired by stem."
        )
    return sample.bands[name]


def band_scale(samples: Sequence[Sample], name: str) -> float:
    """What brings a band to 0..255, the unit of colours, judged by all samples together.

    Decided by the 99.5th percentile of the valid pixels: up to 1, the band is a reflectance and the scale
    255; up to 255 the band has 8 bits and stays as it is; above, the percentile becomes 255. One scale
    for all pictures: judged alone, a dark picture of 16 bits would pass for one of 8.

    Args:
        samples: Training samples, masks not needed; without a valid pixel the scale is 1.
        name: Of the band.

    Raises:
        DataError: A sample lacks the band.
    """
    bands = [band_of(sample, name, user="a ratio")[sample.valid_area] for sample in samples]
    values = np.concatenate([np.zeros(0, np.float32), *bands])
    if not len(values):
        return 1.0
    bright = float(np.quantile(values, _BRIGHT_SHARE))
    if bright <= 1:
        return 255.0
    return 1.0 if bright <= 255 else 255 / bright


def water_above(
    values: np.ndarray, *, threshold: Threshold, standardised: bool, valid: np.ndarray
) -> np.ndarray:
    """Where values exceed a threshold.

    Args:
        values: (height, width) float32, larger for water.
        threshold: A number, or "otsu": the split of the valid pixels' histogram (256 bins) with the
            largest variance between its sides.
        standardised: Whether a number counts standard deviations from the picture's mean.
        valid: (height, width) bool, the pixels from which "otsu", mean and deviation are taken.

    Returns:
        (height, width) bool; all False for "otsu" on a picture of one value, or without a valid pixel.

    Source:
        Otsu 1979, by scikit-image.
    """
    if threshold == "otsu":
        counted = values[valid]
        if not counted.size:
            return np.zeros(values.shape, dtype=bool)
        return np.asarray(values > threshold_otsu(counted))  # type: ignore[no-untyped-call]
    measured = standardise(values, valid) if standardised else values
    return np.asarray(measured > np.float32(threshold))


def standardise(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Values in standard deviations from their mean over the valid pixels; 0 where all are equal."""
    counted = values[valid].astype(np.float64)
    if not counted.size or np.ptp(counted) == 0:
        return np.zeros_like(values)
    shifted = (values - counted.mean()) / counted.std()
    return np.asarray(shifted, dtype=np.float32)


def tune_threshold(
    samples: Sequence[Sample], values: Callable[[Sample], np.ndarray]
) -> tuple[float, bool]:
    """The threshold that agrees best with training masks, on the values or on standardised ones.

    Standardising undoes a camera that sets its gain anew for each picture, and does harm where the unit is
    physical and the share of water varies. The training masks decide, and unless standardising wins by an
    IoU of .01 the unit is left alone.

    Measured on three thermal frames of the Elwha, fitted on two, cleaned and scored on the third: IoU .00,
    .11 and .27 on the values, .68, .83 and .97 on standardised ones. Choosing gives .00, .83 and .97: the
    two frames that give .00 share one gain, which nothing tells from a unit. Train on several gains.

    Args:
        samples: Valid pixels of labelled ones count.
        values: Gives a sample's (height, width), larger for water.

    Returns:
        The threshold, and whether it is one of standardised values; both for `water_above`.

    Raises:
        ModelError: No sample has water.
    """

    def relative(sample: Sample) -> np.ndarray:
        return standardise(values(sample), sample.valid_area)

    plain, plain_score = best_threshold(LabelledPixels.of(samples, values))
    standard, standard_score = best_threshold(LabelledPixels.of(samples, relative))
    gain = standard_score - plain_score
    return (standard, True) if gain > _LEAST_GAIN else (plain, False)
