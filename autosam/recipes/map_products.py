"""What `autosam map` makes of its masks: polygons, previews, pages, a STAC collection, a sheet."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from autosam.errors import AutoSamError, one_line
from autosam.inference.output_names import preview_of
from autosam.maps.stac_items import item_file
from autosam.maps.vector_files import VECTOR_FORMATS
from autosam.maps.vectors import are_polygons_of
from autosam.recipes.map_pages import draw_page
from autosam.recipes.mapping import MapOutcome, write_items
from autosam.recipes.previews import save_raster_preview, save_sheet
from autosam.recipes.river_products import vectorise
from autosam.wording import counted

Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class MapProducts:
    """What is wanted beside the masks."""

    vectors: Sequence[str] = ()
    """Formats of the polygons: suffixes of `VECTOR_FORMATS` without their dots."""
    preview: bool = False
    html: bool = False
    stac: bool = False
    sheet: Path | None = None

    def files_beside(self, mask: Path) -> list[Path]:
        """All that will be written beside a mask, but for what every mask has."""
        files = [mask.with_suffix(f".{vector}") for vector in self.vectors]
        views = ((preview_of(mask), self.preview), (_page_of(mask), self.html))
        wanted = (*views, (item_file(mask), self.stac))
        return files + [file for file, is_wanted in wanted if is_wanted]


def make_products(
    outcomes: Sequence[MapOutcome],
    products: MapProducts,
    *,
    overwrite: bool = False,
    say: Say = print,
) -> list[MapOutcome]:
    """Make what is wanted of each mask; where that fails it is reported, and the others go on.

    Args:
        outcomes: Of `map_rasters`.
        products: What is wanted.
        overwrite: Write polygons anew that are of the very mask that is there.
        say: Told what was written, what failed, and what lies there of an older mask.

    Returns:
        The outcomes, with the error of each that failed.

    Raises:
        MissingPackageError: pystac is not installed.
        OutputError: The collection or the sheet cannot be written.
    """
    made = []
    for outcome in outcomes:
        if outcome.raster is not None:
            try:
                _make(outcome, products, overwrite, say)
            except AutoSamError as error:
                outcome = dataclasses.replace(outcome, error=one_line(error))
                say(f"{outcome.source}: masked, but failed after that: {outcome.error}")
        made.append(outcome)
    collection = write_items(made) if products.stac else None
    masked = [(one.source, one.mask) for one in made if one.raster is not None]
    if collection is not None:
        say(f"{collection}: a STAC collection of {counted(len(masked), 'mask')}")
    if products.sheet is not None:
        save_sheet(products.sheet, masked, say=say)
    return made


def _make(outcome: MapOutcome, products: MapProducts, overwrite: bool, say: Say) -> None:
    mask = Path(outcome.mask)
    _tell_of_older(mask, products, is_new=outcome.status == "written", say=say)
    every = [mask.with_suffix(f".{vector}") for vector in products.vectors]
    for polygons in every:
        if overwrite or not are_polygons_of(polygons, mask):
            vectorise(mask, polygons, overwrite=overwrite, say=say)
    if products.preview:
        save_raster_preview(mask, say=say)
    if products.html:
        draw_page(mask, _page_of(mask), vectors=every[0] if every else None, say=say)


def _tell_of_older(mask: Path, products: MapProducts, *, is_new: bool, say: Say) -> None:
    """Name what lies beside a mask, is not of it, and will not be written anew."""
    for suffix in VECTOR_FORMATS:
        polygons = mask.with_suffix(suffix)
        is_left = suffix.removeprefix(".") not in products.vectors and polygons.exists()
        if is_left and not are_polygons_of(polygons, mask):
            say(
                f"{polygons}: is of another mask, or does not say of which. Remove it, or make it again by "
                f"--vector {suffix[1:]}."
            )
    views = (
        (preview_of(mask), products.preview, "--preview"),
        (_page_of(mask), products.html, "--html"),
        (item_file(mask), products.stac, "--stac"),
    )
    for view, is_wanted, option in views:
        if is_new and not is_wanted and view.exists():
            say(
                f"{view}: is of the mask that was here before. Remove it, or make it again by {option}."
            )


def _page_of(mask: Path) -> Path:
    return mask.with_suffix(".html")
