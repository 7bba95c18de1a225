"""Where overlapping tiles lie, and which rows are finished once a row of tiles is: pure geometry.

Tiles of one size lie on a regular grid; those that would hang over an edge are pushed back inside, so no
tile ever shows anything but the raster. Strip k holds the rows that row k of tiles finishes: it is told
apart by where the next row of tiles begins, whatever the overlap.
"""

import dataclasses

from autosam.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Window:
    """A rectangle of pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def bottom(self) -> int:
        """First row below it."""
        return self.top + self.height

    @property
    def right(self) -> int:
        """First column right of it."""
        return self.left + self.width

    def meets(self, top: int, bottom: int) -> bool:
        """Whether it has a row in top <= row < bottom."""
        return self.top < bottom and top < self.bottom


@dataclasses.dataclass(frozen=True)
class TileGrid:
    """Overlapping tiles over a raster."""

    size: tuple[int, int]
    """(height, width) of the raster."""
    tile_size: tuple[int, int]
    """(height, width) of every tile; smaller than asked for where the raster is."""
    overlap: int
    """Pixels that neighbours share; those at the raster's far edges share more."""
    tops: tuple[int, ...]
    """First row of each row of tiles, ascending."""
    lefts: tuple[int, ...]
    """First column of each column of tiles, ascending."""
    margin: int = 0
    """Rows on either side of a strip that must be finished with it, so that it can be resampled alone."""

    @classmethod
    def over(
        cls, size: tuple[int, int], *, side: int, overlap: int, shift: int = 0, margin: int = 0
    ) -> "TileGrid":
        """The grid over a raster.

        Args:
            size: (height, width) of the raster, at least one pixel.
            side: Height and width of a tile.
            overlap: Pixels that neighbours share, at most half the side.
            shift: Pixels by which the grid is moved up and left, to measure what its place changes.
            margin: As `margin`.

        Raises:
            ConfigError: A number cannot be used.
        """
        if side < 1 or not 0 <= 2 * overlap <= side or not 0 <= shift < side or margin < 0:
            raise ConfigError(
                f"tiles must overlap by 0 to half their side and be moved by less than it, got side {side}, "
                f"overlap {overlap} and shift {shift}. Choose a smaller overlap or a larger tile."
            )
        height, width = size
        tile_size = min(side, height), min(side, width)
        return cls(
            size=size,
            tile_size=tile_size,
            overlap=overlap,
            tops=_starts(height, side=side, overlap=overlap, shift=shift),
            lefts=_starts(width, side=side, overlap=overlap, shift=shift),
            margin=margin,
        )

    @property
    def tile_count(self) -> int:
        """Tiles in all."""
        return len(self.tops) * len(self.lefts)

    def tiles(self, row: int) -> list[Window]:
        """The tiles of one row, from left to right."""
        return [Window(self.tops[row], left, *self.tile_size) for left in self.lefts]

    def strip(self, row: int) -> tuple[int, int]:
        """First row of the strip that this row of tiles finishes, and first row after it; may be empty."""
        return self._begin(row), self._begin(row + 1)

    def first_row_reaching(self, row: int) -> int:
        """The first row of tiles that adds anything to the strip of another, or to its margin."""
        first = self.needed_from(row)
        return next(i for i, top in enumerate(self.tops) if top + self.tile_size[0] > first)

    def needed_from(self, row: int) -> int:
        """First row of the raster that the strip of this row of tiles needs, with its margin."""
        return max(0, self._begin(row) - self.margin)

    def _begin(self, row: int) -> int:
        if row == 0:
            return 0
        return self.size[0] if row == len(self.tops) else max(0, self.tops[row] - self.margin)


def _starts(length: int, *, side: int, overlap: int, shift: int) -> tuple[int, ...]:
    """Where tiles begin along one axis: ascending, from 0 to the last that fits, without gaps."""
    last, step = max(0, length - side), side - overlap
    starts = [0]
    position = step - shift
    while starts[-1] < last:
        if position > 0:
            starts.append(min(position, last))
        position += step
    return tuple(starts)
