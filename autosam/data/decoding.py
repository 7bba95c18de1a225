"""A picture file of any common kind to the values it stores, upright.

What cannot be read faithfully is refused by name. Pillow reads; OpenCV only colours of 16 bits, which
Pillow would cut to 8.
"""

import contextlib
import dataclasses
import io
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from autosam.errors import ImageError, MissingPathError
from autosam.files import PathLike

LARGEST_PICTURE = 500_000_000
"""Pixels. Above it a picture no longer fits the memory of the machines this is meant for."""

# What Pillow's decoders raise on damaged files.
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, KeyError, IndexError, TypeError,
            OverflowError, struct.error, zlib.error)  # fmt: skip
_JPEG_FORMATS = ("JPEG", "MPO")
# Undoes an EXIF orientation, on arrays. Keys as in EXIF 2.3, tag 0x0112.
_UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda values: values[:, ::-1],
    3: lambda values: values[::-1, ::-1],
    4: lambda values: values[::-1],
    5: lambda values: values.swapaxes(0, 1),
    6: lambda values: np.rot90(values, k=-1),
    7: lambda values: np.rot90(values, k=2).swapaxes(0, 1),
    8: lambda values: np.rot90(values, k=1),
}
_KINDS = {"P": "palette", "PA": "palette with transparency"}
_PNG_GREY_STEPS = {"L;2": 85, "L;4": 17}
"""Of 2 and 4 bits, which Pillow spreads over 0..255, but not the value that a PNG names transparent."""
_SAMPLE_FORMAT, _NO_DATA = 339, 42113
"""Tags of a TIFF: 1 for unsigned and 2 for signed values, and GDAL's text of the value without data."""
_pillow_limit = threading.Lock()


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class StoredValues:
    """What a file holds, before it is made a picture or a mask."""

    values: np.ndarray
    """(height, width) or (height, width, 3) RGB, in the type that is stored."""
    alpha: np.ndarray | None = None
    """(height, width) bool, False where fully transparent; None when there is no transparency."""
    notes: tuple[str, ...] = ()
    """What was converted, one short sentence each."""
    no_data: float | None = None
    """What a TIFF says stands for no data; None when it says nothing."""

    def upright(self, orientation: int) -> "StoredValues":
        """The same, turned as EXIF says; values outside 2..8 turn nothing."""
        turn = _UPRIGHT.get(orientation)
        if turn is None:
            return self
        return dataclasses.replace(
            self,
            values=turn(self.values),
            alpha=None if self.alpha is None else turn(self.alpha),
            notes=(*self.notes, f"turned upright (EXIF orientation {orientation})"),
        )


def decode_file(source: PathLike | bytes, label: str, *, as_mask: bool) -> StoredValues:
    """Read the values of a picture file, upright; of several pages the first.

    Args:
        source: The file, or its bytes.
        label: What messages call it.
        as_mask: Keep palette indices, and refuse JPEG.

    Raises:
        MissingPathError: There is no such file.
        ImageError: It is empty, damaged, no picture, too large, or a mask stored as JPEG.
    """
    content = source if isinstance(source, bytes) else _checked_file(Path(source))
    with open_picture(content, label) as picture:
        check_size(picture.height, picture.width, label)
        if as_mask and picture.format in _JPEG_FORMATS:
            raise ImageError(
                f"mask must be stored without loss, got a JPEG ({label}), in which land is not exactly "
                "zero. Save it as PNG from the original."
            )
        if not _has_deep_colours(picture, content):
            return decode_image(picture, label, as_mask=as_mask)
        picture.load()  # finds damage, which OpenCV passes over
        # For TIFF both libraries turn the pixels themselves, and the orientation is 1 by now.
        return _deep_values(picture, content).upright(_orientation(picture))


