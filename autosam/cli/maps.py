"""Commands for maps: rasters to masks, masks to polygons and river measures, two dates to change."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from autosam.cli.options import (
    Device,
    Json,
    Model,
    Overwrite,
    Token,
    application,
    print_json,
    say,
)
from autosam.cli.seeing import Html, Picture, Sheet, check_sheet, show_masks, show_page

if TYPE_CHECKING:
    from autosam.maps.rasters import RasterChoice

Mask = Annotated[
    Path,
    typer.Argument(metavar="MASK.tif", help="A mask that `autosam map` wrote, or one like it."),
]
Probability = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(help="The probability on the same grid, for means and intervals."),
]


def _teller(as_json: bool) -> Callable[[str], None]:
    """Where lines go: with --json to stderr, so that stdout holds the JSON alone."""
    return say if as_json else functools.partial(print, flush=True)


@application.command(name="map")
def map_command(
    source: Annotated[
        list[str],
        typer.Argument(
            help="Rasters, their addresses, folders or glob patterns; STAC items, collections or catalogs."
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the masks.")],
    model: Model = "river-nano",
    resolution: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="Metres per pixel at which the model sees the raster."),
    ] = None,
    bands: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Which bands are red, green and blue, e.g. 3,2,1."),
    ] = None,
    nodata: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="Value that means no data, where the raster does not say."),
    ] = None,
    value_range: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            help="LOW,HIGH: values that become black and white; by default 8 bits as they are, else "
            "two percentiles of the whole raster."
        ),
    ] = None,
    threshold: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="Probability from which a pixel is water; the model's by default."),
    ] = None,
    probability: Annotated[
        str, typer.Option(help="Also write the probability: none, uint8 or float32.")
    ] = "none",
    overlap: Annotated[
        float, typer.Option(help="Share of its side that a tile has in common with the next.")
    ] = 0.25,
    dihedral: Annotated[
        bool, typer.Option("--dihedral", help="Mean of the eight views of each tile: 8 x the work.")
    ] = False,
    vector: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Also write polygons beside each mask: gpkg, geojson, parquet or fgb."),
    ] = None,
    html: Html = False,
    preview: Annotated[
        bool, typer.Option("--preview", help="Also write each raster, shrunk, with its water.")
    ] = False,
    sheet: Sheet = None,
    asset: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            help="Asset of the STAC items that is masked; by default the one with the role visual, else "
            "data.",
            show_default=False,
        ),
    ] = None,
    stac: Annotated[
        bool,
        typer.Option(
            "--stac", help="Also write a STAC item beside each mask, and their collection."
        ),
    ] = False,
    engine: Annotated[
        str,
        typer.Option(
            help="Who works, for the same masks: local (a process for each GPU, or --workers), accelerate "
            "(the processes that accelerate launch or torchrun started), or ray (a cluster: the one that "
            "RAY_ADDRESS names, or this machine)."
        ),
    ] = "local",
    workers: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(
            help="Processes that mask together; by default one for each GPU or machine. On a CPU they "
            "share its threads; each needs memory for a model and a strip.",
            show_default=False,
        ),
    ] = None,
    overwrite: Overwrite = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it would cost here; write nothing.")
    ] = False,
    device: Device = None,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Mask georeferenced rasters of any size: autosam map ORTHOS/ -o MASKS/ --vector gpkg.

    Masks lie on the rasters' own pixels: 1 water, 0 land, 255 no data. A run that was killed goes on.
    """
    from autosam.maps.settings import MapSettings
    from autosam.recipes.mapping import exit_code, map_rasters, write_items

    _check_vector(vector)  # before anything is masked
    check_sheet(sheet)
    settings = MapSettings(
        choice=_raster_choice(bands, nodata, value_range), resolution=resolution, threshold=threshold,
        probability=probability, overlap=overlap, dihedral=dihedral,  # type: ignore[arg-type]
    )  # fmt: skip
    outcomes = map_rasters(
        model, source, output, settings=settings, overwrite=overwrite, dry_run=dry_run,
        asset=asset, with_crs=vector == "geojson", engine=engine, workers=workers,
        device=device, token=token, say=_teller(as_json),
    )  # fmt: skip
    for outcome in outcomes:
        if outcome.status in ("written", "finished before"):
            made = outcome.status == "written" or overwrite
            _write_polygons(Path(outcome.mask), vector, is_new=made, say=_teller(as_json))
    masked = [(one.source, one.mask) for one in outcomes if one.raster is not None]
    show_masks(masked, vector, html=html, preview=preview, sheet=sheet, say=_teller(as_json))
    if stac and not dry_run:
        collection = write_items(outcomes)
        if collection is not None:
            _teller(as_json)(f"{collection}: a STAC collection of {len(outcomes)} masks")
    if as_json:
        print_json([outcome.to_dict() for outcome in outcomes])
    if exit_code(outcomes):
        raise typer.Exit(1)


def _check_vector(vector: str | None) -> None:
    from autosam.errors import ConfigError, did_you_mean
    from autosam.maps.vector_files import VECTOR_FORMATS

    known = [suffix.removeprefix(".") for suffix in VECTOR_FORMATS]
    if vector is not None and vector not in known:
        raise ConfigError(
            f"--vector must be {', '.join(known)}, got {vector!r}. {did_you_mean(vector, known)}"
        )


