import math

import numpy as np
import pytest
from affine import Affine
from drawn_rivers import HALF_METRE, UTM, middles, straight_river, winding_river
from scipy import ndimage

from autosam.maps.centreline import find_centreline, line_length, smoothed
from autosam.maps.metric_ground import read_ground
from autosam.maps.skeletons import distance_to_land, skeleton_network


def ground(size, crs=UTM, transform=HALF_METRE):
    return read_ground(crs, transform, size=size, name="test.tif")


def line_of(water):
    found = find_centreline(water, ground(water.shape))
    assert found is not None
    return found


def test_a_straight_river_runs_from_frame_to_frame_along_its_middle():
    line = line_of(straight_river((120, 300)))
    pixels = ground((120, 300)).to_pixels(line.main)
    assert pixels[:, 1] == pytest.approx(60, abs=0.51)
    assert line.length == pytest.approx(150, abs=0.5)
    assert line.sinuosity == pytest.approx(1, abs=1e-6)
    assert line.branches == ()


def test_the_same_river_upright_is_as_long():
    line = line_of(straight_river((120, 300)).T)
    assert line.length == pytest.approx(150, abs=0.5)


def test_a_river_that_ends_in_the_picture_is_followed_to_its_banks():
    water = straight_river((120, 300))
    water[:, :40] = water[:, 260:] = False
    assert line_of(water).length == pytest.approx(110, abs=1)


@pytest.mark.parametrize("degrees", [10, 30, 45, 70])
def test_an_oblique_river_is_as_long_as_its_middle_line_in_the_frame(degrees):
    x, y = middles((300, 300))
    slope = math.radians(degrees)
    water = abs((y - 150) * math.cos(slope) - (x - 150) * math.sin(slope)) < 12
    expected = 150 / max(math.cos(slope), math.sin(slope))
    assert line_of(water).length == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("width", [24, 60])
@pytest.mark.parametrize("degrees", [10, 30, 40, 60])
def test_an_oblique_river_keeps_its_middle_where_it_leaves_the_picture(degrees, width):
    x, y = middles((300, 300))
    slope = math.radians(degrees)

    def across(x, y):
        return (y - 150) * math.cos(slope) - (x - 150) * math.sin(slope)

    line = line_of(abs(across(x, y)) < width / 2)
    off = across(*ground((300, 300)).to_pixels(line.main).T)
    # 9.3 where the line is followed to the frame as water that goes straight out.
    assert abs(off).max() < 1.1
    expected = 150 / max(math.cos(slope), math.sin(slope))
    assert line.length == pytest.approx(expected, rel=0.004)  # up to 3.4 % too short so


def test_a_wide_water_in_a_small_picture_keeps_most_of_its_line():
    line = line_of(straight_river((60, 70), width=50))
    assert line.length == pytest.approx(35, abs=0.5)


def test_a_winding_river_has_its_length_to_one_and_a_half_percent():
    water, length = winding_river()
    line = line_of(water)
    assert line.length == pytest.approx(length / 2, rel=0.015)
    assert line.sinuosity == pytest.approx(length / 600, rel=0.02)
    assert line.branches == ()


def test_rough_banks_make_neither_branches_nor_a_long_line():
    size = (300, 600)
    _, length = winding_river()
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=size), 3)
    smooth = winding_river(size, width=24)[0], winding_river(size, width=32)[0]
    water = smooth[0] | (smooth[1] & (noise > 0))
    labels = ndimage.label(water)[0]
    line = line_of(ndimage.binary_fill_holes(labels == labels[smooth[0]][0]))
    assert line.length == pytest.approx(length / 2, rel=0.03)
    assert sum(line_length(branch) for branch in line.branches) < 0.05 * line.length


def test_a_tributary_is_a_branch_and_the_longer_way_the_main_line():
    water = straight_river((300, 400), width=30)
    water[:150, 195:205] = True  # 135 pixels beyond the bank, against 400 of the river
    line = line_of(water)
    assert line.length == pytest.approx(200, rel=0.02)
    assert [line_length(branch) for branch in line.branches] == pytest.approx([75], abs=4)


