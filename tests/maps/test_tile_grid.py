import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autosam.errors import ConfigError
from autosam.maps.tile_grid import TileGrid, Window

sizes = st.integers(1, 60)


@st.composite
def grids(draw):
    side = draw(st.integers(1, 24))
    return TileGrid.over(
        (draw(sizes), draw(sizes)),
        side=side,
        overlap=draw(st.integers(0, side // 2)),
        shift=draw(st.integers(0, side - 1)),
        margin=draw(st.integers(0, 5)),
    )


def test_starts_by_hand():
    grid = TileGrid.over((10, 21), side=8, overlap=2)
    assert grid.tops == (0, 2)  # 0..8, then pushed back to end at 10
    assert grid.lefts == (0, 6, 12, 13)
    assert grid.tile_count == 8
    assert grid.tiles(1)[3] == Window(2, 13, 8, 8)


def test_a_shifted_grid_begins_at_the_edge_all_the_same():
    assert TileGrid.over((8, 40), side=8, overlap=2, shift=3).lefts == (0, 3, 9, 15, 21, 27, 32)


def test_a_small_raster_is_one_tile_of_its_own_size():
    grid = TileGrid.over((5, 3), side=8, overlap=2)
    assert grid.tiles(0) == [Window(0, 0, 5, 3)]


@given(grids())
def test_tiles_cover_every_pixel_and_nothing_else(grid):
    for starts, side, length in zip(
        (grid.tops, grid.lefts), grid.tile_size, grid.size, strict=True
    ):
        covered = {place for start in starts for place in range(start, start + side)}
        assert covered == set(range(length))
        assert list(starts) == sorted(set(starts))


@given(grids())
def test_strips_follow_each_other_without_gaps(grid):
    edges = [grid.strip(row) for row in range(len(grid.tops))]
    assert edges[0][0] == 0
    assert edges[-1][1] == grid.size[0]
    assert all(before[1] == after[0] for before, after in itertools.pairwise(edges))
    assert all(top <= bottom for top, bottom in edges)


@given(grids())
def test_no_later_row_of_tiles_reaches_into_a_strip_or_its_margin(grid):
    for row, top in enumerate(grid.tops[1:]):
        assert grid.strip(row)[1] + grid.margin <= max(top, grid.margin)


@given(grids())
def test_the_rows_of_tiles_that_a_strip_needs_are_all_that_reach_it(grid):
    height = grid.tile_size[0]
    for row in range(len(grid.tops)):
        needed = grid.needed_from(row)
        reaching = [i for i, top in enumerate(grid.tops[: row + 1]) if top + height > needed]
        assert grid.first_row_reaching(row) == min(reaching)


def test_half_a_tile_is_the_largest_overlap():
    with pytest.raises(ConfigError, match=re.escape("side 8, overlap 5 and shift 0")):
        TileGrid.over((20, 20), side=8, overlap=5)
