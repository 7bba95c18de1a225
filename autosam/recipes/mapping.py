"""What `autosam map` does: rasters in, masks on the same pixels out, and what became of each."""

import dataclasses
import glob
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from urllib.parse import urlsplit

from autosam.errors import AutoSamError, ConfigError, one_line
from autosam.files import PathLike
from autosam.inference.output_names import pair_outputs
from autosam.inference.raster_plan import RasterPlan, plan_raster
from autosam.inference.segmenter import AutoSam
from autosam.inference.tile_models import TileModel
from autosam.inference.tiles import MappedRaster, as_tile_model, mask_raster, outputs_of
from autosam.maps.rasters import RASTER_SUFFIXES
from autosam.maps.settings import MapSettings
from autosam.recipes.prompting import prompted_model

_REMOTE = ("http://", "https://", "/vsi")


@dataclasses.dataclass(frozen=True, kw_only=True)
class MapOutcome:
    """What became of one raster, ready to print."""

    source: str
    mask: str
    status: Literal["written", "finished before", "would be written", "failed"]
    raster: MappedRaster | None = None
    """For what was written or is finished."""
    plan: RasterPlan | None = None
    """For what would be written."""
    error: str | None = None

    @property
    def is_whole(self) -> bool:
        """Whether nothing failed, not even one tile."""
        return self.status != "failed" and not (self.raster and self.raster.failed_tiles)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        values: dict[str, Any] = {
            "source": self.source,
            "mask": self.mask,
            "status": self.status,
            "error": self.error,
        }
        if self.raster is not None:
            share = self.raster.water_share
            values["seconds"] = round(self.raster.seconds, 3)
            values["resumed"] = self.raster.resumed
            values["water_share"] = None if share is None else round(share, 6)
            values.update(self.raster.report)
        if self.plan is not None:
            values["expected"] = {**dataclasses.asdict(self.plan), "notes": list(self.plan.notes)}
        return values

    def sentence(self) -> str:
        """One line for the console."""
        if self.plan is not None:
            return f"{self.source}: {self.mask} would be written: {_expected(self.plan)}"
        if self.raster is None:
            return f"{self.source}: {self.status}: {self.error}"
        if self.status != "written":
            return f"{self.source}: {self.mask} {self.status}"
        return f"{self.source}: {self.mask}{_found(self.raster)}"


def exit_code(outcomes: Sequence[MapOutcome]) -> int:
    """0 when all is whole, 1 when a raster or a tile failed."""
    return 0 if all(outcome.is_whole for outcome in outcomes) else 1


def map_rasters(
    model: str | AutoSam | TileModel,
    source: Sequence[str],
    output: PathLike,
    *,
    settings: MapSettings | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
    device: str | None = None,
    token: str | None = None,
    say: Callable[[str], None] = print,
) -> list[MapOutcome]:
    """Mask rasters into a folder; one that fails is reported and the others go on.

    Args:
        model: Folder of a run, ``owner/name`` on the hub, or a model.
        source: Rasters, addresses, folders and glob patterns.
        output: Folder for ``<name>.tif``, made if it is not there.
        settings: How.
        overwrite: Mask again what is finished.
        dry_run: Say what it would cost; the model is timed on one tile, and nothing is written.
        device: As for `AutoSam`.
        token: For a private model.
        say: Told what became of each raster, as soon as it is known.

    Raises:
        ConfigError: A source is empty, or the model cannot mask rasters.
        OutputError: `output` is a file, two rasters would share a mask, or a mask would fall on a raster.
    """
    pairs = plan_outputs(source, output)
    loaded = (
        prompted_model(model, None, device=device, token=token) if isinstance(model, str) else model
    )
    tile_model = as_tile_model(loaded)
    outcomes = []
    for raster, mask in pairs:
        if dry_run:
            outcome = _planned(tile_model, raster, mask, settings)
        else:
            outcome = _masked(tile_model, raster, mask, settings, overwrite)
        say(outcome.sentence())
        outcomes.append(outcome)
    return outcomes


