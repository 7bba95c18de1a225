"""Values of labelled pixels to the range, or the threshold, that agrees best with their masks.

It knows numbers and truth, not what they were measured from; the score is always the mean of each
picture's IoU, and a picture without water scores 1 when nothing is found in it and otherwise 0.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence

import cv2
import numpy as np

from autosam.errors import ModelError
from autosam.types import Sample

RANGE_LEVELS = 81
"""Quantiles of the water's values that a bound may take: every 1.25 %."""
THRESHOLD_LEVELS = 401
"""Quantiles, of all values and of the water's, between which a threshold may lie: every 0.25 %."""
_PICTURES_AT_ONCE = 64
"""Of which all pairs of bounds are scored together: bounds the memory that it takes."""
_WIDER = 1e-9
"""Share of an IoU by which a range wins for being wider, and for not wrapping: it breaks ties only."""


@dataclasses.dataclass(frozen=True, eq=False)
class LabelledPixels:
    """The valid pixels of several pictures."""

    values: np.ndarray
    """(channels, pixels) float32."""
    water: np.ndarray
    """(pixels,) bool."""
    picture: np.ndarray
    """(pixels,) int64, counted from 0."""

    @classmethod
    def of(
        cls, samples: Iterable[Sample], values: Callable[[Sample], np.ndarray]
    ) -> "LabelledPixels":
        """Take the valid pixels of every labelled sample.

        Args:
            samples: Those without a mask or without a valid pixel are left out.
            values: Gives a sample's (channels, height, width) or (height, width).

        Raises:
            ModelError: There is no water in any of them.
        """
        found, water, counts = [], [], []
        for sample in samples:
            valid = sample.valid_area
            if sample.mask is not None and valid.any():
                measured = values(sample).reshape(-1, *sample.size)
                found.append(measured[:, valid].astype(np.float32))
                water.append(sample.mask[valid])
                counts.append(int(np.count_nonzero(valid)))
        if not any(one.any() for one in water):
            raise ModelError(
                f"a rule must see water to be tuned, got {len(water)} labelled samples without any. "
                "Add some with water."
            )
        picture = np.repeat(np.arange(len(counts)), counts)
        return cls(np.concatenate(found, axis=1), np.concatenate(water), picture)

    @functools.cached_property
    def water_per_picture(self) -> np.ndarray:
        """(pictures,) int64: its pixels of water."""
        return np.bincount(self.picture[self.water], minlength=int(self.picture[-1]) + 1)


def shrunk(sample: Sample, side: int, *, smooth: bool) -> Sample:
    """A sample of at most so many pixels a side, without its georeference; smaller ones stay.

    Args:
        sample: Left as it is.
        side: Of the longer side.
        smooth: Average colours and bands over what a pixel covers; False takes single pixels, whose
            values are spread as the picture's own. Masks always take single pixels.
    """
    scale = side / max(sample.size)
    if scale >= 1:
        return sample
    size = tuple(max(1, round(length * scale)) for length in reversed(sample.size))
    picture = cv2.INTER_AREA if smooth else cv2.INTER_NEAREST

    def area(mask: np.ndarray | None) -> np.ndarray | None:
        if mask is None:
            return None
        small = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        return np.asarray(small) > 0

    return dataclasses.replace(
        sample,
        image=cv2.resize(sample.image, size, interpolation=picture),
        mask=area(sample.mask),
        valid=area(sample.valid),
        bands={
            name: cv2.resize(band, size, interpolation=picture)
            for name, band in sample.bands.items()
        },
        georeference=None,
    )


def best_range(
    pixels: LabelledPixels, *, circular: Sequence[bool], rounds: int
) -> tuple[np.ndarray, np.ndarray, float]:
    """Search, channel by channel, for the range of values that is most like water.

    One step tries all pairs of bounds of a channel while the other channels keep theirs, so it finds
    what moving one bound at a time does not; steps repeat until none changes anything. Of equally good
    ranges the widest wins, because unseen water varies more.

    Args:
        pixels: Of the training samples.
        circular: For each channel, whether low > high means through the end and on from the start.
        rounds: Most passes over the channels.

    Returns:
        Lower bounds (channels,) and upper bounds (channels,) float32, both inside the range, and the mean
        IoU, 0..1.
    """
    edges, cells = zip(*(_cells(values, pixels.water) for values in pixels.values), strict=True)
    bounds = [(0, len(one) - 1) for one in edges]
    best = 0.0
    for _ in range(rounds):
        before = list(bounds)
        for channel in range(len(edges)):
            inside = np.ones(len(pixels.water), dtype=bool)
            for other, (low, high) in enumerate(bounds):
                if other != channel:
                    above, below = cells[other] > 2 * low, cells[other] < 2 * high + 2
                    inside &= above & below if low <= high else above | below
            bounds[channel], best = _best_pair(
                pixels, cells[channel], inside, len(edges[channel]), circular=circular[channel]
            )
        if bounds == before:
            break
    found = [one[list(pair)] for one, pair in zip(edges, bounds, strict=True)]
    lows, highs = np.array(found, dtype=np.float32).T
    return lows, highs, best


