"""What must hold when a machine is small, full or dies."""

import contextlib
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import rasterio
from raster_scenes import DarkIsWater, river, write_raster

from autosam.errors import OutputError
from autosam.inference.tiles import mask_raster
from autosam.maps.journal import unfinished
from autosam.maps.settings import MapSettings

TESTS = Path(__file__).parents[1]
MASK_SLOWLY = """
import sys, time
from raster_scenes import DarkIsWater
from autosam.inference.tiles import mask_raster
from autosam.maps.settings import MapSettings

class Slow(DarkIsWater):
    def __call__(self, tiles):
        time.sleep(0.01)
        return super().__call__(tiles)

settings = MapSettings(probability="uint8")
mask_raster(Slow(), sys.argv[1], sys.argv[2], settings=settings)
"""
MASK_TWO_HEIGHTS = """
import os, sys
import numpy as np
from autosam.inference.raster_plan import peak_memory
from autosam.inference.tiles import mask_raster

class Quick:
    identity, side, batch, threshold, ground_resolution = "quick", 512, 4, 0.5, None

    def __call__(self, tiles):
        return [(tile[..., 0] < 120).astype(np.float32) for tile in tiles]

for path in sys.argv[1:]:
    process = os.fork()  # each with the same past
    if process == 0:
        mask_raster(Quick(), path, path + ".mask.tif")
        print(peak_memory() // 1024, flush=True)
        os._exit(0)
    assert os.waitpid(process, 0)[1] == 0
"""


def started(code: str, *arguments: object) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(TESTS), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def bytes_of(mask: Path) -> list[bytes]:
    files = mask, mask.with_suffix(".probability.tif"), mask.with_suffix(".json")
    return [file.read_bytes() for file in files]


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(tmp_path):
    ortho = write_raster(tmp_path / "ortho.tif", river(600, 500)[0])
    settings = MapSettings(probability="uint8")
    mask_raster(DarkIsWater(), ortho, tmp_path / "whole" / "a.tif", settings=settings)
    output = tmp_path / "killed" / "a.tif"
    process = started(MASK_SLOWLY, ortho, output)
    deadline = time.monotonic() + 120
    while len(list(unfinished(output).glob("strip-*.json"))) < 4:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not output.exists()
    model = DarkIsWater()
    mapped = mask_raster(model, ortho, output, settings=settings)
    assert mapped.resumed
    assert len(model.shapes) < mapped.report["tiles"]["total"]
    assert bytes_of(output) == bytes_of(tmp_path / "whole" / "a.tif")
    assert not unfinished(output).exists()


@pytest.mark.skipif(sys.platform != "linux", reason="forks, and reads its memory from /proc")
def test_memory_does_not_follow_the_height_of_the_raster(tmp_path):
    # Scaled down from 40,000 x 10,000 and 40,000 x 40,000: the same ratio of heights.
    rows = river(500, 4000)[0]
    paths = []
    for height in (2000, 8000):
        paths.append(tmp_path / f"{height}.tif")
        with rasterio.open(
            paths[-1], "w", driver="GTiff", height=height, width=4000, count=3, dtype="uint8",
            tiled=True, blockxsize=256, blockysize=256, compress="zstd", zstd_level=1,
            transform=(0.5, 0, 0, 0, -0.5, 0), crs="EPSG:32610",
        ) as raster:  # fmt: skip
            for top in range(0, height, 500):
                window = rasterio.windows.Window(0, top, 4000, 500)
                raster.write(np.moveaxis(rows, -1, 0), window=window)
    process = started(MASK_TWO_HEIGHTS, *paths)
    low, tall = map(int, process.communicate(timeout=200)[0].split())
    assert process.returncode == 0
    assert tall < 1.1 * low
    assert (
        tall - low < 56 * 1024
    )  # KiB; the picture in memory would be 70,300 more, and blocks fill a cache


@contextlib.contextmanager
def largest_file(size: int):
    """Files that grow beyond it cannot be written, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [2_000, 40_000, 150_000])
def test_a_disk_that_is_full_is_one_clear_line_and_no_half_mask(tmp_path, size):
    noise = np.random.default_rng(0).integers(0, 255, (300, 400, 3), dtype=np.uint8)
    ortho = write_raster(tmp_path / "ortho.tif", noise)
    output = tmp_path / "out" / "a.tif"
    settings = MapSettings(probability="float32")
    with largest_file(size), pytest.raises(OutputError, match="could not be written") as caught:
        mask_raster(DarkIsWater(), ortho, output, settings=settings)
    assert "\n" not in str(caught.value)
    assert not output.exists()
    assert not output.with_suffix(".json").exists()
    # With room again it goes on.
    assert mask_raster(DarkIsWater(), ortho, output, settings=settings).status == "written"
    mask_raster(DarkIsWater(), ortho, tmp_path / "whole" / "a.tif", settings=settings)
    assert bytes_of(output) == bytes_of(tmp_path / "whole" / "a.tif")
