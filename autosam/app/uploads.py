"""What a browser sends, written to a file of our own name, and the picture in it.

Only PNG, JPEG and TIFF are opened, known by their first bytes: formats that name other files (VRT and its
like) never reach a reader. The name that the browser gives is shown and never becomes a path.
"""

import asyncio
import dataclasses
import re
import unicodedata
import warnings
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import unquote

import numpy as np
from affine import Affine
from PIL import Image

from autosam.app.refusals import RefusedError, in_words, too_large
from autosam.data.images import read_image
from autosam.drawing import shrink
from autosam.errors import AutoSamError, OutputError, one_line
from autosam.maps.metric_ground import read_ground
from autosam.maps.model_grid import SQUARE, metres_per_pixel
from autosam.maps.raster_preview import read_preview
from autosam.maps.rasters import open_raster
from autosam.types import Georeference

SCREEN_SIDE = 1600
"""Pixels along the longer side of what the page shows and the model sees at first."""
LARGEST_PHOTO = 80_000_000
"""Pixels of a PNG or JPEG, which must be decoded as a whole."""
LARGEST_RASTER = 1_000_000_000
"""Pixels of a TIFF, which is read in strips."""
LARGEST_BLOCK = 256_000_000
"""Bytes of one block of a TIFF, which must be decoded as a whole."""
_STARTS = {
    b"\x89PNG\r\n\x1a\n": ".png",
    b"\xff\xd8\xff": ".jpg",
    b"II*\0": ".tif",
    b"MM\0*": ".tif",
    b"II+\0": ".tif",
    b"MM\0+": ".tif",
}
_LONGEST_NAME = 80
LONGEST_SILENCE = 60.0
"""Seconds between two pieces of an upload."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Picture:
    """What was uploaded, as the page shows it."""

    name: str
    """What its owner calls it; never a path."""
    file: Path
    size: tuple[int, int]
    """(height, width) of the file."""
    screen: np.ndarray
    """(height, width, 3) uint8, RGB: all of it, shrunk where it is larger than the screen."""
    valid: np.ndarray | None
    """(height, width) bool of the screen, False without data; None when all has data."""
    georeference: Georeference | None
    place: str
    """Its coordinate reference system and pixel size in words, or why it has none."""
    notes: tuple[str, ...]
    """What was changed while reading, one short sentence each."""

    @property
    def is_shrunk(self) -> bool:
        """Whether the screen shows fewer pixels than the file has."""
        return self.screen.shape[:2] != self.size

    @property
    def is_raster(self) -> bool:
        """Whether its file is read in strips, by GDAL."""
        return self.file.suffix == ".tif"

    @property
    def stem(self) -> str:
        """For the names of what is downloaded: ASCII letters, digits, dots, dashes."""
        plain = unicodedata.normalize("NFKD", Path(self.name).stem).encode("ascii", "ignore")
        return re.sub(r"[^A-Za-z0-9._-]+", "-", plain.decode()).strip(".-") or "picture"


async def receive(chunks: AsyncIterator[bytes], file: Path, *, limit: int) -> None:
    """Write what arrives, and stop where it grows too large.

    Raises:
        RefusedError: There are more than `limit` bytes (413), or none, or no more come (408).
        OutputError: The disk is full.
    """
    count = 0
    try:
        with file.open("xb") as stream:
            async for chunk in _steady(chunks):
                count += len(chunk)
                if count > limit:
                    raise too_large(limit)
                stream.write(chunk)
    except OSError as error:
        raise OutputError(
            f"upload could not be kept: {error.strerror or error}. Free some space and try again."
        ) from error
    if not count:
        raise RefusedError("picture must not be empty, got 0 bytes. Choose another file.")


async def _steady(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same, as long as they come: an upload that stands still must not keep others out."""
    while True:
        try:
            yield await asyncio.wait_for(anext(chunks), LONGEST_SILENCE)
        except StopAsyncIteration:
            return
        except asyncio.TimeoutError as error:
            raise RefusedError(
                f"upload must go on, got nothing for {LONGEST_SILENCE:.0f} s. Send it again.",
                status=408,
            ) from error


def shown_name(header: str) -> str:
    """What to call a picture by the percent-encoded name that a browser gave: its last part, printable."""
    last = re.split(r"[\\/]", unquote(header, errors="replace"))[-1]
    plain = "".join(sign for sign in last if sign.isprintable()).strip()
    return plain[-_LONGEST_NAME:] or "picture"


