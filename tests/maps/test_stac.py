"""STAC in and out, read back by pystac itself."""

import json

import numpy as np
import pytest
import rasterio
import rasterio.warp
from affine import Affine
from raster_scenes import HALF_METRE, DarkIsWater, river, write_raster
from shapely.geometry import shape

from autosam.errors import DataError, MissingPackageError, MissingPathError
from autosam.maps.finished_rasters import find_raster
from autosam.maps.settings import MapSettings
from autosam.maps.stac import is_stac, stac_rasters
from autosam.maps.vectors import write_polygons
from autosam.recipes.mapping import exit_code, map_rasters, write_items

pystac = pytest.importorskip("pystac")

TIFF = "image/tiff; application=geotiff; profile=cloud-optimized"
FLOWN = "2016-07-04T19:30:00Z"


def item(name="flight 1/a", **assets):
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "geometry": {"type": "Point", "coordinates": [-123.5, 48.0]},
        "bbox": [-123.5, 48.0, -123.5, 48.0],
        "properties": {"datetime": FLOWN},
        "links": [],
        "assets": assets or {"ortho": {"href": "./pixels/a.tif", "type": TIFF, "roles": ["data"]}},
    }


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def folder(tmp_path):
    for name in ("a", "b"):
        write_raster(tmp_path / "in" / "pixels" / f"{name}.tif", river(100, 150)[0])
    return tmp_path / "in"


def collection(folder):
    items = [item("a"), item("b", ortho={"href": "../pixels/b.tif", "type": TIFF})]
    items[0]["assets"]["ortho"]["href"] = "../pixels/a.tif"
    for one in items:
        write(folder / "items" / f"{one['id']}.json", one)
    return {
        "type": "Collection",
        "stac_version": "1.0.0",
        "id": "flights",
        "description": "Two flights.",
        "license": "other",
        "extent": {
            "spatial": {"bbox": [[-180, -90, 180, 90]]},
            "temporal": {"interval": [[None, None]]},
        },
        "links": [
            {"rel": "item", "href": f"./items/{name}.json", "type": "application/geo+json"}
            for name in ("a", "b")
        ],
    }


def test_the_raster_of_an_item_is_found_beside_it(folder):
    path = write(folder / "item.json", item())
    (found,) = stac_rasters(str(path))
    assert found.raster == str(folder / "pixels" / "a.tif")
    assert found.name == "flight_1_a"
    assert found.times == {"datetime": FLOWN}
    assert found.item == str(path)


def test_collections_catalogs_and_lists_of_items_are_followed(folder):
    rasters = [str(folder / "pixels" / f"{name}.tif") for name in ("a", "b")]
    path = write(folder / "collection.json", collection(folder))
    assert [one.raster for one in stac_rasters(str(path))] == rasters
    listed = [item("a"), item("b", ortho={"href": "pixels/b.tif", "roles": ["data"]})]
    path = write(folder / "found.geojson", {"type": "FeatureCollection", "features": listed})
    assert [one.raster for one in stac_rasters(str(path))] == rasters
    catalog = {
        "type": "Catalog", "stac_version": "1.0.0", "id": "all", "description": "All.",
        "links": [{"rel": "child", "href": "./collection.json"}],
    }  # fmt: skip
    path = write(folder / "catalog.json", catalog)
    assert [one.raster for one in stac_rasters(str(path))] == rasters


@pytest.mark.parametrize(
    ("href", "expected"),
    [
        ("https://example.org/a.tif", "https://example.org/a.tif"),
        ("s3://bucket/key/a.tif", "/vsis3/bucket/key/a.tif"),
    ],
)
def test_addresses_are_left_to_gdal(folder, href, expected):
    path = write(folder / "item.json", item("a", ortho={"href": href, "type": TIFF}))
    assert stac_rasters(str(path))[0].raster == expected


ASSETS = {
    "red": {"href": "red.tif", "type": TIFF, "roles": ["data"]},
    "green": {"href": "green.tif", "type": TIFF, "roles": ["data"]},
    "rgb": {"href": "rgb.tif", "type": TIFF, "roles": ["visual"]},
    "look": {"href": "look.png", "type": "image/png", "roles": ["thumbnail", "visual"]},
    "text": {"href": "a.xml", "type": "application/xml"},
}


