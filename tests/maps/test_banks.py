import geopandas
import numpy as np
import pytest
from affine import Affine
from drawn_rivers import HALF_METRE, TURNED, UTM, middles, write_raster

from autosam.errors import ConfigError, DataError, OutputError
from autosam.maps.banks import BankChoice, bank_lines, write_banks
from autosam.maps.finished_rasters import find_raster

SIZE = (120, 300)


def rasters(
    folder, depth, *, softness=2.0, crs=UTM, transform=HALF_METRE, scaled=False, hidden=None
):
    """A mask and a probability from a depth in pixels that is 0 at the bank."""
    probability = (1 / (1 + np.exp(-depth / softness))).astype(np.float32)
    if hidden is not None:
        probability[hidden] = np.nan
    if scaled:
        probability = np.where(np.isnan(probability), 255, np.round(probability * 254)).astype(
            np.uint8
        )
    place = {"crs": crs, "transform": transform}
    mask = write_raster(folder / "m.tif", depth > 0, **place)
    return find_raster(mask, write_raster(folder / "p.tif", probability, **place))


def straight_depth():
    return 12 - np.abs(middles(SIZE)[1] - 60)


# The logit of 0.9 is 2.197: with two pixels of softness each line lies 4.39 pixels from the bank.
APART = 2 * 2 * np.log(9) / 2


@pytest.mark.parametrize("scaled", [False, True])
def test_a_straight_bank_has_the_band_that_its_softness_gives(tmp_path, scaled):
    lines, width = bank_lines(rasters(tmp_path, straight_depth(), scaled=scaled))
    assert sorted(line.kind for line in lines) == ["inner", "inner", "outer", "outer"]
    assert width.mean == pytest.approx(APART, rel=0.02)
    assert width.median == pytest.approx(APART, rel=0.02)
    assert width.p95 == pytest.approx(APART, rel=0.02)
    assert [line.length for line in lines] == pytest.approx([149.5] * 4)
    heights = sorted(float(line.points[:, 1].mean()) for line in lines)
    expected = [60 - 12 - 4.39, 60 - 12 + 4.39, 60 + 12 - 4.39, 60 + 12 + 4.39]
    assert heights == pytest.approx(expected, abs=0.05)


def test_a_round_lake_has_closed_lines_of_two_radii(tmp_path):
    x, y = middles((160, 180))
    lines, width = bank_lines(rasters(tmp_path, 40 - np.hypot(x - 90, y - 80)))
    lengths = {line.kind: line.length for line in lines}
    assert lengths["inner"] == pytest.approx(np.pi * (40 - 4.39), rel=0.005)
    assert lengths["outer"] == pytest.approx(np.pi * (40 + 4.39), rel=0.005)
    assert all(np.array_equal(line.points[0], line.points[-1]) for line in lines)
    assert width.mean == pytest.approx(APART, rel=0.02)


def test_a_pond_that_is_only_likely_has_an_outer_line_alone(tmp_path):
    x, y = middles(SIZE)
    depth = np.maximum(straight_depth(), 3 - 0.25 * np.hypot(x - 150, y - 100))
    lines, width = bank_lines(rasters(tmp_path, depth), choice=BankChoice(minimum_length=10))
    assert sum(line.kind == "outer" for line in lines) == 3
    assert width.mean == pytest.approx(APART, rel=0.05)


def test_no_data_ends_a_line_and_makes_no_bank(tmp_path):
    hidden = np.zeros(SIZE, dtype=bool)
    hidden[:, 140:160] = True
    lines, _ = bank_lines(rasters(tmp_path, straight_depth(), hidden=hidden))
    assert len(lines) == 8
    assert all(np.ptp(line.points[:, 1]) < 0.5 for line in lines)


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson", ".parquet", ".fgb"])
def test_lines_are_read_back_with_their_band(tmp_path, suffix):
    raster = rasters(tmp_path, straight_depth(), transform=TURNED)
    width = write_banks(raster, tmp_path / f"b{suffix}")
    path = tmp_path / f"b{suffix}"
    found = geopandas.read_parquet(path) if suffix == ".parquet" else geopandas.read_file(path)
    assert len(found) == 4
    assert found["band_mean_m"].to_numpy() == pytest.approx(width.mean, rel=0.01)
    assert set(found["probability"]) == {0.9, 0.1}
    metres = found.to_crs(UTM)
    assert metres.length.to_numpy() == pytest.approx(found["length_m"].to_numpy(), rel=1e-4)
    parts = {kind: metres[metres["kind"] == kind].union_all() for kind in ("inner", "outer")}
    assert parts["inner"].distance(parts["outer"]) == pytest.approx(APART, rel=0.03)


def test_no_bank_gives_a_layer_without_rows(tmp_path):
    width = write_banks(rasters(tmp_path, np.full(SIZE, -50.0)), tmp_path / "b.gpkg")
    assert (width.mean, len(geopandas.read_file(tmp_path / "b.gpkg"))) == (None, 0)


def test_a_large_raster_is_decimated_and_says_so(tmp_path):
    raster = rasters(tmp_path, straight_depth(), softness=4.0)
    _, width = bank_lines(raster, choice=BankChoice(pixel_budget=10_000))
    assert width.decimation == 2
    assert width.mean == pytest.approx(2 * APART, rel=0.05)


def test_without_a_crs_the_band_is_in_pixels(tmp_path):
    raster = rasters(tmp_path, straight_depth(), crs=None, transform=Affine(3, 0, 0, 0, -3, 0))
    _, width = bank_lines(raster)
    assert width.unit == "px"
    assert width.mean == pytest.approx(2 * APART, rel=0.02)


def test_bad_inputs_are_one_clear_line(tmp_path):
    mask = write_raster(tmp_path / "m.tif", straight_depth() > 0)
    with pytest.raises(
        DataError, match=r"must be drawn from a probability raster, got a mask alone"
    ):
        write_banks(find_raster(mask), tmp_path / "b.gpkg")
    with pytest.raises(ConfigError, match=r"outer 0\.9 and inner 0\.1"):
        BankChoice(inner=0.1, outer=0.9)
    with pytest.raises(OutputError, match="must end in"):
        write_banks(rasters(tmp_path, straight_depth()), tmp_path / "b.dxf")
