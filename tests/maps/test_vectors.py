import json
import resource

import geopandas
import numpy as np
import pyogrio
import pytest
import shapely
from affine import Affine
from drawn_rivers import TURNED, straight_river, write_raster
from hypothesis import given, settings
from hypothesis import strategies as st
from pyogrio.errors import DataSourceError
from pyproj import Geod
from rasterio.features import rasterize
from scipy import ndimage

from autosam.errors import ConfigError, DataError, ImageError, MissingPathError, OutputError
from autosam.maps.finished_rasters import find_raster, read_strips, read_whole
from autosam.maps.polygons import Dissolver
from autosam.maps.vectors import VectorChoice, are_polygons_of, polygon_frames, write_polygons

EVERYTHING = {"minimum_area": 0.0, "tolerance": 0.0}


def ring(size=(60, 80)):
    """A lake of 40 x 60 pixels with an island of 20 x 30, in which lies a pond of 4 x 4."""
    mask = np.zeros(size, dtype=bool)
    mask[10:50, 10:70] = True
    mask[20:40, 20:50] = False
    mask[28:32, 30:34] = True
    return mask


def lakes(seed, size=(70, 90), *, smooth=1.3):
    noise = np.random.default_rng(seed).normal(size=size)
    return ndimage.gaussian_filter(noise, smooth) > 0


def read(path):
    return geopandas.read_parquet(path) if path.suffix == ".parquet" else geopandas.read_file(path)


def frames(path, **choice):
    choice = VectorChoice(**{**EVERYTHING, **choice})
    return geopandas.pd.concat(polygon_frames(find_raster(path), choice), ignore_index=True)


def test_polygons_have_holes_and_areas_by_hand(tmp_path):
    found = frames(write_raster(tmp_path / "m.tif", ring()))
    assert found["area_m2"].tolist() == [(40 * 60 - 20 * 30) / 4, 16 / 4]
    assert found.area.tolist() == found["area_m2"].tolist()
    assert [len(polygon.interiors) for polygon in found.geometry] == [1, 0]
    assert found["perimeter_m"].tolist() == [(2 * (40 + 60) + 2 * (20 + 30)) / 2, 16 / 2]
    assert found["length_m"].tolist() == [30.0, 2.0]
    assert found.total_bounds.tolist() == [460005, 5329975, 460035, 5329995]


@pytest.mark.parametrize("rows", [1, 16])
@pytest.mark.parametrize("smooth", [0.0, 1.3])
def test_strips_give_the_very_bytes_of_one_piece(tmp_path, rows, smooth):
    path = write_raster(tmp_path / "m.tif", lakes(3, (40, 60), smooth=smooth))
    whole, parts = (frames(path, tolerance=0.4, strip_rows=count) for count in (1000, rows))
    assert whole.to_wkb().equals(parts.to_wkb())
    assert len(whole) > 5


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(1, 14))
def test_joined_strips_cover_the_water_and_nothing_else(seed, rows, width):
    water = np.random.default_rng(seed).random((12, width)) < 0.55
    dissolver, patches = Dissolver(width, minimum_area=0), []
    for first in range(0, 12, rows):
        part = water[first : first + rows]
        patches += dissolver.add(part, first_row=first, row_areas=np.full(len(part), 2.0))
    patches += dissolver.finish()
    polygons = [patch.polygon() for patch in patches]
    assert all(polygon.is_valid and polygon.geom_type == "Polygon" for polygon in polygons)
    assert len(polygons) == ndimage.label(water)[1]
    assert sorted(patch.area for patch in patches) == sorted(2 * one.area for one in polygons)
    drawn = rasterize(polygons, out_shape=water.shape) if polygons else np.zeros_like(water)
    assert np.array_equal(drawn.astype(bool), water)


def test_memory_is_that_of_what_the_last_strip_left_open():
    dissolver = Dissolver(40, minimum_area=0)
    water = np.zeros((200, 40), dtype=bool)
    water[::4, 3:9] = True  # fifty bars, each done when the next strip comes
    done = []
    for first in range(0, 200, 2):
        done += dissolver.add(water[first : first + 2], first_row=first, row_areas=np.ones(2))
        assert len(dissolver._open) <= 1
    assert len(done + dissolver.finish()) == 50


def test_small_water_is_left_out_and_small_holes_are_filled(tmp_path):
    mask = ring()
    mask[12, 12] = False
    path = write_raster(tmp_path / "m.tif", mask)
    found = frames(path, minimum_area=5.0, minimum_hole=1.0)
    assert found["area_m2"].tolist() == [450.0]
    assert len(found.geometry[0].interiors) == 1
    kept = frames(path, minimum_area=5.0, minimum_hole=0.0)
    assert (kept["area_m2"].tolist(), len(kept.geometry[0].interiors)) == ([449.75], 2)


