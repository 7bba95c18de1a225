import json
import time

import numpy as np
import pytest
import rasterio
from raster_scenes import DarkIsWater, river, write_raster

from autosam.errors import ConfigError, OutputError
from autosam.inference.raster_plan import plan_raster
from autosam.maps.rasters import RasterChoice
from autosam.maps.settings import MapSettings
from autosam.recipes.mapping import exit_code, map_rasters
from autosam.recipes.raster_sources import RasterPair, pair_rasters


@pytest.fixture
def orthos(tmp_path):
    folder = tmp_path / "orthos"
    for name in ("a", "b"):
        write_raster(folder / f"{name}.tif", river(100, 150)[0])
    (folder / "notes.txt").write_text("no raster")
    (folder / ".hidden.tif").write_bytes(b"")
    return folder


def run(model, source, output, **options):
    said = []
    outcomes = map_rasters(model, source, output, say=said.append, **options)
    assert len(said) == len(outcomes)
    return outcomes, said


def test_a_folder_of_rasters_becomes_a_folder_of_masks(orthos, tmp_path):
    outcomes, said = run(DarkIsWater(), [str(orthos)], tmp_path / "out")
    assert [outcome.status for outcome in outcomes] == ["written"] * 2
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "a.json", "a.tif", "b.json", "b.tif",
    ]  # fmt: skip
    assert "a.tif, water 2" in said[0]
    assert "6 tiles, 0 skipped" in said[0]  # 2 x 3, 48 apart
    assert exit_code(outcomes) == 0
    json.dumps([outcome.to_dict() for outcome in outcomes], allow_nan=False)
    again, said = run(DarkIsWater(), [str(orthos)], tmp_path / "out")
    assert [outcome.status for outcome in again] == ["finished before"] * 2
    assert exit_code(again) == 0


def test_a_mask_in_the_place_of_another_says_what_changed(orthos, tmp_path):
    source = [str(orthos / "a.tif")]
    _, said = run(DarkIsWater(), source, tmp_path / "out")
    assert "anew" not in said[0]
    settings = MapSettings(threshold=0.4, overlap=0.5)
    outcomes, said = run(DarkIsWater(), source, tmp_path / "out", settings=settings)
    assert said[0].endswith(", masked anew: threshold, overlap changed")
    assert outcomes[0].to_dict()["changed"] == ["threshold", "overlap"]
    write_raster(orthos / "a.tif", river(100, 150, seed=1)[0])
    _, said = run(DarkIsWater(), source, tmp_path / "out", settings=settings)
    assert said[0].endswith(", masked anew: raster changed")
    _, said = run(DarkIsWater(), source, tmp_path / "out", settings=settings, overwrite=True)
    assert "anew" not in said[0]


