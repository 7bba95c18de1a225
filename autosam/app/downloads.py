"""What a browser takes home: mask as PNG or cloud-optimised GeoTIFF, polygons as GeoPackage."""

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from autosam import __version__
from autosam.app.answers import LEVELS, Answer
from autosam.app.refusals import RefusedError
from autosam.app.sessions import Session
from autosam.app.uploads import Picture
from autosam.errors import AutoSamError
from autosam.files import replacing
from autosam.maps.finished_rasters import read_pixels
from autosam.maps.raster_output import MASK_LAYER, MASK_NODATA, STRIP_BLOCK, write_cog, write_strip
from autosam.maps.rasters import open_raster
from autosam.recipes.river_products import vectorise

Kind = Literal["mask.png", "mask.tif", "water.gpkg"]
KINDS = {
    "mask.png": "image/png",
    "mask.tif": "image/tiff",
    "water.gpkg": "application/geopackage+sqlite3",
}
LARGEST_DRAWN = 80_000_000
"""Pixels of a mask that is made in memory: from the screen, or as PNG."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Download:
    """A finished file of a session."""

    file: Path
    name: str
    """For the browser."""
    kind: str
    """Its media type."""


def make_download(
    session: Session, kind: str, *, threshold: float, in_detail: bool, made_by: str
) -> Download:
    """Write one file of what is on the screen, or of the mask by tiles.

    Args:
        session: With an answer.
        kind: One of `KINDS`.
        threshold: Probability from which the screen's pixels are water; the mask by tiles has its own.
        in_detail: The mask by tiles.
        made_by: The model's identity.

    Raises:
        RefusedError: The kind is unknown, does not fit the picture, or the mask by tiles is not there.
        OutputError: The disk is full.
    """
    if kind not in KINDS:
        raise RefusedError(
            f"download must be one of {', '.join(KINDS)}, got {kind!r}. Choose one.", status=404
        )
    picture, answer = session.shown()
    if kind == "mask.tif" and picture.georeference is None:
        raise RefusedError(
            f"GeoTIFF must be of a picture with a georeference, got one without ({picture.name}). "
            "Take the PNG."
        )
    with session.writing:
        if in_detail:
            raster = _finished_detail(session)
        else:
            raster = session.folder / "screen.tif"
            _write_raster(raster, picture, answer, threshold=threshold, made_by=made_by)
        file = raster if kind == "mask.tif" else raster.with_suffix(Path(kind).suffix)
        if kind == "mask.png":
            _write_png(file, raster, made_by, size=picture.size)
        elif kind == "water.gpkg":
            _write_polygons(raster, file, picture)
    return Download(file=file, name=f"{picture.stem}-{kind}", kind=KINDS[kind])


def _write_polygons(raster: Path, file: Path, picture: Picture) -> None:
    """Errors name the picture, which the browser's user knows, and not the file that stands for it here."""
    try:
        vectorise(raster, file, say=lambda line: None)
    except AutoSamError as error:
        raise type(error)(str(error).replace(str(raster), picture.name)) from error


def _finished_detail(session: Session) -> Path:
    detail = session.detail
    if detail is None or detail.state != "done":
        raise RefusedError(
            "mask by tiles must be finished before it is downloaded, got one that is not. Make it first.",
            status=409,
        )
    return detail.mask


def _write_raster(
    file: Path, picture: Picture, answer: Answer, *, threshold: float, made_by: str
) -> None:
    """The screen's mask at the picture's own size, 1 water, 0 land, 255 no data."""
    height, width = picture.size
    if height * width > LARGEST_DRAWN:
        raise RefusedError(
            f"mask from the screen must have at most {LARGEST_DRAWN // 1_000_000} million pixels, got "
            f"{width} x {height} ({picture.name}). Take the mask by tiles.",
            status=413,
        )
    strip = file.with_name("screen-strip.tif")
    pieces = list(_pieces(picture, answer, threshold=threshold))
    write_strip(
        [(strip, MASK_LAYER)], picture.size, lambda top, bottom: [pieces[top // STRIP_BLOCK]]
    )
    tags = {
        "AUTOSAM_VERSION": __version__,
        "AUTOSAM_MODEL": made_by,
        "AUTOSAM_THRESHOLD": repr(threshold),
        "AUTOSAM_CLICKS": str(len(answer.clicks)),
    }
    write_cog(
        file,
        MASK_LAYER,
        [(strip, 0)],
        size=picture.size,
        georeference=picture.georeference,
        tags=tags,
    )
    strip.unlink()


def _pieces(picture: Picture, answer: Answer, *, threshold: float) -> Iterator[np.ndarray]:
    """Rows of the mask, `STRIP_BLOCK` at a time: levels drawn at the picture's size, then the threshold."""
    height, width = picture.size
    levels = answer.levels
    if levels.shape != picture.size:
        levels = cv2.resize(levels, (width, height), interpolation=cv2.INTER_LINEAR)
    mask = (levels >= lowest_level(threshold)).astype(np.uint8)
    for top in range(0, height, STRIP_BLOCK):
        piece = mask[top : top + STRIP_BLOCK]
        piece[~_valid(picture, top, min(top + STRIP_BLOCK, height))] = MASK_NODATA
        yield piece


def _valid(picture: Picture, top: int, bottom: int) -> np.ndarray:
    """(rows, width) bool at the picture's own size."""
    height, width = picture.size
    if picture.valid is None:
        return np.ones((bottom - top, width), bool)
    if picture.is_raster:
        with open_raster(picture.file) as raster:
            return raster.read_valid(top, bottom)
    rows = np.arange(top, bottom) * picture.valid.shape[0] // height
    columns = np.arange(width) * picture.valid.shape[1] // width
    return np.asarray(picture.valid[rows][:, columns])


def lowest_level(threshold: float) -> int:
    """Of the levels that are water; the page counts alike."""
    return math.ceil(threshold * LEVELS)


def _write_png(file: Path, raster: Path, made_by: str, *, size: tuple[int, int]) -> None:
    """255 water, 0 land, transparent where there is no data."""
    height, width = size
    if height * width > LARGEST_DRAWN:
        raise RefusedError(
            f"PNG must have at most {LARGEST_DRAWN // 1_000_000} million pixels, got {width} x {height}. "
            "Take the GeoTIFF.",
            status=413,
        )
    water, valid = read_pixels(raster)  # wherever it lies: a PNG lies nowhere
    image = Image.fromarray(water.astype(np.uint8) * 255)
    if not valid.all():
        image = Image.merge("LA", (image, Image.fromarray(valid.astype(np.uint8) * 255)))
    words = PngInfo()
    words.add_text("autosam", made_by)
    with replacing(file) as beside:
        image.save(beside, pnginfo=words)
