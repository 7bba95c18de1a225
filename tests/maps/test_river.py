import csv
import math

import geopandas
import numpy as np
import pytest
from affine import Affine
from drawn_rivers import (
    HALF_METRE,
    TURNED,
    UTM,
    middles,
    straight_river,
    winding_river,
    write_raster,
)
from PIL import Image
from pyproj import Geod

from autosam.errors import ConfigError, DataError, OutputError
from autosam.maps.finished_rasters import find_raster
from autosam.maps.river import RiverChoice, measure_rivers
from autosam.maps.river_layers import LAYERS, river_layers, write_river_layers
from autosam.maps.river_report import save_report
from autosam.maps.river_tables import reach_rows, river_row, station_rows, write_tables

SMALL = {"minimum_area": 50.0}


def measured(
    folder, water, *, probability=None, crs=UTM, transform=HALF_METRE, nodata=None, **choice
):
    mask = write_raster(folder / "m.tif", water, crs=crs, transform=transform, nodata=nodata)
    other = None
    if probability is not None:
        other = write_raster(folder / "p.tif", probability, crs=crs, transform=transform)
    return measure_rivers(find_raster(mask, other), choice=RiverChoice(**{**SMALL, **choice}))


def soft(water_depth, *, softness=2.0):
    """Probability from a depth in pixels that is 0 at the bank."""
    return (1 / (1 + np.exp(-water_depth / softness))).astype(np.float32)


def braided(size=(240, 500)):
    """100 pixels wide, with islands of 120 x 30 and 100 x 20 in a row across the flow."""
    water = straight_river(size, width=100)
    water[100:130, 100:220] = False
    water[95:115, 300:400] = False
    return water


def test_a_straight_river_has_its_area_length_and_width(tmp_path):
    river = measured(tmp_path, straight_river((120, 300), width=24)).rivers[0]
    row = river_row(river)
    assert row["area_m2"] == 24 * 300 / 4
    assert row["length_m"] == pytest.approx(150, rel=0.005)
    assert row["width_mean_m"] == pytest.approx(12, rel=0.01)
    assert row["sinuosity"] == pytest.approx(1, abs=1e-4)
    assert (row["braiding_index"], row["islands"], row["unit"]) == (1.0, 0, "m")


def test_a_winding_river_has_its_area_length_and_width(tmp_path):
    water, length = winding_river(width=24)
    row = river_row(measured(tmp_path, water).rivers[0])
    assert row["area_m2"] == water.sum() / 4
    assert row["length_m"] == pytest.approx(length / 2, rel=0.015)
    assert row["width_mean_m"] == pytest.approx(12, rel=0.02)
    assert row["width_mean_m"] * row["length_m"] == pytest.approx(row["area_m2"], rel=0.03)


def test_the_same_river_in_feet_has_the_same_metres(tmp_path):
    foot = 1200 / 3937
    feet = Affine(0.5 / foot, 0, 1e6 / foot, 0, -0.5 / foot, 5e5 / foot)
    row = river_row(
        measured(tmp_path, winding_river()[0], crs="EPSG:2229", transform=feet).rivers[0]
    )
    metric = river_row(measured(tmp_path, winding_river()[0]).rivers[0])
    for name in ("area_m2", "length_m", "width_mean_m", "sinuosity"):
        assert row[name] == pytest.approx(metric[name], rel=1e-4)


@pytest.mark.parametrize("upright", [False, True])
def test_a_river_in_degrees_at_sixty_north_is_measured_on_the_ellipsoid(tmp_path, upright):
    step, water, geod = 1e-5, straight_river((120, 300), width=24), Geod(ellps="WGS84")
    water = water.T if upright else water
    transform = Affine(step, 0, 24, 0, -step, 60)
    row = river_row(measured(tmp_path, water, crs="EPSG:4326", transform=transform).rivers[0])
    rows, columns = np.nonzero(water)
    west, east = 24 + columns.min() * step, 24 + (columns.max() + 1) * step
    north, south = 60 - rows.min() * step, 60 - (rows.max() + 1) * step
    across = geod.inv(west, north, east, north)[2], geod.inv(west, north, west, south)[2]
    assert row["length_m"] == pytest.approx(max(across) if upright else across[0], rel=0.01)
    assert row["width_mean_m"] == pytest.approx(across[0] if upright else across[1], rel=0.01)
    area, _ = geod.polygon_area_perimeter([west, east, east, west], [south, south, north, north])
    assert row["area_m2"] == pytest.approx(abs(area), rel=1e-4)


