import geopandas
import numpy as np
import pytest
from affine import Affine
from drawn_rivers import HALF_METRE, UTM, middles, straight_river, winding_river, write_raster
from scipy import ndimage

from autosam.errors import ConfigError, DataError, ImageError
from autosam.maps.change import ChangeChoice, measure_change, wide_parts, write_change
from autosam.maps.finished_rasters import find_raster
from autosam.maps.metric_ground import read_ground
from autosam.maps.registration import find_shift


def bent(columns=0.0, rows=0.0, *, size=(200, 300), width=20):
    """A river that turns through all directions of normals it needs, moved by fractions of a pixel."""
    x, y = middles(size)
    return np.abs(y - rows - 100 - 40 * np.sin((x - columns) / 40)) < width


def shift_of(first, second, valid=None):
    ground = read_ground(UTM, HALF_METRE, size=first.shape, name="test.tif")
    valid = np.ones_like(first) if valid is None else valid
    return find_shift(first & valid, second & valid, valid=valid, ground=ground)


def dates(folder, first, second, **place):
    paths = [
        write_raster(folder / f"{name}.tif", values, **place)
        for name, values in (("early", first), ("late", second))
    ]
    return [find_raster(path) for path in paths]


@pytest.mark.parametrize("moved", [(0, 0), (3, 0), (0, -4), (5, 7), (-2.5, 1.5)])
def test_the_shift_between_two_dates_is_found_to_a_tenth_of_a_pixel(moved):
    found = shift_of(bent(), bent(*moved))
    assert (found.columns, found.rows) == pytest.approx(moved, abs=0.1)
    assert found.metres == pytest.approx(np.hypot(*moved) / 2, abs=0.05)
    assert found.directions == 2


def test_real_change_on_a_part_of_the_bank_is_no_shift():
    changed = bent()
    x, y = middles(changed.shape)
    changed |= np.hypot(x - 70, y - 150) < 30
    assert shift_of(bent(), changed).metres < 0.05
    moved = shift_of(bent(), np.roll(changed, (2, 3), (0, 1)))
    assert (moved.columns, moved.rows) == pytest.approx((3, 2), abs=0.15)


def test_along_a_straight_river_nothing_can_be_seen_and_it_says_so():
    found = shift_of(straight_river(), np.roll(straight_river(), 3, axis=0))
    assert (found.columns, found.rows) == pytest.approx((0, 3), abs=0.05)
    assert found.directions == 1
    assert "along it nothing can be seen" in found.sentence("m")


@pytest.mark.parametrize("moved", [(25, 25), (0, 45), (300, 0)])
def test_a_shift_beyond_reach_is_never_told_as_a_number(tmp_path, moved):
    size = (400, 900)
    first, second = bent(size=size), bent(*moved, size=size)
    if moved == (300, 0):
        first, second = first[:, :250], np.zeros_like(first[:, :250])
        second[300:340] = True
    found = shift_of(first, second)
    assert (found.directions, found.is_beyond_reach, found.metres) == (0, True, 0)
    assert "more than 30 pixels apart" in found.sentence("m")
    pair = dates(tmp_path, first, second)
    with pytest.raises(DataError, match=r"more than 30 pixels \(15 m\) apart .*--maximum-shift"):
        measure_change(*pair)
    _, allowed = measure_change(*pair, choice=ChangeChoice(maximum_shift=100))
    assert allowed.shift.is_beyond_reach


def test_too_little_bank_says_nothing():
    empty = np.zeros((50, 60), dtype=bool)
    assert shift_of(empty, bent(size=(50, 60))).directions == 0
    assert "unknown" in shift_of(empty, empty).sentence("m")


def test_the_edge_of_the_data_is_no_bank():
    valid = np.ones((200, 300), dtype=bool)
    valid[:, 200:] = False
    found = shift_of(bent(), bent(2, 0), valid)
    assert (found.columns, found.rows) == pytest.approx((2, 0), abs=0.1)