def _write_polygons(
    mask: Path, vector: str | None, *, is_new: bool, say: Callable[[str], None]
) -> None:
    """Polygons of a mask that has none yet, or is new; those of an older mask are told of."""
    from autosam.maps.vector_files import VECTOR_FORMATS
    from autosam.recipes.river_products import vectorise

    for suffix in VECTOR_FORMATS:
        polygons = mask.with_suffix(suffix)
        if suffix == f".{vector}":
            if is_new or not polygons.exists():
                vectorise(mask, polygons, say=say)
        elif is_new and polygons.exists():
            say(f"{polygons}: is of the mask that was here before. Remove it, or make it again.")


def _raster_choice(
    bands: str | None, nodata: float | None, value_range: str | None
) -> "RasterChoice":
    """The options that say how a raster is read."""
    from autosam.maps.rasters import RasterChoice

    numbers = _numbers("--bands", bands, "3,2,1")
    ends = _numbers("--value-range", value_range, "0,4000", count=2)
    return RasterChoice(
        bands=tuple(int(number) for number in numbers),
        nodata=nodata,
        value_range=(ends[0], ends[1]) if ends else None,
    )


def _numbers(
    option: str, given: str | None, example: str, *, count: int | None = None
) -> list[float]:
    """Numbers between commas; none where the option was not given."""
    from autosam.errors import ConfigError

    if given is None:
        return []
    try:
        numbers = [float(number) for number in given.split(",")]
    except ValueError:
        numbers = []
    whole = count is not None or all(number.is_integer() for number in numbers)
    if not numbers or not whole or (count is not None and len(numbers) != count):
        raise ConfigError(
            f"{option} must be numbers between commas, got {given!r}. Write for example {option} {example}."
        )
    return numbers


@application.command()
def vectors(
    mask: Mask,
    output: Annotated[
        Path, typer.Option("-o", "--output", help=".gpkg, .geojson, .parquet or .fgb.")
    ],
    probability: Probability = None,
    minimum_area: Annotated[
        float, typer.Option(help="Square metres of the smallest polygon that stays.")
    ] = 10.0,
    tolerance: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="Metres by which simplifying may move an outline; a pixel by default."),
    ] = None,
    style: Annotated[
        bool, typer.Option("--style", help="Also write QGIS styles (.qml) beside the rasters.")
    ] = False,
    html: Html = False,
    picture: Picture = None,
    as_json: Json = False,
) -> None:
    """Write the water of a mask as polygons: autosam vectors MASKS/ortho.tif -o river.gpkg."""
    from autosam.maps.vectors import VectorChoice
    from autosam.recipes.river_products import vectorise

    choice = VectorChoice(minimum_area=minimum_area, tolerance=tolerance)
    found = vectorise(
        mask, output, probability=probability, choice=choice, style=style,
        say=_teller(as_json),
    )  # fmt: skip
    if html:
        page = output.with_suffix(".html")
        show_page(mask, page, picture=picture, vectors=output, say=_teller(as_json))
    if as_json:
        print_json(found)


@application.command()
def river(
    mask: Mask,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for what it measures.")],
    probability: Probability = None,
    minimum_area: Annotated[
        float, typer.Option(help="Square metres of the smallest water that is measured.")
    ] = 1000.0,
    spacing: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="Metres between cross-sections; half a width by default."),
    ] = None,
    html: Html = False,
    picture: Picture = None,
    as_json: Json = False,
) -> None:
    """Measure rivers: area with an interval, centreline, widths, braiding, islands, and a page to look at."""
    from autosam.maps.river import RiverChoice
    from autosam.recipes.river_products import measure_river

    choice = RiverChoice(minimum_area=minimum_area, spacing=spacing)
    found = measure_river(
        mask, output, probability=probability, choice=choice, say=_teller(as_json)
    )
    if html:
        layers, page = output / f"{mask.stem}.gpkg", output / f"{mask.stem}.html"
        show_page(mask, page, picture=picture, vectors=layers, say=_teller(as_json))
    if as_json:
        print_json(found)


@application.command()
def change(
    first: Annotated[Path, typer.Argument(metavar="EARLIER.tif", help="Mask of the earlier date.")],
    second: Annotated[Path, typer.Argument(metavar="LATER.tif", help="Mask of the later date.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", help=".gpkg, .geojson, .parquet or .fgb.")
    ],
    maximum_shift: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="Metres by which the dates may lie beside each other; two pixels."),
    ] = None,
    minimum_area: Annotated[
        float, typer.Option(help="Square metres of the smallest change that counts.")
    ] = 25.0,
    as_json: Json = False,
) -> None:
    """Say where a river gained and lost water between two masks of one place."""
    from autosam.maps.change import ChangeChoice
    from autosam.recipes.river_products import compare_dates

    choice = ChangeChoice(maximum_shift=maximum_shift, minimum_area=minimum_area)
    found = compare_dates(first, second, output, choice=choice, say=_teller(as_json))
    if as_json:
        print_json(found)