@pytest.mark.parametrize("rows", [11, 512])
def test_a_hole_in_which_something_is_unknown_is_not_filled(tmp_path, rows):
    values = np.zeros((30, 60), np.uint8)
    values[5:25, 5:55] = 1
    values[10:13, 10:13] = 0  # land
    values[10:13, 20:23] = 255  # no data, across the border of strips
    values[10:13, 30:33], values[12, 32] = 0, 255  # land, and one pixel without data
    values[:2] = values[:, :2] = 255  # around everything
    found = frames(
        write_raster(tmp_path / "m.tif", values, nodata=255), minimum_hole=100, strip_rows=rows
    )
    assert sorted(ring.bounds[0] for ring in found.geometry[0].interiors) == [
        460000 + 20 / 2,
        460000 + 30 / 2,
    ]
    assert found["area_m2"].tolist() == [(20 * 50 - 2 * 9) / 4]


@pytest.mark.parametrize("crs", ["EPSG:32610", "EPSG:3857", None])
@pytest.mark.parametrize("tolerance", [0.0, 0.5, 3.0])
def test_the_area_is_that_of_the_polygon_as_written(tmp_path, crs, tolerance):
    found = frames(
        write_raster(tmp_path / "m.tif", lakes(5, smooth=3), crs=crs),
        minimum_hole=2.0,
        tolerance=tolerance,
    )
    if crs == "EPSG:3857":
        degrees = found.to_crs(4326).geometry
        areas = [abs(Geod(ellps="WGS84").geometry_area_perimeter(one)[0]) for one in degrees]
    else:
        areas = (found.area * (4 if crs is None else 1)).tolist()
    assert found["area_m2"].tolist() == pytest.approx(areas, rel=1e-4)


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson", ".parquet", ".fgb"])
def test_polygons_know_the_mask_that_they_are_of(tmp_path, suffix):
    mask, path = write_raster(tmp_path / "m.tif", ring()), tmp_path / f"w{suffix}"
    assert not are_polygons_of(path, mask)
    write_polygons(find_raster(mask), path)
    assert are_polygons_of(path, mask)
    write_raster(mask, np.roll(ring(), 1, axis=0))
    assert not are_polygons_of(path, mask)
    path.write_bytes(b"damaged")
    assert not are_polygons_of(path, mask)
    path.unlink()
    geopandas.GeoDataFrame(geometry=[shapely.box(0, 0, 1, 1)], crs=4326).pipe(
        lambda frame: frame.to_parquet(path) if suffix == ".parquet" else frame.to_file(path)
    )
    assert not are_polygons_of(path, mask)


def test_a_small_piece_on_the_border_of_strips_counts_with_its_other_half(tmp_path):
    mask = np.zeros((20, 20), dtype=bool)
    mask[6:10, 5:8] = True  # 12 pixels, 3 square metres; six in each strip
    path = write_raster(tmp_path / "m.tif", mask)
    assert len(frames(path, minimum_area=2.5, strip_rows=8)) == 1
    assert len(frames(path, minimum_area=3.5, strip_rows=8)) == 0


@pytest.mark.parametrize("tolerance", [0.5, 1.5])
def test_simplified_outlines_stay_within_the_tolerance_valid_and_apart(tmp_path, tolerance):
    path = write_raster(tmp_path / "m.tif", lakes(5))
    exact, simple = frames(path), frames(path, tolerance=tolerance)
    assert simple.is_valid.all()
    assert shapely.get_num_coordinates(simple.geometry).sum() < 0.6 * (
        shapely.get_num_coordinates(exact.geometry).sum()
    )
    pairs = zip(exact.geometry, simple.geometry, strict=True)
    away = np.concatenate(
        [
            shapely.distance(shapely.points(shapely.get_coordinates(one)), other.boundary)
            for one, other in pairs
        ]
    )
    assert away.max() <= 2 * tolerance
    assert (away <= tolerance + 1e-9).mean() > 0.99
    together = shapely.union_all(simple.geometry.values)
    assert together.area == pytest.approx(simple.area.sum())


