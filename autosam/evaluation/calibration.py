"""From logits to honest probabilities and a fair threshold, chosen on validation without keeping pixels.

Pixels are counted in `LogitHistogram`, one image after the other, so that a hundred pictures of
24 megapixels need no more memory than one.
"""

from collections.abc import Iterable
from typing import TypeAlias

import numpy as np

from autosam.errors import DataError

LARGEST_LOGIT = 16.0
"""Beyond it float32 probabilities are 0 or 1 to six digits; what lies further out is counted here."""
BINS_PER_UNIT = 100
BINS = int(2 * LARGEST_LOGIT * BINS_PER_UNIT)
EDGES = np.arange(BINS + 1) / BINS_PER_UNIT - LARGEST_LOGIT
CENTRES = (EDGES[:-1] + EDGES[1:]) / 2
TEMPERATURES = (0.05, 20.0)
"""Ends of the search; reached when validation is separated without an error, or is pure noise."""
THRESHOLDS = (0.01, 0.99)
"""Ends of the search: nearer to 0 or 1, rounding would decide about pixels."""

Areas: TypeAlias = Iterable[np.ndarray]
ReliabilityRow: TypeAlias = dict[str, float | None]


class LogitHistogram:
    """Land and water pixels by logit, and what each threshold is worth, over any number of images.

    Bins are 0.01 wide, which moves a probability by at most 0.0025. A threshold on a bin's edge is
    therefore judged exactly, and anything that needs a bin's middle to better than 1e-5.
    """

    def __init__(self) -> None:
        self.counts = np.zeros((2, BINS), dtype=np.int64)
        """Pixels of all images: land in row 0, water in row 1."""
        self._shares = np.zeros((2, BINS))
        """The same, every image counting as 1 however large it is."""
        self.images = 0
        """Images with at least one valid pixel."""
        self._dry_images = 0
        self._iou_sum = np.zeros(BINS)
        """Of the images with water."""
        self._false_sum = np.zeros(BINS)
        """Of the others: the share of their pixels that is called water."""

    def add(
        self, logits: np.ndarray, *, truth: np.ndarray, valid: np.ndarray | None = None
    ) -> None:
        """Count the valid pixels of one image.

        Args:
            logits: (height, width) float, before the sigmoid; infinite ones count as +-16.
            truth: (height, width) bool, True for water.
            valid: (height, width) bool; None when all of it counts.

        Raises:
            DataError: A logit is NaN, or the shapes differ.
        """
        logits = np.asarray(logits, dtype=np.float64)
        if logits.shape != truth.shape or (valid is not None and valid.shape != truth.shape):
            raise DataError(
                f"logits, truth and valid must have one shape, got {logits.shape}, {truth.shape}"
                f"{'' if valid is None else f', {valid.shape}'}. Compare them at the image's own size."
            )
        if np.isnan(logits).any():
            raise DataError(
                "logits must be numbers, got NaN. The network has diverged: train again."
            )
        scaled = np.floor((logits + LARGEST_LOGIT) * BINS_PER_UNIT)
        index = np.clip(scaled, 0, BINS - 1).astype(np.int64) + BINS * truth.astype(bool)
        kept = index.ravel() if valid is None else index[valid]
        counts = np.bincount(kept, minlength=2 * BINS).reshape(2, BINS)
        if not kept.size:
            return
        self.counts += counts
        self._shares += counts / kept.size
        self.images += 1
        if counts[1].any():
            self._iou_sum += _iou_by_threshold(counts)
        else:
            self._dry_images += 1
            self._false_sum += counts[0][::-1].cumsum()[::-1] / kept.size

    def add_probability(
        self, probability: np.ndarray, *, truth: np.ndarray, valid: np.ndarray | None = None
    ) -> None:
        """Count the valid pixels of one image of which only the probability is known.

        Args:
            probability: (height, width) float in 0..1.
            truth: (height, width) bool, True for water.
            valid: (height, width) bool; None when all of it counts.

        Raises:
            DataError: A probability is not in 0..1, or the shapes differ.
        """
        self.add(_logits_of(probability), truth=truth, valid=valid)

    def temperature(self) -> float:
        """What to divide logits by so that their sigmoid fits the truth best.

        Minimises the mean over images of the mean negative log-likelihood of their pixels, between 0.05
        and 20: like a score, it is not the largest picture's. Where only land or only water was seen,
        nothing can be learnt about doubt, and it is 1.

        Raises:
            DataError: No valid pixel was counted.

        Source:
            Guo et al. 2017, section 4.2, https://arxiv.org/abs/1706.04599, for one class.
        """
        from scipy.optimize import minimize_scalar

        self._refuse_empty()
        if not self.counts.sum(axis=1).all():
            return 1.0
        found = minimize_scalar(
            lambda inverse: _negative_log_likelihood(self._shares, 1 / inverse),
            bounds=(1 / TEMPERATURES[1], 1 / TEMPERATURES[0]),  # convex in 1 / temperature
            method="bounded",
            options={"xatol": 1e-7},
        )
        return float(1 / found.x)

    def threshold(
        self, *, temperature: float = 1.0, most_false_water: float = 1.0
    ) -> tuple[float, float]:
        """The probability above which to call a pixel water, and how good it is.

        Maximises `water_score`: the mean IoU of the images with water times the share of the others'
        ground that stays dry. Of equally good thresholds it is the one nearest to 0.5.

        Args:
            temperature: What logits are divided by before the sigmoid.
            most_false_water: Share of the dry images' ground, on average, that may be called water, 0..1.
                Where every threshold exceeds it, the one with the least false water is taken.

        Returns:
            (threshold in 0.01..0.99, that product in 0..1); pixels at or above the threshold are water.

        Raises:
            DataError: No valid pixel was counted.
        """
        self._refuse_empty()
        candidates = _sigmoid(EDGES[:-1] / temperature)
        usable = (candidates >= THRESHOLDS[0]) & (candidates <= THRESHOLDS[1])
        usable[0] = False  # the lowest bin also holds what lies below its edge
        wet = self.images - self._dry_images
        iou = self._iou_sum / wet if wet else np.ones(BINS)
        false_water = self._false_sum / max(1, self._dry_images)
        usable &= false_water <= max(most_false_water, false_water[usable].min())
        scores = np.where(usable, iou * (1 - false_water), -1.0)
        # Sums of equal scores may differ in the last digits with the order of addition.
        best = np.flatnonzero(scores >= scores.max() - 1e-12)
        nearest = best[np.argmin(np.abs(EDGES[best]))]
        return float(candidates[nearest]), float(scores[nearest])

    def _refuse_empty(self) -> None:
        if not self.images:
            raise DataError(
                "validation must hold at least one image with valid pixels, got 0. "
                "Raise data.validation_share, or check the valid areas."
            )


