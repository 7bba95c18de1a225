import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autosam.maps.blending import StripAccumulator, axis_weights
from autosam.maps.tile_grid import TileGrid


def whole_sheet(grid: TileGrid, tiles: dict[tuple[int, int], np.ndarray]) -> np.ndarray:
    """The sheet strip by strip, as a user of the accumulator reads it."""
    sheet, rows = StripAccumulator(grid), []
    for row in range(len(grid.tops)):
        sheet.move_to(row)
        for column in range(len(grid.lefts)):
            sheet.add(row, column, tiles[row, column])
        rows.append(sheet.rows(*grid.strip(row)).copy())
    return np.concatenate(rows)


def test_weights_by_hand():
    # Two tiles of 4 that share 2 pixels: sin^2 of 22.5 and of 67.5 degrees where they meet.
    weights = axis_weights((0, 2), side=4, overlap=2, length=6)
    low, high = np.sin(np.pi / 8) ** 2, np.sin(3 * np.pi / 8) ** 2
    np.testing.assert_allclose(weights, [[1, 1, high, low], [low, high, 1, 1]], rtol=1e-6)


@given(st.integers(1, 50), st.integers(1, 50), st.integers(0, 6), st.integers(0, 11))
def test_weights_sum_to_one_everywhere(height, width, overlap, shift):
    grid = TileGrid.over((height, width), side=12, overlap=overlap, shift=shift)
    total = np.zeros(width)
    weights = axis_weights(grid.lefts, grid.tile_size[1], overlap, width)
    for start, weight in zip(grid.lefts, weights, strict=True):
        assert (weight > 0).all()
        total[start : start + len(weight)] += weight
    np.testing.assert_allclose(total, 1, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 30), st.integers(0, 5), st.integers(0, 4))
def test_strips_equal_one_large_weighted_mean(height, width, overlap, margin):
    grid = TileGrid.over((height, width), side=10, overlap=overlap, margin=margin)
    rng = np.random.default_rng(height * width)
    tiles = {
        (row, column): rng.random(grid.tile_size, np.float32)
        for row in range(len(grid.tops))
        for column in range(len(grid.lefts))
    }
    # Independent: ramps in the plane, summed and divided over the whole raster at once.
    side_ramps = [
        np.sin(np.pi / 2 * np.clip((np.minimum(p, n - p)) / overlap, 0, 1)) ** 2
        if overlap
        else np.ones(n)
        for n, p in ((n, np.arange(n) + 0.5) for n in grid.tile_size)
    ]
    ramp = np.outer(*side_ramps)
    total, weight = np.zeros((height, width)), np.zeros((height, width))
    for (row, column), tile in tiles.items():
        place = np.s_[
            grid.tops[row] : grid.tops[row] + tile.shape[0],
            grid.lefts[column] : grid.lefts[column] + tile.shape[1],
        ]
        total[place] += tile * ramp
        weight[place] += ramp
    np.testing.assert_allclose(whole_sheet(grid, tiles), total / weight, atol=1e-5)


def test_a_strip_alone_has_the_bits_of_one_in_a_row():
    grid = TileGrid.over((90, 50), side=16, overlap=6, margin=3)
    rng = np.random.default_rng(0)
    tiles = {
        (row, column): rng.random(grid.tile_size, np.float32)
        for row in range(len(grid.tops))
        for column in range(len(grid.lefts))
    }
    expected = whole_sheet(grid, tiles)
    for strip in range(len(grid.tops)):
        sheet = StripAccumulator(grid)
        for row in range(grid.first_row_reaching(strip), strip + 1):
            sheet.move_to(row)
            for column in range(len(grid.lefts)):
                sheet.add(row, column, tiles[row, column])
        top, bottom = grid.strip(strip)
        assert np.array_equal(sheet.rows(top, bottom), expected[top:bottom])


@pytest.mark.parametrize("height", [200, 2000])
def test_memory_does_not_follow_the_height(height):
    grid = TileGrid.over((height, 100), side=32, overlap=8, margin=2)
    assert StripAccumulator(grid).nbytes == (32 + 4) * 100 * 4


@pytest.mark.parametrize(("from_row", "to_row"), [(7, 0), (5, 4), (3, 1)])
def test_moving_up_forgets_everything(from_row, to_row):
    grid = TileGrid.over((90, 50), side=16, overlap=6)
    sheet = StripAccumulator(grid)
    sheet.move_to(from_row)
    sheet.add(from_row, 0, np.ones(grid.tile_size, np.float32))
    sheet.move_to(to_row)
    fresh = StripAccumulator(grid)
    fresh.move_to(to_row)
    for one in (sheet, fresh):
        one.add(to_row, 1, np.ones(grid.tile_size, np.float32))
    top = grid.needed_from(to_row)
    assert np.array_equal(sheet.rows(top, top + 16), fresh.rows(top, top + 16))