def test_the_mean_probability_is_that_of_the_pixels_below(tmp_path):
    mask = ring()
    probability = np.where(mask, 200, 20).astype(np.uint8)
    probability[28:32, 30:34] = [[127, 127, 254, 255]] * 4  # 255 is unknown
    raster = find_raster(
        write_raster(tmp_path / "m.tif", mask), write_raster(tmp_path / "p.tif", probability)
    )
    found = next(polygon_frames(raster, VectorChoice(**EVERYTHING, strip_rows=30)))
    assert found["mean_probability"].tolist() == pytest.approx([200 / 254, (0.5 + 0.5 + 1) / 3])


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson", ".parquet", ".fgb"])
def test_each_format_is_read_back_with_equal_crs_and_geometry(tmp_path, suffix):
    raster = find_raster(write_raster(tmp_path / "m.tif", ring(), model="river-nano"))
    path = tmp_path / f"water{suffix}"
    count = write_polygons(raster, path, choice=VectorChoice(**EVERYTHING))
    found = read(path).sort_values("area_m2", ascending=False)
    assert (count.polygons, count.area, count.unit) == (2, 454.0, "m")
    assert found.crs.to_epsg() == (4326 if suffix == ".geojson" else 32610)
    assert found["model"].tolist() == ["river-nano"] * 2
    assert found["mean_probability"].isna().all()
    there = found.to_crs(32610).geometry
    expected = frames(tmp_path / "m.tif").geometry
    for one, other in zip(there, expected, strict=True):
        assert one.is_valid
        assert one.hausdorff_distance(other) < 1e-3
    assert sorted(file.name for file in tmp_path.iterdir()) == ["m.tif", path.name]


def test_geojson_follows_the_right_hand_rule(tmp_path):
    path = tmp_path / "water.geojson"
    write_polygons(find_raster(write_raster(tmp_path / "m.tif", ring())), path)
    rings = json.loads(path.read_text())["features"][0]["geometry"]["coordinates"]
    assert [shapely.LinearRing(one).is_ccw for one in rings] == [True, False]


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        ("EPSG:4326", Affine(1e-4, 0, 179.997, 0, -1e-4, 60)),
        ("EPSG:4326", Affine(1e-4, 0, -180.003, 0, -1e-4, 60)),
        ("EPSG:32601", Affine(12, 0, 332_200, 0, -12, 6_654_000)),
    ],
)
def test_geojson_is_cut_at_the_antimeridian_and_loses_nothing(tmp_path, crs, transform):
    """RFC 7946, section 3.1.9; areas are compared on the ellipsoid, by another library."""
    mask = write_raster(tmp_path / "m.tif", ring(), crs=crs, transform=transform)
    choice = VectorChoice(**EVERYTHING)
    write_polygons(find_raster(mask), tmp_path / "w.geojson", choice=choice)
    whole = geopandas.read_file(tmp_path / "w.geojson").geometry
    pieces = whole.explode()
    assert whole.is_valid.all()
    assert pieces.bounds["minx"].min() == -180
    assert pieces.bounds["maxx"].max() == 180
    assert (pieces.bounds["maxx"] - pieces.bounds["minx"]).max() < 0.1
    assert all(piece.exterior.is_ccw for piece in pieces)
    geod = Geod(ellps="WGS84")
    areas = [abs(geod.geometry_area_perimeter(shapely.orient_polygons(p))[0]) for p in pieces]
    assert sum(areas) == pytest.approx(frames(mask)["area_m2"].sum(), rel=2e-3)


def test_an_area_around_a_pole_is_refused_as_geojson_and_written_as_gpkg(tmp_path):
    transform = Affine(100, 0, -3000, 0, -100, 3000)
    whole = np.ones((60, 60), dtype=bool)
    mask = write_raster(tmp_path / "m.tif", whole, crs="EPSG:3413", transform=transform)
    write_polygons(find_raster(mask), tmp_path / "w.gpkg")
    with pytest.raises(DataError, match=r"got one around a pole .*Write \.gpkg"):
        write_polygons(find_raster(mask), tmp_path / "w.geojson")
    assert not (tmp_path / "w.geojson").exists()


def test_equal_geojson_is_equal_to_the_byte_and_names_its_layer(tmp_path):
    mask = find_raster(write_raster(tmp_path / "m.tif", ring()))
    for name in ("a", "b"):
        write_polygons(mask, tmp_path / f"{name}.geojson")
    assert (tmp_path / "a.geojson").read_bytes() == (tmp_path / "b.geojson").read_bytes()
    assert pyogrio.list_layers(tmp_path / "a.geojson")[:, 0].tolist() == ["water"]


@pytest.mark.parametrize("suffix", [".gpkg", ".fgb", ".geojson"])
def test_a_full_disk_is_told_in_our_words(tmp_path, monkeypatch, suffix):
    mask = find_raster(write_raster(tmp_path / "m.tif", ring()))

    def fails(*_, **__):
        raise DataSourceError("sqlite3_exec(CREATE TABLE ...) failed")

    monkeypatch.setattr("autosam.maps.vector_files.pyogrio.write_dataframe", fails)
    usage = type("usage", (), {"free": 1000})
    monkeypatch.setattr("autosam.maps.vector_files.shutil.disk_usage", lambda path: usage)
    with pytest.raises(OutputError, match=r"no space is left\. The disk may be full"):
        write_polygons(mask, tmp_path / f"w{suffix}")