@pytest.mark.parametrize("width", [3, 6, 9])
def test_strips_wider_than_the_limit_stay_and_narrower_go(width):
    area = np.zeros((40, 60), dtype=bool)
    area[10 : 10 + width] = True
    valid = np.ones_like(area)
    assert np.array_equal(wide_parts(area, valid, width=width - 1.01), area)
    assert not wide_parts(area, valid, width=width + 0.51).any()


def test_a_sliver_beside_a_wide_part_is_cut_off_and_the_frame_makes_nothing_narrow():
    area = np.zeros((40, 60), dtype=bool)
    area[10:12], area[0:3, 20:40], area[20:34, 30:44] = True, True, True
    area[12:20, 36] = True
    kept = wide_parts(area, np.ones_like(area), width=5)
    assert kept[21:33, 31:43].all()
    assert kept[0, 25:35].all()
    assert not kept[10:18].any()


def test_gained_and_lost_water_are_polygons_of_their_areas(tmp_path):
    first, second = straight_river((120, 300), width=30), straight_river((120, 300), width=30)
    second[75:95, 40:100] = True  # 20 x 60 pixels gained
    second[45:57, 150:200] = False  # 12 x 50 lost
    frame, found = measure_change(*dates(tmp_path, first, second), choice=ChangeChoice(tolerance=0))
    assert (found.before, found.after) == (2250, 2250 + 300 - 150)
    assert (found.gained_at_all, found.lost_at_all) == (300, 150)
    assert found.gained == pytest.approx(300, rel=0.02)  # corners are rounded by the disc
    assert found.lost == pytest.approx(150, rel=0.03)
    assert frame["change"].tolist() == ["gained", "lost"]
    assert frame["width_m"].tolist() == pytest.approx([10, 6], abs=0.5)
    assert frame.total_bounds.tolist() == [460020, 5329952.5, 460100, 5329977.5]
    assert frame.is_valid.all()


@pytest.mark.parametrize("budget", [40_000, 12_000])
def test_areas_of_blocks_are_those_of_their_pixels(tmp_path, budget):
    """Odd places and widths: half of the edges cut a block, and a thin river fills none."""
    first = np.zeros((301, 401), dtype=bool)
    first[101:202], first[11:14] = True, True
    second = first.copy()
    second[202:251, 51:352] = True  # 49 x 301 pixels gained
    second[101:132, 33:74] = False  # 31 x 41 lost
    frame, found = measure_change(
        *dates(tmp_path, first, second), choice=ChangeChoice(pixel_budget=budget)
    )
    assert found.decimation in (2, 4)
    assert (found.before, found.after) == pytest.approx(
        (first.sum() / 4, second.sum() / 4), rel=1e-6
    )
    assert found.gained_at_all == pytest.approx(49 * 301 / 4, rel=1e-6)
    assert found.lost_at_all == pytest.approx(31 * 41 / 4, rel=1e-6)
    assert (found.gained, found.lost) == pytest.approx((49 * 301 / 4, 31 * 41 / 4), rel=0.005)
    assert sorted(frame["change"]) == ["gained", "lost"]


def test_the_coarser_mask_says_what_can_be_told(tmp_path):
    fine = bent()
    coarse = write_raster(
        tmp_path / "coarse.tif", fine[::4, ::4], transform=HALF_METRE * Affine.scale(4)
    )
    pair = [find_raster(write_raster(tmp_path / "fine.tif", fine)), find_raster(coarse)]
    choice = ChangeChoice(maximum_shift=5)
    widths = [
        measure_change(*order, choice=choice)[1].minimum_width for order in (pair, pair[::-1])
    ]
    assert widths[0] == pytest.approx(widths[1], rel=0.15)


def test_banks_a_pixel_apart_are_no_change(tmp_path):
    first, second = winding_river(width=24)[0], winding_river(width=26)[0]
    frame, found = measure_change(*dates(tmp_path, first, second))
    assert found.gained_at_all > 100
    assert (found.gained, found.lost, len(frame)) == (0, 0, 0)
    assert found.minimum_width == pytest.approx(1.96 * 2**0.5 * 0.5 + found.shift.metres, rel=1e-3)


