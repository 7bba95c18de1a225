import math

import numpy as np
import pytest
from affine import Affine
from drawn_rivers import HALF_METRE, UTM, middles, straight_river, winding_river
from pyproj import Geod

from autosam.maps.centreline import find_centreline
from autosam.maps.metric_ground import read_ground
from autosam.maps.widths import Wetness, measure_stations


def stations_of(water, *, crs=UTM, transform=HALF_METRE, valid=None, spacing=10.0, **levels):
    ground = read_ground(crs, transform, size=water.shape, name="test.tif")
    line = find_centreline(water, ground)
    wetness = Wetness(
        water=water,
        valid=np.ones_like(water) if valid is None else valid,
        narrow=levels.get("narrow"),
        wide=levels.get("wide"),
    )
    return measure_stations(line, wetness, ground, spacing=spacing, span=12.0)


def test_a_straight_river_is_as_wide_as_it_was_drawn():
    found = stations_of(straight_river((120, 300), width=24))
    assert found.along == pytest.approx(np.arange(5, 150, 10), abs=0.2)
    assert found.width == pytest.approx(12.0)
    assert found.main_width == pytest.approx(12.0)
    assert found.right - found.left == pytest.approx(12.0)
    assert (
        np.abs(found.right + found.left).max() <= 0.5 + 1e-9
    )  # a line of pixels is off the middle
    assert not found.is_open.any()
    assert found.braiding == 1


@pytest.mark.parametrize("degrees", [15, 30, 45, 60])
def test_width_is_orthogonal_whatever_the_direction(degrees):
    x, y = middles((300, 300))
    slope = math.radians(degrees)
    water = abs((y - 150) * math.cos(slope) - (x - 150) * math.sin(slope)) < 15
    closed = stations_of(water).closed_width
    # What was drawn is 15 m wide but for its pixels; so much of it lies in the middle rows or columns.
    middle = water[:, 130:170] if degrees <= 45 else water[130:170].T
    drawn = middle.sum(axis=0).mean() / 2 * max(math.cos(slope), math.sin(slope))
    assert closed.mean() == pytest.approx(drawn, rel=0.005)
    assert closed == pytest.approx(15, abs=1.0)


@pytest.mark.parametrize("degrees", [20, 30, 40, 60])
def test_where_an_oblique_river_leaves_the_picture_its_sections_are_cut_and_said_to_be(degrees):
    x, y = middles((300, 300))
    slope = math.radians(degrees)
    found = stations_of(abs((y - 150) * math.cos(slope) - (x - 150) * math.sin(slope)) < 30)
    assert found.closed_width == pytest.approx(30, abs=0.6)  # a bent line has 28.8 m there
    assert found.is_open[[0, -1]].all()
    assert not found.is_open[1:-1].any()


def test_a_winding_river_is_as_wide_as_it_was_drawn_to_two_percent():
    found = stations_of(winding_river(width=24)[0])
    assert np.median(found.closed_width) == pytest.approx(12, rel=0.015)
    assert found.closed_width.mean() == pytest.approx(12, rel=0.02)


def test_a_section_never_crosses_the_next_bend():
    found = stations_of(winding_river((400, 600), width=30, height=150, bend=160)[0])
    inner = found.closed_width[2:-2]
    assert found.channels.max() == 1
    assert np.median(inner) == pytest.approx(15, rel=0.03)


def test_two_channels_are_counted_and_added():
    water = straight_river((200, 400), width=100)
    water[80:130, 80:320] = False
    found = stations_of(water, spacing=5.0)
    beside = (found.along > 60) & (found.along < 140)
    assert (found.channels[beside] == 2).all()
    assert found.width[beside] == pytest.approx(25, abs=0.6)
    assert found.main_width[beside] == pytest.approx(15, abs=0.6)
    assert found.braiding == pytest.approx(1 + 240 / 400, abs=0.1)  # less where the line turns


def test_sections_that_end_at_the_frame_or_at_no_data_are_open():
    water = np.zeros((120, 300), dtype=bool)
    water[:24] = True
    assert stations_of(water).is_open.all()
    water, valid = straight_river((120, 300)), np.ones((120, 300), dtype=bool)
    valid[:52, 100:200], water[:52, 100:200] = False, False
    found = stations_of(water, valid=valid)
    assert found.is_open.tolist() == [50 < along < 100 for along in found.along]
    assert found.closed_width == pytest.approx(12, abs=0.3)


def test_widths_at_two_probabilities_stand_beside_the_width():
    narrow, wide = straight_river((120, 300), width=16), straight_river((120, 300), width=40)
    found = stations_of(straight_river((120, 300), width=24), narrow=narrow, wide=wide)
    assert found.narrow == pytest.approx(8)
    assert found.wide == pytest.approx(20)


def test_width_in_degrees_at_sixty_north_is_geodesic_both_ways():
    step = 1e-5
    transform = Affine(step, 0, 24, 0, -step, 60)
    geod = Geod(ellps="WGS84")
    along = stations_of(straight_river((120, 300)), crs="EPSG:4326", transform=transform)
    north = geod.inv(24, 60, 24, 60 - 24 * step)[2]
    assert along.width == pytest.approx(north, rel=0.01)
    upright = stations_of(straight_river((120, 300)).T, crs="EPSG:4326", transform=transform)
    east = geod.inv(24, 60 - 150 * step, 24 + 24 * step, 60 - 150 * step)[2]
    assert upright.width == pytest.approx(east, rel=0.01)
    assert east < 0.51 * north
