"""A raster of any size in, its mask out: strip by strip, resumable, never half-written."""

import dataclasses
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from autosam import __version__
from autosam.errors import DataError, ImageError, OutputError
from autosam.files import PathLike, read_json, write_json
from autosam.inference.raster_strips import RasterJob, StripMasker
from autosam.inference.segmenter import AutoSam
from autosam.inference.tile_models import AutoSamTiles, TileModel
from autosam.maps.journal import Journal, open_journal, unfinished
from autosam.maps.raster_output import write_cog
from autosam.maps.rasters import Raster, open_raster
from autosam.maps.settings import MapSettings
from autosam.progress import progress_bar

FORMAT = 1
"""Of the plan and of the JSON beside a mask: raise it when equal plans would give other pixels."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MappedRaster:
    """What became of one raster."""

    source: str
    mask: str
    status: Literal["written", "finished before"]
    report: Mapping[str, Any]
    """What lies as JSON beside the mask."""
    seconds: float = 0.0
    """In this run."""
    resumed: bool = False
    """Whether an earlier run had begun it."""

    @property
    def failed_tiles(self) -> int:
        """Tiles that could not be masked, and are without data in the mask."""
        return len(self.report["tiles"]["failed"])

    @property
    def water_share(self) -> float | None:
        """Share of the pixels with data that are water, 0..1; None when there are none."""
        pixels = self.report["pixels"]
        with_data = pixels["water"] + pixels["land"]
        return pixels["water"] / with_data if with_data else None


def outputs_of(mask: Path) -> tuple[Path, Path]:
    """Where the probability and the report of a mask lie."""
    return mask.with_suffix(".probability.tif"), mask.with_suffix(".json")


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

    Raises:
        MissingPathError: There is no such raster.
        ImageError: It cannot be opened, or none of its tiles could be masked.
        ConfigError: A setting does not fit the raster or the model.
        OutputError: The output is not autosam's, is another model's, or cannot be written.
    """
    started = time.perf_counter()
    output, settings, tile_model = Path(output), settings or MapSettings(), as_tile_model(model)
    _check_output(source, output)
    with open_raster(source, choice=settings.choice) as raster:
        job = RasterJob.of(raster, tile_model, settings)
        plan = plan_of(job, source, tile_model)
        if not overwrite:
            finished = _finished(output, plan)
            if finished is not None:
                return MappedRaster(
                    source=str(source), mask=str(output), status="finished before", report=finished
                )
        with open_journal(output, plan) as journal:
            resumed = journal.resumed
            name, total = Path(os.fspath(source)).name, job.tiles.tile_count
            with progress_bar(f"masking {name}", total=total, shown=progress) as advance:
                records = _mask_strips(raster, tile_model, job, journal, advance)
            report = _report(plan, job, records)
            _publish(journal, output, job, raster, report)
            journal.clear()
    return MappedRaster(
        source=str(source),
        mask=str(output),
        status="written",
        report=report,
        seconds=time.perf_counter() - started,
        resumed=resumed,
    )


def plan_of(job: RasterJob, source: PathLike, model: TileModel) -> dict[str, Any]:
    """Everything that the pixels follow from, as JSON values: equal plans give equal bytes."""
    name = os.fspath(source)
    stamp = None
    if Path(name).is_file():
        status = Path(name).stat()
        stamp = [status.st_size, status.st_mtime_ns]
    return {
        "format": FORMAT,
        "autosam": __version__,
        "source": name,
        "source_size_and_time": stamp,
        "model": model.identity,
        "threshold": job.threshold,
        "batch": job.batch,
        "normalisation": job.values.to_dict(),
        "bands": list(job.bands),
        "raster_size": list(job.grid.source_size),
        "model_sees_size": list(job.grid.size),
        "tile_size": list(job.tiles.tile_size),
        "tile_overlap": job.tiles.overlap,
        "settings": job.settings.to_dict(),
    }


def _check_output(source: PathLike, output: Path) -> None:
    if output.suffix.lower() not in (".tif", ".tiff"):
        raise OutputError(
            f"output must end in .tif or .tiff, got {output.name!r}. Give the file a suffix."
        )
    own = Path(os.fspath(source))
    if output.is_dir() or (own.exists() and output.exists() and own.samefile(output)):
        kind = "a folder" if output.is_dir() else "the raster itself"
        raise OutputError(
            f"output must be a file of its own, got {kind} ({output}). Choose another."
        )


