import math

import pytest
from pyproj import Geod

from autosam.errors import ConfigError
from autosam.maps.model_grid import choose_model_grid, metres_per_pixel
from autosam.types import Georeference


def place(crs, *transform):
    return Georeference(crs=crs, transform=transform)


UTM = place("EPSG:32610", 0.5, 0, 500_000, 0, -0.5, 5_320_000)  # on the central meridian


def test_utm_is_in_metres_but_for_its_scale():
    # On the central meridian UTM shows lengths at 0.9996.
    assert metres_per_pixel(UTM, (100, 100)) == pytest.approx((0.5 / 0.9996,) * 2, rel=1e-5)


def test_degrees_shrink_with_the_cosine_of_the_latitude():
    step = 1e-5
    down, along = metres_per_pixel(place("EPSG:4326", step, 0, 10, 0, -step, 60), (2, 2))
    geod = Geod(ellps="WGS84")
    latitude = 60 - step
    assert along == pytest.approx(geod.inv(10, latitude, 10 + step, latitude)[2], rel=1e-6)
    assert down == pytest.approx(1.114, rel=1e-2)  # 111.4 km a degree at 60 degrees
    assert along / down == pytest.approx(0.5, rel=1e-2)


def test_web_mercator_is_not_taken_at_its_word():
    # At 60 degrees it stretches lengths twofold.
    y = 6378137 * math.log(math.tan(math.pi / 4 + math.radians(60) / 2))
    down, along = metres_per_pixel(place("EPSG:3857", 1, 0, 0, 0, -1, y), (2, 2))
    assert (down, along) == pytest.approx((0.5, 0.5), rel=5e-3)


def test_feet_become_metres():
    # Washington north, US survey feet.
    down, along = metres_per_pixel(place("EPSG:2285", 1, 0, 1_200_000, 0, -1, 250_000), (2, 2))
    assert (down, along) == pytest.approx((0.3048, 0.3048), rel=1e-3)


def test_a_turned_pixel_keeps_its_size():
    cos, sin = 0.5 * math.cos(0.5), 0.5 * math.sin(0.5)
    turned = place("EPSG:32610", cos, -sin, 500_000, -sin, -cos, 5_320_000)
    assert metres_per_pixel(turned, (9, 9)) == pytest.approx((0.5 / 0.9996,) * 2, rel=1e-5)


def test_a_local_grid_has_its_unit():
    crs = 'LOCAL_CS["site",UNIT["foot",0.3048],AXIS["x",EAST],AXIS["y",NORTH]]'
    assert metres_per_pixel(place(crs, 2, 0, 0, 0, -2, 0), (9, 9)) == pytest.approx((0.6096,) * 2)


@pytest.mark.parametrize("georeference", [None, place(None, 0.5, 0, 0, 0, -0.5, 0)])
def test_without_a_crs_it_is_masked_as_it_is_and_says_so(georeference):
    grid = choose_model_grid((80, 60), georeference, resolution=None, trained=(0.1, 0.2))
    assert grid.size == (80, 60)
    assert grid.metres is None
    assert "unknown" in grid.notes[0]


@pytest.mark.parametrize(
    ("trained", "size", "word"),
    [
        (None, (100, 80), None),
        ((0.4, 0.6), (100, 80), None),
        ((1.0, 2.0), (50, 40), "50 cm per pixel is outside the 1 m to 2 m"),
        ((0.1, 0.25), (200, 160), "it sees the raster at 25 cm"),
    ],
)
def test_a_raster_is_resampled_only_outside_of_what_the_model_knows(trained, size, word):
    grid = choose_model_grid((100, 80), UTM, resolution=None, trained=trained)
    assert grid.size == size
    assert (len(grid.notes) == 0) if word is None else (word in grid.notes[0])


def test_oblong_pixels_become_square_for_a_model_that_knows_its_ground():
    step = 1e-5
    oblong = place("EPSG:4326", step, 0, 10, 0, -step, 60)
    grid = choose_model_grid((100, 100), oblong, resolution=None, trained=(0.1, 3))
    down, along = grid.model_metres
    assert down == pytest.approx(along, rel=0.02)
    assert "square" in grid.notes[0]


@pytest.mark.parametrize(("resolution", "trained"), [(None, None), (None, (0.1, 9)), (1, None)])
def test_pixels_that_are_very_oblong_are_doubted(resolution, trained):
    stretched = place("EPSG:32610", 0.5, 0, 500_000, 0, -5, 5_000_000)
    notes = choose_model_grid((90, 90), stretched, resolution=resolution, trained=trained).notes
    assert notes[-1] == "pixels are 10 times as long as wide: the geotransform may be wrong"


def test_the_resolution_asked_for_wins():
    grid = choose_model_grid((100, 80), UTM, resolution=5, trained=(0.4, 0.6))
    assert grid.size == (10, 8)
    assert grid.model_metres == pytest.approx((5, 5), rel=1e-3)


def test_a_resolution_needs_a_georeference():
    with pytest.raises(ConfigError, match=r"got 0\.5 for one without"):
        choose_model_grid((100, 80), None, resolution=0.5, trained=None)
    taken = choose_model_grid(
        (100, 80), place(None, 0.5, 0, 0, 0, -0.5, 0), resolution=1, trained=None
    )
    assert taken.size == (50, 40)
    assert "taken for metres" in taken.notes[0]


@pytest.mark.parametrize(
    ("crs", "why"),
    [
        (None, "no known coordinate system"),
        ("nobody's", "no known coordinate system"),
        ("EPSG:4326", "its coordinates do not lie on the earth in WGS 84"),
    ],
)
@pytest.mark.parametrize("resolution", [None, 1.0])
def test_a_ground_resolution_that_is_unknown_says_why(crs, why, resolution):
    metres = place(crs, 0.5, 0, 450_000, 0, -0.5, 5_320_000)
    grid = choose_model_grid((100, 80), metres, resolution=resolution, trained=(0.1, 2))
    rest = "taken for metres" if resolution else "unknown, masked as it is"
    assert grid.notes[0].startswith(f"{why}: ")
    assert grid.notes[0].endswith(rest)


def test_nobody_enlarges_a_raster_out_of_nothing():
    with pytest.raises(
        ConfigError, match=r"0\.0625 to 32 m for pixels of 0\.5 x 0\.5 m, got 0\.01"
    ):
        choose_model_grid((100, 80), UTM, resolution=0.01, trained=None)
