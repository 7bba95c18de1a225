"""Question: does the cost grow as the work does?

Method: river-nano masks 2, 4, 8 and 16 pictures, a raster of 1, 2, 4 and 8 thousand rows, and 1, 2, 4 and 8
        views are encoded for a cache; each series runs in turn, round by round, and the medians of the rounds
        are fitted by a straight line: what a unit costs, what is paid once, and the largest share by which a
        measured figure lies off the line. What workers add is asked by country.py.
Run:    python benchmarks/speed/growth.py --scratch FOLDER --out benchmarks/results/growth--cpu.json
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rasters import write_river

from autosam import AutoSam
from autosam.data.synthetic import make_scene
from autosam.embeddings import EmbeddingCache
from autosam.embeddings.fill import fill_cache
from autosam.files import write_json
from autosam.inference.tile_models import AutoSamTiles
from autosam.inference.tiles import mask_raster
from autosam.maps.settings import MapSettings
from autosam.models.sam import load_sam
from autosam.recipes.environment import environment

AMOUNTS = 1, 2, 4, 8
WIDTH, ROWS = 3000, 1000
Work = Callable[[int], None]


def works(scratch: Path) -> dict[str, Work]:
    """What is done, by the unit that is counted."""
    model = AutoSam.from_pretrained(device="cpu")
    scenes = [make_scene(seed, side=512) for seed in range(2 * max(AMOUNTS))]
    sam = load_sam("river-nano")
    for amount in AMOUNTS:
        write_river(scratch / f"{amount}.tif", ROWS * amount, WIDTH)

    def pictures(amount: int) -> None:
        for scene in scenes[: 2 * amount]:
            model.predict(scene.image)

    def raster(amount: int) -> None:
        path = scratch / f"{amount}.tif"
        mask = path.with_suffix(".mask.tif")
        mask_raster(AutoSamTiles(model), path, mask, settings=MapSettings(), overwrite=True)

    def views(amount: int) -> None:
        folder = scratch / f"cache-{time.monotonic_ns()}"
        cache = EmbeddingCache(folder, shape=(sam.channels, sam.grid, sam.grid))
        fill_cache(cache, scenes[:2], sam, views=range(amount), progress=False)

    return {
        "two pictures": pictures,
        f"{WIDTH} x {ROWS} px of raster": raster,
        "view of two pictures": views,
    }


def fitted(amounts: tuple[int, ...], seconds: list[float]) -> dict[str, float]:
    """A straight line through what was measured, each point weighted by its inverse."""
    measured = np.array(seconds)
    slope, once = np.polyfit(amounts, measured, 1, w=1 / measured)
    off = np.abs(slope * np.array(amounts) + once - measured) / measured
    return {
        "seconds_a_unit": round(float(slope), 4),
        "seconds_once": round(float(once), 4),
        "largest_share_off_the_line": round(float(off.max()), 4),
    }


def main() -> None:
    """Do each amount of each work and fit a line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    arguments.scratch.mkdir(parents=True, exist_ok=True)
    done = works(arguments.scratch)
    seconds: dict[str, dict[int, list[float]]] = {
        name: {amount: [] for amount in AMOUNTS} for name in done
    }
    for number in range(arguments.rounds + 1):
        for name, work in done.items():
            for amount in AMOUNTS:
                start = time.perf_counter()
                work(amount)
                if number:  # the first round warms up
                    seconds[name][amount].append(round(time.perf_counter() - start, 4))
    result = {
        "question": "growth",
        "amounts": AMOUNTS,
        "seconds": seconds,
        "lines": {
            name: fitted(AMOUNTS, [float(np.median(values)) for values in rounds.values()])
            for name, rounds in seconds.items()
        },
    }
    print(json.dumps(result["lines"], indent=1))
    if arguments.out:
        write_json(arguments.out, {**result, "environment": environment()})


if __name__ == "__main__":
    main()
