"""A tile at several scales: enlarged or shrunk, shown in pieces of the model's size, and put together again.

Tiles are as large as the coarsest scale needs, so that the model sees more ground there and finer grain at
the others, all from pixels that were read once. Pieces overlap and are blended as tiles are.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np
from scipy import sparse

from autosam.maps.blending import axis_weights
from autosam.maps.resampling import AxisResampling, resample
from autosam.maps.tile_grid import TileGrid

Answer = Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]]
"""From (height, width, 3) uint8 pictures to (height, width) float32 in 0..1 each."""
_WORKING_BYTES = 24
"""For each pixel of a tile, while a piece is made from it and given back to it."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class _Part:
    """One piece along one axis of a tile."""

    source: slice
    """Pixels of the tile that it is made from."""
    forth: sparse.csr_matrix | None
    """(piece, source): None where they are the same."""
    target: slice
    """Pixels of the tile that it has a word in."""
    back: sparse.csr_matrix | None
    """(target, piece), with the weights of the piece; None where they are the same."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TileScales:
    """How tiles of one size are seen at several scales."""

    scales: tuple[float, ...]
    """Pixels that the model sees for one of the tile, along each axis; ascending."""
    tile_size: tuple[int, int]
    """(height, width)."""
    side: int
    """Height and width that the model is shown at once."""
    overlap: int
    """Pixels that pieces beside each other share."""
    batch: int
    """Pieces that the model is given together."""

    @staticmethod
    def tile_side(side: int, scales: Sequence[float]) -> int:
        """Height and width of tiles that fill the model's side at the coarsest scale."""
        return max(1, int(side / min(scales)))

    @property
    def pieces(self) -> int:
        """How many the model is shown of each tile."""
        return sum(len(down) * len(along) for down, along in map(self._parts, self.scales))

    @property
    def shown_size(self) -> tuple[int, int]:
        """(height, width) of the largest piece."""
        height, width = (max(1, round(length * max(self.scales))) for length in self.tile_size)
        return min(self.side, height), min(self.side, width)

    @property
    def nbytes(self) -> int:
        """Bytes of memory that one tile takes while it is seen."""
        return self.tile_size[0] * self.tile_size[1] * _WORKING_BYTES

    def mean(self, answer: Answer, tiles: Sequence[np.ndarray]) -> list[np.ndarray]:
        """What a model says of tiles, in the mean over the scales.

        Summed in one order, scale by scale and piece by piece, so that equal tiles have equal means.

        Args:
            answer: The model.
            tiles: (height, width, 3) uint8, of `tile_size` each.

        Returns:
            (height, width) float32 in 0..1 for each tile.
        """
        total = [np.zeros(self.tile_size, np.float32) for _ in tiles]
        for scale in self.scales:
            downs, alongs = self._parts(scale)
            places = [
                (number, down, along)
                for number in range(len(tiles))
                for down in downs
                for along in alongs
            ]
            for first in range(0, len(places), self.batch):
                chosen = places[first : first + self.batch]
                answers = answer([_piece(tiles[number], *parts) for number, *parts in chosen])
                for (number, down, along), said in zip(chosen, answers, strict=True):
                    total[number][down.target, along.target] += resample(
                        said, down.back, along.back
                    )
        return [np.clip(one / np.float32(len(self.scales)), 0, 1) for one in total]

    def _parts(self, scale: float) -> tuple[tuple[_Part, ...], tuple[_Part, ...]]:
        """Of a tile at one scale, down and along."""
        height, width = self.tile_size
        return (
            _axis_parts(height, scale, self.side, self.overlap),
            _axis_parts(width, scale, self.side, self.overlap),
        )


def _piece(tile: np.ndarray, down: _Part, along: _Part) -> np.ndarray:
    """(height, width, 3) uint8 that the model is shown."""
    source = tile[down.source, along.source]
    if down.forth is None and along.forth is None:
        return np.ascontiguousarray(source)
    # Half a grey level is added before cutting off: rounding to nearest.
    shown: np.ndarray = (resample(source, down.forth, along.forth) + np.float32(0.5)).astype(
        np.uint8
    )
    return shown


@functools.lru_cache(maxsize=32)
def _axis_parts(length: int, scale: float, side: int, overlap: int) -> tuple[_Part, ...]:
    """The pieces of a tile along one axis; what they give back sums to 1 at every pixel of the tile."""
    scaled = max(1, round(length * scale))
    grid = TileGrid.over((scaled, 1), side=side, overlap=overlap)
    count = grid.tile_size[0]
    forth, back = AxisResampling(length, scaled), AxisResampling(scaled, length)
    whole = back.matrix(0, length)
    weights = axis_weights(grid.tops, count, overlap, scaled)
    parts = []
    for start, weight in zip(grid.tops, weights, strict=True):
        given = sparse.csr_matrix(whole[:, start : start + count] @ sparse.diags(weight))
        given.eliminate_zeros()
        rows = np.flatnonzero(np.diff(given.indptr))
        target = slice(int(rows[0]), int(rows[-1]) + 1)
        alone = back.is_identity and len(grid.tops) == 1
        parts.append(
            _Part(
                source=slice(*forth.inputs(start, start + count)),
                forth=None if forth.is_identity else forth.matrix(start, start + count),
                target=target,
                back=None if alone else given[target],
            )
        )
    return tuple(parts)