def named_by_content(file: Path) -> Path:
    """Give a file the suffix that its first bytes ask for.

    Raises:
        RefusedError: It is no PNG, JPEG or TIFF (415).
    """
    with file.open("rb") as stream:
        start = stream.read(8)
    for sign, suffix in _STARTS.items():
        if start.startswith(sign):
            return file.rename(file.with_suffix(suffix))
    raise RefusedError(
        "picture must be PNG, JPEG or TIFF, got a file of another kind. "
        "Save it as one of these; other formats are for: autosam map.",
        status=415,
    )


def open_picture(file: Path, name: str) -> Picture:
    """Read what was uploaded, as far as the screen needs it.

    Args:
        file: From `named_by_content`.
        name: From `shown_name`.

    Raises:
        AutoSamError: It is damaged or too large; the text names the picture and not the file.
    """
    try:
        return _open_raster(file, name) if file.suffix == ".tif" else _open_photo(file, name)
    except RefusedError:
        raise
    except AutoSamError as error:
        raise RefusedError(in_words(error, file, name)) from error


def _open_photo(file: Path, name: str) -> Picture:
    _check_pixels(*_size_in_header(file, name), LARGEST_PHOTO, name)
    whole = read_image(file, name=name)
    screen, valid = whole.image, whole.valid
    height, width = screen.shape[:2]
    if max(height, width) > SCREEN_SIDE:
        screen, valid = _shrunk(screen, valid)
    return Picture(
        name=name, file=file, size=(height, width), screen=screen, valid=valid, georeference=None,
        place=_place(None, (height, width), name), notes=whole.notes,
    )  # fmt: skip


def _size_in_header(file: Path, name: str) -> tuple[int, int]:
    """(height, width), before anything is decoded; zeros where the reader will say what is damaged."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            with Image.open(file, formats=("PNG", "JPEG", "MPO")) as header:
                return header.height, header.width
        except Image.DecompressionBombError as error:
            raise _too_many_pixels(LARGEST_PHOTO, "many more", name) from error
        except Exception:
            return 0, 0


def _shrunk(image: np.ndarray, valid: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
    small = shrink(image, SCREEN_SIDE)
    if valid is None:
        return small, None
    return small, shrink(valid.astype(np.uint8) * 255, SCREEN_SIDE) >= 128


def _open_raster(file: Path, name: str) -> Picture:
    with open_raster(file) as raster:
        height, width = raster.size
        _check_pixels(height, width, LARGEST_RASTER, name)
        if raster.block_bytes > LARGEST_BLOCK:
            raise RefusedError(
                f"TIFF must be stored in blocks of at most {LARGEST_BLOCK / 1e6:.0f} MB, got "
                f"{raster.block_bytes / 1e6:.0f} MB ({name}). "
                "Write it anew with: gdal_translate -co TILED=YES.",
                status=413,
            )
        preview = read_preview(raster, longest=SCREEN_SIDE)
        georeference = raster.georeference
        notes = []
        if raster.bands not in ((1, 2, 3), (1,)):
            bands = ", ".join(str(band) for band in raster.bands)
            notes.append(f"band {bands} as the colours")
        if raster.dtype != "uint8":
            notes.append(f"{raster.dtype} stretched to 8 bits, the same for the whole raster")
        sides = metres_per_pixel(georeference, (height, width))
        if sides is not None and max(sides) > SQUARE * min(sides):
            notes.append(
                "its pixels are not square: the mask by tiles squares them, this one does not"
            )
    return Picture(
        name=name, file=file, size=(height, width), screen=preview.image, valid=preview.valid,
        georeference=georeference, place=_place(georeference, (height, width), name),
        notes=tuple(notes),
    )  # fmt: skip


def _check_pixels(height: int, width: int, most: int, name: str) -> None:
    if height * width > most:
        raise _too_many_pixels(most, f"{width} x {height}", name)


def _too_many_pixels(most: int, got: str, name: str) -> RefusedError:
    return RefusedError(
        f"picture must have at most {most // 1_000_000} million pixels here, got {got} ({name}). "
        "Mask it with: autosam map.",
        status=413,
    )


def _place(georeference: Georeference | None, size: tuple[int, int], name: str) -> str:
    """Where it lies, in words."""
    if georeference is None:
        return "No georeference in this file: masks lie on its pixels, and areas are in pixels."
    transform = Affine(*georeference.transform)
    try:
        ground = read_ground(georeference.crs, transform, size=size, name=name)
    except AutoSamError as error:
        return one_line(error)
    if ground.crs is None:
        return "A place but no coordinate reference system: areas are in pixels."
    return f"{ground.crs.name}, {ground.pixel:.3g} m a pixel"
