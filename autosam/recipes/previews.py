"""What `--preview` and `--sheet` do: masks on their pictures, one by one or all on one sheet."""

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from autosam.data.images import read_image, read_mask
from autosam.drawing import (
    IGNORED,
    PREDICTED_OUTLINE,
    contact_sheet,
    hatched,
    overlay,
    save_picture,
    shrink,
)
from autosam.errors import AutoSamError, MissingPathError, OutputError, one_line
from autosam.files import PathLike
from autosam.inference.output_names import preview_of
from autosam.maps.finished_rasters import find_raster, read_whole
from autosam.maps.raster_preview import read_preview
from autosam.maps.rasters import open_raster
from autosam.recipes.map_pages import masked_picture

PREVIEW_SIDE = 1600
SHEET_SIDE = 420
MOST_ON_SHEET = 60
_COLUMNS = 4
_SHEETS = (".png", ".jpg", ".jpeg")
Say = Callable[[str], None]


def save_raster_preview(mask: Path, *, say: Say = print) -> Path:
    """Write ``<mask>.preview.jpg``: the raster that was masked, shrunk, with the water tinted.

    Raises:
        MissingPathError: The report beside the mask does not say what was masked.
        AutoSamError: A file cannot be read or written.
    """
    source, _ = masked_picture(mask)
    if source is None:
        raise MissingPathError(
            f"mask must have its report beside it for a preview, got none ({mask}). Mask it again."
        )
    path = preview_of(mask)
    save_picture(path, _raster_panel(source, mask, PREVIEW_SIDE))
    say(f"{path}: the raster, shrunk, with its water")
    return path


def check_sheet(path: PathLike) -> None:
    """Refuse a name before anything is masked.

    Raises:
        OutputError: The suffix is no picture's.
    """
    if Path(path).suffix.lower() not in _SHEETS:
        raise OutputError(
            f"sheet must end in {', '.join(_SHEETS)}, got {Path(path).name!r}. Give it one of these suffixes."
        )


def save_sheet(
    path: PathLike, pairs: Sequence[tuple[PathLike, PathLike]], *, say: Say = print
) -> Path | None:
    """Draw masks on their pictures, side by side; long folders are cut and say so.

    Args:
        path: A PNG or JPEG.
        pairs: Picture and mask of each: a PNG of `autosam predict` or a GeoTIFF of `autosam map`.
        say: Takes lines for the user.

    Returns:
        Where it is; None where no pair could be drawn.

    Raises:
        OutputError: The suffix is no picture's, or the file cannot be written.
    """
    check_sheet(path)
    panels, titles = [], []
    for picture, mask in pairs[:MOST_ON_SHEET]:
        try:
            panels.append(_panel(picture, Path(mask)))
        except AutoSamError as error:
            say(f"note: not on the sheet: {one_line(error)}")
            continue
        titles.append(Path(picture).name)
    if not panels:
        return None
    legend = (("edge of the water found", PREDICTED_OUTLINE), ("no data", IGNORED))
    written = save_picture(path, contact_sheet(panels, titles, _COLUMNS, legend=legend))
    cut = f", the first of {len(pairs)}" if len(pairs) > MOST_ON_SHEET else ""
    shown = f"{len(panels)} masks on their pictures" if len(panels) > 1 else "a mask on its picture"
    say(f"{written}: {shown}{cut}")
    return written


def _panel(picture: PathLike, mask: Path) -> np.ndarray:
    if mask.suffix.lower() in (".tif", ".tiff"):
        return _raster_panel(picture, mask, SHEET_SIDE)
    read = read_image(picture)
    image, water = shrink(read.image, SHEET_SIDE), read_mask(mask)
    drawn = overlay(image, _shrunk_area(water, image))
    return drawn if read.valid is None else hatched(drawn, ~_shrunk_area(read.valid, image))


def _raster_panel(picture: PathLike, mask: Path, side: int) -> np.ndarray:
    _, choice = masked_picture(mask)
    wanted = None if choice is None else choice.value_range
    with open_raster(picture, choice=choice) as raster:
        image = read_preview(raster, longest=side, value_range=wanted).image
    whole = read_whole(find_raster(mask), pixel_budget=4 * side**2)
    drawn = overlay(image, _shrunk_area(whole.water, image))
    return hatched(drawn, ~_shrunk_area(whole.valid, image))


def _shrunk_area(area: np.ndarray, image: np.ndarray) -> np.ndarray:
    """An area on the pixels of a smaller picture: where at least half of it is."""
    if area.shape == image.shape[:2]:
        return area
    size = (image.shape[1], image.shape[0])
    share = cv2.resize(area.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    return np.asarray(share >= 0.5)
