"""What `--html` does: a page of a mask, its picture and its vectors, in one file that opens anywhere."""

import datetime
from collections.abc import Callable
from pathlib import Path

from autosam.errors import AutoSamError, OutputError, one_line
from autosam.files import PathLike, read_json
from autosam.inference.planned_rasters import raster_of
from autosam.maps.finished_rasters import find_raster
from autosam.maps.map_page import PageWords, write_map_page
from autosam.maps.map_page_layers import read_layers
from autosam.maps.rasters import RasterChoice
from autosam.maps.vectors import mask_id


def draw_page(
    mask: PathLike,
    page: PathLike,
    *,
    picture: PathLike | None = None,
    vectors: PathLike | None = None,
    say: Callable[[str], None] = print,
) -> Path:
    """Write the page of a mask.

    Args:
        mask: GeoTIFF of 0 and 1 (or 255).
        page: Ends in .html.
        picture: What was masked; None: what the report beside the mask names, where that is still there.
        vectors: A file of polygons or of what `autosam river` measured; None for none.
        say: Takes lines for the user.

    Raises:
        AutoSamError: A file cannot be read or written, or the picture that is given is another's.
    """
    mask = Path(mask)
    raster = find_raster(mask)
    layers = {} if vectors is None else read_layers(vectors)
    words = PageWords(
        title=mask.stem,
        model=raster.model,
        date=datetime.date.fromtimestamp(mask.stat().st_mtime),
        mask_id=mask_id(mask),
    )
    named, choice = masked_picture(mask)
    shown = named if picture is None else picture
    try:
        written = write_map_page(
            page, raster, words=words, picture=shown, choice=choice, layers=layers
        )
    except OutputError:
        raise
    except AutoSamError as error:
        if picture is not None or shown is None:
            raise
        say(f"note: the page is without its picture: {one_line(error)}")
        written = write_map_page(page, raster, words=words, layers=layers)
    say(f"{written}: a map to open in a browser")
    return written


def masked_picture(mask: Path) -> tuple[str | None, RasterChoice | None]:
    """What the report beside a mask says was masked, and how its numbers became colours; or None twice."""
    try:
        report = read_json(mask.with_suffix(".json"))
        source, scaling = raster_of(mask, str(report["plan"]["source"])), report["normalisation"]
        choice = RasterChoice(
            bands=tuple(int(band) for band in report["bands"]),
            value_range=(float(scaling["low"]), float(scaling["high"])),
        )
    except (AutoSamError, KeyError, TypeError, ValueError):
        return None, None
    return source, choice