def fit_temperature(logits: Areas, truths: Areas, valids: Iterable[np.ndarray | None]) -> float:
    """As `LogitHistogram.temperature`, over images given one after the other.

    Args:
        logits: Each (height, width) float; may be a generator.
        truths: Each (height, width) bool.
        valids: Each (height, width) bool, or None.

    Raises:
        DataError: There is no image with valid pixels, or one is unusable.
    """
    histogram = LogitHistogram()
    for values, truth, valid in zip(logits, truths, valids, strict=True):
        histogram.add(values, truth=truth, valid=valid)
    return histogram.temperature()


def choose_threshold(
    probabilities: Areas, truths: Areas, valids: Iterable[np.ndarray | None]
) -> tuple[float, float]:
    """As `LogitHistogram.threshold`, over images given one after the other.

    Args:
        probabilities: Each (height, width) float in 0..1; may be a generator.
        truths: Each (height, width) bool.
        valids: Each (height, width) bool, or None.

    Returns:
        (threshold, its score).

    Raises:
        DataError: There is no image with valid pixels, or one is unusable.
    """
    histogram = LogitHistogram()
    for values, truth, valid in zip(probabilities, truths, valids, strict=True):
        histogram.add_probability(values, truth=truth, valid=valid)
    return histogram.threshold()


def negative_log_likelihood(histogram: LogitHistogram, *, temperature: float = 1.0) -> float:
    """Mean over the pixels of all images, in nats; 0 is certain and right.

    Args:
        histogram: With at least one pixel.
        temperature: What logits are divided by.
    """
    return _negative_log_likelihood(histogram.counts, temperature)


def _negative_log_likelihood(weights: np.ndarray, temperature: float) -> float:
    """Of land and water by logit, (2, BINS)."""
    scaled, (land, water) = CENTRES / temperature, weights
    loss = land @ np.logaddexp(0, scaled) + water @ np.logaddexp(0, -scaled)
    return float(loss / weights.sum())


def reliability_table(
    histogram: LogitHistogram, *, temperature: float = 1.0, rows: int = 15
) -> list[ReliabilityRow]:
    """How often pixels are water, by how probable it was said to be.

    Returns:
        For each of `rows` equal parts of 0..1: its ends ``low`` and ``high``, ``count`` of pixels, their
        mean probability ``predicted``, and the share ``observed`` that is water (None without a pixel).
    """
    probability = _sigmoid(CENTRES / temperature)
    part = np.minimum((probability * rows).astype(np.int64), rows - 1)
    total = histogram.counts.sum(axis=0)
    count = np.bincount(part, weights=total, minlength=rows)
    said = np.bincount(part, weights=total * probability, minlength=rows)
    water = np.bincount(part, weights=histogram.counts[1], minlength=rows)
    return [
        {
            "low": row / rows,
            "high": (row + 1) / rows,
            "count": int(count[row]),
            "predicted": float(said[row] / count[row]) if count[row] else None,
            "observed": float(water[row] / count[row]) if count[row] else None,
        }
        for row in range(rows)
    ]


def expected_calibration_error(table: Iterable[ReliabilityRow]) -> float | None:
    """Mean distance between said and observed share of water, weighted by pixels, in 0..1.

    Args:
        table: From `reliability_table`.

    Returns:
        None when no pixel was counted.

    Source:
        Naeini et al. 2015, for the probability of water instead of that of the chosen class.
    """
    distance, total = 0.0, 0.0
    for row in table:
        if row["count"] and row["predicted"] is not None and row["observed"] is not None:
            distance += row["count"] * abs(row["predicted"] - row["observed"])
            total += row["count"]
    return distance / total if total else None


def _iou_by_threshold(counts: np.ndarray) -> np.ndarray:
    """IoU of one image with water when the pixels of bin k and above are called so, for every k."""
    false, found = counts[:, ::-1].cumsum(axis=1)[:, ::-1]
    iou: np.ndarray = found / (false + counts[1].sum())
    return iou


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    from scipy.special import expit

    probability: np.ndarray = expit(logits)
    return probability


def _logits_of(probability: np.ndarray) -> np.ndarray:
    from scipy.special import logit

    probability = np.asarray(probability)
    if not ((probability >= 0) & (probability <= 1)).all():  # a NaN fails this too
        raise DataError(
            f"probability must be in 0..1, got {probability.min()}..{probability.max()}. "
            "Apply the sigmoid to logits first."
        )
    logits: np.ndarray = logit(probability.astype(np.float64))
    return logits