def decode_image(picture: Image.Image, label: str, *, as_mask: bool) -> StoredValues:
    """Take the values of a Pillow image, upright; its colours have at most 8 bits.

    Raises:
        ImageError: It is damaged.
    """
    with _damage_named(label):
        clear = _transparent_value(picture)
        picture.load()
        if as_mask and picture.mode in ("P", "PA"):
            stored = StoredValues(values=np.array(picture.getchannel(0)))
        else:
            stored = _plain_values(*_plain_mode(picture), clear=clear)
        return _as_tagged(stored, picture).upright(_orientation(picture))


def check_size(height: int, width: int, label: str) -> None:
    """Refuse what would not fit into memory.

    Raises:
        ImageError: There are more than `LARGEST_PICTURE` pixels.
    """
    if height * width > LARGEST_PICTURE:
        raise ImageError(
            f"picture must have at most {LARGEST_PICTURE // 1_000_000} million pixels, "
            f"got {width} x {height} ({label}). Cut it into tiles first."
        )


@contextlib.contextmanager
def _damage_named(label: str) -> Iterator[None]:
    """Turn what a decoder raises into one sentence."""
    try:
        yield
    except ImageError:
        raise
    except _DAMAGED as error:
        if isinstance(error, OSError) and error.errno is not None:
            problem, remedy = f"readable, got {error.strerror}", "Check the rights and the disk."
        else:
            got = str(error) or type(error).__name__
            problem, remedy = f"complete and undamaged, got: {got}", "Copy or download it again."
        raise ImageError(f"picture must be {problem} ({label}). {remedy}") from error


def _checked_file(path: Path) -> Path:
    path = path.expanduser()
    if path.is_dir():
        raise ImageError(f"picture must be a file, got a folder ({path}). Name a file inside it.")
    if not path.exists():
        raise MissingPathError(f"picture must exist, got {path}. Check the path.")
    return path


@contextlib.contextmanager
def open_picture(content: Path | bytes, label: str) -> Iterator[Image.Image]:
    """Open with Pillow, of any size: without its own limit, which bars pictures that we read.

    Raises:
        ImageError: It is empty, damaged or no picture, or is found to be while it is open.
    """
    with _damage_named(label):
        size = len(content) if isinstance(content, bytes) else content.stat().st_size
        if size == 0:
            raise ImageError(f"picture must not be empty, got 0 bytes ({label}). Copy it again.")
        stream: Any = io.BytesIO(content) if isinstance(content, bytes) else content
        try:
            with _pillow_limit:
                limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
                try:
                    picture = Image.open(stream)
                finally:
                    Image.MAX_IMAGE_PIXELS = limit
        except UnidentifiedImageError as error:
            raise ImageError(_not_a_picture(_first_bytes(content, 4), label)) from error
        with picture:
            yield picture


