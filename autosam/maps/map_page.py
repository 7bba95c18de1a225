"""A mask on its picture as one HTML file to pan and zoom: it loads nothing, and opens from a disk."""

import base64
import dataclasses
import datetime
import html
import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pyproj import CRS, Transformer
from pyproj.exceptions import ProjError

from autosam.drawing import WATER, shrink
from autosam.errors import DataError
from autosam.files import PathLike, write_text
from autosam.maps.finished_rasters import FinishedRaster, WholeRaster, read_whole
from autosam.maps.map_page_layers import drawn_layers
from autosam.maps.metric_ground import Ground
from autosam.maps.raster_preview import read_preview
from autosam.maps.rasters import RasterChoice, open_raster
from autosam.maps.vector_files import Frame

LARGEST_PAGE = 3_000_000
"""Bytes that no page exceeds."""
_SIDE = 1800
"""Pixels along the longer side of what is shown."""
_LARGEST_PICTURE, _LARGEST_MASK = 1_500_000, 250_000
"""Bytes, before they grow by a third as text."""
_TEMPLATE = Path(__file__).with_name("map_page.html")
_GRID = 33
"""Places along each side at which longitude and latitude are known; between them they are interpolated."""
_PALE = (86, 180, 233)
_MASK_OPACITY, _STRIPES = 130, 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class PageWords:
    """What a page says of itself."""

    title: str
    model: str = ""
    date: datetime.date | None = None
    """Of the mask."""
    mask_id: str = ""
    """As polygons bear it (`vectors.mask_id`)."""


def write_map_page(
    path: PathLike,
    raster: FinishedRaster,
    *,
    words: PageWords,
    picture: PathLike | None = None,
    choice: RasterChoice | None = None,
    layers: Mapping[str, Frame] | None = None,
) -> Path:
    """Write the page.

    Args:
        path: Ends in .html.
        raster: The mask.
        words: Title, model and date.
        picture: The raster that was masked; without it the page is of mask and layers alone.
        choice: How the picture's numbers become colours.
        layers: Vectors on top, in any coordinate reference system.

    Raises:
        DataError: The picture is of another size than the mask.
        ImageError: A file is damaged.
        OutputError: The page cannot be written.
    """
    height, width = raster.ground.size
    whole = read_whole(raster, pixel_budget=_SIDE**2)
    shown = None if picture is None else _picture(picture, choice, (height, width))
    values = {
        "size": [height, width],
        "picture": shown,
        "mask": _mask(whole),
        "hasGaps": not bool(whole.valid.all()),
        "layers": drawn_layers(layers or {}, raster.ground),
        **_place(raster.ground),
    }
    date = "" if words.date is None else words.date.isoformat()
    known = (
        words.model and f"model {words.model}",
        words.mask_id and f"mask {words.mask_id}",
        date,
    )
    facts = [fact for fact in known if fact]
    page = _TEMPLATE.read_text(encoding="utf-8")
    filled = {
        "TITLE": html.escape(words.title),
        "FACTS": html.escape(" · ".join(facts)),
        # No sign in it may end the script that holds it.
        "DATA": json.dumps(values, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"),
    }
    write_text(path, re.sub("@@([A-Z]+)@@", lambda place: filled[place[1]], page))
    return Path(path)


def _picture(picture: PathLike, choice: RasterChoice | None, size: tuple[int, int]) -> str:
    with open_raster(picture, choice=choice) as raster:
        if raster.size != size:
            raise DataError(
                f"picture must have the mask's height and width {size}, got {raster.size} ({picture}). "
                "Give the raster that was masked."
            )
        wanted = (choice or RasterChoice()).value_range
        image = read_preview(raster, longest=_SIDE, value_range=wanted).image
    quality = 82
    while True:
        content = _encoded(Image.fromarray(image), "JPEG", quality=quality, optimize=True)
        if len(content) <= _LARGEST_PICTURE:
            return _address(content, "image/jpeg")
        if quality > 60:
            quality -= 10
        else:
            image = shrink(image, round(max(image.shape[:2]) * 0.8))


def _mask(whole: WholeRaster) -> str:
    """Tinted and hatched where water is, grey where nothing is known, clear on land."""
    water, valid = whole.water, whole.valid
    while True:
        rows, columns = np.ogrid[: water.shape[0], : water.shape[1]]
        stripe = (rows + columns) % _STRIPES < _STRIPES // 4
        kind = np.zeros(water.shape, np.uint8)
        kind[water] = 1
        kind[water & stripe] = 2
        kind[~valid] = 3
        image = Image.fromarray(kind).convert("P")
        image.putpalette([0, 0, 0, *WATER, *_PALE, 125, 125, 125])
        opacity = bytes([0, _MASK_OPACITY, _MASK_OPACITY + 40, 200])
        content = _encoded(image, "PNG", transparency=opacity, optimize=True)
        if len(content) <= _LARGEST_MASK:
            return _address(content, "image/png")
        water, valid = water[::2, ::2], valid[::2, ::2]


def _place(ground: Ground) -> dict[str, Any]:
    row, column = ground.sides
    return {
        "transform": list(tuple(ground.transform)[:6]),
        "crs": None if ground.crs is None else ground.crs.name,
        "isDegrees": ground.crs is not None and ground.crs.is_geographic,
        "unit": ground.unit,
        "pixel": [row, column],
        "lonLat": _lon_lat(ground),
    }


def _lon_lat(ground: Ground) -> list[list[float]] | None:
    """Longitudes and latitudes on WGS 84 of a grid, row by row; None where the raster lies nowhere."""
    if ground.crs is None:
        return None
    height, width = ground.size
    rows, columns = np.meshgrid(
        np.linspace(0, height, _GRID), np.linspace(0, width, _GRID), indexing="ij"
    )
    world = ground.to_world(np.column_stack([columns.ravel(), rows.ravel()]))
    try:
        to_degrees = Transformer.from_crs(ground.crs, CRS.from_epsg(4326), always_xy=True)
        found = np.array(to_degrees.transform(world[:, 0], world[:, 1]))
    except ProjError:
        return None
    if not np.isfinite(found).all():
        return None
    longitudes = found[0].reshape(rows.shape)
    for axis in (1, 0):  # neighbours may lie on both sides of the antimeridian
        longitudes = np.unwrap(longitudes, axis=axis, period=360)
    return [longitudes.ravel().round(8).tolist(), found[1].round(8).tolist()]


def _encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format=form, **options)
    return stream.getvalue()


def _address(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