def plan_outputs(source: Sequence[str], output: PathLike) -> list[tuple[str, Path]]:
    """Pair each raster with the mask it will get: ``output/<name>.tif``.

    A raster that is named and not there is kept, to be reported like any other that fails.

    Raises:
        ConfigError: A source is empty, or a folder or pattern holds no raster.
        OutputError: As for `map_rasters`.
    """
    rasters = list(dict.fromkeys(found for one in source for found in _found_rasters(one)))
    named = [(raster, _stem(raster)) for raster in rasters]
    masks = pair_outputs(named, output, suffix=".tif", companions=outputs_of, what="rasters")
    return list(zip(rasters, masks, strict=True))


def _found_rasters(source: str) -> list[str]:
    if not str(source).strip():
        raise ConfigError("raster must be named, got ''. Name a file, a folder or a pattern.")
    path = Path(source)
    if source.startswith(_REMOTE) or path.is_file():
        return [source]
    if path.is_dir():
        files, kind = list(path.iterdir()), "folder"
    elif glob.has_magic(source):
        files, kind = [Path(found) for found in glob.glob(source, recursive=True)], "pattern"
    else:
        return [source]
    rasters = sorted(str(file) for file in files if _is_raster(file))
    if not rasters:
        raise ConfigError(
            f"{kind} must hold a raster ({', '.join(RASTER_SUFFIXES)}), got none ({source}). "
            "Check the path, or name the files themselves."
        )
    return rasters


def _is_raster(file: Path) -> bool:
    return (
        file.suffix.lower() in RASTER_SUFFIXES and not file.name.startswith(".") and file.is_file()
    )


def _stem(raster: str) -> str:
    path = urlsplit(raster).path if raster.startswith(("http://", "https://")) else raster
    return PurePosixPath(path).stem if raster.startswith(_REMOTE) else Path(raster).stem


def _planned(model: TileModel, raster: str, mask: Path, settings: MapSettings | None) -> MapOutcome:
    try:
        plan = plan_raster(model, raster, settings=settings)
    except AutoSamError as error:
        return MapOutcome(source=raster, mask="", status="failed", error=one_line(error))
    return MapOutcome(source=raster, mask=str(mask), status="would be written", plan=plan)


def _masked(
    model: TileModel, raster: str, mask: Path, settings: MapSettings | None, overwrite: bool
) -> MapOutcome:
    try:
        mapped = mask_raster(
            model, raster, mask, settings=settings, overwrite=overwrite, progress=True
        )
    except AutoSamError as error:
        return MapOutcome(source=raster, mask="", status="failed", error=one_line(error))
    return MapOutcome(source=raster, mask=str(mask), status=mapped.status, raster=mapped)


def _expected(plan: RasterPlan) -> str:
    notes = "".join(f" ({note})" for note in plan.notes)
    skipped = f"about {plan.skipped}" if plan.skipped else "none"
    return (
        f"{plan.tiles} tiles, {skipped} of them without data; about "
        f"{plan.peak_bytes / 1e9:.1f} GB of memory, at most {plan.disk_bytes / 1e6:.1f} MB on disk, "
        f"about {_duration(plan.seconds)}{notes}"
    )


def _found(raster: MappedRaster) -> str:
    tiles, share = raster.report["tiles"], raster.water_share
    water = "without any data" if share is None else f"water {share:.1%}"
    failed = tiles["failed"]
    lost = ""
    if failed:
        window = failed[0]
        lost = (
            f", {len(failed)} tiles FAILED and are without data, the first at row {window['top']}, "
            f"column {window['left']}: {window['error']}"
        )
    notes = "".join(f" ({note})" for note in raster.report["notes"])
    return (
        f", {water}, {tiles['total']} tiles, {tiles['skipped']} skipped, "
        f"{_duration(raster.seconds)}{' after an earlier run' if raster.resumed else ''}{lost}{notes}"
    )


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
