"""What `autosam map` does: rasters in, masks on the same pixels out, and what became of each."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from autosam.errors import AutoSamError, ConfigError, OutputError, one_line
from autosam.files import PathLike
from autosam.inference.engines import (
    check_engine,
    mask_with_engine,
    needs_processes,
    speaks_for_all,
)
from autosam.inference.map_orders import MapOrder
from autosam.inference.planned_rasters import MappedRaster, outputs_of, read_report
from autosam.inference.raster_plan import RasterPlan, plan_raster
from autosam.inference.segmenter import AutoSam
from autosam.inference.strip_workers import ModelSource
from autosam.inference.tile_models import TileModel
from autosam.inference.tiles import as_tile_model, mask_raster
from autosam.maps.journal import unfinished
from autosam.maps.metric_ground import lies_on_earth
from autosam.maps.rasters import open_raster
from autosam.maps.settings import MapSettings
from autosam.maps.stac import StacRaster
from autosam.maps.stac_items import StacMask, write_stac
from autosam.recipes.raster_sources import RasterPair, pair_rasters
from autosam.wording import counted

_NO_CRS = (
    "raster must have a coordinate system for polygons in GeoJSON, which is in degrees, got one without "
    "a place on the earth ({}). Write .gpkg, or georeference it first."
)
_OTHERS = (
    "output must be new or autosam's own, got {}, beside which no mask lies: it is something else and would "
    "be lost. Choose another folder with -o, or --overwrite."
)
_NO_NAME = (
    "runtime must be for a model that is named, got {!r} for an object. "
    "Give it to AutoSam.from_pretrained."
)


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
    origin: StacRaster | None = None
    """The STAC item that pointed to the raster."""
    error: str | None = None
    """Why there is no mask, or why something that was to be made of it is not there."""

    @property
    def is_whole(self) -> bool:
        """Whether nothing failed, not even one tile."""
        return self.error is None and not (self.raster and self.raster.failed_tiles)

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
            values["changed"] = list(self.raster.changed)
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
    asset: str | None = None,
    with_crs: bool = False,
    engine: str = "local",
    workers: int | None = None,
    device: str | None = None,
    runtime: str | None = None,
    token: str | None = None,
    companions: Callable[[Path], Sequence[Path]] = lambda mask: (),
    say: Callable[[str], None] = print,
) -> list[MapOutcome]:
    """Mask rasters into a folder; one that fails is reported and the others go on.

    Args:
        model: Folder of a run, ``owner/name`` on the hub, or a model.
        source: Rasters, addresses, folders, glob patterns, and STAC items, collections or catalogs.
        output: Folder for ``<name>.tif``, made if it is not there.
        settings: How.
        overwrite: Mask again what is finished, and write over files that are not autosam's.
        dry_run: Say what it would cost; the model is timed on one tile, and nothing is written.
        asset: Key of the asset of STAC items that is masked.
        with_crs: Whether a raster without a coordinate system fails, before anything is masked.
        engine: 'local', 'accelerate' or 'ray', as for `mask_with_engine`; the masks are the same.
        workers: Of the engine; None for one on each GPU, or on each machine. One local worker is this
            process.
        device: As for `AutoSam`.
        runtime: As for `AutoSam.from_pretrained`, for a model that is named; masks say which it was.
        token: For a private model.
        companions: What else will be written for a mask; it must not be somebody else's.
        say: Told what became of each raster, as soon as it is known.

    Returns:
        In the order of the sources; nothing in processes that were launched together with a main one.

    Raises:
        ConfigError: A source is empty, the model cannot mask rasters, or workers would have to load a model
            that has no name, or let a runtime encode for it.
        EngineError: Workers cannot start.
        MissingPackageError: Ray is not installed.
        OutputError: `output` is a file, two rasters would share a mask, or a mask would fall on a raster.
    """
    pairs = pair_rasters(source, output, asset=asset)
    check_engine(engine, workers)
    given = (
        ModelSource(model=model, device=device, token=token, runtime=runtime)
        if isinstance(model, str)
        else model
    )
    named = given if isinstance(given, ModelSource) else None
    if named is None and runtime is not None:
        raise ConfigError(_NO_NAME.format(runtime))
    told = _Told(say if speaks_for_all(engine) else lambda line: None)
    for pair in pairs if with_crs else []:
        if not _may_have_crs(pair.source):
            told.add(pair, _outcome(pair, ConfigError(_NO_CRS.format(pair.source))))
    for pair in [] if overwrite else pairs:
        others = _files_of_others(pair.mask, companions(pair.mask))
        if others and pair.source not in told.outcomes:
            told.add(pair, _outcome(pair, OutputError(_OTHERS.format(others[0]))))
    left = [pair for pair in pairs if pair.source not in told.outcomes]
    settings = settings or MapSettings()
    elsewhere = not dry_run and needs_processes(engine, named, workers)
    if elsewhere and named is not None:
        order = MapOrder(
            pairs=[(pair.source, pair.mask) for pair in left],
            settings=settings,
            overwrite=overwrite,
            on_each=lambda raster, result: told.add(left[raster], _outcome(left[raster], result)),
        )
        mask_with_engine(engine, named, order, workers=workers)
    elif left:
        tile_model = given.load() if isinstance(given, ModelSource) else as_tile_model(given)
        for pair in left:
            if dry_run:
                told.add(pair, _planned(tile_model, pair, settings))
            else:
                told.add(pair, _masked(tile_model, pair, settings, overwrite))
    if not speaks_for_all(engine):
        return []
    return [told.outcomes[pair.source] for pair in pairs]


@dataclasses.dataclass(frozen=True)
class _Told:
    """What is known by now."""

    say: Callable[[str], None]
    outcomes: dict[str, MapOutcome] = dataclasses.field(default_factory=dict)

    def add(self, pair: RasterPair, outcome: MapOutcome) -> None:
        self.outcomes[pair.source] = outcome
        self.say(outcome.sentence())


def _may_have_crs(source: str) -> bool:
    """False where it has none, or a site's own grid; what cannot be opened is told of when it is masked."""
    try:
        with open_raster(source) as raster:
            return raster.georeference is not None and lies_on_earth(raster.georeference.crs)
    except AutoSamError:
        return True


