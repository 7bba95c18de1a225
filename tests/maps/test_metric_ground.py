import numpy as np
import pytest
from affine import Affine
from drawn_rivers import TURNED
from pyproj import Geod

from autosam.errors import DataError
from autosam.maps.metric_ground import read_ground


def ground(crs, transform, size=(40, 60)):
    return read_ground(crs, transform, size=size, name="test.tif")


def test_metres_and_feet_differ_by_the_foot():
    transform = Affine(2, 0, 1_000_000, 0, -2, 500_000)
    metres, feet = ground("EPSG:32610", transform), ground("EPSG:2229", transform)
    assert metres.pixel == pytest.approx(2.0)
    assert feet.pixel == pytest.approx(2 * 1200 / 3937)
    assert feet.row_areas[0] == pytest.approx((2 * 1200 / 3937) ** 2)


@pytest.mark.parametrize("latitude", [0.0, 60.0, -72.5])
def test_pixel_areas_in_degrees_are_those_of_geodesics(latitude):
    step = 1e-5
    found = ground("EPSG:4326", Affine(step, 0, 24, 0, -step, latitude), size=(3, 200)).row_areas
    area, _ = Geod(ellps="WGS84").polygon_area_perimeter(
        [24, 24 + step, 24 + step, 24], [latitude - 2 * step] * 2 + [latitude - 3 * step] * 2
    )
    assert found[2] == pytest.approx(abs(area), rel=1e-4)


def test_lengths_in_degrees_are_those_of_geodesics_for_a_wide_raster():
    raster = ground("EPSG:4326", Affine(1e-3, 0, 24, 0, -1e-3, 60), size=(400, 900))
    pair = np.array([[3.0, 390.0], [880.0, 12.0]])
    (x1, y1), (x2, y2) = raster.to_world(pair)
    expected = Geod(ellps="WGS84").inv(x1, y1, x2, y2)[2]
    assert np.linalg.norm(np.diff(raster.to_metres(pair), axis=0)) == pytest.approx(
        expected, rel=1e-4
    )


def test_web_mercator_is_not_measured_in_its_own_plane():
    x, y = 2_700_000, 8_399_737  # 60° north, where it shows lengths twofold
    raster = ground("EPSG:3857", Affine(1, 0, x, 0, -1, y))
    assert raster.mode == "geodesic"
    assert raster.pixel == pytest.approx(0.5, rel=0.005)


@pytest.mark.parametrize("crs", ["EPSG:32610", "EPSG:4326", None])
def test_pixels_to_metres_and_back_is_the_identity(crs):
    transform = Affine(0.5, 0, 460000, 0, -0.5, 5330000)
    transform = Affine(1e-5, 2e-6, 24, 3e-6, -1e-5, 60) if crs == "EPSG:4326" else transform
    points = np.array([[0.0, 0.0], [59.25, 3.5], [10.0, 40.0]])
    raster = ground(crs, transform)
    assert raster.to_pixels(raster.to_metres(points)) == pytest.approx(points, abs=1e-3)


def test_without_a_reference_system_a_pixel_is_the_unit():
    raster = ground(None, Affine(0.1, 0, 7, 0, -0.1, 9))
    assert (raster.unit, raster.pixel) == ("px", 1.0)
    assert raster.row_areas.tolist() == [1.0] * 40


def test_a_rotated_geotransform_keeps_the_size_of_pixels():
    raster = ground("EPSG:32610", TURNED)
    assert raster.sides == pytest.approx((0.5, 0.5))
    assert raster.row_areas[0] == pytest.approx(0.25)


def test_a_cut_lies_where_the_whole_has_it():
    raster = ground("EPSG:32610", Affine(0.5, 0.1, 460000, 0.2, -0.5, 5330000))
    cut = raster.cut(slice(5, 20), slice(7, 50))
    assert cut.size == (15, 43)
    assert cut.to_world(np.array([[1.0, 2.0]])) == pytest.approx(
        raster.to_world(np.array([[8.0, 7.0]]))
    )


@pytest.mark.parametrize(
    ("crs", "transform", "message"),
    [
        ("EPSG:4326", Affine(0.5, 0, 460000, 0, -0.5, 5330000), "must lie on the earth in WGS 84"),
        ("EPSG:32610", Affine(1e9, 0, 1e12, 0, -1e9, 1e12), "must lie on the earth"),
        ("EPSG:32610", Affine(0, 0, 1, 0, 0, 1), "must give pixels an area"),
        ("EPSG:32610", Affine(float("nan"), 0, 1, 0, 1, 1), "must give pixels an area"),
        ("EPSG:4978", Affine(1, 0, 1, 0, 1, 1), "must be geographic or projected, got WGS 84"),
        ("EPSG:999999", Affine(1, 0, 1, 0, 1, 1), "must be known to PROJ, got EPSG:999999"),
    ],
)
def test_a_wrong_place_is_refused(crs, transform, message):
    with pytest.raises(DataError, match=message):
        ground(crs, transform)
