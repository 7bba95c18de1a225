"""Every kind of raster that users have: the mask lies on its pixels, and holds the water that was drawn."""

import http.server
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from raster_scenes import HALF_METRE, DarkIsWater, river, rotated, write_raster
from rasterio.enums import ColorInterp
from rasterio.transform import from_origin
from rio_cogeo import cog_validate

from autosam.inference.tiles import mask_raster
from autosam.maps.rasters import RasterChoice
from autosam.maps.settings import MapSettings

HEIGHT, WIDTH = 150, 210
IMAGE, WATER = river(HEIGHT, WIDTH)
GAPS = np.zeros((HEIGHT, WIDTH), bool)
GAPS[:, :70] = True


def deep(image):
    """16 bits as a camera gives them: far from 0 and from 65535."""
    return 3000 + image.astype(np.uint16) * 40


def plain(path, image=IMAGE, **profile):
    return write_raster(path, image, **profile)


def nodata(path):
    return plain(path, np.where(GAPS[..., None], 0, np.maximum(IMAGE, 1)), nodata=0)


def alpha(path):
    kinds = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
    opaque = np.where(GAPS, 0, 255).astype(np.uint8)
    return plain(path, np.dstack([IMAGE, opaque]), interpretation=kinds)


def dataset_mask(path):
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        return plain(path, mask=~GAPS)


def vrt(path):
    target = path.with_suffix(".vrt")
    rasterio.shutil.copy(str(plain(path)), str(target), driver="VRT")
    return target


def cog(path):
    target = path.with_name("cog.tif")
    rasterio.shutil.copy(str(plain(path)), str(target), driver="COG", blocksize=128)
    return target


BLUE_FIRST = np.dstack([IMAGE[..., ::-1], IMAGE[..., :1] * 0])
JPEG = {
    "tiled": True,
    "compress": "jpeg",
    "photometric": "ycbcr",
    "blockxsize": 64,
    "blockysize": 64,
}
CASES = {
    "8 bits, striped": (plain, {}),
    "tiled": (partial(plain, tiled=True, blockxsize=64, blockysize=64), {}),
    "16 bits": (partial(plain, image=deep(IMAGE)), {}),
    "floats": (partial(plain, image=IMAGE.astype(np.float32) / 255), {}),
    "grey": (partial(plain, image=IMAGE[..., 1]), {}),
    "four bands, blue first": (
        partial(plain, image=BLUE_FIRST, photometric="minisblack"),
        {"bands": (3, 2, 1)},
    ),
    "BigTIFF": (partial(plain, bigtiff="yes"), {}),
    "JPEG": (partial(plain, **JPEG), {}),
    "VRT": (vrt, {}),
    "COG": (cog, {}),
    "rotated": (partial(plain, transform=rotated(25)), {}),
    "degrees": (partial(plain, crs="EPSG:4326", transform=from_origin(-123.5, 48, 1e-5, 7e-6)), {}),
    "no CRS": (partial(plain, crs=None), {}),
    "nodata": (nodata, {}),
    "alpha": (alpha, {}),
    "dataset mask": (dataset_mask, {}),
}


@pytest.mark.parametrize("case", CASES)
def test_the_mask_of_any_raster_lies_on_its_pixels(tmp_path, case):
    write, choice = CASES[case]
    path = write(tmp_path / "in" / "ortho.tif")
    output = tmp_path / "out" / "river.tif"
    model = DarkIsWater()
    mapped = mask_raster(
        model,
        path,
        output,
        settings=MapSettings(choice=RasterChoice(**choice), probability="uint8"),
    )
    gaps = GAPS if case in ("nodata", "alpha", "dataset mask") else np.zeros_like(GAPS)
    with rasterio.open(path) as source, rasterio.open(output) as mask:
        assert mask.crs == source.crs
        assert mask.transform.almost_equals(source.transform, precision=1e-9)
        values = mask.read(1)
    assert np.array_equal(values == 255, gaps)
    assert ((values == 1) != WATER)[~gaps].mean() < 0.02
    for file in (output, output.with_suffix(".probability.tif")):
        assert cog_validate(file, strict=True) == (True, [], [])
    with rasterio.open(output.with_suffix(".probability.tif")) as probability:
        shares = probability.read(1)
    assert np.array_equal(shares == 255, gaps)
    assert np.array_equal((shares >= 127)[~gaps], (values == 1)[~gaps])
    assert mapped.report["pixels"]["nodata"] == gaps.sum()
    assert mapped.report["pixels"]["water"] == (values == 1).sum()
    # The first of four columns of tiles sees nothing but gaps.
    assert mapped.report["tiles"]["skipped"] == (3 if gaps.any() else 0)
    assert len(model.shapes) == mapped.report["tiles"]["total"] - mapped.report["tiles"]["skipped"]
    assert bool(mapped.report["notes"]) == (case == "no CRS")


