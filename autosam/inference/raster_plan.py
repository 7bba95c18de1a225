"""What masking a raster will cost on this machine, before it is paid."""

import dataclasses
import re
import sys
import time
from pathlib import Path

import numpy as np

from autosam.files import PathLike
from autosam.inference.raster_job import RasterJob
from autosam.inference.raster_strips import StripMasker
from autosam.inference.tile_models import TileModel, tile_probabilities
from autosam.maps.raster_output import STRIP_BLOCK
from autosam.maps.rasters import Raster, open_raster
from autosam.maps.sampling import decimated_valid
from autosam.maps.settings import MapSettings

_DRAWN_BYTES = 24
"""For each pixel of the rows that are drawn together: probability twice, gaps, layers, and one to spare."""
_RESAMPLED_BYTES = 24
"""More, where probabilities are resampled."""
_OVERVIEWS = 4 / 3
_SLOW = 2.0
"""Seconds; a tile that takes longer is not measured again after its first, warming pass."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RasterPlan:
    """What one raster will cost."""

    tiles: int
    skipped: int
    """Tiles without data, as a decimated look at the raster shows them."""
    looks: int
    """How often the model looks at each tile, or at a piece of it: once but for turned views and scales."""
    peak_bytes: int
    """Of memory, about; what this process holds with the model included."""
    disk_bytes: int
    """At most, for outputs and strips together; masks compress to a small part of it."""
    seconds: float
    """Of inference, as one look took it here."""
    notes: tuple[str, ...]


def plan_raster(
    model: TileModel, source: PathLike, *, settings: MapSettings | None = None
) -> RasterPlan:
    """Count tiles, memory and disk, and time the model on the raster's middle tile; nothing is written.

    Args:
        model: What masks tiles.
        source: As for `mask_raster`.
        settings: As for `mask_raster`.

    Raises:
        MissingPathError: There is no such raster.
        ImageError: It cannot be read.
        ConfigError: A setting does not fit.
    """
    settings = settings or MapSettings()
    with open_raster(source, choice=settings.choice) as raster:
        job = RasterJob.of(raster, model, settings)
        skipped = _skipped(raster, job)
        masker = StripMasker(raster, model, job)
        seconds = _seconds_per_tile(model, job)
        drawn = _DRAWN_BYTES + (_RESAMPLED_BYTES if job.is_resampled else 0)
        rows = STRIP_BLOCK * raster.size[1] * drawn
        cache = raster.cache_bytes
        pixels = raster.size[0] * raster.size[1]
    stored = sum(np.dtype(layer.dtype).itemsize for layer in job.layers)
    return RasterPlan(
        tiles=job.tiles.tile_count,
        skipped=skipped,
        looks=job.looks,
        peak_bytes=peak_memory() + masker.nbytes + rows + cache,
        disk_bytes=int(pixels * stored * (1 + _OVERVIEWS)),
        seconds=seconds * (job.tiles.tile_count - skipped),
        notes=job.grid.notes,
    )


def _skipped(raster: Raster, job: RasterJob) -> int:
    """Tiles in which a decimated look finds no data."""
    valid = decimated_valid(raster)
    if valid.all():
        return 0
    down, along = (n / own for n, own in zip(valid.shape, raster.size, strict=True))
    skipped = 0
    for row in range(len(job.tiles.tops)):
        for tile in map(job.own_window, job.tiles.tiles(row)):
            rows = slice(int(tile.top * down), int(tile.bottom * down) + 1)
            columns = slice(int(tile.left * along), int(tile.right * along) + 1)
            skipped += not valid[rows, columns].any()
    return skipped


def _seconds_per_tile(model: TileModel, job: RasterJob) -> float:
    """On noise, which takes as long as anything; the second of two passes, where the first was quick."""
    shown = job.tiles.tile_size if job.scales is None else job.scales.shown_size
    noise = np.random.default_rng(0).integers(0, 255, (*shown, 3), dtype=np.uint8)
    pictures = [noise] * min(job.batch, len(job.tiles.lefts) * job.pieces)
    seconds = 0.0
    for _ in range(2):
        started = time.perf_counter()
        tile_probabilities(model, pictures, dihedral=False)
        seconds = time.perf_counter() - started
        if seconds > _SLOW:
            break
    return seconds / len(pictures) * job.looks


def peak_memory() -> int:
    """Bytes of memory that this process held at its largest; 0 where the system does not tell."""
    status = Path("/proc/self/status")
    if (
        status.is_file()
    ):  # its own, where the other figure may be that of the process that started it
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        return int(found[1]) * 1024 if found else 0
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
