"""Other pixel sizes, piece by piece: what comes out does not depend on which piece was asked for.

A triangle as wide as the larger of the two pixels (bilinear with antialias), one sparse matrix for each
axis; at the raster's ends what lies outside counts for nothing. Both grids cover the same ground.
"""

import dataclasses
import math

import numpy as np
from scipy import sparse


@dataclasses.dataclass(frozen=True)
class AxisResampling:
    """From one number of pixels along an axis to another."""

    input_length: int
    output_length: int

    @property
    def scale(self) -> float:
        """Input pixels for each output pixel."""
        return self.input_length / self.output_length

    @property
    def is_identity(self) -> bool:
        """Whether nothing changes."""
        return self.input_length == self.output_length

    @property
    def reach(self) -> int:
        """Input pixels beyond its own place that an output pixel may need."""
        return 0 if self.is_identity else math.ceil(2 * max(1.0, self.scale)) + 1

    def inputs(self, first: int, last: int) -> tuple[int, int]:
        """The input pixels that the output pixels first <= i < last need: first, and first beyond."""
        if self.is_identity:
            return first, last
        radius = max(1.0, self.scale)
        begin = math.ceil((first + 0.5) * self.scale - 0.5 - radius)
        end = math.floor((last - 0.5) * self.scale - 0.5 + radius) + 1
        return max(0, begin), min(self.input_length, end)

    def matrix(self, first: int, last: int) -> sparse.csr_matrix:
        """(last - first, inputs) float32: rows sum to 1; its columns are those of `inputs`."""
        begin, end = self.inputs(first, last)
        radius = max(1.0, self.scale)
        centres = (np.arange(first, last) + 0.5) * self.scale - 0.5
        taps = np.ceil(centres - radius).astype(int)[:, None] + np.arange(math.ceil(2 * radius) + 1)
        weights = np.clip(1 - np.abs(taps - centres[:, None]) / radius, 0, None)
        weights[(taps < 0) | (taps >= self.input_length)] = 0
        weights /= weights.sum(axis=1, keepdims=True)
        rows, columns = np.nonzero(weights)
        values = weights[rows, columns].astype(np.float32)
        places = rows, taps[rows, columns] - begin
        return sparse.csr_matrix((values, places), shape=(last - first, end - begin))


def resample(
    values: np.ndarray, down: sparse.csr_matrix | None, along: sparse.csr_matrix | None
) -> np.ndarray:
    """Apply one matrix to the rows and one to the columns.

    Args:
        values: (height, width) or (height, width, channels), any type.
        down: For the rows; None leaves them.
        along: For the columns; None leaves them.

    Returns:
        float32.
    """
    result = np.asarray(values, dtype=np.float32)
    if down is not None:
        rest = result.shape[1:]
        result = (down @ result.reshape(len(result), -1)).reshape(-1, *rest)
    if along is not None:
        turned = result.swapaxes(0, 1)
        rest = turned.shape[1:]
        turned = (along @ np.ascontiguousarray(turned).reshape(len(turned), -1)).reshape(-1, *rest)
        result = np.ascontiguousarray(turned.swapaxes(0, 1))
    return result