def test_beside_an_island_the_wider_channel_is_the_main_one():
    water = straight_river((200, 400), width=100)
    water[80:130, 120:280] = False  # leaves 30 pixels above and 20 below
    line = line_of(water)
    middle = ground((200, 400)).to_pixels(line.main)[len(line.main) // 2]
    assert middle[1] == pytest.approx(65, abs=2)
    assert len(line.branches) == 1


def test_a_ring_is_closed_and_has_no_sinuosity():
    x, y = middles((200, 220))
    radius = np.hypot(x - 110, y - 100)
    line = line_of((radius > 60) & (radius < 80))
    assert line.closed
    assert line.sinuosity is None
    assert line.length == pytest.approx(2 * math.pi * 70 / 2, rel=0.02)


def test_water_without_a_bank_has_no_centreline():
    assert find_centreline(np.ones((40, 60), dtype=bool), ground((40, 60))) is None


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (3, 3), (2, 2)])
def test_the_smallest_waters_do_no_harm(shape):
    water = np.zeros((20, 30), dtype=bool)
    water[5 : 5 + shape[0], 5 : 5 + shape[1]] = True
    line = find_centreline(water, ground((20, 30)))
    assert line is None or line.length <= max(shape)


@pytest.mark.parametrize("seed", range(8))
def test_the_network_of_any_water_covers_it_and_stays_inside(seed):
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(120, 150)), 4)
    labels = ndimage.label(np.pad(noise > -0.01, 5), np.ones((3, 3)))[0]
    water = labels == np.bincount(labels.ravel())[1:].argmax() + 1
    place = ground(water.shape)
    segments = skeleton_network(water, place)
    points = place.to_pixels(np.concatenate([segment.points for segment in segments]))
    columns, rows = np.floor(points).astype(int).T
    assert water[rows, columns].all()
    drawn = np.ones_like(water)
    drawn[rows, columns] = False
    radii = distance_to_land(water, place) / 0.5
    away = ndimage.distance_transform_edt(drawn)
    assert (away[water] <= 2 * radii.max() + 3).all()


@pytest.mark.parametrize("seed", range(4))
def test_a_network_has_as_many_loops_as_the_water_has_holes(seed):
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(120, 150)), 4)
    water = np.zeros((130, 160), dtype=bool)
    water[5:-5, 5:-5] = noise > -0.02
    labels = ndimage.label(water, np.ones((3, 3)))[0]
    water = labels == np.bincount(labels.ravel())[1:].argmax() + 1
    segments = skeleton_network(water, ground(water.shape))
    knots = {knot for segment in segments for knot in (segment.start, segment.end)}
    holes = ndimage.label(~water)[1] - 1
    assert len(segments) - len(knots) + 1 == holes
    assert holes > 1


def test_smoothing_keeps_ends_straight_lines_and_wide_bends():
    x = np.arange(0, 400, 1.0)
    straight = np.column_stack([x, 0.3 * x])
    off = smoothed(straight, step=1, scale=20, closed=False) @ [-0.3, 1.0]
    assert off == pytest.approx(0, abs=1e-9)
    bend = np.column_stack([x, 30 * np.sin(2 * math.pi * x / 200)])
    smooth = smoothed(bend, step=1, scale=20, closed=False)
    assert smooth[[0, -1]] == pytest.approx(bend[[0, -1]])
    assert smooth[:, 1].max() == pytest.approx(30, rel=0.01)


def test_smoothing_takes_the_steps_away():
    x = np.arange(0, 400, 1.0)
    steps = np.column_stack([x, np.floor(0.2 * x)])
    assert line_length(steps) > 1.05 * line_length(steps[[0, -1]])
    smooth = smoothed(steps, step=1, scale=20, closed=False)
    assert line_length(smooth) == pytest.approx(line_length(steps[[0, -1]]), rel=0.002)


def test_distances_to_land_count_metres_along_either_side_of_a_pixel():
    wide = Affine(2, 0, 0, 0, -1, 5330000)
    water = np.zeros((21, 31), dtype=bool)
    water[5:16, 5:26] = True
    distance = distance_to_land(water, ground(water.shape, transform=wide))
    assert distance[10, 15] == pytest.approx(6 - math.sqrt(2) / 2)  # up: six rows of one metre
    assert distance[10, 6] == pytest.approx(4 - math.sqrt(2) / 2)  # left: two columns of two
