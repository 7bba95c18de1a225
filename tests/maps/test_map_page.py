"""A map in one file: what it holds, what it loads (nothing), and how large it may grow."""

import base64
import datetime
import io
import json
import re

import geopandas
import numpy as np
import pyproj
import pytest
import shapely
from affine import Affine
from PIL import Image
from raster_scenes import HALF_METRE, UTM, river, write_raster

from autosam.errors import DataError
from autosam.maps.finished_rasters import find_raster
from autosam.maps.map_page import LARGEST_PAGE, PageWords, write_map_page
from autosam.maps.map_page_layers import MOST_CHARACTERS, drawn_layers, read_layers
from autosam.maps.raster_preview import read_preview
from autosam.maps.rasters import open_raster
from autosam.maps.vectors import write_polygons

WORDS = PageWords(title="A & B <river>", model="dark", date=datetime.date(2024, 5, 6))


def masked(folder, *, size=(90, 120), **profile):
    image, water = river(*size)
    picture = write_raster(folder / "ortho.tif", image, **profile)
    stored = {key: value for key, value in profile.items() if key != "nodata"}
    mask = write_raster(folder / "mask.tif", water.astype(np.uint8), **{"nodata": 255, **stored})
    return picture, mask, image, water


def data_of(page):
    return json.loads(re.search(r"^const data = (.*);$", page.read_text(), re.M)[1])


def decoded(address):
    return Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))


def test_a_page_holds_picture_mask_layers_and_words(tmp_path):
    picture, mask, image, water = masked(tmp_path)
    raster = find_raster(mask)
    write_polygons(raster, tmp_path / "w.gpkg")
    layers = read_layers(tmp_path / "w.gpkg")
    page = write_map_page(
        tmp_path / "map.html", raster, words=WORDS, picture=picture, layers=layers
    )
    text, data = page.read_text(), data_of(page)
    assert text.count("A &amp; B &lt;river&gt;") == 2  # of the window and of the page
    assert "model dark · 2024-05-06" in text
    shown = np.asarray(decoded(data["picture"])).astype(int)
    assert np.abs(shown - image).mean() < 12  # JPEG on noise
    kinds = np.asarray(decoded(data["mask"]).convert("RGBA"))
    assert np.array_equal(kinds[..., 3] > 0, water)
    assert data["size"] == [90, 120]
    assert data["unit"] == "m"
    assert data["pixel"] == pytest.approx([0.5, 0.5])
    assert data["crs"] == pyproj.CRS(UTM).name
    (layer,) = data["layers"]
    assert (layer["name"], layer["closed"]) == ("water", True)
    assert layer["count"] == len(layers["water"]) == 1


def test_a_page_asks_for_nothing_from_elsewhere(tmp_path):
    picture, mask, *_ = masked(tmp_path)
    page = write_map_page(tmp_path / "m.html", find_raster(mask), words=WORDS, picture=picture)
    text = page.read_text().replace("http://www.w3.org/2000/svg", "")
    assert "://" not in text
    assert "default-src 'none'" in text
    assert not re.search(r"(src|href)=\"(?!data:)", text)


def test_words_cannot_leave_their_place(tmp_path):
    _, mask, *_ = masked(tmp_path)
    words = PageWords(title="</title><script>alert(1)</script>@@DATA@@")
    frame = geopandas.GeoDataFrame(geometry=[shapely.box(450_000, 5_319_980, 450_010, 5_319_990)])
    name = "</script><b>"
    page = write_map_page(
        tmp_path / "m.html", find_raster(mask), words=words, layers={name: frame.set_crs(UTM)}
    )
    text = page.read_text()
    assert text.count("</script>") == text.count("<script>") == 1
    assert data_of(page)["layers"][0]["name"] == name
    assert data_of(page)["picture"] is None


def test_longitudes_and_latitudes_are_those_of_proj(tmp_path):
    _, mask, *_ = masked(tmp_path, size=(300, 400))
    page = write_map_page(tmp_path / "m.html", find_raster(mask), words=WORDS)
    grid = np.array(data_of(page)["lonLat"]).reshape(2, 33, 33)
    to_degrees = pyproj.Transformer.from_crs(UTM, 4326, always_xy=True)
    for row, column in ((0, 0), (0, 32), (32, 10), (16, 16)):
        place = HALF_METRE @ (column / 32 * 400, row / 32 * 300)
        assert grid[:, row, column] == pytest.approx(to_degrees.transform(*place), abs=1e-8)
    # Between them a straight line serves, even over a whole Sentinel tile (110 km).
    middle = np.array(to_degrees.transform(450_000 + 1718.75, 5_320_000))
    ends = [to_degrees.transform(450_000 + x, 5_320_000) for x in (0, 3437.5)]
    metres = np.abs(np.mean(ends, axis=0) - middle) * 111_000
    assert metres.max() < 0.5


def test_longitudes_are_counted_on_across_the_antimeridian(tmp_path):
    """Between the places of the grid a page interpolates: 179.9 and -179.9 would give 0."""
    transform = Affine(12, 0, 332_200, 0, -12, 6_654_000)
    mask = write_raster(
        tmp_path / "m.tif",
        river(300, 400)[1].astype(np.uint8),
        crs="EPSG:32601",
        transform=transform,
    )
    page = write_map_page(tmp_path / "m.html", find_raster(mask), words=WORDS)
    longitudes = np.array(data_of(page)["lonLat"][0]).reshape(33, 33)
    assert longitudes.min() < 180 < longitudes.max()
    assert np.abs(np.diff(longitudes, axis=0)).max() < 0.01
    assert np.abs(np.diff(longitudes, axis=1)).max() < 0.01


