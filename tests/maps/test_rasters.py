import numpy as np
import pytest
import rasterio
from raster_scenes import UTM, river, write_raster
from rasterio.enums import ColorInterp

from autosam.errors import ConfigError, ImageError, MissingPathError
from autosam.maps.raster_preview import read_preview
from autosam.maps.rasters import RasterChoice, open_raster
from autosam.maps.sampling import choose_value_range, decimated_valid

IMAGE, _ = river(50, 70)


def read_all(path, **choice):
    with open_raster(path, choice=RasterChoice(**choice)) as raster:
        return raster.read(0, raster.size[0]), raster.read_valid(0, raster.size[0])


@pytest.mark.parametrize("layout", [{"tiled": True, "blockxsize": 16, "blockysize": 16}, {}])
def test_rows_are_what_was_written(tmp_path, layout):
    path = write_raster(tmp_path / "a.tif", IMAGE, **layout)
    with open_raster(path) as raster:
        assert raster.size == (50, 70)
        assert raster.dtype == "uint8"
        assert raster.has_data_everywhere
        assert np.array_equal(raster.read(7, 31), IMAGE[7:31])
        assert np.array_equal(raster.read(7, 31, left=5, right=9), IMAGE[7:31, 5:9])
        assert raster.read_valid(7, 31).all()
        assert raster.georeference.transform == (0.5, 0, 450_000, 0, -0.5, 5_320_000)
        assert rasterio.CRS.from_wkt(raster.georeference.crs) == rasterio.CRS.from_string(UTM)