def test_a_turned_raster_changes_no_measure(tmp_path):
    row = river_row(measured(tmp_path, winding_river()[0], transform=TURNED).rivers[0])
    straight = river_row(measured(tmp_path, winding_river()[0]).rivers[0])
    for name in ("area_m2", "length_m", "width_mean_m", "sinuosity"):
        assert row[name] == pytest.approx(straight[name], rel=1e-3)


def test_a_braided_river_has_islands_channels_and_full_width(tmp_path):
    river = measured(tmp_path, braided()).rivers[0]
    row = river_row(river)
    assert [island.area for island in river.islands] == [120 * 30 / 4, 100 * 20 / 4]
    assert row["islands_m2"] == 1400
    assert row["braiding_index"] == pytest.approx(1 + 220 / 500, abs=0.1)
    assert row["length_m"] == pytest.approx(250, rel=0.08)  # it swings round the islands
    assert row["branches"] == 3  # two channels and what joins them between the islands
    assert river.stations.width.mean() == pytest.approx((100 * 500 - 5600) / 500 / 2, rel=0.04)


def test_a_ring_is_one_river_round_one_island(tmp_path):
    x, y = middles((200, 220))
    radius = np.hypot(x - 110, y - 100)
    river = measured(tmp_path, (radius > 60) & (radius < 80)).rivers[0]
    row = river_row(river)
    assert row["sinuosity"] is None
    assert row["length_m"] == pytest.approx(2 * math.pi * 35, rel=0.02)
    assert row["width_mean_m"] == pytest.approx(10, rel=0.02)
    assert row["islands_m2"] == pytest.approx(math.pi * 30**2, rel=0.01)


def test_a_small_hole_is_no_island_but_its_area_is_no_water(tmp_path):
    water = straight_river((120, 300), width=24)
    water[58:60, 100:104] = False
    river = measured(tmp_path, water, minimum_island=4.0).rivers[0]
    assert (river.islands, river.area) == ([], 24 * 300 / 4 - 2)
    assert river.stations.braiding == 1


def test_a_hole_without_data_is_no_island(tmp_path):
    values = straight_river((120, 300), width=60).astype(np.uint8)
    values[50:70, 100:160] = 255
    river = measured(tmp_path, values, nodata=255).rivers[0]
    assert river.islands == []
    assert river.stations.is_open.any()


def test_two_rivers_are_numbered_by_size_and_the_rest_is_named(tmp_path):
    water = np.zeros((200, 300), dtype=bool)
    water[20:30], water[100:140], water[180:184, 10:14] = True, True, True
    found = measured(tmp_path, water)
    assert [river.area for river in found.rivers] == [3000, 750]
    assert "4 m² of water in smaller pieces are not measured" in found.notes


def test_all_water_has_an_area_and_says_that_it_has_no_bank(tmp_path):
    found = measured(tmp_path, np.ones((60, 80), dtype=bool))
    row = river_row(found.rivers[0])
    assert (row["area_m2"], row["length_m"], row["width_mean_m"]) == (1200, None, None)
    assert "no centreline, for it is as round as a lake or shows no bank: river 1" in found.notes


def test_a_river_along_the_frame_is_followed_and_all_its_sections_are_open(tmp_path):
    water = np.zeros((120, 300), dtype=bool)
    water[:24] = True
    found = measured(tmp_path, water)
    row = river_row(found.rivers[0])
    assert row["length_m"] == pytest.approx(150, rel=0.01)
    assert row["open_stations"] == row["stations"] > 5
    assert row["width_mean_m"] is None
    assert any(note.startswith("open cross-sections") for note in found.notes)


def test_the_interval_is_that_of_the_probability_and_widths_have_one_too(tmp_path):
    _, y = middles((120, 300))
    depth = 12 - np.abs(y - 60)
    found = measured(tmp_path, depth > 0, probability=soft(depth))
    row = river_row(found.rivers[0])
    # The logit of 0.95 is 2.94, times two pixels of softness is 5.9: five rows on each side.
    assert (row["area_low_m2"], row["area_high_m2"]) == (2 * 6 * 300 / 4, 2 * 18 * 300 / 4)
    assert row["area_expected_m2"] == pytest.approx(row["area_m2"], rel=0.02)
    assert (row["width_low_m"], row["width_high_m"]) == pytest.approx((6, 18), abs=0.3)
    assert row["coverage"] == 0.9