@pytest.mark.parametrize("tolerance", [1.0, 10.0, 100.0])
def test_no_tolerance_lays_polygons_on_each_other(tmp_path, tolerance):
    mask = find_raster(write_raster(tmp_path / "m.tif", lakes(0, (160, 200))))
    (found,) = polygon_frames(mask, VectorChoice(tolerance=tolerance, minimum_area=0))
    assert len(found) > 20
    assert found.geometry.is_valid.all()
    assert shapely.union_all(found.geometry).area == pytest.approx(found.geometry.area.sum())


def test_areas_in_degrees_at_sixty_north_are_geodesic(tmp_path):
    transform = Affine(1e-5, 0, 24, 0, -1e-5, 60)
    path = write_raster(tmp_path / "m.tif", ring(), crs="EPSG:4326", transform=transform)
    found = frames(path)
    geod = Geod(ellps="WGS84")
    area, _ = geod.geometry_area_perimeter(found.geometry[0])
    perimeter = geod.geometry_length(found.geometry[0].boundary)
    assert found["area_m2"][0] == pytest.approx(abs(area), rel=1e-4)
    assert found["perimeter_m"][0] == pytest.approx(perimeter, rel=1e-4)
    assert abs(area) < 0.6 * (1.113**2) * 1800  # half of what degrees would say


def test_without_a_crs_measures_are_in_pixels_and_say_so(tmp_path):
    path = write_raster(tmp_path / "m.tif", ring(), crs=None)
    found = frames(path)
    assert found["area_m2"].tolist() == [1800.0, 16.0]
    assert found["unit"].tolist() == ["px", "px"]
    write_polygons(find_raster(path), tmp_path / "w.gpkg")
    assert geopandas.read_file(tmp_path / "w.gpkg").crs is None


def test_geojson_without_a_crs_is_refused_and_nothing_is_left(tmp_path):
    raster = find_raster(write_raster(tmp_path / "m.tif", ring(), crs=None))
    with pytest.raises(DataError, match="GeoJSON must be in EPSG:4326, got geometry without"):
        write_polygons(raster, tmp_path / "w.geojson")
    assert [file.name for file in tmp_path.iterdir()] == ["m.tif"]


def test_a_rotated_raster_gives_turned_polygons_of_the_same_size(tmp_path):
    found = frames(write_raster(tmp_path / "m.tif", ring(), transform=TURNED))
    assert found.area.tolist() == pytest.approx([450.0, 4.0])
    assert found.total_bounds[0] == pytest.approx(460000 + 0.5 * (10 * 3**0.5 / 2 + 10 / 2))


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson", ".parquet", ".fgb"])
def test_a_mask_without_water_gives_a_layer_without_rows(tmp_path, suffix):
    raster = find_raster(write_raster(tmp_path / "m.tif", np.zeros((30, 40), dtype=bool)))
    assert write_polygons(raster, tmp_path / f"w{suffix}").polygons == 0
    found = read(tmp_path / f"w{suffix}")
    assert len(found) == 0


def test_all_water_is_one_rectangle(tmp_path):
    found = frames(write_raster(tmp_path / "m.tif", np.ones((30, 40), dtype=bool)), strip_rows=7)
    assert found["area_m2"].tolist() == [300.0]
    assert shapely.get_num_coordinates(found.geometry[0]) == 5


def test_no_data_is_no_water_and_255_is_water_only_when_not_declared(tmp_path):
    values = np.where(straight_river((40, 60), width=10), 255, 0).astype(np.uint8)
    plain = find_raster(write_raster(tmp_path / "plain.tif", values))
    declared = find_raster(write_raster(tmp_path / "declared.tif", values, nodata=255))
    assert read_whole(plain).water.sum() == 600
    whole = read_whole(declared)
    assert (whole.water.sum(), (~whole.valid).sum()) == (0, 600)


def test_decimation_keeps_areas_and_says_its_step(tmp_path):
    mask, probability = straight_river((120, 303), width=24), np.full((120, 303), 0.25, np.float32)
    probability[:, 150:] = 0.75
    raster = find_raster(
        write_raster(tmp_path / "m.tif", mask), write_raster(tmp_path / "p.tif", probability)
    )
    whole = read_whole(raster, pixel_budget=4300)
    assert (whole.step, whole.water.shape) == (3, (40, 101))
    assert whole.water.sum() * 9 == mask.sum()
    assert whole.ground.pixel == pytest.approx(1.5)
    assert np.unique(whole.probability).tolist() == [0.25, 0.75]


