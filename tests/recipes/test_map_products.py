"""What lies beside a mask is of that mask, and one raster's trouble is its own."""

import json

import geopandas
import numpy as np
import pytest
from raster_scenes import DarkIsWater, river, write_raster

from autosam.errors import DataError
from autosam.maps.settings import MapSettings
from autosam.maps.vectors import are_polygons_of
from autosam.recipes.map_products import MapProducts, make_products
from autosam.recipes.mapping import exit_code, map_rasters
from autosam.recipes.river_products import vectorise

OTHER = MapSettings(threshold=0.99)


@pytest.fixture
def ortho(tmp_path):
    return write_raster(tmp_path / "in" / "a.tif", river(100, 150)[0])


def mapped(source, output, settings=None, *, overwrite=False, **wanted):
    """As the command does it; the outcomes, and what was said of the products."""
    said = []
    outcomes = map_rasters(
        DarkIsWater(),
        [str(source)],
        output,
        settings=settings,
        overwrite=overwrite,
        say=lambda _: None,
    )
    products = MapProducts(**wanted)
    return make_products(outcomes, products, overwrite=overwrite, say=said.append), said


def water(path):
    frame = geopandas.read_parquet(path) if path.suffix == ".parquet" else geopandas.read_file(path)
    return frame.geometry.to_wkb().tolist()


@pytest.mark.parametrize("suffix", ["gpkg", "geojson", "parquet", "fgb"])
def test_polygons_are_of_the_mask_that_lies_there(ortho, tmp_path, suffix):
    output, polygons = tmp_path / "out", tmp_path / "out" / f"a.{suffix}"
    mapped(ortho, output, vectors=[suffix])
    first = water(polygons)
    _, said = mapped(ortho, output, OTHER)  # as a run that is killed after its mask leaves it
    assert said == [
        f"{polygons}: is of another mask, or does not say of which. Remove it, or make it again by "
        f"--vector {suffix}."
    ]
    outcomes, _ = mapped(ortho, output, OTHER, vectors=[suffix])
    assert outcomes[0].status == "finished before"
    vectorise(output / "a.tif", tmp_path / f"fresh.{suffix}", say=lambda _: None)
    assert water(polygons) == water(tmp_path / f"fresh.{suffix}") != first


def test_several_formats_are_written_beside_one_mask(ortho, tmp_path):
    mapped(ortho, tmp_path, vectors=["gpkg", "fgb"], html=True)
    assert water(tmp_path / "a.gpkg") == water(tmp_path / "a.fgb") != []
    assert not (tmp_path / "a.geojson").exists()


def test_polygons_of_this_mask_stay_as_they_are_until_others_are_asked_for(ortho, tmp_path):
    output, polygons = tmp_path / "out", tmp_path / "out" / "a.gpkg"
    mapped(ortho, output, vectors=["gpkg"])
    frame = geopandas.read_file(polygons)
    frame["by hand"] = "seen"
    frame.to_file(polygons, layer="water")
    assert mapped(ortho, output, vectors=["gpkg"])[1] == []
    assert "by hand" in geopandas.read_file(polygons)
    mapped(ortho, output, vectors=["gpkg"], overwrite=True)
    assert "by hand" not in geopandas.read_file(polygons)


@pytest.mark.parametrize("suffix", ["gpkg", "geojson", "parquet", "fgb"])
def test_no_polygons_are_those_of_a_dry_mask(tmp_path, suffix):
    dry = write_raster(tmp_path / "in" / "a.tif", np.full((60, 70, 3), 200, np.uint8))
    output, polygons = tmp_path / "out", tmp_path / "out" / f"a.{suffix}"
    mapped(dry, output, vectors=[suffix])
    assert are_polygons_of(polygons, output / "a.tif")
    assert mapped(dry, output)[1] == []
    report = json.loads((output / "a.json").read_text())
    report["pixels"]["water"] = 1
    (output / "a.json").write_text(json.dumps(report))
    assert not are_polygons_of(polygons, output / "a.tif")


