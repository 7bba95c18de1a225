"""From overlapping tiles to one seamless sheet, of which memory holds a strip.

Along each axis the weights of all tiles sum to 1 at every pixel, so their product does in the plane: what
tiles say is added up and never divided. A tile's weight rises from its edge as a sine squared over the
overlap, so that nothing jumps where a tile begins.
"""

import numpy as np

from autosam.maps.tile_grid import TileGrid, Window


def axis_weights(starts: tuple[int, ...], side: int, overlap: int, length: int) -> np.ndarray:
    """Weight of each tile at each of its pixels along one axis; they sum to 1 at every pixel.

    Args:
        starts: Where tiles begin, ascending, without gaps.
        side: Pixels of a tile.
        overlap: Pixels over which a weight rises; 0 for none.
        length: Pixels of the axis.

    Returns:
        (tiles, side) float32, each above 0.
    """
    places = np.arange(side) + 0.5
    edge = np.minimum(places, side - places)
    rise = np.sin(np.pi / 2 * np.clip(edge / overlap, 0, 1)) ** 2 if overlap else np.ones(side)
    total = np.zeros(length)
    for start in starts:
        total[start : start + side] += rise
    return np.stack([rise / total[start : start + side] for start in starts]).astype(np.float32)


class StripAccumulator:
    """The weighted sum of tiles over the rows that are not finished yet.

    Args:
        grid: Of the tiles; memory is its width times a tile's height and two margins, in float32.
    """

    def __init__(self, grid: TileGrid) -> None:
        self._grid = grid
        height, width = grid.tile_size
        self._down = axis_weights(grid.tops, height, grid.overlap, grid.size[0])
        self._along = axis_weights(grid.lefts, width, grid.overlap, grid.size[1])
        self._rows = np.zeros((height + 2 * grid.margin, grid.size[1]), np.float32)
        self._first = 0

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return self._rows.nbytes

    def move_to(self, row: int) -> None:
        """Forget what lies above the strip of this row of tiles; rows that come in are zero.

        Moving up forgets everything.
        """
        first, rows = self._grid.needed_from(row), self._rows
        step = first - self._first
        kept = max(0, len(rows) - step) if step > 0 else 0
        # Piece by piece, for one assignment of overlapping rows would copy them all.
        for top in range(0, kept, max(step, 1)):
            count = min(step, kept - top)
            rows[top : top + count] = rows[top + step : top + step + count]
        if step:
            rows[kept:] = 0
        self._first = first

    def clear(self) -> None:
        """Forget every tile."""
        self._rows[:] = 0

    def add(self, row: int, column: int, probability: np.ndarray) -> None:
        """Add what a model says of one tile.

        Args:
            row: Of the tile, in the grid.
            column: Of the tile, in the grid.
            probability: (tile height, tile width) float32 in 0..1.
        """
        height, width = self._grid.tile_size
        tile = Window(self._grid.tops[row], self._grid.lefts[column], height, width)
        weighted = probability * self._down[row][:, None]
        weighted *= self._along[column]
        top = tile.top - self._first
        below = max(0, -top)  # rows above the strip are finished and gone
        target = self._rows[top + below : top + height, tile.left : tile.right]
        target += weighted[below:]

    def rows(self, top: int, bottom: int) -> np.ndarray:
        """(bottom - top, width) float32 in 0..1, a view; only rows that are finished mean anything."""
        return self._rows[top - self._first : bottom - self._first]