def _cells(values: np.ndarray, water: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Possible bounds, and the cell of each value: 2 n + 1 on bound n, even numbers between bounds."""
    shares = np.linspace(0, 1, RANGE_LEVELS)
    edges = np.unique(np.quantile(values[water], shares, method="nearest"))
    cells = np.searchsorted(edges, values, "left") + np.searchsorted(edges, values, "right")
    return edges, cells.astype(np.int16)


def _best_pair(
    pixels: LabelledPixels, cells: np.ndarray, inside: np.ndarray, count: int, *, circular: bool
) -> tuple[tuple[int, int], float]:
    """The pair of bounds of one channel with the highest score, and that score."""
    hits = _running(pixels, cells, inside & pixels.water, 2 * count + 1)
    alarms = _running(pixels, cells, inside & ~pixels.water, 2 * count + 1)
    low, high = np.ogrid[:count, :count]
    wraps = low > high
    water = pixels.water_per_picture[:, None, None]

    def covered(running: np.ndarray) -> np.ndarray:
        through = running[:, -1, None, None] * wraps
        return np.asarray(running[:, 2 * high + 2] - running[:, 2 * low + 1] + through)

    total = np.zeros((count, count))
    for start in range(0, len(water), _PICTURES_AT_ONCE):
        some = slice(start, start + _PICTURES_AT_ONCE)
        total += _iou(covered(hits[some]), covered(alarms[some]), water[some]).sum(axis=0)
    scores = total / len(water)
    preferred = scores + (high - low) * (_WIDER / count)
    if not circular:
        preferred[wraps] = -1
    place = int(np.argmax(preferred))
    return (place // count, place % count), float(scores.flat[place])


def best_threshold(pixels: LabelledPixels) -> tuple[float, float]:
    """The value above which pixels are most like water.

    Args:
        pixels: Of one channel, in which water is the larger value.

    Returns:
        The threshold, in the middle of equally good ones and between values rather than on one, and the
        mean IoU of all that lies above it, 0..1.
    """
    values = pixels.values[0]
    shares = np.linspace(0, 1, THRESHOLD_LEVELS)
    seen = [np.quantile(one, shares) for one in (values, values[pixels.water])]
    levels = np.unique(np.concatenate(seen))
    # Below the first level everything is water; above the last nothing would be.
    thresholds = np.concatenate([levels[:1] - 1, (levels[1:] + levels[:-1]) / 2])
    thresholds = thresholds.astype(np.float32)  # as which they will be compared
    cells = np.searchsorted(thresholds, values, "left")
    below = [
        _running(pixels, cells, area, len(thresholds) + 1) for area in (pixels.water, ~pixels.water)
    ]
    hits, alarms = (running[:, -1:] - running[:, 1:-1] for running in below)
    scores = _iou(hits, alarms, pixels.water_per_picture[:, None]).mean(axis=0)
    equal = np.flatnonzero(scores >= scores.max() - _WIDER)
    place = int(equal[len(equal) // 2])
    return float(thresholds[place]), float(scores[place])


def _running(
    pixels: LabelledPixels, cells: np.ndarray, counted: np.ndarray, count: int
) -> np.ndarray:
    """(pictures, count + 1): how many counted pixels of a picture lie in the cells before each."""
    pictures = len(pixels.water_per_picture)
    places = pixels.picture[counted] * count + cells[counted]
    table = np.bincount(places, minlength=pictures * count).reshape(pictures, count)
    return np.pad(np.cumsum(table, axis=1), ((0, 0), (1, 0)))


def _iou(hits: np.ndarray, alarms: np.ndarray, water: np.ndarray) -> np.ndarray:
    """Of counts of pixels; two empty masks agree."""
    union = alarms + water
    return np.asarray(np.where(union > 0, hits / np.maximum(union, 1), 1.0))
