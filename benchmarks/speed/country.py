"""Question: what does a square kilometre cost, part by part, what a country, and what saturates first?

Method: a drawn river is masked at two ground resolutions in one thread, and the processor seconds of every
        part are added up: beside other work they mean more than the clock. Then one worker and two mask one
        raster through the local engine: their processor seconds say what dividing costs, and those of the
        process that divides, writes down and joins say for how many workers it suffices. What a faster model
        would change is computed, not measured.
Run:    python benchmarks/speed/country.py --scratch FOLDER --out benchmarks/results/country--cpu.json
"""

import argparse
import contextlib
import json
import os
import resource
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import rasterio
from rasterio.transform import from_origin
from rasters import write_river

from autosam.files import write_json
from autosam.inference import raster_runs
from autosam.inference.crews import RasterQueue
from autosam.inference.local_crew import local_crew
from autosam.inference.map_orders import MapOrder
from autosam.inference.planned_rasters import MappedRaster
from autosam.inference.strip_drawing import StripDrawer
from autosam.inference.strip_workers import ModelSource
from autosam.inference.tile_models import AutoSamTiles
from autosam.inference.tiles import mask_raster
from autosam.maps.blending import StripAccumulator
from autosam.maps.model_rows import ModelRows
from autosam.maps.rasters import Raster
from autosam.maps.settings import MapSettings
from autosam.recipes.environment import environment

COUNTRY_KM2 = 100_000
METRES = 0.3, 0.5
QUICK_SIDE = 800
SETTINGS = MapSettings(probability="uint8")
FASTER = 1, 10, 100
"""Times by which a model may be faster than here; a GPU's figure is not measured."""
SERIAL = "join"
"""The part that one process does for all."""


class Clock:
    """Processor seconds of this process by part; a part that calls another is charged for itself alone."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._open: list[str] = []
        self._since = time.process_time()

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Charge the block to a part."""
        self._charge()
        self._open.append(name)
        try:
            yield
        finally:
            self._charge()
            self._open.pop()

    def charging(self, owner: Any, method: str, name: str) -> Any:
        """A patch under which a method is charged to a part."""
        original = getattr(owner, method)

        def charged(*args: Any, **kwargs: Any) -> Any:
            with self.part(name):
                return original(*args, **kwargs)

        return mock.patch.object(owner, method, charged)

    def _charge(self) -> None:
        now = time.process_time()
        self.seconds[self._open[-1] if self._open else "rest"] += now - self._since
        self._since = now


def write_ortho(path: Path, side: int, metres: float) -> float:
    """A square river of this many pixels; its square kilometres."""
    write_river(path, side, side)
    with rasterio.open(path, "r+") as raster:
        raster.transform = from_origin(450_000, 5_320_000, metres, metres)
    return (side * metres / 1000) ** 2


def parts_of(model: str, path: Path, km2: float) -> dict[str, Any]:
    """Processor seconds per square kilometre of each part, in one thread."""
    tiles = ModelSource(model=model, device="cpu").load()
    clock = Clock()
    mask = path.with_suffix(".mask.tif")
    with contextlib.ExitStack() as patched:
        for owner, method, name in (
            (Raster, "read", "read"),
            (Raster, "read_valid", "read"),
            (ModelRows, "move_to", "prepare"),
            (AutoSamTiles, "__call__", "encode and decode"),
            (StripAccumulator, "add", "blend"),
            (StripAccumulator, "move_to", "blend"),
            (StripDrawer, "write", "draw and write strips"),
            (raster_runs, "write_cog", SERIAL),
        ):
            patched.enter_context(clock.charging(owner, method, name))
        with clock.part("rest"):
            mapped = mask_raster(
                tiles, path, mask, settings=SETTINGS, overwrite=True, overlapped=False
            )
    assert not mapped.failed_tiles, "a tile failed: the figures mean nothing"
    written = mask.stat().st_size + mask.with_suffix(".probability.tif").stat().st_size
    return {
        "km2": round(km2, 4),
        "tiles": mapped.report["tiles"]["total"],
        "model_sees_m": mapped.report["ground_resolution_m"]["model_sees"],
        "cpu_seconds_per_km2": {name: round(s / km2, 3) for name, s in clock.seconds.items()},
        "megabytes_in_per_km2": round(np.prod(rasterio.open(path).shape) * 3 / 1e6 / km2, 1),
        "megabytes_out_per_km2": round(written / 1e6 / km2, 2),
    }