def test_dates_beside_each_other_are_refused_above_the_stated_shift(tmp_path):
    pair = dates(tmp_path, bent(), bent(5, 0))
    with pytest.raises(
        DataError, match=r"within 1\.00 m of each other, got a shift of \+5\.0 columns"
    ):
        measure_change(*pair)
    _, found = measure_change(*pair, choice=ChangeChoice(maximum_shift=3.0))
    assert found.shift.metres == pytest.approx(2.5, abs=0.05)
    assert found.minimum_width == pytest.approx(1.386 + 2.5, abs=0.06)
    assert found.gained == found.lost == 0


def test_another_grid_is_brought_to_the_first(tmp_path):
    whole = bent()
    first = find_raster(write_raster(tmp_path / "early.tif", whole))
    part = ndimage.zoom(whole[20:180, 40:260].astype(np.uint8), 2, order=0)
    moved = Affine(0.25, 0, 460020, 0, -0.25, 5329990)
    second = find_raster(write_raster(tmp_path / "late.tif", part, transform=moved))
    frame, found = measure_change(first, second)
    assert found.common == 160 * 220 / 4
    assert found.before == found.after == whole[20:180, 40:260].sum() / 4
    assert (found.gained_at_all, found.lost_at_all, len(frame)) == (0, 0, 0)


def test_ground_without_data_at_one_date_counts_for_nothing(tmp_path):
    first, second = bent().astype(np.uint8), bent().astype(np.uint8)
    second[:, 150:] = 255
    _, found = measure_change(*dates(tmp_path, first, second, nodata=255))
    assert found.common == 200 * 150 / 4
    assert (found.lost_at_all, found.gained_at_all) == (0, 0)


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson", ".parquet", ".fgb"])
def test_change_is_read_back_and_no_change_is_a_layer_without_rows(tmp_path, suffix):
    second = bent()
    second[170:195, 100:150] = True
    path = tmp_path / f"c{suffix}"
    read = geopandas.read_parquet if suffix == ".parquet" else geopandas.read_file
    measures = write_change(*dates(tmp_path, bent(), second), path)
    assert read(path)["area_m2"].sum() == pytest.approx(measures.gained)
    write_change(*dates(tmp_path, bent(), bent()), path)
    assert len(read(path)) == 0


def test_without_a_crs_change_is_in_pixels(tmp_path):
    second = bent()
    second[170:195, 100:150] = True
    _, found = measure_change(*dates(tmp_path, bent(), second, crs=None))
    assert found.unit == "px"
    assert found.gained_at_all == (second & ~bent()).sum()


def test_bad_inputs_are_one_clear_line(tmp_path):
    first = find_raster(write_raster(tmp_path / "early.tif", bent()))
    other = find_raster(write_raster(tmp_path / "zone.tif", bent(), crs="EPSG:32611"))
    none = find_raster(write_raster(tmp_path / "none.tif", bent(), crs=None))
    far = Affine(0.5, 0, 470000, 0, -0.5, 5330000)
    away = find_raster(write_raster(tmp_path / "away.tif", bent(), transform=far))
    strange = find_raster(write_raster(tmp_path / "s.tif", bent().astype(np.uint8) * 7))
    for second, message in (
        (other, r"zone 10N \(.*early.* and WGS 84 / UTM zone 11N"),
        (none, r"UTM zone 10N \(.*\) and none"),
        (away, "ground with data in common, got none"),
    ):
        with pytest.raises(DataError, match=message):
            measure_change(first, second)
    with pytest.raises(ImageError, match="for water, got 7"):
        measure_change(first, strange)
    with pytest.raises(ConfigError, match="confidence must be between 0 and 1, got 95"):
        ChangeChoice(confidence=95)
    with pytest.raises(ConfigError, match="bank_error must be 0 or more, got -1"):
        ChangeChoice(bank_error=-1)
