"""What a user may name as a picture: a path, an array, a PIL image, a folder, a pattern, a list of these."""

import os
from collections.abc import Mapping, Sequence
from glob import escape
from pathlib import Path
from typing import Any

import numpy as np
from PIL.Image import Image

from autosam.data.bands import read_bands
from autosam.data.images import Picture, find_images, is_image, read_image, to_picture
from autosam.errors import DataError, ImageError, MissingPathError
from autosam.files import PathLike
from autosam.types import Sample

Source = PathLike | np.ndarray | Image


def is_single(source: object) -> bool:
    """Whether it is one picture.

    Raises:
        ImageError: It is nothing that can name a picture.
    """
    if isinstance(source, np.ndarray | Image):
        return True
    if isinstance(source, Sequence) and not isinstance(source, str | bytes):
        return False
    if not isinstance(source, str | os.PathLike) or not str(source):
        raise ImageError(
            f"source must be a path, an array, a PIL image or a list of these, got {source!r:.60}. "
            "Convert a tensor with tensor.permute(1, 2, 0).numpy()."
        )
    path = Path(source)
    return (path.exists() and not path.is_dir()) or not (path.is_dir() or _is_pattern(path))


def _is_pattern(path: Path) -> bool:
    return any(sign in str(path) for sign in "*?[")


def listed(source: object) -> list[Any]:
    """The pictures of a folder, pattern or list.

    Raises:
        ImageError: There are none.
    """
    if isinstance(source, Sequence) and not isinstance(source, str):
        if not source:
            raise ImageError("source must name at least one picture, got an empty list. Add one.")
        return list(source)
    return list(find_images(source))  # type: ignore[arg-type]


def opened(source: Any) -> tuple[str, Picture]:
    """Name and content of one picture."""
    if isinstance(source, np.ndarray | Image):
        return "image", to_picture(source)
    return Path(source).stem, read_image(source)


def float_bands(bands: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """A user's bands as float32, by name.

    Raises:
        DataError: One is no array of numbers.
    """
    if not isinstance(bands, Mapping):
        raise DataError(
            f"bands must be a mapping from name to array, got {type(bands).__name__}. "
            "Write bands={'nir': array}."
        )
    found = {}
    for name, band in bands.items():
        array = np.asarray(band)
        if array.ndim != 2 or array.dtype.kind not in "uif":
            raise DataError(
                f"band {name!r} must be (height, width) of numbers, got {array.dtype} {array.shape}. "
                "Give one array for each band."
            )
        found[name] = array.astype(np.float32)
    return found


def band_files(
    picture: Path, bands: Sequence[str], *, folders: Mapping[str, PathLike] | None = None
) -> dict[str, Path]:
    """The files of a picture's bands, by name: of the same stem, in a folder beside the picture's own.

    Args:
        picture: For example ``site/images/a.png``, whose nir is ``site/nir/a.*``.
        bands: Names.
        folders: Where bands lie elsewhere.

    Raises:
        MissingPathError: A band has no file of that stem.
        DataError: It has several.
    """
    found = {}
    for band in bands:
        given = (folders or {}).get(band)
        folder = picture.absolute().parent.parent / band if given is None else Path(given)
        files = [
            path for path in sorted(folder.glob(f"{escape(picture.stem)}.*")) if is_image(path)
        ]
        if not files:
            raise MissingPathError(
                f"picture must have its band {band!r}, got no {picture.stem}.* in {folder} ({picture}). "
                f"Put the file there, or say where they are: --band {band}=FOLDER."
            )
        if len(files) > 1:
            raise DataError(
                f"band {band!r} must be one file, got {files[0].name} and {files[1].name} ({folder}). "
                "Remove one."
            )
        found[band] = files[0]
    return found


def sample_of(
    source: Any,
    bands: Sequence[str] = (),
    *,
    folders: Mapping[str, PathLike] | None = None,
    arrays: Mapping[str, np.ndarray] | None = None,
) -> tuple[Sample, tuple[str, ...]]:
    """One picture with the bands that a model reads, unlabelled.

    Args:
        source: A path, an array or a PIL image.
        bands: Names; of a path they are read from the files that `band_files` finds.
        folders: As for `band_files`.
        arrays: Bands that are in memory, in the place of files.

    Returns:
        The sample, and notes on what was changed while reading.

    Raises:
        ImageError: The picture cannot be read.
        DataError, MissingPathError: A band is missing or does not fit.
    """
    name, picture = opened(source)
    values, valid = float_bands({} if arrays is None else arrays), picture.valid
    strange = sorted(values.keys() - set(bands))
    if strange:
        reads = ", ".join(bands) or "none besides red, green and blue"
        raise DataError(
            f"bands must be ones that the model reads, got {strange[0]!r} (it reads {reads}). "
            "Leave it out, or mend the name."
        )
    absent = [band for band in bands if band not in values]
    if absent and isinstance(source, str | os.PathLike):
        files = band_files(Path(source), absent, folders=folders)
        read, area = read_bands(files, picture.image.shape[:2], sample=name)
        values |= read
        if area is not None:
            valid = area if valid is None else area & valid
    sample = Sample(
        name=name,
        image=picture.image,
        valid=valid,
        georeference=picture.georeference,
        bands=values,
    )
    sample.bands_of(bands)  # says which one is missing
    return sample, picture.notes