def test_a_raster_is_the_same_however_it_is_named_and_with_its_masks_elsewhere(
    orthos, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    run(DarkIsWater(), ["orthos"], "out")
    (tmp_path / "link").symlink_to(orthos)
    for source in (str(orthos), "./orthos/../orthos", "link/*.tif"):
        outcomes, _ = run(DarkIsWater(), [source], tmp_path / "out")
        assert [outcome.status for outcome in outcomes] == ["finished before"] * 2
    (tmp_path / "moved").mkdir()
    for name in ("orthos", "out"):
        (tmp_path / name).rename(tmp_path / "moved" / name)
    monkeypatch.chdir(tmp_path / "moved" / "out")
    outcomes, _ = run(DarkIsWater(), ["../orthos"], ".")
    assert [outcome.status for outcome in outcomes] == ["finished before"] * 2
    other = tmp_path / "other"
    (tmp_path / "moved" / "orthos").rename(other)
    outcomes, said = run(DarkIsWater(), [str(other)], ".")
    assert [outcome.status for outcome in outcomes] == ["written"] * 2
    assert said[0].endswith(", masked anew: raster changed")


@pytest.mark.parametrize(
    "asked", [{"threshold": 0.5}, {"batch": 4}, {"choice": RasterChoice(bands=(1, 2, 3))}]
)
def test_a_default_that_is_asked_for_changes_nothing(orthos, tmp_path, asked):
    run(DarkIsWater(), [str(orthos)], tmp_path / "out")
    outcomes, _ = run(DarkIsWater(), [str(orthos)], tmp_path / "out", settings=MapSettings(**asked))
    assert [outcome.status for outcome in outcomes] == ["finished before"] * 2


def test_a_probability_stays_beside_its_mask_when_it_is_not_asked_for_again(orthos, tmp_path):
    eight, exact = (MapSettings(probability=kind) for kind in ("uint8", "float32"))
    probability = tmp_path / "out" / "a.probability.tif"
    run(DarkIsWater(), [str(orthos)], tmp_path / "out", settings=eight)
    stored = probability.read_bytes()
    outcomes, _ = run(DarkIsWater(), [str(orthos)], tmp_path / "out")
    assert [outcome.status for outcome in outcomes] == ["finished before"] * 2
    assert probability.read_bytes() == stored
    _, said = run(DarkIsWater(), [str(orthos)], tmp_path / "out", settings=exact)
    assert said[0].endswith(", masked anew: probability changed")


def test_one_bad_raster_does_not_stop_the_others(orthos, tmp_path):
    (orthos / "aa.tif").write_bytes(b"II*\0 cut off")
    absent = str(tmp_path / "absent.tif")
    outcomes, said = run(DarkIsWater(), [str(orthos), absent], tmp_path / "out")
    assert [outcome.status for outcome in outcomes] == ["written", "failed", "written", "failed"]
    assert "aa.tif: failed: raster must be whole" in said[1]
    assert "absent.tif: failed: raster must exist" in said[3]
    assert exit_code(outcomes) == 1
    assert not (tmp_path / "out" / "aa.tif").exists()


BROKEN_VRT = '<VRTDataset rasterXSize="60"'
VRT_OF_NOTHING = """<VRTDataset rasterXSize="60" rasterYSize="80">
<VRTRasterBand dataType="Byte" band="1"><SimpleSource>
<SourceFilename relativeToVRT="1">gone.tif</SourceFilename><SourceBand>1</SourceBand>
<SrcRect xOff="0" yOff="0" xSize="60" ySize="80"/><DstRect xOff="0" yOff="0" xSize="60" ySize="80"/>
</SimpleSource></VRTRasterBand></VRTDataset>"""


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("a.tif", lambda whole, deep: whole[:60], "must be whole"),
        ("a.tif", lambda whole, deep: whole[:900], "got 6 that failed"),
        ("a.tif", lambda whole, deep: deep[:40_000], "must be whole"),
        ("a.tif", lambda whole, deep: b"", "got 0 bytes"),
        ("a.tif", lambda whole, deep: b"<html>not found</html>", "of a format that GDAL reads"),
        ("a.vrt", lambda whole, deep: BROKEN_VRT.encode(), "Parse error"),
        ("a.vrt", lambda whole, deep: VRT_OF_NOTHING.encode(), "all its parts"),
    ],
)
def test_a_bad_raster_is_one_clear_line_and_leaves_nothing(tmp_path, name, content, word):
    image = river(100, 150)[0]
    whole = write_raster(tmp_path / "whole.tif", image).read_bytes()
    deep = write_raster(tmp_path / "deep.tif", image.astype(np.uint16) * 100).read_bytes()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_bytes(content(whole, deep))
    outcomes, said = run(DarkIsWater(), [str(tmp_path / "in" / name)], tmp_path / "out")
    assert exit_code(outcomes) == 1
    assert word in said[0]
    assert "\n" not in said[0]
    assert not list((tmp_path / "out").glob("*"))


@pytest.mark.parametrize(
    "source", ["http://127.0.0.1:9/a.tif", "/vsicurl/http://127.0.0.1:9/b.tif"]
)
def test_an_address_that_does_not_answer_is_one_clear_line(tmp_path, source):
    outcomes, said = run(DarkIsWater(), [source], tmp_path / "out")
    assert exit_code(outcomes) == 1
    assert f"({source})" in said[0]
    assert "Failed to connect" in said[0]  # GDAL says it once for each address


