"""Options of several commands that write something to look at: pages, previews, sheets."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Optional

import typer

Html = Annotated[
    bool, typer.Option("--html", help="Also write a map to open in a browser: one .html file.")
]
Picture = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(help="For --html: what was masked; by default what the mask's report names."),
]
Sheet = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(help="Also draw all masks on their pictures, on one sheet: sheet.jpg."),
]


def check_sheet(sheet: Path | None) -> None:
    """Refuse the name of a sheet before anything is masked."""
    if sheet is not None:
        from autosam.recipes.previews import check_sheet

        check_sheet(sheet)


def show_page(
    mask: Path,
    page: Path,
    *,
    picture: Path | None,
    vectors: Path,
    say: Callable[[str], None],
) -> None:
    """A map of a mask and of what was made of it."""
    from autosam.recipes.map_pages import draw_page

    draw_page(mask, page, picture=picture, vectors=vectors, say=say)