def _files_of_others(mask: Path, companions: Sequence[Path]) -> list[Path]:
    """Files that lie where a mask's companions belong, though no mask of ours was ever there."""
    if mask.exists() or unfinished(mask).exists() or read_report(mask) is not None:
        return []
    return [file for file in (*outputs_of(mask), *companions) if file.exists()]


def _planned(model: TileModel, pair: RasterPair, settings: MapSettings | None) -> MapOutcome:
    try:
        plan = plan_raster(model, pair.source, settings=settings)
    except AutoSamError as error:
        return _outcome(pair, error)
    return MapOutcome(source=pair.source, mask=str(pair.mask), status="would be written", plan=plan)


def _masked(
    model: TileModel, pair: RasterPair, settings: MapSettings | None, overwrite: bool
) -> MapOutcome:
    try:
        mapped = mask_raster(
            model, pair.source, pair.mask, settings=settings, overwrite=overwrite, progress=True
        )
    except AutoSamError as error:
        return _outcome(pair, error)
    return _outcome(pair, mapped)


def _outcome(pair: RasterPair, result: MappedRaster | AutoSamError) -> MapOutcome:
    if isinstance(result, AutoSamError):
        return MapOutcome(source=pair.source, mask="", status="failed", error=one_line(result))
    return MapOutcome(
        source=pair.source,
        mask=str(pair.mask),
        status=result.status,
        raster=result,
        origin=pair.origin,
    )


def write_items(outcomes: Sequence[MapOutcome]) -> Path | None:
    """A STAC item beside each mask, and a collection of them; None where there is no mask.

    Raises:
        MissingPackageError: pystac is not installed.
        OutputError: The folder cannot be written.
    """
    masks = [
        StacMask(
            mask=Path(outcome.mask),
            source=outcome.source,
            origin=outcome.origin,
            report=outcome.raster.report,
        )
        for outcome in outcomes
        if outcome.raster is not None
    ]
    return write_stac(masks[0].mask.parent, masks) if masks else None


def _expected(plan: RasterPlan) -> str:
    notes = "".join(f" ({note})" for note in plan.notes)
    skipped = f"about {plan.skipped}" if plan.skipped else "none"
    looks = f", each looked at {plan.looks} times" if plan.looks > 1 else ""
    return (
        f"{counted(plan.tiles, 'tile')}{looks}, {skipped} of them without data; about "
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
            f", {counted(len(failed), 'tile')} FAILED and left without data, the first at row "
            f"{window['top']}, column {window['left']}: {window['error']}"
        )
    notes = "".join(f" ({note})" for note in raster.report["notes"])
    anew = f", masked anew: {', '.join(raster.changed)} changed" if raster.changed else ""
    return (
        f", {water}, {counted(tiles['total'], 'tile')}, {tiles['skipped']} skipped, "
        f"{_duration(raster.seconds)}{' after an earlier run' if raster.resumed else ''}{anew}{lost}{notes}"
    )


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
