"""What is settled of a raster before its first tile is masked, and what is known of it when all are."""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from autosam import __version__
from autosam.errors import DataError, OutputError
from autosam.files import PathLike, read_json
from autosam.inference.raster_job import RasterJob
from autosam.inference.tile_models import TileFacts
from autosam.maps.journal import remove_leftovers, unfinished
from autosam.maps.rasters import Raster, is_remote
from autosam.maps.settings import MapSettings
from autosam.types import Georeference

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
    changed: tuple[str, ...] = ()
    """What was another for the mask in whose place it was written; none where there was no mask."""

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


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlannedRaster:
    """What is settled of a raster before its first tile is masked."""

    source: str
    output: Path
    job: RasterJob
    plan: Mapping[str, Any]
    """Everything that the pixels follow from."""
    georeference: Georeference | None

    @classmethod
    def of(
        cls,
        raster: Raster,
        source: PathLike,
        output: Path,
        *,
        model: TileFacts,
        settings: MapSettings,
    ) -> "PlannedRaster":
        """Settle it; the raster need not stay open.

        Raises:
            ImageError: The raster cannot be read where its values are sampled.
            ConfigError: A setting does not fit the raster or the model.
        """
        job = RasterJob.of(raster, model, settings)
        return cls(
            source=os.fspath(source),
            output=output,
            job=job,
            plan=plan_of(job, source, model, output=output),
            georeference=raster.georeference,
        )

    def finished_before(self) -> MappedRaster | None:
        """What lies at the output, where it is what this plan would make; None when it must be made.

        Raises:
            OutputError: What is there is not autosam's, or another model's.
        """
        report = _finished(self.output, self.plan)
        if report is None:
            return None
        remove_leftovers(self.output, self.plan)
        return MappedRaster(
            source=self.source, mask=str(self.output), status="finished before", report=report
        )

    def changed(self) -> tuple[str, ...]:
        """What was another for the mask that lies at the output, in words; none where there is no mask."""
        report = read_report(self.output)
        return () if report is None else _changed(report["plan"], self.plan)


def plan_of(job: RasterJob, source: PathLike, model: TileFacts, *, output: Path) -> dict[str, Any]:
    """Everything that the pixels follow from, as JSON values: equal plans give equal bytes."""
    place, stamp = os.fspath(source), None
    if not is_remote(place):
        file = Path(place).expanduser()
        place, status = seen_from(output, file), file.stat()
        stamp = [status.st_size, status.st_mtime_ns]
    return {
        "format": FORMAT,
        "autosam": __version__,
        "source": place,
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


def check_output(source: PathLike, output: Path) -> None:
    """Refuse an output that is no GeoTIFF by its name, a folder, or the raster itself.

    Raises:
        OutputError: It is one of these.
    """
    if output.suffix.lower() not in (".tif", ".tiff"):
        raise OutputError(
            f"output must end in .tif or .tiff, got {output.name!r}. Give it one of these suffixes."
        )
    own = Path(os.fspath(source))
    if output.is_dir() or (own.exists() and output.exists() and own.samefile(output)):
        kind = "a folder" if output.is_dir() else "the raster itself"
        raise OutputError(
            f"output must be a file of its own, got {kind} ({output}). Choose another."
        )


def raster_of(mask: Path, source: str) -> str:
    """Where the raster of a mask lies, by what its plan says."""
    if is_remote(source):
        return source
    return os.path.normpath(os.path.join(os.path.realpath(mask.parent), source))


def seen_from(mask: Path, raster: Path) -> str:
    """The way from a mask, or what was measured of one, to what it was made of.

    It is the same however both are named, and when both are moved.
    """
    place = os.path.realpath(raster)
    try:
        return Path(os.path.relpath(place, os.path.realpath(mask.parent))).as_posix()
    except ValueError:  # on another drive
        return place


def _finished(output: Path, plan: Mapping[str, Any]) -> dict[str, Any] | None:
    """The report of a mask that is there and is what this plan would make; None when it must be made.

    Raises:
        OutputError: What is there is not autosam's, or another model's.
    """
    if not output.exists():
        return None
    report = read_report(output)
    if report is None:
        if unfinished(output).is_dir():
            return None  # killed between the mask and its report
        raise OutputError(
            f"output must be new or autosam's own, got {output}, which has no report beside it. "
            "Choose another output, or --overwrite."
        )
    made_by = report["plan"]["model"]
    if made_by != plan["model"]:
        raise OutputError(
            f"masks in one folder must be of one model, got {output} by {made_by!r} for "
            f"{plan['model']!r}. Choose another folder, or --overwrite."
        )
    probability, _ = outputs_of(output)
    wanted = plan["settings"]["probability"] == "none" or probability.exists()
    is_same = not _changed(report["plan"], plan)
    return report if is_same and wanted and not report["tiles"]["failed"] else None


def read_report(output: Path) -> dict[str, Any] | None:
    """What lies beside a mask; None where that is no report of ours."""
    _, beside = outputs_of(output)
    try:
        report: dict[str, Any] = read_json(beside, what="report")
        _ = report["tiles"]["failed"], report["plan"]["model"]
    except (DataError, FileNotFoundError, KeyError, TypeError):
        return None
    return report


def _changed(before: Mapping[str, Any], plan: Mapping[str, Any]) -> tuple[str, ...]:
    """What the pixels follow from that is another than before; a probability more than is wanted is none."""
    old, new = _facts(before), _facts(plan)
    if plan["settings"]["probability"] == "none":
        old["probability"] = new["probability"]
    return tuple(name for name in new if old[name] != new[name])


def _facts(plan: Mapping[str, Any]) -> dict[str, Any]:
    """The plan by what a user calls its parts: as it was settled, whether that was asked for or a default."""
    settings = plan.get("settings", {})
    return {
        "raster": [plan.get(name) for name in ("source", "source_size_and_time", "raster_size")],
        "model": plan["model"],
        "version of autosam": [plan.get("format"), plan.get("autosam")],
        "threshold": plan.get("threshold"),
        "bands": plan.get("bands"),
        "nodata": settings.get("choice", {}).get("nodata"),
        "value range": plan.get("normalisation"),
        "resolution": plan.get("model_sees_size"),
        "tile size": [plan.get("tile_size"), settings.get("side")],
        "overlap": [plan.get("tile_overlap"), settings.get("overlap")],
        "batch": plan.get("batch"),
        **{name: settings.get(name) for name in ("shift", "dihedral", "scales", "probability")},
    }
