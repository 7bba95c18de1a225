"""Picture files and arrays of every common kind to one kind: uint8 RGB, and where it has data.

What cannot be read faithfully is refused by name. Nothing here knows of samples or networks.
"""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from autosam.data.decoding import StoredValues, check_size, decode_file, decode_image
from autosam.data.geometry import PADDING_COLOUR
from autosam.errors import ImageError, MissingPathError
from autosam.files import PathLike
from autosam.types import Georeference

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""What counts as a picture in a folder; a file that is named itself may have any suffix."""
STRETCH_PERCENTILES = (2.0, 98.0)
"""Of a 16-bit picture, shown as 0 and 255; what lies outside is clipped."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Picture:
    """One picture as the library sees it."""

    image: np.ndarray
    """(height, width, 3) uint8, RGB."""
    valid: np.ndarray | None = None
    """(height, width) bool, False where the picture is fully transparent; None when all has data."""
    georeference: Georeference | None = None
    notes: tuple[str, ...] = ()
    """What was changed while reading, one short sentence each."""


def read_image(source: PathLike | bytes, *, name: str = "") -> Picture:
    """Read a picture file of any common kind.

    Grey is repeated, palettes and CMYK are converted, the EXIF orientation is applied, and 16 bits
    are stretched to 8 between two percentiles, the same for all channels. Fully transparent pixels
    are not valid and show SAM's mean colour, as padding does, whatever is stored beneath; the colour of
    all others is left as it is. Of several pages the first is read.

    Args:
        source: The file, or its bytes.
        name: What messages call it; the path when empty.

    Raises:
        MissingPathError: There is no such file.
        ImageError: It is empty, damaged, no picture, too large, or of float or 32-bit values.
    """
    label = name or _label(source)
    return _assembled(decode_file(source, label, as_mask=False), label)


def read_mask(source: PathLike | bytes, *, name: str = "") -> np.ndarray:
    """Read a mask file, upright as its picture.

    Args:
        source: The file, or its bytes.
        name: What messages call it; the path when empty.

    Returns:
        (height, width) bool, True where a value (of any channel, or the palette index) is not zero.
        Transparency is ignored.

    Raises:
        MissingPathError: There is no such file.
        ImageError: As for `read_image`; also a JPEG, in which land is not exactly zero.
    """
    water: np.ndarray = read_labels(source, name=name) != 0
    return water


def read_labels(source: PathLike | bytes, *, name: str = "") -> np.ndarray:
    """Read the values of a mask file as they are stored.

    Returns:
        (height, width), of any integer, bool or float type: grey level, palette index, or the largest
        of the colour channels.

    Raises:
        MissingPathError: There is no such file.
        ImageError: As for `read_mask`.
    """
    label = name or _label(source)
    values = decode_file(source, label, as_mask=True).values
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ImageError(
            f"mask must hold finite numbers, got NaN or infinity ({label}). "
            "Save it as 8-bit PNG with 0 for land and 255 for water."
        )
    return values if values.ndim == 2 else values.max(axis=2)


def to_picture(source: np.ndarray | Image.Image, *, name: str = "array") -> Picture:
    """Take a picture that is already in memory.

    Args:
        source: A Pillow image, or an array (height, width), (height, width, 1), (height, width, 3)
            RGB or (height, width, 4) RGBA of uint8, uint16, bool, or float in 0..1.
        name: What messages call it.

    Raises:
        ImageError: Any other shape, type or range.
    """
    if isinstance(source, Image.Image):
        check_size(source.height, source.width, name)
        return _assembled(decode_image(source, name, as_mask=False), name)
    array = _checked_array(source, name)
    alpha = array[..., 3] > 0 if array.ndim == 3 and array.shape[2] == 4 else None
    values = array[..., :3] if array.ndim == 3 else array
    if values.dtype.kind == "f":
        # Half a grey level is added before cutting off: rounding to nearest.
        values = (values * np.float32(255) + np.float32(0.5)).astype(np.uint8)
    return _assembled(StoredValues(values=values, alpha=alpha), name)


def find_images(source: PathLike | Iterable[PathLike]) -> list[Path]:
    """Find the picture files that a path, pattern, folder or list of these names.

    Args:
        source: A file of any suffix, a folder (its own pictures, not those of folders inside), a
            pattern with ``*``, ``?``, ``[...]`` or ``**``, or several of these.

    Returns:
        Sorted, each file once, at least one.

    Raises:
        MissingPathError: A path does not exist.
        ImageError: A folder, pattern or list holds no picture.
    """
    if isinstance(source, (str, Path)) or hasattr(source, "__fspath__"):
        return sorted(set(_find(Path(source).expanduser())))  # type: ignore[arg-type]
    found = {path for one in source for path in find_images(one)}
    if not found:
        raise ImageError("images must name at least one picture, got an empty list. Give a path.")
    return sorted(found)