def shared_by(workers: int, model: str, path: Path, km2: float) -> dict[str, float]:
    """What so many workers of one thread each cost, once they have their models."""
    told: list[MappedRaster | Exception] = []
    output = path.with_name(f"workers-{workers}.tif")
    order = MapOrder(
        pairs=[(str(path), output)], settings=SETTINGS, overwrite=True,
        on_each=lambda _, outcome: told.append(outcome),
    )  # fmt: skip
    source = ModelSource(model=model, device="cpu", threads=1)
    models = [source] * workers  # not `shares_of_machine`, by which one alone would have all cores
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with local_crew(models) as crew:
        queue = RasterQueue(crew, order)
        ready = [crew.events() for _ in range(workers)]
        for event in (one for found in ready for one in found):
            queue.notice(event)
        loaded = sum(_cpu_of(process) for process in crew.processes)
        started, own = time.perf_counter(), time.process_time()
        queue.work()
        wall, own = time.perf_counter() - started, time.process_time() - own
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    theirs = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime - loaded
    assert isinstance(told[0], MappedRaster), told
    return {
        "wall_seconds": round(wall, 2),
        "cpu_seconds_of_workers_per_km2": round(theirs / km2, 3),
        "cpu_seconds_of_driver_per_km2": round(own / km2, 3),
    }


def _cpu_of(process: int) -> float:
    """Processor seconds of a process that lives."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def extrapolated(parts: dict[str, float], driver: float) -> dict[str, Any]:
    """A country from what was measured: processor hours, and when the one driver has no time left."""
    serial = max(driver, parts[SERIAL])
    apart = {name: seconds for name, seconds in parts.items() if name != SERIAL}
    rows = []
    for factor in FASTER:
        faster = apart | {"encode and decode": apart["encode and decode"] / factor}
        dearest = max(faster, key=lambda name: faster[name])
        rows.append(
            {
                "model_faster_by": factor,
                "core_hours": round((sum(faster.values()) + serial) * COUNTRY_KM2 / 3600),
                "dearest_part_of_a_worker": dearest,
                "its_share": round(faster[dearest] / sum(faster.values()), 3),
                "workers_at_which_the_driver_saturates": int(sum(faster.values()) / serial),
                "days_then": round(serial * COUNTRY_KM2 / 86400, 2),
            }
        )
    return {"km2": COUNTRY_KM2, "driver_cpu_seconds_per_km2": round(serial, 3), "rows": rows}


def main() -> None:
    """Measure both resolutions and both crews, and write what a country would cost."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--model", default="river-nano")
    parser.add_argument("--side", type=int, default=2048, help="pixels of a square raster's side")
    parser.add_argument(
        "--parts-only",
        action="store_true",
        help="no workers: the driver is then charged for joining alone",
    )
    parser.add_argument(
        "--quick", action="store_true", help="a small raster, to prove that it runs"
    )
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    side = QUICK_SIDE if arguments.quick else arguments.side
    arguments.scratch.mkdir(parents=True, exist_ok=True)
    path = arguments.scratch / "ortho.tif"
    result: dict[str, Any] = {
        "question": "country",
        "model": arguments.model,
        "shared_machine": "other work ran beside it: processor seconds and ratios, not the clock",
        "load_average": round(os.getloadavg()[0], 1),
        "raster_side": side,
        "driver_is": "joining alone" if arguments.parts_only else "measured with two workers",
        "resolutions": {},
    }
    for metres in METRES:
        km2 = write_ortho(path, side, metres)
        found = parts_of(arguments.model, path, km2)
        result["resolutions"][f"{metres} m"] = found
    driver = 0.0
    if not arguments.parts_only:
        crews = {str(count): shared_by(count, arguments.model, path, km2) for count in (1, 2)}
        name = "cpu_seconds_of_workers_per_km2"
        result["workers"] = {
            "metres": METRES[-1],
            **crews,
            "cpu_of_two_over_one": round(crews["2"][name] / crews["1"][name], 3),
            "wall_of_one_over_two": round(
                crews["1"]["wall_seconds"] / crews["2"]["wall_seconds"], 3
            ),
        }
        driver = crews["2"]["cpu_seconds_of_driver_per_km2"]
    for metres, found in result["resolutions"].items():
        pixels = (METRES[-1] / float(metres.split()[0])) ** 2  # the driver's work goes with pixels
        found["country"] = extrapolated(found["cpu_seconds_per_km2"], driver * pixels)
    result["environment"] = environment()
    print(json.dumps({k: v for k, v in result.items() if k != "environment"}, indent=1))
    if arguments.out:
        write_json(arguments.out, result)


if __name__ == "__main__":
    main()
