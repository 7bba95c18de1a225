"""From the probabilities of a finished strip to its layers on the raster's own pixels, on the disk."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from autosam.inference.raster_job import RasterJob
from autosam.maps.raster_output import MASK_NODATA, PROBABILITY_LEVELS, write_strip
from autosam.maps.resampling import AxisResampling, resample
from autosam.maps.tile_grid import Window


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class FinishedStrip:
    """What no later tile changes; it can be drawn while other tiles are masked."""

    top: int
    """First of its rows on the raster's own pixels."""
    bottom: int
    """First row beyond."""
    first: int
    """Row of the model's pixels at which `probability` begins."""
    probability: np.ndarray
    """(rows, width) float32 on the model's pixels, those included that are interpolated from beyond."""
    valid: Callable[[int, int], np.ndarray]
    """Gives for first row and first row beyond, of the raster, (rows, width) bool: where it has data."""
    lost: Sequence[Window]
    """Of the raster, where tiles that failed have a word in it."""


class StripDrawer:
    """Draws the strips of one raster.

    Args:
        job: What is to be done.
    """

    def __init__(self, job: RasterJob) -> None:
        self._job = job
        own, seen = job.grid.source_size, job.grid.size
        self._down, along = (AxisResampling(seen[axis], own[axis]) for axis in (0, 1))
        self._along = None if along.is_identity else along.matrix(0, own[1])

    def inputs(self, top: int, bottom: int) -> tuple[int, int]:
        """Rows of the model's pixels that these rows of the raster need: first, and first beyond."""
        return self._down.inputs(top, bottom)

    def write(self, strip: FinishedStrip, targets: Mapping[str, Path]) -> dict[str, int]:
        """Write the layers of a strip; none where it is empty.

        Args:
            strip: What is drawn.
            targets: File of each layer, by name.

        Returns:
            Pixels of ``water``, ``land`` and ``nodata``.

        Raises:
            OutputError: A layer cannot be written.
        """
        pixels = {"water": 0, "land": 0, "nodata": 0}
        if strip.bottom > strip.top:
            size = strip.bottom - strip.top, self._job.grid.source_size[1]
            files = [(targets[layer.name], layer) for layer in self._job.layers]
            write_strip(
                files,
                size,
                lambda a, b: self._draw(strip, strip.top + a, strip.top + b, pixels),
            )
        return pixels

    def _draw(
        self, strip: FinishedStrip, top: int, bottom: int, pixels: dict[str, int]
    ) -> list[np.ndarray]:
        """Rows of each layer on the raster's own pixels; counts what they hold."""
        first, end = self._down.inputs(top, bottom)
        probability = strip.probability[first - strip.first : end - strip.first]
        if self._along is not None or not self._down.is_identity:
            down = None if self._down.is_identity else self._down.matrix(top, bottom)
            probability = resample(probability, down, self._along)
        probability = np.clip(probability, 0, 1)  # sums of weights may miss 1 by rounding
        gaps = ~strip.valid(top, bottom)
        for tile in strip.lost:
            if tile.meets(top, bottom):
                rows = slice(max(0, tile.top - top), tile.bottom - top)
                gaps[rows, tile.left : tile.right] = True
        mask = (probability >= self._job.threshold).astype(np.uint8)
        mask[gaps] = MASK_NODATA
        counts = np.bincount(mask.ravel(), minlength=256)
        for name, value in (("land", 0), ("water", 1), ("nodata", MASK_NODATA)):
            pixels[name] += int(counts[value])
        drawn = [mask]
        if self._job.settings.probability == "uint8":
            scaled = np.rint(probability * PROBABILITY_LEVELS).astype(np.uint8)
            scaled[gaps] = MASK_NODATA
            drawn.append(scaled)
        elif self._job.settings.probability == "float32":
            probability[gaps] = np.nan
            drawn.append(probability)
        return drawn