def is_image(path: Path) -> bool:
    """True for a file with a picture's suffix that is not hidden."""
    return (
        path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()
    )


def _find(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if path.is_dir():
        found, kind = [inside for inside in path.iterdir() if is_image(inside)], "folder"
    elif any(sign in str(path) for sign in "*?["):
        anchor = Path(path.anchor)
        pattern = str(path.relative_to(anchor)) if path.anchor else str(path)
        found, kind = [inside for inside in anchor.glob(pattern) if is_image(inside)], "pattern"
    else:
        raise MissingPathError(f"picture must exist, got {path}. Check the path.")
    if not found:
        raise ImageError(
            f"{kind} must hold at least one picture ({', '.join(IMAGE_SUFFIXES)}), got none ({path}). "
            "Check the path, or name the files themselves."
        )
    return found


def _label(source: PathLike | bytes) -> str:
    return "picture in memory" if isinstance(source, bytes) else str(source)


def _checked_array(source: Any, name: str) -> np.ndarray:
    if not isinstance(source, np.ndarray):
        raise ImageError(
            f"image must be a numpy array or Pillow image, got {type(source).__name__} ({name}). "
            "Convert a tensor with tensor.permute(1, 2, 0).numpy()."
        )
    shaped = source.ndim == 2 or (source.ndim == 3 and source.shape[2] in (1, 3, 4))
    if not shaped or 0 in source.shape:
        raise ImageError(
            "image must be (height, width), (height, width, 1), (height, width, 3) or (height, width, 4) "
            f"with at least one pixel, got {source.shape} ({name}). Put the channels last."
        )
    check_size(source.shape[0], source.shape[1], name)
    if source.dtype.kind == "f":
        _check_range(source, name)
    elif source.dtype not in (np.uint8, np.uint16, np.bool_):
        raise ImageError(
            f"image must be uint8, uint16, bool or float, got {source.dtype} ({name}). "
            "Convert it with image.astype(np.uint8) when its values are 0..255."
        )
    return source


def _check_range(array: np.ndarray, name: str) -> None:
    low, high = float(array.min()), float(array.max())  # NaN fails both comparisons
    if not (low >= 0 and high <= 1):
        raise ImageError(
            f"image of floats must lie in 0..1, got {low:g}..{high:g} ({name}). "
            "Divide by its largest value, or give uint8."
        )


def _assembled(stored: StoredValues, label: str) -> Picture:
    """The picture of stored values: 8 bits, three channels, valid area."""
    values, notes = stored.values, list(stored.notes)
    valid = stored.alpha
    valid = None if valid is None or valid.all() else np.ascontiguousarray(valid)
    if values.dtype == np.bool_:
        values = values.astype(np.uint8) * np.uint8(255)
    elif values.dtype != np.uint8:
        values, note = _stretched(_sixteen_bits(values, label), valid)
        notes.append(note)
    if values.ndim == 2 or values.shape[2] == 1:
        values = np.repeat(values.reshape(*values.shape[:2], 1), 3, axis=2)
        notes.append("grey repeated in three channels")
    if valid is not None:
        notes.append(f"{1 - valid.mean():.1%} transparent, without data")
        values = np.where(valid[..., None], values, np.array(PADDING_COLOUR, np.uint8))
    return Picture(image=np.ascontiguousarray(values), valid=valid, notes=tuple(notes))


def _sixteen_bits(values: np.ndarray, label: str) -> np.ndarray:
    """Values as uint16 when they are whole and fit: some Pillow versions widen 16 bits to 32."""
    if values.dtype.kind in "iu" and values.min() >= 0 and values.max() <= 65535:
        return values.astype(np.uint16)
    kind = "floats" if values.dtype.kind == "f" else "32-bit integers"
    kind = "values below 0" if values.dtype == np.int8 else kind
    raise ImageError(
        f"picture must have 8 or 16 bits per channel, got {kind} ({label}). "
        "Scale it to 0..255 and save it as 8-bit first: its unit is not known here."
    )


def _stretched(values: np.ndarray, valid: np.ndarray | None) -> tuple[np.ndarray, str]:
    """16 bits to 8, linearly between two percentiles of the pixels with data."""
    counted = values if valid is None or not valid.any() else values[valid]
    low, high = (float(value) for value in np.percentile(counted, STRETCH_PERCENTILES))
    if high <= low:
        # Nearly one value: the range of the type, so that a flat picture keeps its brightness.
        low, high = 0.0, 65535.0
    levels = np.arange(65536, dtype=np.float64)
    table = np.clip(np.rint((levels - low) * (255 / (high - low))), 0, 255).astype(np.uint8)
    share = " and ".join(f"{percentile:g} %" for percentile in STRETCH_PERCENTILES)
    note = f"16 bits stretched to 8 between {low:g} and {high:g} ({share}, all channels alike)"
    return table[values], note