def _finished(output: Path, plan: Mapping[str, Any]) -> dict[str, Any] | None:
    """The report of a mask that is there and is what this plan would make; None when it must be made.

    Raises:
        OutputError: What is there is not autosam's, or another model's.
    """
    probability, beside = outputs_of(output)
    if not output.exists():
        return None
    try:
        report: dict[str, Any] = read_json(beside, what="report")
        made_by = report["plan"]["model"]
        failed = report["tiles"]["failed"]
    except (DataError, FileNotFoundError, KeyError, TypeError) as error:
        if unfinished(output).is_dir():
            return None  # killed between the mask and its report
        raise OutputError(
            f"output must be new or autosam's own, got {output}, which has no report beside it. "
            "Choose another output, or --overwrite."
        ) from error
    if made_by != plan["model"]:
        raise OutputError(
            f"masks in one folder must be of one model, got {output} by {made_by!r} for "
            f"{plan['model']!r}. Choose another folder, or --overwrite."
        )
    wanted = plan["settings"]["probability"] == "none" or probability.exists()
    return report if report["plan"] == plan and wanted and not failed else None


def _mask_strips(
    raster: Raster,
    model: TileModel,
    job: RasterJob,
    journal: Journal,
    on_tiles: Callable[[int], None],
) -> list[dict[str, Any]]:
    """Mask the strips that are not finished; the records of all.

    Raises:
        ImageError: Not one tile with data could be masked.
    """
    masker = StripMasker(raster, model, job)
    records = []
    for strip in range(len(job.tiles.tops)):
        record = journal.record(strip)
        if record is None:
            targets = {layer.name: journal.raster(layer.name, strip) for layer in job.layers}
            record = masker.mask(strip, targets, on_tiles)
            journal.finish(strip, record)
        else:
            on_tiles(record["tiles"])
        records.append(record)
    failed = [tile for record in records for tile in record["failed"]]
    skipped = sum(record["skipped"] for record in records)
    if failed and len(failed) + skipped == job.tiles.tile_count:
        journal.clear()
        raise ImageError(
            f"raster must have a tile that can be masked, got {len(failed)} that failed "
            f"({raster.label}). The first: {failed[0]['error']}"
        )
    return records


def _report(
    plan: Mapping[str, Any], job: RasterJob, records: list[dict[str, Any]]
) -> dict[str, Any]:
    """What lies beside the mask; the same whether or not the run was cut off."""
    counts = {
        name: sum(record[name] for record in records)
        for name in ("tiles", "skipped", "water", "land", "nodata")
    }
    sees, own = job.grid.model_metres, job.grid.metres
    return {
        "plan": dict(plan),
        "bands": list(plan["bands"]),
        "normalisation": job.values.to_dict(),
        "ground_resolution_m": {
            "raster": None if own is None else list(own),
            "model_sees": None if sees is None else list(sees),
        },
        "threshold": job.threshold,
        "tiles": {
            "total": counts["tiles"],
            "skipped": counts["skipped"],
            "failed": [tile for record in records for tile in record["failed"]],
        },
        "pixels": {name: counts[name] for name in ("water", "land", "nodata")},
        "notes": list(job.grid.notes),
    }


def _publish(
    journal: Journal, output: Path, job: RasterJob, raster: Raster, report: Mapping[str, Any]
) -> None:
    """Make the outputs in the journal's folder, then move them; the report comes last and says: finished."""
    probability, beside = outputs_of(output)
    tops = job.strip_tops
    filled = [strip for strip in range(len(tops) - 1) if tops[strip + 1] > tops[strip]]
    tags = {
        "AUTOSAM_VERSION": __version__,
        "AUTOSAM_MODEL": str(report["plan"]["model"]),
        "AUTOSAM_THRESHOLD": repr(job.threshold),
    }
    made = []
    for layer, place in zip(job.layers, (output, probability), strict=False):
        file = journal.folder / f"{layer.name}.tif"
        strips = [(journal.raster(layer.name, strip), tops[strip]) for strip in filled]
        write_cog(
            file, layer, strips, size=raster.size, georeference=raster.georeference, tags=tags
        )
        made.append((file, place))
    beside.unlink(missing_ok=True)
    if len(job.layers) == 1:  # a probability that is there is of an older mask
        probability.unlink(missing_ok=True)
    for file, place in reversed(made):
        journal.publish(file, place)
    write_json(beside, report)
