"""A raster's rows as a model sees them: 8-bit RGB at the model's pixel size, each row read once."""

import contextlib
import threading
from collections.abc import Iterator

import numpy as np

from autosam.errors import ImageError
from autosam.maps.model_grid import ModelGrid
from autosam.maps.rasters import Raster
from autosam.maps.resampling import AxisResampling, resample
from autosam.maps.value_range import ValueRange

NO_DATA, DATA, BROKEN = 0, 1, 2
"""State of a pixel; broken is what could not be read."""
_BYTES_AT_ONCE = 64 * 2**20
"""Of source rows in float32 that are resampled together."""
_BROKEN_SIDE = 256
"""Columns that are given up together where a file is damaged."""


class ModelRows:
    """A window of rows that moves down a raster and keeps what it has already read.

    Args:
        raster: Open.
        grid: In which the model sees it.
        values: The raster's one scaling to 8 bits.
        count: Rows of the window.
        fill: Colour of pixels without data, which are resampled with their neighbours.
    """

    def __init__(
        self,
        raster: Raster,
        grid: ModelGrid,
        *,
        values: ValueRange,
        count: int,
        fill: tuple[int, int, int],
    ) -> None:
        self._raster = raster
        self._reading = threading.Lock()  # one thread moves the rows, another asks where data is
        self._values = values
        self._fill = np.array(fill, np.uint8)
        self._down, self._along = (
            AxisResampling(own, seen) for own, seen in zip(grid.source_size, grid.size, strict=True)
        )
        width = grid.size[1]
        self.image = np.empty((count, width, 3), np.uint8)
        """(count, width, 3) RGB; pixels without data have the colour that was given for them."""
        self.state = np.empty((count, width), np.uint8)
        """(count, width): `NO_DATA`, `DATA` or `BROKEN`."""
        self.problem = ""
        """What was wrong where pixels are broken; the last one."""
        self._first, self._end = 0, 0
        self._matrix = None if self._along.is_identity else self._along.matrix(0, width)

    @property
    def nbytes(self) -> int:
        """Bytes of memory, those of a piece that is being resampled included."""
        piece = min(self._piece_rows(), len(self.image)) * self._bytes_per_row()
        return int(self.image.nbytes + self.state.nbytes + piece)

    def move_to(self, first: int) -> None:
        """Show the rows from here on; only what was not shown before is read."""
        kept = max(0, self._end - first) if first >= self._first else 0
        step, count = first - self._first, len(self.image)
        for rows in (self.image, self.state) if step and kept else ():
            # Piece by piece, for one assignment of overlapping rows would copy them all.
            for top in range(0, kept, step):
                piece = min(step, kept - top)
                rows[top : top + piece] = rows[top + step : top + step + piece]
        self._first, self._end = first, first + count
        for top in range(first + kept, first + count, self._piece_rows()):
            bottom = min(top + self._piece_rows(), first + count)
            place = slice(top - first, bottom - first)
            with self._reading:
                self.image[place], self.state[place] = self._read(top, bottom)

    def _piece_rows(self) -> int:
        return max(1, int(_BYTES_AT_ONCE / self._bytes_per_row()))

    def _bytes_per_row(self) -> float:
        """Of the source, for one row of the model's grid, while it is read and resampled."""
        width, resampled = self._along.input_length, not self._down.is_identity
        stored = self._raster.bytes_per_pixel + 4
        return width * self._down.scale * (stored + (24 if resampled else 3))

    def _read(self, top: int, bottom: int) -> tuple[np.ndarray, np.ndarray]:
        first, end = self._down.inputs(top, bottom)
        image, state = self._source(first, end)
        if self._down.is_identity and self._along.is_identity:
            return image, state
        down = None if self._down.is_identity else self._down.matrix(top, bottom)
        colours = resample(image, down, self._matrix)
        # Half a grey level is added before cutting off: rounding to nearest.
        seen = (colours + np.float32(0.5)).astype(np.uint8)
        states = np.zeros(seen.shape[:2], np.uint8)
        for kind in (DATA, BROKEN):
            found = state == kind
            if found.all():
                states[:] = kind
            elif found.any():
                states[resample(found, down, self._matrix) > 0] = kind
        return seen, states

    def _source(self, first: int, end: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the raster; where they cannot be read, piece by piece what can."""
        width = self._along.input_length
        try:
            return self._converted(first, end, 0, width)
        except ImageError as error:
            self.problem = str(error)
        image = np.broadcast_to(self._fill, (end - first, width, 3)).copy()
        state = np.full((end - first, width), BROKEN, np.uint8)
        for top, bottom, left, right in _pieces(first, end, width):
            place = slice(top - first, bottom - first), slice(left, right)
            try:
                image[place], state[place] = self._converted(top, bottom, left, right)
            except ImageError as error:
                self.problem = str(error)
        return image, state

    def valid_source(self, first: int, end: int) -> np.ndarray:
        """(end - first, source width) bool: where the raster itself has data that can be read.

        May be called by another thread than the one that moves the rows.
        """
        with self._reading:
            return self._valid_source(first, end)

    def _valid_source(self, first: int, end: int) -> np.ndarray:
        try:
            return self._raster.read_valid(first, end)
        except ImageError:
            width = self._along.input_length
        valid = np.zeros((end - first, width), bool)
        for top, bottom, left, right in _pieces(first, end, width):
            place = slice(top - first, bottom - first), slice(left, right)
            with contextlib.suppress(ImageError):  # its tiles have failed, and say so
                valid[place] = self._raster.read_valid(top, bottom, left=left, right=right)
        return valid

    def shown_valid(self, first: int, end: int) -> np.ndarray:
        """(end - first, width) bool: where rows that are shown have data that could be read."""
        return np.asarray(self.state[first - self._first : end - self._first] == DATA)

    def _converted(
        self, top: int, bottom: int, left: int, right: int
    ) -> tuple[np.ndarray, np.ndarray]:
        stored = self._raster.read(top, bottom, left=left, right=right)
        image = self._values.to_8_bits(stored)
        if image.shape[2] == 1:
            image = np.repeat(image, 3, axis=2)
        valid = self._raster.read_valid(top, bottom, left=left, right=right)
        if not valid.all():
            image = np.where(valid[..., None], image, self._fill)
        return np.ascontiguousarray(image), valid.astype(np.uint8)


def _pieces(first: int, end: int, width: int) -> Iterator[tuple[int, int, int, int]]:
    """Top, bottom, left and right of small pieces of rows, which are given up one by one."""
    for left in range(0, width, _BROKEN_SIDE):
        for top in range(first, end, _BROKEN_SIDE):
            yield top, min(top + _BROKEN_SIDE, end), left, min(left + _BROKEN_SIDE, width)