def test_two_kinds_of_bits_give_one_mask(tmp_path):
    settings = MapSettings(choice=RasterChoice(value_range=(3000, 3000 + 255 * 40)))
    masks = []
    for name, image, how in (("a", IMAGE, None), ("b", deep(IMAGE), settings)):
        path = plain(tmp_path / f"{name}.tif", image)
        mask_raster(DarkIsWater(), path, tmp_path / "out" / f"{name}.tif", settings=how)
        with rasterio.open(tmp_path / "out" / f"{name}.tif") as mask:
            masks.append(mask.read(1))
    assert np.array_equal(*masks)


class RangeHandler(http.server.SimpleHTTPRequestHandler):
    """Serves parts of files, as every real server of COGs does, and remembers what was asked for."""

    asked: list[str]

    def do_GET(self):
        wanted = self.headers.get("Range")
        content = Path(self.translate_path(self.path))
        if wanted is None or not content.is_file():
            super().do_GET()
            return
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        data = content.read_bytes()
        end = min(int(last or len(data)), len(data) - 1)
        self.asked.append(wanted)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{end}/{len(data)}")
        self.send_header("Content-Length", str(end + 1 - int(first)))
        self.end_headers()
        self.wfile.write(data[int(first) : end + 1])

    def log_message(self, *_):
        pass


def test_a_cog_is_read_from_an_address_in_parts(tmp_path):
    cog(tmp_path / "ortho.tif")
    handler = type("Handler", (RangeHandler,), {"asked": []})
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(handler, directory=str(tmp_path))
    )
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        address = f"http://127.0.0.1:{server.server_port}/cog.tif"
        mask_raster(DarkIsWater(), address, tmp_path / "out" / "far.tif")
    finally:
        server.shutdown()
        server.server_close()
    mask_raster(DarkIsWater(), tmp_path / "cog.tif", tmp_path / "out" / "near.tif")
    with rasterio.open(tmp_path / "out" / "far.tif") as far:
        with rasterio.open(tmp_path / "out" / "near.tif") as near:
            assert np.array_equal(far.read(1), near.read(1))
        assert far.transform == HALF_METRE
    assert handler.asked


@pytest.mark.parametrize(("resolution", "side"), [(1.3, 24), (0.31, 64), (0.5, 64)])
def test_a_resampled_raster_keeps_its_own_pixels(tmp_path, resolution, side):
    path = nodata(tmp_path / "a.tif")
    output = tmp_path / "out" / "a.tif"
    mapped = mask_raster(
        DarkIsWater(side),
        path,
        output,
        settings=MapSettings(resolution=resolution, probability="uint8"),
    )
    with rasterio.open(output) as mask:
        values = mask.read(1)
        assert mask.transform == HALF_METRE
    assert np.array_equal(values == 255, GAPS)
    assert ((values == 1) != WATER)[~GAPS].mean() < 0.02
    assert mapped.report["ground_resolution_m"]["model_sees"] == pytest.approx(
        [resolution] * 2, rel=0.02
    )
    assert mapped.report["tiles"]["skipped"] > 0


def test_a_model_sees_the_resolution_it_was_trained_with(tmp_path):
    path = plain(tmp_path / "a.tif")
    model = DarkIsWater(side=512, ground_resolution=(1.0, 2.0))
    mapped = mask_raster(model, path, tmp_path / "out.tif")
    assert model.shapes == [(75, 105, 3)]
    assert "outside the 1 m to 2 m that the model was trained with" in mapped.report["notes"][0]
