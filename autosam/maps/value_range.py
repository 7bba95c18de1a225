"""One scaling to 8 bits for a whole raster, never one for each tile: tiles must agree where they meet."""

import dataclasses
from typing import Any

import numpy as np

from autosam.errors import ConfigError, ImageError


@dataclasses.dataclass(frozen=True, kw_only=True)
class ValueRange:
    """Which stored values become 0 and 255, the same for all bands; between them it is linear."""

    low: float = 0.0
    high: float = 255.0
    source: str = "8 bits as they are stored"
    """Where the two values come from."""

    def __post_init__(self) -> None:
        if not (np.isfinite([self.low, self.high]).all() and self.low < self.high):
            raise ConfigError(
                f"value range must be two finite numbers, the smaller first, got {self.low:g} and "
                f"{self.high:g}. Give what is black, then what is white."
            )

    @property
    def is_identity(self) -> bool:
        """Whether 8-bit values stay as they are."""
        return (self.low, self.high) == (0.0, 255.0)

    def to_8_bits(self, values: np.ndarray) -> np.ndarray:
        """The same shape in uint8; values outside are cut off, and what is no number is 0."""
        if values.dtype == np.uint8 and self.is_identity:
            return values
        if values.dtype.kind in "u" and values.dtype.itemsize <= 2:
            levels = np.arange(np.iinfo(values.dtype).max + 1, dtype=np.float64)
            return np.asarray(self._scaled(levels).astype(np.uint8)[values])
        scaled: np.ndarray = np.nan_to_num(self._scaled(values.astype(np.float64)))
        return scaled.astype(np.uint8)

    def _scaled(self, values: np.ndarray) -> np.ndarray:
        return np.clip(np.rint((values - self.low) * (255 / (self.high - self.low))), 0, 255)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return dataclasses.asdict(self)


def range_of_sample(
    values: np.ndarray, *, percentiles: tuple[float, float], label: str, source: str
) -> ValueRange:
    """The range between two percentiles of a sample.

    Args:
        values: Any shape, of pixels with data alone; NaN and infinity are passed over.
        percentiles: Which become 0 and 255.
        label: What messages call the raster.
        source: How the sample was taken, for the record.

    Raises:
        ImageError: There are no values.
    """
    numbers = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    if not numbers.size:
        raise ImageError(
            f"raster must hold data to be scaled to 8 bits, got none in a sample of it ({label}). "
            "Check its nodata value, or give the value range."
        )
    low, high = (float(value) for value in np.percentile(numbers, percentiles))
    share = " and ".join(f"{percentile:g} %" for percentile in percentiles)
    if high <= low:
        # Nearly one value: the range of the type, so that a flat picture keeps its brightness.
        kind = values.dtype
        low, high = (0.0, 1.0) if kind.kind == "f" else (0.0, float(np.iinfo(kind).max))
        return ValueRange(low=low, high=high, source="range of the type: values hardly differ")
    return ValueRange(low=low, high=high, source=f"{share} of {source}")
