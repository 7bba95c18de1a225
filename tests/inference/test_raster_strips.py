import numpy as np
import pytest
import rasterio
from raster_scenes import DarkIsWater, river, write_raster

from autosam.inference.raster_job import RasterJob
from autosam.inference.raster_strips import StripMasker
from autosam.maps.rasters import open_raster
from autosam.maps.settings import MapSettings


class FailsOnce(DarkIsWater):
    """Fails on the one tile that it is shown as the given number."""

    def __init__(self, side: int, number: int) -> None:
        super().__init__(side)
        self._number = number

    def _one(self, tile):
        if len(self.shapes) - 1 == self._number:
            raise RuntimeError("once")
        return super()._one(tile)


def strips_of(folder, ortho, model, order, **settings):
    """Values of the mask and of the probability, masked strip by strip in this order, and the records."""
    folder.mkdir()
    records = {}
    with open_raster(ortho) as raster:
        job = RasterJob.of(raster, model, MapSettings(probability="float32", batch=1, **settings))
        masker = StripMasker(raster, model, job)
        for strip in order(len(job.tiles.tops)):
            targets = {name: folder / f"{name}-{strip}.tif" for name in ("mask", "probability")}
            records[strip] = masker.mask(strip, targets)
    layers = []
    for name in ("mask", "probability"):
        parts = []
        for strip in sorted(records):
            if (folder / f"{name}-{strip}.tif").exists():
                with rasterio.open(folder / f"{name}-{strip}.tif") as part:
                    parts.append(part.read(1))
        layers.append(np.concatenate(parts))
    return *layers, records


def in_order(count):
    return range(count)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("resolution", [None, 0.83, 0.27])
def test_strips_do_not_depend_on_which_were_masked_before(tmp_path, resolution):
    ortho = write_raster(tmp_path / "a.tif", river(230, 120)[0])
    expected = strips_of(
        tmp_path / "whole", ortho, DarkIsWater(32), in_order, resolution=resolution
    )

    def every_third(count):
        return [*range(0, count, 3), *range(1, count, 3), *range(2, count, 3)][::-1]

    found = strips_of(
        tmp_path / "parts", ortho, DarkIsWater(32), every_third, resolution=resolution
    )
    for one, other in zip(expected[:2], found[:2], strict=True):
        assert one.shape == (230, 120)
        np.testing.assert_array_equal(one, other)
    assert expected[2] == found[2]


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize(("resolution", "tile"), [(0.5, 7), (0.83, 10), (0.27, 22)])
def test_a_failed_tile_changes_nothing_outside_of_its_hole(tmp_path, resolution, tile):
    ortho = write_raster(tmp_path / "a.tif", river(230, 120)[0])
    whole, _, _ = strips_of(
        tmp_path / "whole", ortho, DarkIsWater(32), in_order, resolution=resolution
    )
    expected = strips_of(
        tmp_path / "sure", ortho, DarkIsWater(32), in_order, resolution=resolution
    )[1]
    mask, probability, records = strips_of(
        tmp_path / "holed", ortho, FailsOnce(32, tile), in_order, resolution=resolution
    )
    (failed,) = [hole for record in records.values() for hole in record["failed"]]
    hole = mask == 255
    inside = np.zeros_like(hole)
    inside[
        failed["top"] : failed["top"] + failed["height"],
        failed["left"] : failed["left"] + failed["width"],
    ] = True
    assert hole[inside].all()
    assert hole.sum() < 1.5 * inside.sum()
    np.testing.assert_array_equal(probability[~hole], expected[~hole])
    np.testing.assert_array_equal(mask[~hole], whole[~hole])
