"""One raster on its way to a mask: which of its strips are made, which are missing, and its outputs."""

import contextlib
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from autosam import __version__
from autosam.errors import ImageError
from autosam.files import replacing, write_json
from autosam.inference.planned_rasters import MappedRaster, PlannedRaster, outputs_of
from autosam.inference.raster_job import RasterJob
from autosam.maps.journal import Journal, open_journal, strip_file
from autosam.maps.raster_output import write_cog


class RasterRun:
    """A raster of which some strips are made and some are missing; made by `open_run`."""

    def __init__(self, planned: PlannedRaster, journal: Journal) -> None:
        self.planned = planned
        self._journal = journal
        self._resumed = journal.resumed
        self._started = time.perf_counter()
        self._records: dict[int, dict[str, Any]] = {}
        for strip in range(len(planned.job.tiles.tops)):
            record = journal.record(strip)
            if record is not None:
                self._records[strip] = record

    @property
    def missing(self) -> list[int]:
        """Strips that are not made yet, ascending."""
        strips = range(len(self.planned.job.tiles.tops))
        return [strip for strip in strips if strip not in self._records]

    @property
    def finished_tiles(self) -> int:
        """Of the strips that are made."""
        return sum(record["tiles"] for record in self._records.values())

    @property
    def folder(self) -> Path:
        """Where strips lie until all are made."""
        return self._journal.folder

    def targets(self, strip: int) -> dict[str, Path]:
        """Where the layers of a strip go."""
        return strip_files(self.folder, self.planned.job, strip)

    def keep(self, strip: int, record: dict[str, Any]) -> None:
        """Write down that a strip is made; its layers lie where they belong.

        Raises:
            OutputError: The disk is full.
        """
        self._journal.finish(strip, record)
        self._records[strip] = record

    def take(self, strip: int, record: dict[str, Any], layers: Mapping[str, bytes]) -> None:
        """As `keep`, for layers that come as the content of their files.

        Raises:
            OutputError: The disk is full.
        """
        targets = self.targets(strip)
        for name, content in layers.items():
            with replacing(targets[name]) as beside:
                beside.write_bytes(content)
        self.keep(strip, record)

    def look_again(self) -> None:
        """Find what other processes have written down of strips."""
        for strip in self.missing:
            record = self._journal.record(strip)
            if record is not None:
                self._records[strip] = record

    def publish(self) -> MappedRaster:
        """Join the strips, all of which are there, and put the outputs in their places.

        Raises:
            ImageError: Not one tile with data could be masked.
            OutputError: An output cannot be written.
        """
        planned = self.planned
        records = [self._records[strip] for strip in sorted(self._records)]
        self._check_some_tile(records)
        report = _report(planned.plan, planned.job, records)
        changed = planned.changed()
        _publish(self._journal, planned, report)
        self._journal.clear()
        return MappedRaster(
            source=planned.source,
            mask=str(planned.output),
            status="written",
            report=report,
            seconds=time.perf_counter() - self._started,
            resumed=self._resumed,
            changed=changed,
        )

    def _check_some_tile(self, records: list[dict[str, Any]]) -> None:
        failed = [tile for record in records for tile in record["failed"]]
        skipped = sum(record["skipped"] for record in records)
        if failed and len(failed) + skipped == self.planned.job.tiles.tile_count:
            self._journal.clear()
            raise ImageError(
                f"raster must have a tile that can be masked, got {len(failed)} that failed "
                f"({self.planned.source}). The first: {failed[0]['error']}"
            )


@contextlib.contextmanager
def open_run(planned: PlannedRaster) -> Iterator[RasterRun]:
    """Hold a raster's output against every other run until the block ends.

    Raises:
        OutputError: Another run is at work on it, or its folder cannot be written.
    """
    with open_journal(planned.output, planned.plan) as journal:
        yield RasterRun(planned, journal)


def strip_files(folder: Path, job: RasterJob, strip: int) -> dict[str, Path]:
    """Where the layers of a strip lie in a folder, by name."""
    return {layer.name: strip_file(folder, layer.name, strip) for layer in job.layers}


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


def _publish(journal: Journal, planned: PlannedRaster, report: Mapping[str, Any]) -> None:
    """Make the outputs in the journal's folder, then move them; the report comes last and says: finished."""
    output, job = planned.output, planned.job
    probability, beside = outputs_of(output)
    tops = job.strip_tops
    filled = [strip for strip in range(len(tops) - 1) if tops[strip + 1] > tops[strip]]
    tags = {
        "AUTOSAM_VERSION": __version__,
        "AUTOSAM_MODEL": str(report["plan"]["model"]),
        "AUTOSAM_THRESHOLD": repr(job.threshold),
        **_views_of(job),
    }
    made = []
    for layer, place in zip(job.layers, (output, probability), strict=False):
        file = journal.folder / f"{layer.name}.tif"
        strips = [(journal.raster(layer.name, strip), tops[strip]) for strip in filled]
        write_cog(
            file,
            layer,
            strips,
            size=job.grid.source_size,
            georeference=planned.georeference,
            tags=tags,
        )
        made.append((file, place))
    beside.unlink(missing_ok=True)
    if len(job.layers) == 1:  # a probability that is there is of an older mask
        probability.unlink(missing_ok=True)
    for file, place in reversed(made):
        journal.publish(file, place)
    write_json(beside, report)


def _views_of(job: RasterJob) -> dict[str, str]:
    """Tags of a mask for which the model looked more than once at each tile."""
    tags = {}
    if job.scales is not None:
        tags["AUTOSAM_SCALES"] = ",".join(f"{scale:g}" for scale in job.scales.scales)
    if job.settings.dihedral:
        tags["AUTOSAM_DIHEDRAL"] = "YES"
    return tags