@pytest.mark.parametrize(
    ("keys", "asset", "chosen"),
    [
        (("red", "green", "rgb", "look", "text"), None, "rgb"),
        (("red", "look", "text"), None, "red"),
        (("red", "green"), "green", "green"),
        (("look", "text"), "look", "look"),
    ],
)
def test_the_picture_for_eyes_is_masked_unless_another_is_named(folder, keys, asset, chosen):
    path = write(folder / "item.json", item("a", **{key: ASSETS[key] for key in keys}))
    (found,) = stac_rasters(str(path), asset=asset)
    assert found.raster == str(folder / ASSETS[chosen]["href"])


@pytest.mark.parametrize(
    ("content", "asset", "word"),
    [
        (item("a", red=ASSETS["red"], green=ASSETS["green"]), None, "got green, red .*--asset"),
        (item("a", text=ASSETS["text"]), None, "one raster to mask, got none"),
        (item("a"), "orto", "Did you mean 'ortho'"),
        ({"type": "Polygon"}, None, "got type 'Polygon'"),
        ([], None, "got type None"),
        ({"type": "FeatureCollection", "features": []}, None, "must hold an item, got none"),
        ({"type": "Feature"}, None, "STAC must be an item"),
        ({"type": "Collection", "stac_version": "1.0.0"}, None, "STAC must be an item"),
    ],
)
def test_what_cannot_be_told_is_one_clear_error(folder, content, asset, word):
    path = write(folder / "item.json", content)
    with pytest.raises(DataError, match=word) as caught:
        stac_rasters(str(path), asset=asset)
    assert "\n" not in str(caught.value)


def test_a_catalog_that_leads_back_to_itself_is_one_clear_error(folder):
    link = {"rel": "child", "href": "catalog.json", "type": "application/json"}
    catalog = {
        "type": "Catalog", "id": "round", "description": "", "stac_version": "1.0.0", "links": [link],
    }  # fmt: skip
    path = write(folder / "catalog.json", catalog)
    with pytest.raises(DataError, match="got links that lead back to where they began"):
        stac_rasters(str(path))


def test_no_mask_is_hidden_by_the_name_of_its_item(folder):
    path = write(folder / "item.json", item("../../evil"))
    assert [one.name for one in stac_rasters(str(path))] == ["__.._evil"]


def test_files_that_are_not_there_are_told(folder):
    with pytest.raises(MissingPathError, match=r"none\.json"):
        stac_rasters(str(folder / "none.json"))
    path = write(folder / "collection.json", collection(folder))
    (folder / "items" / "b.json").unlink()
    with pytest.raises((MissingPathError, DataError), match=r"b\.json"):
        stac_rasters(str(path))


def test_only_json_is_taken_for_stac():
    assert is_stac("a/item.json")
    assert is_stac("https://example.org/items/a.geojson?key=1")
    assert not is_stac("a/ortho.tif")
    assert not is_stac("https://example.org/a.tif?x=.json")


def test_without_pystac_the_line_that_installs_it_is_told(folder, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pystac", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'autosam\[stac\]'"):
        stac_rasters(str(write(folder / "item.json", item())))


def masked(source, output, **options):
    outcomes = map_rasters(
        DarkIsWater(), [str(source)], output, say=lambda line: None,
        settings=MapSettings(probability="uint8"), **options,
    )  # fmt: skip
    assert exit_code(outcomes) == 0
    return outcomes


def test_masks_become_a_collection_that_pystac_reads(folder, tmp_path):
    path = write(folder / "collection.json", collection(folder))
    output = tmp_path / "out"
    written = write_items(masked(path, output))
    read = pystac.Collection.from_file(str(written))
    items = sorted(read.get_items(recursive=True), key=lambda one: one.id)
    assert [one.id for one in items] == ["a", "b"]
    for one in items:
        assert one.to_dict() == pystac.Item.from_dict(one.to_dict()).to_dict()
        assert one.get_collection().id == read.id
        with rasterio.open(one.assets["mask"].get_absolute_href()) as mask:
            assert one.properties["proj:shape"] == [mask.height, mask.width]
            bounds = rasterio.warp.transform_bounds(mask.crs, "EPSG:4326", *mask.bounds)
        assert one.bbox == pytest.approx(bounds, abs=1e-7)
        assert one.properties["proj:code"] == "EPSG:32610"
        assert one.properties["proj:transform"] == pytest.approx(list(HALF_METRE)[:6])
        assert one.properties["gsd"] == pytest.approx(0.5, rel=1e-3)
        assert one.properties["datetime"] == FLOWN
        assert one.properties["autosam:model"] == "dark"
        assert one.properties["autosam:threshold"] == 0.5
        classes = one.assets["mask"].extra_fields["classification:classes"]
        assert [(kind["value"], kind["name"]) for kind in classes] == [
            (0, "land"), (1, "water"), (255, "no_data"),
        ]  # fmt: skip
        (band,) = one.assets["probability"].extra_fields["raster:bands"]
        assert (band["nodata"], band["data_type"]) == (255, "uint8")
        assert band["scale"] == pytest.approx(1 / 254)
        (origin,) = one.get_links("derived_from")
        source = pystac.Item.from_file(
            str((output / origin.href).resolve())
        )  # its link leads back to what was masked
        assert source.id == one.id
    assert read.extent.spatial.bboxes[0] == pytest.approx(items[0].bbox)