def test_a_failed_tile_is_said_and_makes_the_exit_code_1(tmp_path):
    image = river(100, 150)[0]
    image[:64, :64] = 250
    write_raster(tmp_path / "in" / "a.tif", image)
    outcomes, said = run(DarkIsWater(fails=225), [str(tmp_path / "in")], tmp_path / "out")
    assert outcomes[0].status == "written"
    assert "1 tile FAILED" in said[0]
    assert "row 0, column 0: this tile is too bright" in said[0]
    assert exit_code(outcomes) == 1


def test_a_dry_run_writes_nothing_and_says_what_it_would_cost(tmp_path):
    image = np.maximum(river(200, 300)[0], 1)
    image[:, :150] = 0
    write_raster(tmp_path / "in" / "a.tif", image, nodata=0)
    model = DarkIsWater()
    outcomes, said = run(model, [str(tmp_path / "in" / "*.tif")], tmp_path / "out", dry_run=True)
    assert not (tmp_path / "out").exists()
    plan = outcomes[0].plan
    assert (plan.tiles, plan.skipped) == (24, 8)  # columns begin at 0, 48, 96, ...
    assert "24 tiles, about 8 of them without data" in said[0]
    assert exit_code(outcomes) == 0
    json.dumps(outcomes[0].to_dict(), allow_nan=False)
    written, _ = run(DarkIsWater(), [str(tmp_path / "in")], tmp_path / "out")
    tiles = written[0].raster.report["tiles"]
    assert (tiles["total"], tiles["skipped"]) == (plan.tiles, plan.skipped)


def test_expected_seconds_are_those_of_a_tile_times_the_tiles(tmp_path):
    ortho = write_raster(tmp_path / "a.tif", river(200, 300)[0])

    class Sleeps(DarkIsWater):
        batch = 1

        def __call__(self, tiles):
            time.sleep(0.05 * len(tiles))
            return super().__call__(tiles)

    plan = plan_raster(Sleeps(), ortho)
    assert plan.tiles == 24  # 4 x 6, 48 apart
    assert plan.seconds / plan.tiles == pytest.approx(0.05, rel=0.5)
    eight = plan_raster(Sleeps(), ortho, settings=MapSettings(dihedral=True))
    assert eight.seconds == pytest.approx(8 * plan.seconds, rel=0.5)


def test_the_disk_holds_no_more_than_was_said(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (600, 700, 3), dtype=np.uint8)
    ortho = write_raster(tmp_path / "in" / "a.tif", noise)
    settings = MapSettings(probability="float32")
    plan = plan_raster(DarkIsWater(), ortho, settings=settings)
    run(DarkIsWater(), [str(ortho)], tmp_path / "out", settings=settings)
    written = sum(path.stat().st_size for path in (tmp_path / "out").glob("*.tif"))
    assert 0.2 * plan.disk_bytes < written < plan.disk_bytes


@pytest.mark.parametrize(
    ("source", "stem"),
    [
        ("https://example.org/flights/river.tif?key=a.b", "river"),
        ("/vsizip//data/a.zip/inner/river.vrt", "river"),
    ],
)
def test_an_address_gives_its_mask_a_name(tmp_path, source, stem):
    assert pair_rasters([source], tmp_path) == [
        RasterPair(source=source, mask=tmp_path / f"{stem}.tif")
    ]


def test_two_rasters_never_share_a_mask(orthos, tmp_path):
    write_raster(tmp_path / "other" / "a.tif", river(20, 20)[0])
    with pytest.raises(OutputError, match="must not share a name"):
        pair_rasters([str(orthos), str(tmp_path / "other" / "a.tif")], tmp_path / "out")
    write_raster(tmp_path / "third" / "a.probability.tif", river(20, 20)[0])
    with pytest.raises(OutputError, match="must not share a name"):
        pair_rasters([str(orthos), str(tmp_path / "third")], tmp_path / "out")