def test_what_was_drawn_of_an_older_mask_is_named_where_it_is_not_drawn_anew(ortho, tmp_path):
    output = tmp_path / "out"
    assert len(mapped(ortho, output, preview=True, html=True)[1]) == 2
    _, said = mapped(ortho, output, OTHER, html=True)
    assert [line.split(":")[0] for line in said] == [
        str(output / "a.preview.jpg"),
        str(output / "a.html"),
    ]
    assert "is of the mask that was here before" in said[0]
    assert "a map to open in a browser" in said[1]


def test_a_raster_off_the_earth_fails_alone_after_its_mask(ortho, tmp_path):
    image = river(100, 150)[0]
    write_raster(ortho.with_name("0.tif"), image, crs="EPSG:4326")  # its numbers are metres of UTM
    wanted = {"vectors": ["gpkg"], "preview": True, "html": True, "sheet": tmp_path / "sheet.png"}
    outcomes, said = mapped(ortho.parent, tmp_path / "out", **wanted)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"0.tif", "a.tif", "a.gpkg", "a.preview.jpg", "a.html"} <= names
    assert (tmp_path / "sheet.png").is_file()
    assert "0.tif: masked, but failed after that: coordinates must lie on the earth" in said[0]
    assert exit_code(outcomes) == 1
    told = [outcome.to_dict() for outcome in outcomes]
    assert [row["status"] for row in told] == ["written", "written"]
    assert "must lie on the earth" in told[0]["error"]
    assert told[1]["error"] is None


def test_files_of_others_are_not_written_over_by_what_lies_beside_a_mask(ortho, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    wanted = {"vectors": ["gpkg", "geojson"], "preview": True, "html": True}
    names = ["a.gpkg", "a.geojson", "a.html", "a.preview.jpg", "a.json", "a.probability.tif"]
    companions = MapProducts(**wanted).files_beside
    for name in names:
        (out / name).write_text("mine")
        (outcome,) = map_rasters(
            DarkIsWater(), [str(ortho)], out, companions=companions, say=lambda _: None
        )
        assert outcome.status == "failed"
        assert f"{name}, beside which no mask lies" in outcome.error
        assert (out / name).read_text() == "mine"
        (out / name).unlink()
    (out / "a.gpkg").write_text("mine")
    (outcome,) = map_rasters(
        DarkIsWater(), [str(ortho)], out, companions=companions, overwrite=True, say=lambda _: None
    )
    assert outcome.status == "written"
    (out / "a.tif").unlink()  # by somebody who wants it anew
    (outcome,) = map_rasters(
        DarkIsWater(), [str(ortho)], out, companions=companions, say=lambda _: None
    )
    assert outcome.status == "written"


def test_a_raster_in_a_grid_of_its_own_gets_what_needs_no_place(ortho, tmp_path):
    local = 'LOCAL_CS["arbitrary",UNIT["metre",1]]'
    write_raster(ortho.with_name("0.tif"), river(100, 150)[0], crs=local)
    outcomes, _ = mapped(ortho.parent, tmp_path / "out", vectors=["gpkg"], html=True, stac=True)
    assert [outcome.error for outcome in outcomes] == [None, None]
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"0.gpkg", "0.html", "0.stac.json", "a.gpkg", "stac-collection.json"} <= names
    with pytest.raises(DataError, match="does not say where on the earth it is"):
        vectorise(tmp_path / "out" / "0.tif", tmp_path / "0.geojson", say=lambda _: None)


def test_holes_without_data_are_no_water(tmp_path):
    image = river(100, 150)[0].clip(1)
    image[55:58, 70:73] = 0  # 2.25 square metres in the middle of the river
    source = write_raster(tmp_path / "in" / "a.tif", image, nodata=0)
    mapped(source, tmp_path / "out", vectors=["gpkg"])
    assert len(geopandas.read_file(tmp_path / "out" / "a.gpkg").geometry[0].interiors) == 1