def test_bands_are_chosen_by_number(tmp_path):
    path = write_raster(tmp_path / "a.tif", np.dstack([IMAGE, IMAGE[..., 0] // 2]))
    assert np.array_equal(read_all(path, bands=(3, 2, 1))[0], IMAGE[..., ::-1])
    assert np.array_equal(read_all(path, bands=(4,))[0][..., 0], IMAGE[..., 0] // 2)
    assert np.array_equal(read_all(path)[0], IMAGE)
    with pytest.raises(ConfigError, match=r"among the 4 of the raster, got \[3, 2, 5\]"):
        read_all(path, bands=(3, 2, 5))
    with pytest.raises(ConfigError, match="one or three"):
        RasterChoice(bands=(1, 2))


@pytest.mark.parametrize("ends", [(5, 5), (9, 2), (0, float("nan"))])
def test_a_value_range_that_is_none_is_refused_before_a_raster_is_opened(ends):
    with pytest.raises(ConfigError, match="the smaller first, got"):
        RasterChoice(value_range=ends)


def test_a_fourth_band_that_is_asked_for_is_no_alpha(tmp_path):
    kinds = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
    infrared = np.zeros(IMAGE.shape[:2], np.uint8)
    path = write_raster(tmp_path / "a.tif", np.dstack([IMAGE, infrared]), interpretation=kinds)
    assert not read_all(path)[1].any()
    assert read_all(path, bands=(4, 2, 1))[1].all()


def test_colours_are_found_by_what_the_raster_says_of_its_bands(tmp_path):
    kinds = (ColorInterp.blue, ColorInterp.green, ColorInterp.red)
    path = write_raster(
        tmp_path / "a.tif", IMAGE[..., ::-1], interpretation=kinds, photometric="minisblack"
    )
    with open_raster(path) as raster:
        assert raster.bands == (3, 2, 1)
    assert np.array_equal(read_all(path)[0], IMAGE)


def test_colours_of_a_palette_are_looked_up(tmp_path):
    numbers = (IMAGE[..., 0] > 100).astype(np.uint8)
    path = write_raster(tmp_path / "a.tif", numbers, colormap={0: (1, 2, 3), 1: (200, 100, 50)})
    image, _ = read_all(path)
    assert np.array_equal(image, np.array([(1, 2, 3), (200, 100, 50)])[numbers])


def gaps():
    hole = np.zeros(IMAGE.shape[:2], bool)
    hole[10:20, 30:45] = True
    return hole


def with_nodata(path):
    return write_raster(path, np.where(gaps()[..., None], 0, np.maximum(IMAGE, 1)), nodata=0)


def with_alpha(path):
    kinds = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
    alpha = np.where(gaps(), 0, 255).astype(np.uint8)
    return write_raster(path, np.dstack([IMAGE, alpha]), interpretation=kinds)


def with_mask(path):
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        return write_raster(path, IMAGE, mask=~gaps())


def with_numbers_missing(path):
    return write_raster(
        path, np.where(gaps()[..., None], np.nan, IMAGE / np.float32(255)).astype(np.float32)
    )


@pytest.mark.parametrize("write", [with_nodata, with_alpha, with_mask, with_numbers_missing])
def test_where_there_is_no_data_is_known(tmp_path, write):
    path = write(tmp_path / "a.tif")
    with open_raster(path) as raster:
        assert not raster.has_data_everywhere
        assert np.array_equal(raster.read_valid(0, 50), ~gaps())
        assert np.array_equal(raster.read_valid(12, 22, left=40, right=60), ~gaps()[12:22, 40:60])
        assert np.array_equal(decimated_valid(raster), ~gaps())


def test_one_black_band_is_no_gap(tmp_path):
    image = IMAGE.copy()
    image[5:9, :, 0] = 0
    _, valid = read_all(write_raster(tmp_path / "a.tif", image, nodata=0))
    assert valid.all()


def test_a_nodata_value_can_be_given(tmp_path):
    image = np.where(gaps()[..., None], 255, np.minimum(IMAGE, 254)).astype(np.uint8)
    _, valid = read_all(write_raster(tmp_path / "a.tif", image), nodata=255)
    assert np.array_equal(valid, ~gaps())


def test_a_mosaic_is_read_as_one(tmp_path):
    image, _ = river(40, 60)
    write_raster(tmp_path / "a.tif", image)
    source = """<SimpleSource><SourceFilename relativeToVRT="1">a.tif</SourceFilename>
        <SourceBand>{band}</SourceBand><SrcRect xOff="0" yOff="0" xSize="60" ySize="40"/>
        <DstRect xOff="0" yOff="{top}" xSize="60" ySize="40"/></SimpleSource>"""
    bands = [
        f'<VRTRasterBand dataType="Byte" band="{band}">'
        + "".join(source.format(band=band, top=top) for top in (0, 40))
        + "</VRTRasterBand>"
        for band in (1, 2, 3)
    ]
    (tmp_path / "b.vrt").write_text(
        f'<VRTDataset rasterXSize="60" rasterYSize="80"><SRS>{UTM}</SRS>'
        "<GeoTransform>450000, 0.5, 0, 5320000, 0, -0.5</GeoTransform>"
        + "".join(bands)
        + "</VRTDataset>"
    )
    read, valid = read_all(tmp_path / "b.vrt")
    assert np.array_equal(read, np.concatenate([image, image]))
    assert valid.all()


def test_the_range_of_a_large_raster_is_that_of_windows_of_it(tmp_path):
    rng = np.random.default_rng(0)
    values = rng.normal(3000, 300, (90, 2000)).astype(np.uint16)
    path = write_raster(tmp_path / "a.tif", values)
    with open_raster(path) as raster:
        found = choose_value_range(raster, None)
        assert choose_value_range(raster, None) == found
    assert found.low == pytest.approx(np.percentile(values, 2), abs=10)
    assert found.high == pytest.approx(np.percentile(values, 98), abs=10)
    assert "8 windows of 128 x 128" in found.source


def test_the_range_comes_from_overviews_where_there_are_some(tmp_path):
    values = np.tile(np.arange(2000, dtype=np.uint16), (40, 1))
    path = write_raster(tmp_path / "a.tif", values)
    with rasterio.open(path, "r+") as raster:
        raster.build_overviews([2, 4])
    with open_raster(path) as raster:
        found = choose_value_range(raster, None)
    assert found.source == "2 % and 98 % of overviews, 1024 x 20 pixels"
    assert (found.low, found.high) == pytest.approx((40, 1960), abs=5)


def test_a_range_that_makes_every_pixel_black_is_refused(tmp_path):
    with open_raster(write_raster(tmp_path / "a.tif", river(20, 30)[0])) as raster:
        assert choose_value_range(raster, (10, 300)).high == 300
        for beyond in ((1000, 2000), (-20, 0)):
            with pytest.raises(ConfigError, match=r"lie among 0 to 255, which uint8 holds, got"):
                choose_value_range(raster, beyond)


def test_gaps_do_not_count_for_the_range(tmp_path):
    values = np.where(gaps(), 0, 5000).astype(np.uint16)
    values[0, :] = 6000
    with open_raster(write_raster(tmp_path / "a.tif", values, nodata=0)) as raster:
        assert choose_value_range(raster, None).low == 5000


@pytest.mark.parametrize(
    ("make", "error", "word"),
    [
        (lambda path: None, MissingPathError, "must exist"),
        (lambda path: path.mkdir(), ImageError, "got a folder"),
        (lambda path: path.write_bytes(b""), ImageError, "0 bytes"),
        (lambda path: path.write_text("not a raster"), ImageError, "of a format that GDAL reads"),
    ],
)
def test_what_is_no_raster_is_one_clear_line(tmp_path, make, error, word):
    path = tmp_path / "a.tif"
    make(path)
    with pytest.raises(error, match=word) as caught, open_raster(path):
        pass
    assert "a.tif" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_complex_numbers_are_refused(tmp_path):
    path = write_raster(tmp_path / "a.tif", np.ones((4, 4), np.complex64))
    with pytest.raises(ImageError, match="real numbers, got complex64"), open_raster(path):
        pass


@pytest.mark.parametrize(
    ("dtype", "nodata", "rule"),
    [
        ("uint8", 300, "from 0 to 255 for a raster of uint8, got 300"),
        ("uint8", -1, "from 0 to 255 for a raster of uint8, got -1"),
        ("uint8", 0.5, "a whole number .* got 0.5"),
        ("int16", 40_000, "from -32768 to 32767 for a raster of int16, got 40000"),
    ],
)
def test_a_nodata_value_that_no_pixel_can_have_is_refused(tmp_path, dtype, nodata, rule):
    path = write_raster(tmp_path / "a.tif", IMAGE.astype(dtype))
    with (
        pytest.raises(ConfigError, match=rule),
        open_raster(path, choice=RasterChoice(nodata=nodata)),
    ):
        pass


@pytest.mark.parametrize(
    ("dtype", "nodata"), [("uint8", 255), ("float32", 1e30), ("int16", -32768)]
)
def test_a_nodata_value_that_a_pixel_can_have_is_taken(tmp_path, dtype, nodata):
    _, valid = read_all(write_raster(tmp_path / "a.tif", IMAGE.astype(dtype)), nodata=nodata)
    assert valid.any()


@pytest.mark.parametrize(
    ("bands", "choice", "note"),
    [
        (1, {}, None),
        (2, {}, "of its 2 bands 1 is taken for grey; --bands names others"),
        (3, {}, None),
        (5, {}, "of its 5 bands 1, 2, 3 are taken for red, green and blue; --bands names others"),
        (5, {"bands": (3, 2, 1)}, None),
    ],
)
def test_bands_that_nobody_named_are_told(tmp_path, bands, choice, note):
    image = np.zeros((20, 30, bands), np.uint16)
    path = write_raster(tmp_path / "a.tif", image, photometric="minisblack")
    with open_raster(path, choice=RasterChoice(**choice)) as raster:
        assert raster.notes == (() if note is None else (note,))


def test_a_preview_shows_no_data_as_a_model_sees_it(tmp_path):
    image = np.full((40, 60, 3), 200, np.uint8)
    image[:, :21] = 0
    with open_raster(write_raster(tmp_path / "a.tif", image, nodata=0)) as raster:
        preview = read_preview(raster, longest=20)
    assert preview.image[0, 0].tolist() == [124, 116, 104]
    assert preview.image[0, 19].tolist() == [200, 200, 200]
    assert (
        preview.image.min() >= 104
    )  # nothing dark where the two meet: dark is what water looks like


def mosaic(folder, parts):
    """A VRT of pictures of 20 x 30 px side by side, without a value for no data."""
    sources = "".join(
        f"<SimpleSource><SourceFilename relativeToVRT='1'>{name}</SourceFilename><SourceBand>1</SourceBand>"
        f"<SrcRect xOff='0' yOff='0' xSize='30' ySize='20'/>"
        f"<DstRect xOff='{30 * number}' yOff='0' xSize='30' ySize='20'/></SimpleSource>"
        for number, name in enumerate(parts)
    )
    path = folder / "mosaic.vrt"
    path.write_text(
        f"<VRTDataset rasterXSize='{30 * len(parts)}' rasterYSize='20'>"
        f"<VRTRasterBand dataType='Byte' band='1'>{sources}</VRTRasterBand></VRTDataset>"
    )
    return path


def test_a_mosaic_without_one_of_its_parts_is_refused(tmp_path):
    write_raster(tmp_path / "a.tif", np.full((20, 30, 1), 9, np.uint8))
    path = mosaic(tmp_path, ["a.tif", "gone.tif"])
    with (
        pytest.raises(ImageError, match=r"all its parts, got none at .*gone\.tif"),
        open_raster(path),
    ):
        pass


def test_a_part_that_cannot_be_read_fails_at_every_look_and_not_only_at_the_first(tmp_path):
    write_raster(tmp_path / "a.tif", np.full((20, 30, 1), 9, np.uint8))
    (tmp_path / "b.tif").write_bytes((tmp_path / "a.tif").read_bytes()[:60])
    with open_raster(mosaic(tmp_path, ["a.tif", "b.tif"])) as raster:
        assert (raster.read(0, 20, left=0, right=30) == 9).all()
        for _ in range(3):
            with pytest.raises(ImageError):
                raster.read(0, 20)