def test_without_a_crs_everything_is_in_pixels_and_says_so(tmp_path):
    found = measured(tmp_path, straight_river((120, 300), width=24), crs=None)
    row = river_row(found.rivers[0])
    assert (row["area_m2"], row["unit"]) == (7200, "px")
    assert row["length_m"] == pytest.approx(300, rel=0.01)
    assert row["width_mean_m"] == pytest.approx(24, rel=0.01)
    assert "no coordinate reference system: every measure is in pixels" in found.notes


def test_a_large_raster_is_decimated_and_says_so(tmp_path):
    water, length = winding_river((300, 600), width=40)
    found = measured(tmp_path, water, pixel_budget=20_000)
    row = river_row(found.rivers[0])
    assert found.raster.step == 3
    assert "measured on blocks of 3 x 3 pixels, 1.50 m wide" in found.notes[0]
    assert row["area_m2"] == pytest.approx(water.sum() / 4, rel=1e-6)
    assert row["length_m"] == pytest.approx(length / 2, rel=0.03)
    assert row["width_mean_m"] == pytest.approx(20, rel=0.03)


@pytest.mark.parametrize(
    ("width", "budget"),
    [(2, 60_000), (3, 60_000), (5, 60_000), (20, 60_000), (2, 25_000), (5, 25_000), (20, 25_000)],
)
def test_blocks_that_are_water_in_part_make_no_river_larger(tmp_path, width, budget):
    """Of an oblique river, 2 to 20 pixels across a row, half of the blocks are cut by a bank."""
    columns, rows = np.meshgrid(np.arange(501), np.arange(401))
    off = columns - 60 - rows // 2
    water = (off >= 0) & (off < width)
    found = measured(tmp_path, water, pixel_budget=budget)
    assert found.raster.step in (2, 3)
    (river,) = found.rivers  # in one piece, however thin
    rest = sum(float(note.split(" ")[0]) for note in found.notes if "smaller pieces" in note)
    assert river.area + rest == pytest.approx(water.sum() / 4, abs=0.51)
    assert rest < 0.02 * water.sum() / 4
    if width >= 5:
        across = width / 2 * math.cos(math.atan(0.5))  # metres, at a right angle
        assert river_row(river)["width_mean_m"] == pytest.approx(across, rel=0.03)


@pytest.mark.parametrize("budget", [60_000, 25_000])
def test_islands_on_blocks_have_the_area_of_their_pixels(tmp_path, budget):
    water = straight_river((401, 501), width=300)
    for row in range(7):
        for column in range(9):
            top, left = 70 + 37 * row, 30 + 51 * column
            water[top : top + 9, left : left + 11] = False
    (river,) = measured(tmp_path, water, pixel_budget=budget, minimum_island=10.0).rivers
    assert len(river.islands) == 63
    assert sum(island.area for island in river.islands) == pytest.approx(63 * 99 / 4, rel=1e-6)
    assert river.area == pytest.approx(water.sum() / 4, rel=1e-6)


def test_a_spacing_of_less_than_a_quarter_of_a_pixel_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"a quarter of a pixel, 0\.125 m, got 1e-06"):
        measured(tmp_path, straight_river(), spacing=1e-6)


def test_reaches_cut_the_line_without_gaps_and_their_areas_add_up(tmp_path):
    river = measured(tmp_path, winding_river(width=24)[0], spacing=4.0).rivers[0]
    rows = reach_rows(river, reach_length=90)
    assert len(rows) == 4
    assert [row["from_m"] for row in rows[1:]] == [row["to_m"] for row in rows[:-1]]
    assert rows[-1]["to_m"] == pytest.approx(river.centreline.length)
    assert sum(row["stations"] for row in rows) == len(river.stations.along)
    assert sum(row["area_m2"] for row in rows) == pytest.approx(river.area, rel=0.03)