def test_a_mask_that_lies_nowhere_is_measured_in_pixels(tmp_path):
    water = river(60, 80)[1]
    mask = write_raster(
        tmp_path / "m.tif", water.astype(np.uint8), crs=None, transform=None, nodata=255
    )
    data = data_of(write_map_page(tmp_path / "m.html", find_raster(mask), words=WORDS))
    assert (data["crs"], data["unit"], data["lonLat"]) == (None, "px", None)


def test_where_nothing_is_known_is_grey_and_said(tmp_path):
    water = river(60, 80)[1].astype(np.uint8)
    water[:, :20] = 255
    mask = write_raster(tmp_path / "m.tif", water, nodata=255)
    data = data_of(write_map_page(tmp_path / "m.html", find_raster(mask), words=WORDS))
    assert data["hasGaps"]
    kinds = np.asarray(decoded(data["mask"]).convert("RGBA"))
    assert (kinds[:, :20] == (125, 125, 125, 200)).all()


def test_a_picture_of_another_size_is_refused(tmp_path):
    _, mask, *_ = masked(tmp_path)
    other = write_raster(tmp_path / "other.tif", river(50, 50)[0])
    with pytest.raises(DataError, match="must have the mask's height and width"):
        write_map_page(tmp_path / "m.html", find_raster(mask), words=WORDS, picture=other)
    assert not (tmp_path / "m.html").exists()


def test_a_page_of_noise_with_a_thousand_ponds_stays_small(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (1300, 1300, 3), dtype=np.uint8)
    picture = write_raster(tmp_path / "ortho.tif", noise)
    mask = write_raster(tmp_path / "mask.tif", (noise[..., 0] > 127).astype(np.uint8), nodata=255)
    angles = np.linspace(0, 2 * np.pi, 200)
    ring = (
        np.column_stack([np.cos(angles), np.sin(angles)]) * (1 + 0.2 * np.sin(40 * angles))[:, None]
    )
    places = np.random.default_rng(1).uniform(20, 630, (1000, 2))
    ponds = [shapely.Polygon(15 * ring + (450_000 + x, 5_320_000 - y)) for x, y in places]
    frame = geopandas.GeoDataFrame(geometry=ponds, crs=UTM)
    page = write_map_page(
        tmp_path / "m.html",
        find_raster(mask),
        words=WORDS,
        picture=picture,
        layers={"water": frame},
    )
    assert page.stat().st_size < LARGEST_PAGE
    layer = data_of(page)["layers"][0]
    assert layer["count"] == 1000
    assert 0 < len(layer["path"]) <= MOST_CHARACTERS
    assert layer["moved"] > 0.25


def test_outlines_come_back_to_where_they_were(tmp_path):
    _, mask, *_ = masked(tmp_path)
    ground = find_raster(mask).ground
    square = shapely.Polygon([(10, 20), (30, 20), (30, 50), (10, 50)])
    world = shapely.transform(square, ground.to_world)
    frame = geopandas.GeoDataFrame(geometry=[world], crs=UTM).to_crs(4326)
    (layer,) = drawn_layers({"water": frame}, ground)
    steps = re.findall(r"[Ml](-?[\d.]+) (-?[\d.]+)", layer["path"])
    corners = np.cumsum(np.array(steps, float), axis=0)
    assert shapely.Polygon(corners).symmetric_difference(square).area < 3
    assert layer["path"].endswith("z")
    lines = geopandas.GeoDataFrame(
        geometry=[shapely.transform(shapely.LineString([(0, 0), (9, 9)]), ground.to_world)], crs=UTM
    )
    (line,) = drawn_layers({"centreline": lines}, ground)
    assert (line["closed"], line["path"]) == (False, "M0 0l9 9")


@pytest.mark.parametrize(("longest", "step"), [(500, 1), (120, 1), (60, 2), (50, 3), (1, 120)])
def test_a_preview_is_means_of_blocks(tmp_path, longest, step):
    image = river(90, 120)[0]
    path = write_raster(tmp_path / "a.tif", image)
    with open_raster(path) as raster:
        found = read_preview(raster, longest=longest)
    rows, columns = 90 // step, 120 // step
    blocks = image[: rows * step, : columns * step].astype(float)
    means = blocks.reshape(rows, step, columns, step, 3).mean(axis=(1, 3)) if rows else None
    assert found.valid is None
    assert found.image.shape == (-(-90 // step), -(-120 // step), 3)
    if rows * step == 90:
        assert np.abs(found.image[:rows, :columns] - means).max() <= 1


def test_a_preview_keeps_gaps_palettes_and_deep_values_apart(tmp_path):
    image, water = river(80, 120)
    gap = np.zeros((80, 120), bool)
    gap[:, :40] = True
    holed = np.where(gap[..., None], 0, np.maximum(image, 1)).astype(np.uint8)
    with open_raster(write_raster(tmp_path / "g.tif", holed, nodata=0)) as raster:
        found = read_preview(raster, longest=60)
    assert np.array_equal(found.valid, ~gap[::2, ::2])
    colours = {0: (200, 10, 10, 255), 1: (10, 10, 200, 255)}
    coded = write_raster(tmp_path / "p.tif", water.astype(np.uint8), colormap=colours)
    with open_raster(coded) as raster:
        assert raster.has_palette
        shown = read_preview(raster, longest=120).image
    assert np.array_equal(shown[..., 2] == 200, water)
    deep = write_raster(tmp_path / "d.tif", image.astype(np.uint16) * 100)
    with open_raster(deep) as raster:
        spread = read_preview(raster, longest=120).image
    assert (spread.min(), spread.max()) == (0, 255)
