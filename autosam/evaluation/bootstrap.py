"""How far a mean can be trusted: the percentile bootstrap over images, or over blocks of them."""

from collections.abc import Sequence

import numpy as np

RESAMPLES_AT_ONCE = 4_000_000
"""Drawn indices held in memory together: 32 MB."""


def interval_of_mean(
    values: np.ndarray, blocks: Sequence[str], *, resamples: int, seed: int
) -> tuple[float, float] | tuple[None, None]:
    """Percentiles 2.5 and 97.5 of the mean when whole blocks are drawn with replacement.

    Args:
        values: (count,) finite.
        blocks: Name of the block of each value; all different for the ordinary bootstrap.
        resamples: Number of draws.
        seed: Equal seeds give equal intervals.

    Returns:
        (low, high), or (None, None) with fewer than two blocks.

    Source:
        Efron & Tibshirani 1993, chapter 13; blocks as in Davison & Hinkley 1997, section 3.8.
    """
    _, owner = np.unique(np.array(blocks, dtype=str), return_inverse=True)
    if owner.size == 0 or owner.max() == 0:
        return None, None
    counts = np.bincount(owner)
    sums = np.bincount(owner, weights=values)
    generator = np.random.default_rng(seed)
    means = []
    at_once = max(1, RESAMPLES_AT_ONCE // len(counts))
    for first in range(0, resamples, at_once):
        size = (min(at_once, resamples - first), len(counts))
        drawn = generator.integers(len(counts), size=size)
        means.append(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1))
    low, high = np.percentile(np.concatenate(means), (2.5, 97.5))
    return float(low), float(high)