def test_nothing_in_the_items_names_a_folder_of_this_machine(folder, tmp_path):
    path = write(folder / "collection.json", collection(folder))
    write_items(masked(path, tmp_path / "out"))
    for file in (tmp_path / "out").glob("*stac*.json"):
        assert str(tmp_path) not in file.read_text()


def test_masks_are_read_again_as_a_source(folder, tmp_path):
    output = tmp_path / "out"
    written = write_items(masked(folder / "pixels", output))
    found = stac_rasters(str(written), asset="mask")
    assert [one.raster for one in found] == [str(output / name) for name in ("a.tif", "b.tif")]
    again = map_rasters(
        DarkIsWater(), [str(written)], tmp_path / "again", asset="mask", say=lambda line: None
    )
    assert [outcome.status for outcome in again] == ["written"] * 2


def test_a_collection_keeps_the_masks_of_an_earlier_run_while_they_are_there(folder, tmp_path):
    output = tmp_path / "out"
    write_items(masked(folder / "pixels" / "a.tif", output))
    written = write_items(masked(folder / "pixels" / "b.tif", output))
    read = pystac.Collection.from_file(str(written))
    assert sorted(one.id for one in read.get_items()) == ["a", "b"]
    (output / "a.tif").unlink()
    written = write_items(masked(folder / "pixels" / "b.tif", output))
    assert [one.id for one in pystac.Collection.from_file(str(written)).get_items()] == ["b"]


def test_a_raster_across_the_antimeridian_is_cut_there(tmp_path):
    """A thousandth of a degree on either side, in degrees and in metres of a UTM zone."""
    degrees = Affine.translation(179.999, 60.001) * Affine.scale(2e-5, -2e-5)
    metres = Affine.translation(332_000, 6_654_000) * Affine.scale(12, -12)
    for name, crs, transform in (("a", "EPSG:4326", degrees), ("b", "EPSG:32601", metres)):
        write_raster(
            tmp_path / "in" / f"{name}.tif", river(100, 100)[0], crs=crs, transform=transform
        )
    write_items(masked(tmp_path / "in", tmp_path / "out"))
    for name in ("a", "b"):
        item = json.loads((tmp_path / "out" / f"{name}.stac.json").read_text())
        west, _, east, _ = item["bbox"]
        assert 179 < west < 180
        assert -180 < east < -179
        whole = shape(item["geometry"])
        assert whole.geom_type == "MultiPolygon"
        assert all(abs(x) <= 180 for piece in whole.geoms for x, _ in piece.exterior.coords)
        assert all(piece.exterior.is_ccw for piece in whole.geoms)
        assert sorted(round(x) for x, *_ in (piece.bounds for piece in whole.geoms)) == [-180, 180]


def test_a_raster_that_lies_nowhere_has_an_item_without_a_place(tmp_path):
    ortho = write_raster(tmp_path / "in" / "a.tif", river(60, 70)[0], crs=None)
    written = write_items(masked(ortho, tmp_path / "out"))
    (one,) = pystac.Collection.from_file(str(written)).get_items()
    assert one.geometry is None
    assert one.bbox is None
    (via,) = one.get_links("via")
    assert via.href == "../in/a.tif"
    assert one.properties["autosam:datetime_is"] == "of the file a.tif"


def test_polygons_of_this_mask_become_assets_and_others_do_not(folder, tmp_path):
    outcomes = masked(folder / "pixels" / "a.tif", tmp_path / "out")
    write_polygons(find_raster(tmp_path / "out" / "a.tif"), tmp_path / "out" / "a.gpkg")
    (tmp_path / "out" / "a.geojson").write_bytes(b"somebody's")
    written = write_items(outcomes)
    (one,) = pystac.Collection.from_file(str(written)).get_items()
    assert sorted(one.assets) == ["gpkg", "mask", "probability", "report"]
    assert np.isfinite(one.bbox).all()
