"""The command that masks rasters: autosam map."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from autosam.cli.options import (
    Device,
    Json,
    Model,
    Overwrite,
    Runtime,
    Token,
    application,
    print_json,
    teller,
)
from autosam.cli.seeing import Html, Sheet, check_sheet

if TYPE_CHECKING:
    from autosam.maps.rasters import RasterChoice


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
    scales: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            help="Show each tile at several scales and take the mean, e.g. 0.5,1,2: at 0.5 the model sees "
            "twice the ground in each direction, at 2 half. --dry-run counts the work.",
            show_default=False,
        ),
    ] = None,
    vector: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            help="Also write polygons beside each mask: gpkg, geojson, parquet or fgb. Give it again for "
            "another format.",
            show_default=False,
        ),
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
    runtime: Runtime = None,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Mask georeferenced rasters of any size: autosam map ORTHOS/ -o MASKS/ --vector gpkg.

    Masks lie on the rasters' own pixels: 1 water, 0 land, 255 no data. A run that was killed goes on.
    """
    from autosam.maps.settings import MapSettings
    from autosam.recipes.map_products import MapProducts, make_products
    from autosam.recipes.mapping import exit_code, map_rasters

    vectors = _checked_vectors(vector or [])  # before anything is masked
    check_sheet(sheet)
    settings = MapSettings(
        choice=_raster_choice(bands, nodata, value_range), resolution=resolution, threshold=threshold,
        probability=probability, overlap=overlap, dihedral=dihedral,  # type: ignore[arg-type]
        scales=(1.0,) if scales is None else tuple(_numbers("--scales", scales, "0.5,1,2")),
    )  # fmt: skip
    products = MapProducts(vectors=vectors, preview=preview, html=html, stac=stac, sheet=sheet)
    outcomes = map_rasters(
        model, source, output, settings=settings, overwrite=overwrite, dry_run=dry_run,
        asset=asset, with_crs="geojson" in vectors, engine=engine, workers=workers,
        device=device, runtime=runtime, token=token, companions=products.files_beside,
        say=teller(as_json),
    )  # fmt: skip
    outcomes = make_products(outcomes, products, overwrite=overwrite, say=teller(as_json))
    if as_json:
        print_json([outcome.to_dict() for outcome in outcomes])
    if exit_code(outcomes):
        raise typer.Exit(1)


def _checked_vectors(wanted: Sequence[str]) -> tuple[str, ...]:
    """Each format once, in the order of the command."""
    from autosam.errors import ConfigError, did_you_mean
    from autosam.maps.vector_files import VECTOR_FORMATS

    known = [suffix.removeprefix(".") for suffix in VECTOR_FORMATS]
    for vector in wanted:
        if vector not in known:
            raise ConfigError(
                f"--vector must be {', '.join(known)}, got {vector!r}. {did_you_mean(vector, known)}"
            )
    return tuple(dict.fromkeys(wanted))


def _raster_choice(
    bands: str | None, nodata: float | None, value_range: str | None
) -> "RasterChoice":
    """The options that say how a raster is read."""
    from autosam.maps.rasters import RasterChoice

    numbers = _numbers("--bands", bands, "3,2,1", are_whole=True)
    ends = _numbers("--value-range", value_range, "0,4000", count=2)
    return RasterChoice(
        bands=tuple(int(number) for number in numbers),
        nodata=nodata,
        value_range=(ends[0], ends[1]) if ends else None,
    )


def _numbers(
    option: str,
    given: str | None,
    example: str,
    *,
    count: int | None = None,
    are_whole: bool = False,
) -> list[float]:
    """Numbers between commas; none where the option was not given."""
    from autosam.errors import ConfigError

    if given is None:
        return []
    try:
        numbers = [float(number) for number in given.split(",")]
    except ValueError:
        numbers = []
    fit = not are_whole or all(number.is_integer() for number in numbers)
    if not numbers or not fit or (count is not None and len(numbers) != count):
        raise ConfigError(
            f"{option} must be numbers between commas, got {given!r}. Write for example {option} {example}."
        )
    return numbers
