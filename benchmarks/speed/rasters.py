"""Question: does memory follow the height of a raster, and what does a raster cost beyond its tiles?

Method: drawn rivers of one width and two heights, each masked in a process of its own. Peak resident memory
        is the system's own figure; the time beyond tiles is the wall time less that spent in the model.
        Without --run a stand-in answers at once, so that everything measured is the library's own work.
Run:    python benchmarks/speed/rasters.py --scratch FOLDER --width 40000 --heights 10000 40000 --run RUN
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import from_origin
from rasterio.windows import Window

from autosam.files import write_json
from autosam.inference.raster_plan import peak_memory, plan_raster
from autosam.inference.tile_models import AutoSamTiles, TileModel
from autosam.inference.tiles import mask_raster
from autosam.maps.settings import MapSettings
from autosam.recipes.environment import environment

ROWS = 1000
"""That are drawn once and repeated down the raster."""


class StandIn:
    """Takes dark for water, at once."""

    identity, side, batch, threshold, ground_resolution = "stand-in", 1024, 4, 0.5, None

    def __call__(self, tiles: Sequence[np.ndarray]) -> list[np.ndarray]:
        """1 where red is dark."""
        return [(tile[..., 0] < 120).astype(np.float32) for tile in tiles]


class Clocked:
    """A model that adds up its own seconds."""

    def __init__(self, model: TileModel) -> None:
        self._model = model
        self.identity, self.side, self.batch = model.identity, model.side, model.batch
        self.threshold, self.ground_resolution = model.threshold, model.ground_resolution
        self.seconds, self.tiles = 0.0, 0

    def __call__(self, tiles: Sequence[np.ndarray]) -> list[np.ndarray]:
        """What the model answers."""
        started = time.perf_counter()
        answer = self._model(tiles)
        self.seconds += time.perf_counter() - started
        self.tiles += len(tiles)
        return answer


def write_river(path: Path, height: int, width: int) -> None:
    """A river across bright noise, tiled and compressed as orthophotos are."""
    rows, columns = np.mgrid[:ROWS, :width].astype(np.float32)
    water = np.abs(rows - ROWS / 2 - 200 * np.sin(columns / 700)) < 80
    noise = np.random.default_rng(0).normal(0, 8, (ROWS, width))
    shade = np.clip(np.where(water, 60, 180) + noise, 0, 255).astype(np.uint8)
    with rasterio.open(
        path, "w", driver="GTiff", height=height, width=width, count=3, dtype="uint8", tiled=True,
        blockxsize=512, blockysize=512, compress="zstd", zstd_level=1, bigtiff="if_safer",
        crs="EPSG:32610", transform=from_origin(450_000, 5_320_000, 0.25, 0.25),
    ) as raster:  # fmt: skip
        for top in range(0, height, ROWS):
            count = min(ROWS, height - top)
            for band in (1, 2, 3):
                raster.write(shade[:count], band, window=Window(0, top, width, count))


def mask_one(path: Path, run: str | None, probability: str) -> dict[str, float]:
    """Mask one raster and say what it cost."""
    model: TileModel = StandIn()
    if run is not None:
        from autosam.inference.segmenter import AutoSam

        model = AutoSamTiles(AutoSam.from_pretrained(run))
    settings = MapSettings(probability=probability)  # type: ignore[arg-type]
    expected = plan_raster(model, path, settings=settings)
    clocked = Clocked(model)
    started = time.perf_counter()
    mapped = mask_raster(
        clocked, path, path.with_suffix(".mask.tif"), settings=settings, overwrite=True
    )
    seconds = time.perf_counter() - started
    assert not mapped.failed_tiles, "a tile failed: the figures mean nothing"
    return {
        "tiles": clocked.tiles,
        "seconds": round(seconds, 2),
        "seconds_in_model": round(clocked.seconds, 2),
        "beyond_tiles": round(seconds / clocked.seconds - 1, 4),
        "peak_mib": round(peak_memory() / 2**20, 1),
        "expected_seconds": round(expected.seconds, 2),
        "expected_peak_mib": round(expected.peak_bytes / 2**20, 1),
    }


def main() -> None:
    """Mask both heights and write what they cost."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--width", type=int, default=4000)
    parser.add_argument("--heights", type=int, nargs=2, default=(2000, 8000))
    parser.add_argument("--run", help="a trained run; a stand-in when left out")
    parser.add_argument("--probability", default="none")
    parser.add_argument("--quick", action="store_true", help="small rasters, to prove that it runs")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(mask_one(arguments.one, arguments.run, arguments.probability)))
        return
    width, heights = (
        (1500, (1000, 2000)) if arguments.quick else (arguments.width, arguments.heights)
    )
    arguments.scratch.mkdir(parents=True, exist_ok=True)
    rows = []
    for height in heights:
        path = arguments.scratch / f"river-{width}x{height}.tif"
        write_river(path, height, width)
        again = [arg for arg in sys.argv[1:] if arg != "--quick"]
        command = [sys.executable, __file__, *again, "--one", str(path)]
        answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        rows.append({"width": width, "height": height, **json.loads(answer.stdout)})
        path.unlink()
    result = {
        "question": "rasters",
        "model": arguments.run or "stand-in",
        "rasters": rows,
        "peak_ratio": round(rows[1]["peak_mib"] / rows[0]["peak_mib"], 4),
        "environment": environment(),
    }
    print(json.dumps({k: v for k, v in result.items() if k != "environment"}, indent=1))
    if arguments.out:
        write_json(arguments.out, result)


if __name__ == "__main__":
    main()