def _not_a_picture(start: bytes, label: str) -> str:
    if start in (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+"):
        return (
            f"picture must have 8 or 16 bits in each of 1, 3 or 4 channels, got a TIFF of another kind "
            f"({label}), perhaps of floats or many bands. Convert it to 8-bit RGB, or mask it by autosam map."
        )
    return (
        f"picture must be PNG, JPEG, TIFF or a like format, got a file that is none ({label}). "
        "Check that the download was complete and that it is a picture at all."
    )


def _first_bytes(content: Path | bytes, count: int) -> bytes:
    if isinstance(content, bytes):
        return content[:count]
    with content.open("rb") as stream:
        return stream.read(count)


def _has_deep_colours(picture: Image.Image, content: Path | bytes) -> bool:
    """True for colours of 16 bits; grey of 16 bits is no trouble to Pillow."""
    if picture.mode not in ("RGB", "RGBA", "RGBX", "LA"):
        return False
    if picture.format == "PNG":
        return _first_bytes(content, 25)[24:] == b"\x10"  # bit depth in the header chunk
    bits: tuple[int, ...] = getattr(picture, "tag_v2", {}).get(258, (8,))  # BitsPerSample of a TIFF
    return max(bits) > 8


def _deep_values(picture: Image.Image, content: Path | bytes) -> StoredValues:
    if isinstance(content, bytes):
        encoded = np.frombuffer(content, dtype=np.uint8)
    else:
        encoded = np.fromfile(content, dtype=np.uint8)
    try:
        # Unchanged also means that OpenCV leaves the orientation alone, except of a TIFF.
        values = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise ValueError(str(error).strip()) from error
    if values is None or values.dtype != np.uint16 or values.ndim != 3:
        raise ValueError("16-bit colours that cannot be decoded")
    colours = values[..., 2::-1]  # BGR to RGB
    if "A" in picture.getbands():
        return StoredValues(values=colours, alpha=values[..., 3] > 0)
    return StoredValues(values=colours, alpha=_opaque(colours, _transparent_value(picture)))


def _orientation(picture: Image.Image) -> int:
    try:
        value = picture.getexif().get(ExifTags.Base.Orientation, 1)
    except _DAMAGED:
        return 1  # broken camera notes do not spoil the pixels
    return value if isinstance(value, int) else 1


def _plain_mode(picture: Image.Image) -> tuple[Image.Image, tuple[str, ...]]:
    """Grey, grey with alpha, RGB, RGBA or a mode of deep values, and what was converted."""
    mode = picture.mode
    if mode in ("P", "PA"):
        clear = mode == "PA" or "transparency" in picture.info
        return picture.convert("RGBA" if clear else "RGB"), (f"{_KINDS[mode]} converted to RGB",)
    if mode in ("La", "RGBa"):
        return picture.convert({"La": "LA", "RGBa": "RGBA"}[mode]), ()
    if mode in ("1", "L", "LA", "RGB", "RGBA", "I", "F") or mode.startswith("I;16"):
        return picture, ()
    return picture.convert("RGB"), (f"{mode} converted to RGB",)


def _transparent_value(picture: Image.Image) -> int | tuple[int, ...] | None:
    """The one grey or colour that a PNG (tRNS) or GIF calls transparent; ask before the pixels are loaded."""
    value = picture.info.get("transparency")
    if picture.mode == "RGB":
        return value if isinstance(value, tuple) and len(value) == 3 else None
    if not isinstance(value, int) or picture.mode not in ("1", "L", "I", "I;16", "I;16B"):
        return None
    if picture.mode == "1":
        return min(value, 1)
    tiles: Any = getattr(picture, "tile", ())  # none are left once they are loaded
    return value * _PNG_GREY_STEPS.get(tiles[0][3], 1) if tiles else value


def _opaque(values: np.ndarray, clear: int | tuple[int, ...] | None) -> np.ndarray | None:
    """(height, width) bool, False where all channels have the transparent value; None without one."""
    if clear is None:
        return None
    differs: np.ndarray = (values != np.array(clear)).reshape(*values.shape[:2], -1).any(axis=2)
    return differs


def _plain_values(
    picture: Image.Image, notes: tuple[str, ...], *, clear: int | tuple[int, ...] | None
) -> StoredValues:
    values = np.array(picture)
    if picture.mode == "LA":
        return StoredValues(values=values[..., 0], alpha=values[..., 1] > 0, notes=notes)
    if picture.mode == "RGBA":
        return StoredValues(values=values[..., :3], alpha=values[..., 3] > 0, notes=notes)
    return StoredValues(values=values, alpha=_opaque(values, clear), notes=notes)


def _as_tagged(stored: StoredValues, picture: Image.Image) -> StoredValues:
    """The same with what the tags of a TIFF say and Pillow passes over: the sign, and the no-data value."""
    tags = getattr(picture, "tag_v2", None)
    if tags is None:
        return stored
    values, kind = stored.values, (*tags.get(_SAMPLE_FORMAT, ()), 1)[0]
    if kind == 2 and values.dtype == np.uint8:
        values = values.view(np.int8)
    elif kind == 1 and values.dtype == np.int32:
        # 16 bits that Pillow has widened are not negative, and stay what they are.
        values = values.view(np.uint32)
    try:
        no_data = float(str(tags.get(_NO_DATA, "")).strip("\0 "))
    except ValueError:
        no_data = None
    return dataclasses.replace(stored, values=values, no_data=no_data)
