import csv
import json
import time

import geopandas
import numpy as np
import pytest
import raster_scenes as rasters
from affine import Affine
from drawn_rivers import middles, straight_river, winding_river, write_raster
from PIL import Image
from skimage.measure import label

from autosam.errors import AutoSamError, ImageError, OutputError
from autosam.inference.tiles import mask_raster
from autosam.maps.vectors import VectorChoice
from autosam.recipes.river_products import compare_dates, measure_river, vectorise


def quiet(_):
    pass


def files(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def pair(tmp_path):
    """A straight river and its probability, as `autosam map` writes them."""
    depth = 12 - np.abs(middles((120, 300))[1] - 60)
    probability = np.round(254 / (1 + np.exp(-depth / 2))).astype(np.uint8)
    return (
        write_raster(tmp_path / "ortho.tif", depth > 0, nodata=255, model="river-nano"),
        write_raster(tmp_path / "ortho-probability.tif", probability, nodata=255),
    )


def test_a_mask_becomes_polygons_and_a_line_for_the_user(pair, tmp_path):
    said = []
    numbers = vectorise(
        pair[0], tmp_path / "w.gpkg", probability=pair[1], style=True, say=said.append
    )
    assert (numbers["polygons"], numbers["area_m2"]) == (1, 1800)
    assert said == [f"{tmp_path / 'w.gpkg'}: 1 polygon, 1800.0 m²"]
    found = geopandas.read_file(tmp_path / "w.gpkg", layer="water")
    assert found["model"].tolist() == ["river-nano"]
    assert 0.8 < found["mean_probability"][0] < 0.95
    assert (tmp_path / "ortho.qml").exists()
    assert 'classificationMax="254"' in (tmp_path / "ortho-probability.qml").read_text()


def test_a_river_becomes_a_folder_of_products(pair, tmp_path):
    said = []
    numbers = measure_river(pair[0], tmp_path / "out", probability=pair[1], say=said.append)
    assert files(tmp_path / "out") == [
        "ortho-banks.gpkg", "ortho-reaches.csv", "ortho-report.png", "ortho-rivers.csv",
        "ortho-stations.csv", "ortho.gpkg", "ortho.json",
    ]  # fmt: skip
    assert json.loads((tmp_path / "out" / "ortho.json").read_text()) == numbers
    assert said[0].startswith("river 1: 1800 m², 900 to 2700, 150 m long, 12.0 m wide")
    # The lines are drawn where the common-error interval ends: 5.9 pixels on each side of the bank.
    assert numbers["bank_band"]["mean"] == pytest.approx(2 * 5.89 / 2, rel=0.02)


def test_two_masks_of_one_name_never_replace_each_other_s_measures(pair, tmp_path):
    measure_river(pair[0], tmp_path / "out", say=quiet)
    before = (tmp_path / "out" / "ortho.json").read_bytes()
    water = straight_river()
    water[:40] = False
    (tmp_path / "other").mkdir()
    other = write_raster(tmp_path / "other" / "ortho.tif", water)
    with pytest.raises(OutputError, match=r"got .*out.ortho\.json, which is of .*ortho\.tif and"):
        measure_river(other, tmp_path / "out", say=quiet)
    assert (tmp_path / "out" / "ortho.json").read_bytes() == before
    pair[0].write_bytes(other.read_bytes())  # masked anew, in the same place
    assert measure_river(pair[0], tmp_path / "out", say=quiet)["mask"]["file"] == "../ortho.tif"


def test_what_a_killed_run_leaves_is_known_for_unfinished_and_made_again(
    pair, tmp_path, monkeypatch
):
    measure_river(pair[0], tmp_path / "out", say=quiet)

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("autosam.recipes.river_products.write_tables", killed)
        for folder in ("out", "new"):
            with pytest.raises(KeyboardInterrupt):
                measure_river(pair[0], tmp_path / folder, say=quiet)
            assert json.loads((tmp_path / folder / "ortho.json").read_text())["unfinished"]
    for folder in ("out", "new"):
        numbers = measure_river(pair[0], tmp_path / folder, say=quiet)
        assert json.loads((tmp_path / folder / "ortho.json").read_text()) == numbers
        assert "unfinished" not in numbers


def test_without_a_probability_and_a_report_there_is_less(pair, tmp_path):
    said = []
    measure_river(pair[0], tmp_path / "out", report=False, say=said.append)
    assert "ortho-report.png" not in files(tmp_path / "out")
    assert "ortho-banks.gpkg" not in files(tmp_path / "out")
    assert "note: no probability raster: no intervals" in said


def test_the_probability_that_lies_beside_a_mask_is_taken_unless_another_is_given(pair, tmp_path):
    beside = pair[0].with_suffix(".probability.tif")
    beside.write_bytes(pair[1].read_bytes())
    numbers = measure_river(pair[0], tmp_path / "out", say=quiet)
    given = measure_river(pair[0], tmp_path / "given", probability=pair[1], say=quiet)
    assert numbers == given
    assert "bank_band" in numbers
    vectorise(pair[0], tmp_path / "w.gpkg", style=True, say=quiet)
    assert 0.8 < geopandas.read_file(tmp_path / "w.gpkg", layer="water")["mean_probability"][0] < 1
    assert pair[0].with_suffix(".probability.qml").exists()
    beside.write_bytes(b"damaged")
    with pytest.raises(ImageError, match=r"ortho\.probability\.tif"):
        vectorise(pair[0], tmp_path / "w.gpkg", say=quiet)


def test_two_dates_become_change_and_two_lines(tmp_path):
    early = winding_river((200, 300), width=24, height=40, bend=200)[0]
    late = early.copy()
    late[170:195, 100:150] = True
    paths = [
        write_raster(tmp_path / f"{name}.tif", mask)
        for name, mask in (("early", early), ("late", late))
    ]
    said = []
    numbers = compare_dates(*paths, tmp_path / "c.gpkg", say=said.append)
    assert numbers["gained_at_all"] == (late & ~early).sum() / 4
    assert numbers["shift"]["metres"] < 0.05
    assert said[0].startswith("registration: shift 0.0")
    assert "lost 0 m²" in said[1]


def test_without_a_crs_every_line_says_pixels(tmp_path):
    mask = write_raster(tmp_path / "m.tif", straight_river(), crs=None, transform=Affine.identity())
    said = []
    vectorise(mask, tmp_path / "w.gpkg", say=said.append)
    measure_river(mask, tmp_path / "out", report=False, say=said.append)
    assert "7200.0 px (no coordinate reference system: in pixels)" in said[0]
    assert said[1].startswith("river 1: 7200 px, 300 px long, 24.0 px wide")


def test_the_report_of_a_mask_is_not_replaced_by_what_a_river_measures(tmp_path):
    ortho = rasters.write_raster(tmp_path / "ortho.tif", rasters.river(100, 150)[0])
    mask = tmp_path / "masks" / "ortho.tif"
    mask_raster(rasters.DarkIsWater(), ortho, mask)
    before = mask.with_suffix(".json").read_bytes()
    with pytest.raises(OutputError, match=r"another folder .* whose report ortho\.json would be"):
        measure_river(mask, mask.parent, say=quiet)
    assert mask.with_suffix(".json").read_bytes() == before
    assert files(mask.parent) == ["ortho.json", "ortho.tif"]


def test_real_masks_have_the_numbers_that_counting_gives(shared_data, tmp_path):
    for path in sorted((shared_data / "elwha" / "masks").glob("*.png")):
        mask = np.asarray(Image.open(path).convert("L")) > 127
        raster = write_raster(tmp_path / f"{path.stem}.tif", mask.astype(np.uint8) * 255)
        parts = np.bincount(label(mask, connectivity=1).ravel())[1:] / 4
        choice = VectorChoice(minimum_area=10, minimum_hole=0, strip_rows=100)
        numbers = vectorise(raster, tmp_path / "w.gpkg", choice=choice, say=quiet)
        assert numbers["polygons"] == (parts >= 10).sum()
        assert numbers["area_m2"] == pytest.approx(parts[parts >= 10].sum(), rel=2e-3)
        found = geopandas.read_file(tmp_path / "w.gpkg")
        assert found.is_valid.all()
        assert found["area_m2"].tolist() == pytest.approx(found.area.tolist())
        assert numbers["area_m2"] == pytest.approx(found.area.sum())


def test_real_rivers_have_width_times_length_of_their_area(shared_data, tmp_path):
    """But for bays and corners that no section crosses: 5, 3 and 11 % when this was written."""
    for path in sorted((shared_data / "elwha" / "masks").glob("*.png")):
        mask = np.asarray(Image.open(path).convert("L")) > 127
        raster = write_raster(tmp_path / f"{path.stem}.tif", mask)
        river = measure_river(raster, tmp_path / "out", report=False, say=quiet)["rivers"][0]
        tables = tmp_path / "out" / f"{path.stem}-stations.csv"
        parts = label(mask, connectivity=2)
        assert river["area_m2"] == np.bincount(parts.ravel())[1:].max() / 4
        widths = [
            float(row["width_m"]) for row in csv.DictReader(tables.open()) if row["river"] == "1"
        ]
        assert np.mean(widths) * river["length_m"] == pytest.approx(river["area_m2"], rel=0.13)


def bad(folder):
    """Name -> (what is called, message)."""
    mask = write_raster(folder / "m.tif", straight_river())
    empty = write_raster(folder / "empty.tif", np.zeros((60, 80), dtype=bool))
    small = write_raster(folder / "p.tif", np.zeros((60, 80), np.uint8))
    wrong = write_raster(folder / "wrong.tif", straight_river(), crs="EPSG:4326")
    flat = write_raster(folder / "flat.tif", straight_river(), transform=Affine(1, 1, 5, 1, 1, 5))
    (folder / "broken.tif").write_bytes(mask.read_bytes()[:300])
    (folder / "text.tif").write_text("no raster")
    out = folder / "out.gpkg"
    return {
        "no file": (lambda: vectorise(folder / "no.tif", out), "mask must exist"),
        "text": (lambda: vectorise(folder / "text.tif", out), "a raster that GDAL reads"),
        "truncated": (lambda: vectorise(folder / "broken.tif", out), "a raster that GDAL reads"),
        "folder": (lambda: vectorise(folder, out), "a raster that GDAL reads"),
        "suffix": (lambda: vectorise(mask, folder / "w.shp"), "must end in .gpkg"),
        "no suffix": (lambda: vectorise(mask, folder / "w"), "must end in .gpkg"),
        "size": (lambda: vectorise(mask, out, probability=small), "height and width"),
        "wrong crs": (lambda: measure_river(wrong, folder / "o"), "must lie on the earth"),
        "flat": (lambda: measure_river(flat, folder / "o"), "must give pixels an area"),
        "empty": (lambda: measure_river(empty, folder / "o"), "connected water of at least"),
        "mask as probability": (
            lambda: measure_river(small, folder / "o", probability=mask),
            "height and width",
        ),
        "closed folder": (lambda: measure_river(mask, mask / "o"), "could not be written"),
        "closed file": (lambda: vectorise(mask, mask / "w.fgb"), "could not be written"),
        "one date": (lambda: compare_dates(mask, mask, out), "dates must be two files"),
        "other place": (lambda: compare_dates(mask, wrong, out), "must lie on the earth"),
    }


@pytest.mark.parametrize(
    "name",
    ["no file", "text", "truncated", "folder", "suffix", "no suffix", "size", "wrong crs", "flat", "empty",
     "mask as probability", "closed folder", "closed file", "one date", "other place"],
)  # fmt: skip
def test_bad_input_is_one_clear_line_and_nothing_half_written(tmp_path, name):
    call, message = bad(tmp_path)[name]
    before = files(tmp_path)
    with pytest.raises(AutoSamError) as caught:
        call()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert files(tmp_path) == before


def test_products_are_the_same_bytes_every_time(pair, tmp_path):
    for folder in ("one", "two"):
        measure_river(pair[0], tmp_path / folder, probability=pair[1], report=False, say=quiet)
    for name in ("ortho-stations.csv", "ortho-rivers.csv", "ortho-reaches.csv", "ortho.json"):
        one, two = ((tmp_path / folder / name).read_bytes() for folder in ("one", "two"))
        assert one == two, name


def test_polygons_are_not_written_over_what_others_have_drawn(pair, tmp_path):
    output = tmp_path / "mine.gpkg"
    vectorise(pair[0], output, say=quiet)
    vectorise(pair[0], output, say=quiet)  # its own
    hand = geopandas.read_file(output)
    hand.to_file(output, layer="by hand")
    with pytest.raises(OutputError, match=r"new or autosam's own, got .*mine\.gpkg"):
        vectorise(pair[0], output, say=quiet)
    with pytest.raises(OutputError, match=r"new or autosam's own"):
        compare_dates(
            pair[0], write_raster(tmp_path / "b.tif", straight_river()), output, say=quiet
        )
    assert len(geopandas.read_file(output, layer="by hand")) == len(hand)
    for suffix in ("geojson", "parquet", "fgb"):
        (tmp_path / f"mine.{suffix}").write_text("mine")
        with pytest.raises(OutputError, match=r"new or autosam's own"):
            vectorise(pair[0], tmp_path / f"mine.{suffix}", say=quiet)


@pytest.mark.parametrize(
    "name", ["ortho.gpkg", "ortho.json", "ortho-rivers.csv", "ortho-report.png"]
)
def test_measures_are_not_written_over_files_of_others(pair, tmp_path, name):
    folder = tmp_path / "river"
    folder.mkdir()
    (folder / name).write_text("mine")
    with pytest.raises(OutputError, match=f"got .*{name}, which is something else"):
        measure_river(pair[0], folder, say=quiet)
    assert files(folder) == [name]


def test_measures_take_the_place_of_their_own(pair, tmp_path):
    for _ in range(2):
        measure_river(pair[0], tmp_path / "river", report=False, say=quiet)


def test_equal_polygons_are_equal_files(pair, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        vectorise(pair[0], tmp_path / name / "w.gpkg", say=quiet)
        time.sleep(1.1 if name == "one" else 0)  # a GeoPackage knows seconds
    one, two = (tmp_path / name / "w.gpkg" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