def test_layers_are_read_back_where_the_water_is(tmp_path):
    found = measured(tmp_path, braided())
    path = write_river_layers(tmp_path / "r.gpkg", found)
    layers = {name: geopandas.read_file(path, layer=name) for name in LAYERS}
    assert all(layer.crs.to_epsg() == 32610 for layer in layers.values())
    assert all(layer.geometry.is_valid.all() for layer in layers.values())
    water = layers["water"].geometry[0]
    assert water.area == pytest.approx(found.rivers[0].area)
    assert [island.area for island in layers["islands"].geometry] == [900, 500]
    main = layers["centreline"].query("kind == 'main'")
    assert main.geometry.iloc[0].difference(water.buffer(0.5)).length < 0.01 * main.length.iloc[0]
    assert main["length_m"].iloc[0] == pytest.approx(main.length.iloc[0], rel=1e-6)
    assert layers["reaches"].length.sum() == pytest.approx(main.length.iloc[0], rel=1e-3)
    widths = layers["sections"].geometry.intersection(water).length
    closed = ~layers["sections"]["open"].astype(bool)
    assert widths[closed].to_numpy() == pytest.approx(
        layers["sections"]["width_m"][closed].to_numpy(), abs=1.0
    )
    assert len(layers["stations"]) == len(found.rivers[0].stations.along)


def test_layers_without_rows_are_there_all_the_same(tmp_path):
    found = measured(tmp_path, np.ones((60, 80), dtype=bool))
    path = write_river_layers(tmp_path / "r.gpkg", found)
    assert {name: len(geopandas.read_file(path, layer=name)) for name in LAYERS} == {
        **dict.fromkeys(LAYERS, 0),
        "water": 1,
    }


def test_water_that_meets_at_a_corner_is_one_river_of_valid_parts(tmp_path):
    water = np.zeros((60, 80), dtype=bool)
    water[10:30, 10:40], water[30:50, 40:70] = True, True
    found = measured(tmp_path, water)
    layer = river_layers(found)["water"]
    assert len(found.rivers) == 1
    assert layer.geometry[0].is_valid
    assert layer.geometry[0].area == 1200 / 4


def test_tables_hold_what_was_measured(tmp_path):
    found = measured(tmp_path, braided())
    paths = write_tables(tmp_path / "out", found, stem="ortho")
    tables = {name: list(csv.DictReader(path.open())) for name, path in paths.items()}
    assert sorted(path.name for path in paths.values()) == [
        "ortho-reaches.csv", "ortho-rivers.csv", "ortho-stations.csv",
    ]  # fmt: skip
    assert float(tables["rivers"][0]["area_m2"]) == found.rivers[0].area
    assert tables["rivers"][0]["area_low_m2"] == ""
    expected = station_rows(found.rivers[0])
    assert len(tables["stations"]) == len(expected)
    assert float(tables["stations"][3]["width_m"]) == pytest.approx(expected[3]["width_m"])
    x, y = float(tables["stations"][0]["x"]), float(tables["stations"][0]["y"])
    assert (460000 < x < 460250, 5329880 < y < 5330000) == (True, True)


@pytest.mark.parametrize("kind", ["probability", "many"])
def test_a_report_is_drawn_with_water_in_it(tmp_path, kind):
    probability = None
    if kind == "probability":
        _, y = middles((120, 300))
        water, probability = np.abs(y - 60) < 12, soft(12 - np.abs(y - 60))
    else:
        water = np.zeros((300, 200), dtype=bool)
        for row in range(10, 290, 20):
            water[row : row + 8] = True
    found = measured(tmp_path, water, probability=probability)
    picture = np.asarray(Image.open(save_report(tmp_path / "r.png", found)).convert("RGB"))
    blue = (picture == (158, 202, 225)).all(axis=2).mean()
    assert picture.shape[1] == 1430
    assert blue > 0.02


def test_bad_inputs_are_one_clear_line(tmp_path):
    with pytest.raises(DataError, match=r"at least 50 m², got 0\.0 m² at most \(m\)"):
        measured(tmp_path, np.zeros((60, 80), dtype=bool))
    with pytest.raises(DataError, match=r"at least 9999 m², got 1800\.0 m² at most"):
        measured(tmp_path, straight_river((120, 300)), minimum_area=9999)
    found = measured(tmp_path, straight_river((120, 300)))
    with pytest.raises(OutputError, match=r"several layers must end in \.gpkg, got 'r\.geojson'"):
        write_river_layers(tmp_path / "r.geojson", found)
    with pytest.raises(OutputError, match="could not be written"):
        write_river_layers(tmp_path / "m.tif" / "r.gpkg", found)
    for options, message in (
        ({"spacing": 0.0}, "spacing must be above 0"),
        ({"minimum_island": -1.0}, "minimum_island must be 0 or more"),
        ({"pixel_budget": 10}, "pixel_budget must be 10000 or more"),
        ({"coverage": 2.0}, "coverage must be between 0 and 1"),
    ):
        with pytest.raises(ConfigError, match=message):
            RiverChoice(**options)
