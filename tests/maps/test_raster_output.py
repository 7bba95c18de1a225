import numpy as np
import pytest
import rasterio
from raster_scenes import HALF_METRE, UTM, rotated
from rio_cogeo import cog_validate

from autosam.errors import OutputError
from autosam.maps.raster_output import MASK_LAYER, PROBABILITY_LAYERS, write_cog, write_strip
from autosam.types import Georeference


def written(folder, layer, values, tops, *, transform=HALF_METRE, crs=UTM):
    """A raster of values, by strips that begin at these rows."""
    strips = []
    for number, (top, end) in enumerate(zip(tops, [*tops[1:], len(values)], strict=True)):
        part = values[top:end]
        path = folder / f"strip-{number}.tif"
        write_strip([(path, layer)], part.shape, lambda a, b, part=part: [part[a:b]])
        strips.append((path, top))
    georeference = None
    if transform is not None:
        georeference = Georeference(crs=crs, transform=tuple(transform)[:6])
    write_cog(
        folder / "out.tif", layer, strips, size=values.shape, georeference=georeference,
        tags={"AUTOSAM_MODEL": "river & <co>"},
    )  # fmt: skip
    return folder / "out.tif"


def classes(height=700, width=1100):
    return np.random.default_rng(0).choice([0, 1, 255], (height, width)).astype(np.uint8)


def test_a_mask_is_a_valid_cog_with_the_pixels_of_its_strips(tmp_path):
    values = classes()
    path = written(tmp_path, MASK_LAYER, values, [0, 333, 334, 600])
    is_valid, errors, warnings = cog_validate(path, strict=True)
    assert (is_valid, errors, warnings) == (True, [], [])
    with rasterio.open(path) as raster:
        assert np.array_equal(raster.read(1), values)
        assert raster.nodata == 255
        assert raster.transform == HALF_METRE
        assert raster.crs == rasterio.CRS.from_string(UTM)
        assert raster.descriptions == ("water",)
        assert raster.colormap(1)[1] == (0, 114, 178, 255)
        assert raster.tags()["AUTOSAM_MODEL"] == "river & <co>"
        assert raster.overviews(1) == [2, 4]
        assert set(np.unique(raster.read(1, out_shape=(175, 275)))) == {0, 1, 255}
    assert list(tmp_path.glob(".*")) == []


@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_a_probability_is_a_valid_cog(tmp_path, kind):
    layer = PROBABILITY_LAYERS[kind]
    values = np.random.default_rng(0).random((600, 700)).astype(np.float32)
    if kind == "uint8":
        values = np.rint(values * 254).astype(np.uint8)
    values[:100, :100] = layer.nodata
    path = written(tmp_path, layer, values, [0, 300])
    assert cog_validate(path, strict=True)[0]
    with rasterio.open(path) as raster:
        np.testing.assert_array_equal(raster.read(1), values)
        assert np.isnan(raster.nodata) if kind == "float32" else raster.nodata == 255
        assert raster.scales[0] == pytest.approx(1 if kind == "float32" else 1 / 254)
        mean = raster.read(1, out_shape=(300, 350), masked=True) * raster.scales[0]
        assert mean.mask[:50, :50].all()
        assert mean.mean() == pytest.approx(0.5, abs=0.02)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("transform", [rotated(30), None])
def test_rotation_and_no_georeference_are_kept(tmp_path, transform):
    path = written(tmp_path, MASK_LAYER, classes(60, 80), [0], transform=transform)
    with rasterio.open(path) as raster:
        expected = rasterio.Affine.identity() if transform is None else transform
        assert raster.transform.almost_equals(expected, precision=1e-6)


def test_degrees_are_not_swapped(tmp_path):
    transform = rasterio.Affine(1e-5, 0, -123.5, 0, -1e-5, 48.0)
    path = written(tmp_path, MASK_LAYER, classes(60, 80), [0], transform=transform, crs="EPSG:4326")
    with rasterio.open(path) as raster:
        assert raster.transform.almost_equals(transform, precision=1e-9)
        assert raster.crs.to_epsg() == 4326


def test_equal_strips_give_equal_bytes(tmp_path):
    first = written(tmp_path / "a", MASK_LAYER, classes(), [0, 256]).read_bytes()
    second = written(tmp_path / "b", MASK_LAYER, classes(), [0, 100, 512]).read_bytes()
    assert first == second


def test_what_gdal_cannot_copy_is_one_clear_line(tmp_path):
    with pytest.raises(OutputError, match=r"out\.tif could not be written"):
        write_cog(
            tmp_path / "out.tif", MASK_LAYER, [(tmp_path / "absent.tif", 0)],
            size=(4, 4), georeference=None, tags={},
        )  # fmt: skip
    assert list(tmp_path.glob("*.tif")) == []
    assert list(tmp_path.glob(".*")) == []


def test_a_disk_without_room_is_told_before_gdal_meets_its_end(tmp_path, monkeypatch):
    usage = type("usage", (), {"free": 100_000})
    monkeypatch.setattr("autosam.maps.raster_output.shutil.disk_usage", lambda path: usage)
    with pytest.raises(OutputError, match=r"may need 0\.8 MB, and 0\.1 MB are free\. The disk"):
        written(tmp_path, MASK_LAYER, classes(), [0])
    assert list(tmp_path.iterdir()) == []
