"""Commands for what is made of masks of rasters: polygons, river measures, the change of two dates."""

from pathlib import Path
from typing import Annotated, Optional

import typer

from autosam.cli.options import Json, application, print_json, teller
from autosam.cli.seeing import Html, Picture, show_page

Mask = Annotated[
    Path,
    typer.Argument(metavar="MASK.tif", help="A mask that `autosam map` wrote, or one like it."),
]
Probability = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        help="The probability on the same grid, for means and intervals; by default the one that "
        "`autosam map` wrote beside the mask.",
        show_default=False,
    ),
]


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
        say=teller(as_json),
    )  # fmt: skip
    if html:
        page = output.with_suffix(".html")
        show_page(mask, page, picture=picture, vectors=output, say=teller(as_json))
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
    found = measure_river(mask, output, probability=probability, choice=choice, say=teller(as_json))
    if html:
        layers, page = output / f"{mask.stem}.gpkg", output / f"{mask.stem}.html"
        show_page(mask, page, picture=picture, vectors=layers, say=teller(as_json))
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
    found = compare_dates(first, second, output, choice=choice, say=teller(as_json))
    if as_json:
        print_json(found)