@pytest.mark.parametrize("rows", [1, 7, 512])
def test_strips_are_the_raster(tmp_path, rows):
    mask = lakes(1)
    raster = find_raster(write_raster(tmp_path / "m.tif", mask))
    strips = list(read_strips(raster, rows=rows))
    assert np.array_equal(np.concatenate([strip.water for strip in strips]), mask)
    assert [strip.first_row for strip in strips] == list(range(0, 70, rows))


def test_bad_inputs_are_one_clear_line(tmp_path):
    mask = write_raster(tmp_path / "m.tif", ring())
    other = write_raster(tmp_path / "o.tif", np.zeros((60, 81), np.uint8))
    moved = write_raster(
        tmp_path / "moved.tif",
        np.zeros((60, 80), np.uint8),
        transform=Affine(1, 0, 460000, 0, -1, 5330000),
    )
    floats = write_raster(tmp_path / "f.tif", np.full((60, 80), 3.0, np.float32))
    (tmp_path / "no.tif").write_bytes(mask.read_bytes()[:200])
    with pytest.raises(MissingPathError, match=r"mask must exist, got nowhere\.tif"):
        find_raster("nowhere.tif")
    with pytest.raises(ImageError, match="mask must be a raster that GDAL reads"):
        find_raster(tmp_path / "no.tif")
    with pytest.raises(ImageError, match="mask must hold whole numbers, got float32"):
        find_raster(floats)
    with pytest.raises(DataError, match=r"height and width \(60, 80\), got \(60, 81\)"):
        find_raster(mask, other)
    with pytest.raises(DataError, match="must lie on the mask's grid"):
        find_raster(mask, moved)
    with pytest.raises(ImageError, match=r"probability must be in 0\.\.1, .* got 3"):
        read_whole(find_raster(mask, floats))
    scaled = write_raster(tmp_path / "s.tif", np.full((60, 80), 128, np.uint8))
    with pytest.raises(ImageError, match="1 or 255 for water, got 128"):
        read_whole(find_raster(scaled))
    with pytest.raises(ConfigError, match="minimum_area must be 0 or more, got -1"):
        VectorChoice(minimum_area=-1)


def test_an_unknown_suffix_is_named_with_the_known_ones(tmp_path):
    raster = find_raster(write_raster(tmp_path / "m.tif", ring()))
    with pytest.raises(OutputError, match=r"must end in \.gpkg, .*got 'w\.shp'"):
        write_polygons(raster, tmp_path / "w.shp")


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson", ".parquet", ".fgb"])
def test_a_place_that_cannot_be_written_is_one_clear_line(tmp_path, suffix):
    raster = find_raster(write_raster(tmp_path / "m.tif", ring()))
    with pytest.raises(OutputError, match="could not be written"):
        write_polygons(raster, tmp_path / "m.tif" / f"w{suffix}")


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson", ".parquet", ".fgb"])
@pytest.mark.parametrize("missing", [10, 5000])
def test_a_disk_that_fills_up_is_one_clear_line_and_nothing_is_left(tmp_path, suffix, missing):
    """A limit on the size of files stands for the disk: writing fails at the same byte."""
    raster, path = find_raster(write_raster(tmp_path / "m.tif", lakes(3))), tmp_path / f"w{suffix}"
    write_polygons(raster, path, choice=VectorChoice(**EVERYTHING))
    size = path.stat().st_size
    path.unlink()
    earlier = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size - missing, earlier[1]))
    try:
        with pytest.raises(OutputError, match=f"w{suffix} could not be written"):
            write_polygons(raster, path, choice=VectorChoice(**EVERYTHING))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, earlier)
    assert [file.name for file in tmp_path.iterdir()] == ["m.tif"]


def test_a_damaged_raster_leaves_the_earlier_file_alone(tmp_path):
    good = write_raster(tmp_path / "m.tif", lakes(0, (400, 400)))
    bad = tmp_path / "bad.tif"
    bad.write_bytes(good.read_bytes()[:-100_000])
    (tmp_path / "w.gpkg").write_text("earlier")
    with pytest.raises(ImageError, match=r"must be a raster that GDAL reads, got .*bad\.tif"):
        write_polygons(find_raster(bad), tmp_path / "w.gpkg")
    assert (tmp_path / "w.gpkg").read_text() == "earlier"
    assert len(list(tmp_path.iterdir())) == 3
