"""A raster of any size in, its mask out: strip by strip, resumable, never half-written."""

import os
from pathlib import Path

from autosam.files import PathLike
from autosam.inference.planned_rasters import MappedRaster, PlannedRaster, check_output
from autosam.inference.raster_runs import open_run
from autosam.inference.raster_strips import StripMasker
from autosam.inference.segmenter import AutoSam
from autosam.inference.tile_models import AutoSamTiles, TileModel
from autosam.maps.rasters import open_raster
from autosam.maps.settings import MapSettings
from autosam.progress import progress_bar


def as_tile_model(model: AutoSam | TileModel) -> TileModel:
    """A trained model as what masks tiles; anything else is that already.

    Raises:
        ConfigError: The model cannot mask rasters.
    """
    return AutoSamTiles(model) if isinstance(model, AutoSam) else model


def mask_raster(
    model: AutoSam | TileModel,
    source: PathLike,
    output: PathLike,
    *,
    settings: MapSettings | None = None,
    overwrite: bool = False,
    progress: bool = False,
    overlapped: bool = True,
) -> MappedRaster:
    """Mask a raster of any size into a cloud-optimised GeoTIFF on the same pixels.

    The mask holds 1 for water, 0 for land and 255 where the raster has no data or a tile failed. Beside
    it, as its name says, lie the probability, if wanted, and a JSON file with what was done. A run that
    was killed goes on where it was, and ends with the same bytes.

    Args:
        model: A trained model, or anything that masks tiles.
        source: A file, VRT or address that GDAL reads.
        output: Ends in .tif or .tiff.
        settings: How; the defaults when None.
        overwrite: Mask again what is finished, and take the place of what is there.
        progress: Show a bar where there is a terminal.
        overlapped: Read and write in other threads while the model works; the bytes are the same.

    Raises:
        MissingPathError: There is no such raster.
        ImageError: It cannot be opened, or none of its tiles could be masked.
        ConfigError: A setting does not fit the raster or the model.
        OutputError: The output is not autosam's, is another model's, or cannot be written.
    """
    output, settings, tile_model = Path(output), settings or MapSettings(), as_tile_model(model)
    check_output(source, output)
    with open_raster(source, choice=settings.choice) as raster:
        planned = PlannedRaster.of(raster, source, output, model=tile_model, settings=settings)
        finished = None if overwrite else planned.finished_before()
        if finished is not None:
            return finished
        with open_run(planned) as run:
            name, total = Path(os.fspath(source)).name, planned.job.tiles.tile_count
            with progress_bar(f"masking {name}", total=total, shown=progress) as advance:
                advance(run.finished_tiles)
                StripMasker(raster, tile_model, planned.job, overlapped=overlapped).mask_strips(
                    run.missing, targets=run.targets, on_strip=run.keep, on_tiles=advance
                )
            return run.publish()