def test_masks_never_fall_on_rasters(orthos):
    with pytest.raises(OutputError, match="must not fall on rasters"):
        map_rasters(DarkIsWater(), [str(orthos)], orthos)


@pytest.mark.parametrize(("source", "word"), [("", "must be named"), ("{}/x*", "got none")])
def test_a_source_that_names_nothing_is_an_error(orthos, tmp_path, source, word):
    with pytest.raises(ConfigError, match=word):
        map_rasters(DarkIsWater(), [source.format(orthos)], tmp_path / "out")


def test_an_asset_is_of_stac_and_of_nothing_else(orthos, tmp_path):
    with pytest.raises(ConfigError, match=r"asset must be of STAC items, got 'visual' for sources"):
        run(DarkIsWater(), [str(orthos)], tmp_path / "out", asset="visual")


def test_an_output_that_is_a_file_is_an_error(orthos, tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(OutputError, match="must be a folder, got the file"):
        map_rasters(DarkIsWater(), [str(orthos)], tmp_path / "out")


def test_a_run_on_the_disk_maps_a_folder(orthos, tmp_path, tiny_sam_folder):
    from autosam.config import config_from_dict
    from autosam.inference.segmenter import AutoSam

    settings = {
        "sam": {"name": str(tiny_sam_folder)},
        "prompt": {"network": "hardnet39ds", "side": 32},
    }
    AutoSam(config_from_dict(settings), device="cpu").save_pretrained(tmp_path / "run")
    outcomes, _ = run(
        str(tmp_path / "run"), [str(orthos / "a.tif")], tmp_path / "out", device="cpu"
    )
    assert outcomes[0].status == "written"
    with rasterio.open(tmp_path / "out" / "a.tif") as mask:
        assert mask.shape == (100, 150)


def test_a_raster_without_crs_is_refused_before_it_is_masked_where_polygons_need_one(tmp_path):
    write_raster(tmp_path / "in" / "a.tif", river(100, 150)[0])
    local = 'LOCAL_CS["arbitrary",UNIT["metre",1]]'
    write_raster(tmp_path / "in" / "b.tif", river(100, 150)[0], crs=None)
    write_raster(tmp_path / "in" / "bb.tif", river(100, 150)[0], crs=local)
    (tmp_path / "in" / "c.tif").write_bytes(b"no raster")
    outcomes, said = run(DarkIsWater(), [str(tmp_path / "in")], tmp_path / "out", with_crs=True)
    assert [outcome.status for outcome in outcomes] == ["written", "failed", "failed", "failed"]
    for line in said[:2]:
        assert "must have a coordinate system for polygons in GeoJSON" in line
    assert "must be whole" in said[3]
    assert not (tmp_path / "out" / "b.tif").exists()
    assert exit_code(outcomes) == 1


def test_other_processes_need_a_model_that_has_a_name(orthos, tmp_path):
    with pytest.raises(ConfigError, match="must be named for other processes"):
        map_rasters(DarkIsWater(), [str(orthos)], tmp_path / "out", workers=2)


def test_items_point_to_rasters_that_are_named_after_them(tmp_path):
    write_raster(tmp_path / "in" / "pixels.tif", river(60, 70)[0])
    content = {
        "type": "Feature", "stac_version": "1.0.0", "id": "flight 7", "geometry": None, "links": [],
        "properties": {"datetime": "2016-07-04T19:30:00Z"},
        "assets": {"ortho": {"href": "pixels.tif", "roles": ["data"]}},
    }  # fmt: skip
    (tmp_path / "in" / "item.json").write_text(json.dumps(content))
    outcomes, _ = run(DarkIsWater(), [str(tmp_path / "in" / "item.json")], tmp_path / "out")
    assert outcomes[0].mask == str(tmp_path / "out" / "flight_7.tif")
    assert outcomes[0].origin.item == str(tmp_path / "in" / "item.json")
