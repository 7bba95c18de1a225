"""Bands besides red, green and blue: their files, the gaps in them, and what is normal for each."""

from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
from PIL import UnidentifiedImageError

from autosam.data.decoding import decode_file
from autosam.errors import DataError, ImageError
from autosam.files import PathLike
from autosam.types import Sample

_CONSTANT = 1e-6
"""Deviation of a band, as a share of its mean, below which it is rounding."""


def check_band_names(bands: Sequence[str], *, taken: Collection[str] = ()) -> tuple[str, ...]:
    """The names as a tuple.

    Args:
        bands: Each is also a folder or a column.
        taken: Names that mean something else there, such as masks.

    Raises:
        DataError: One is empty, repeated, a path, or taken; or the names are a single text.
    """
    if isinstance(bands, str):
        raise DataError(f"bands must be several names, got {bands!r}. Write [{bands!r}].")
    for index, name in enumerate(bands):
        plain = bool(name.strip()) and not name.startswith(".") and not set(name) & set("/\\")
        if not plain or name in taken or name in bands[:index]:
            others = f", other than {', '.join(sorted(taken))}" if taken else ""
            raise DataError(
                f"bands must be plain names, each once{others}, got {name!r}. "
                "Name each after its folder, such as nir, thermal or dem."
            )
    return tuple(bands)


def read_band(source: PathLike | bytes, *, name: str = "") -> np.ndarray:
    """Read one band, upright as its picture, in the unit that the file has.

    PNG and TIFF of one channel of 8-, 16- or 32-bit whole numbers or 32-bit floats, or of three that
    are equal. Values of 32 bits keep the 24 that float32 holds.

    Args:
        source: The file, or its bytes.
        name: What messages call it; the path when empty.

    Returns:
        (height, width) float32; NaN where the file has no data: where it is transparent, not finite,
        or holds the value that its own no-data tag names. See `fill_gaps`.

    Raises:
        MissingPathError: There is no such file.
        ImageError: It is empty, damaged, too large, no picture, or its channels differ.
    """
    label = name or ("band in memory" if isinstance(source, bytes) else str(source))
    try:
        stored = decode_file(source, label, as_mask=False)
    except ImageError as error:
        if not isinstance(error.__cause__, UnidentifiedImageError):
            raise
        raise ImageError(
            "band must be a PNG or TIFF of one channel of 8, 16 or 32 bits, got a file of another kind "
            f"({label}). Convert it, for example with gdal_translate -b 1 -ot Float32."
        ) from error
    band = _one_channel(stored.values, label).astype(np.float32)
    gaps = ~np.isfinite(band)
    if stored.no_data is not None:
        with np.errstate(over="ignore"):
            gaps |= band == np.float32(stored.no_data)
    if stored.alpha is not None:
        gaps |= ~stored.alpha
    band[gaps] = np.nan
    return band


def fill_gaps(band: np.ndarray, *, name: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Give pixels without data a value that says nothing: the median of the others.

    Args:
        band: (height, width) float32, NaN where there is no data; unchanged itself.
        name: What messages call it.

    Returns:
        The band, finite, and (height, width) bool, False where it was filled; None when nothing was.

    Raises:
        DataError: The band has no data at all.
    """
    gaps = np.isnan(band)
    if not gaps.any():
        return band, None
    if gaps.all():
        raise DataError(
            f"band must hold data, got a file of gaps alone ({name}). Leave its picture out."
        )
    filled = band.copy()
    filled[gaps] = np.median(band[~gaps])
    return filled, ~gaps


def read_bands(
    sources: Mapping[str, PathLike | bytes], size: tuple[int, ...], *, sample: str
) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    """Read the bands of one picture and fill their gaps.

    Args:
        sources: Files or their bytes, by band.
        size: (height, width) of the picture.
        sample: What messages call the picture.

    Returns:
        The bands, (height, width) float32 and finite, by name; and (height, width) bool, False where
        any of them was filled; None when nowhere.

    Raises:
        MissingPathError: A file is not there.
        DataError: A file cannot be used, or shows another size or nothing.
    """
    bands: dict[str, np.ndarray] = {}
    areas = []
    for name, source in sources.items():
        where = f"band {name!r} of sample {sample!r}"
        band = read_band(source, name=where if isinstance(source, bytes) else f"{where}, {source}")
        if band.shape != size:
            raise DataError(
                f"band must have its image's height and width {size}, got {band.shape} ({where}). "
                "Register it to the image first."
            )
        bands[name], area = fill_gaps(band, name=where)
        areas += [] if area is None else [area]
    return bands, np.logical_and.reduce(areas) if areas else None


def band_statistics(
    samples: Iterable[Sample], bands: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """What is normal for each band: its mean and deviation over all valid pixels of all samples.

    One pass in float64, of which memory holds one sample: deviations are summed about each sample's
    own mean, then moved to the common one.

    Args:
        samples: The training samples alone; each has the bands.
        bands: Names.

    Returns:
        (bands,) float64 each, in the bands' own units. The deviation of a constant band is 1, which
        turns it into zeros instead of dividing rounding by rounding.

    Raises:
        DataError: A sample lacks a band, or no pixel is valid.

    Source:
        Chan, Golub and LeVeque 1983, Algorithms for computing the sample variance.
    """
    count, mean, squares = 0, np.zeros(len(bands)), np.zeros(len(bands))
    for sample in samples:
        valid = sample.valid_area
        own = int(valid.sum())
        for index, band in enumerate(sample.bands_of(bands) if own else ()):
            values = band[valid].astype(np.float64)
            apart = values.mean() - mean[index]
            squares[index] += ((values - values.mean()) ** 2).sum()
            squares[index] += apart**2 * (count * own / (count + own))
            mean[index] += apart * (own / (count + own))
        count += own
    if not count:
        raise DataError(
            f"bands must have valid pixels to learn from, got none ({', '.join(bands)}). "
            "Check the split and the valid areas."
        )
    deviation = np.sqrt(squares / count)
    return mean, np.where(deviation > _CONSTANT * np.abs(mean), deviation, 1.0)


def _one_channel(values: np.ndarray, label: str) -> np.ndarray:
    if values.ndim == 2:
        return values
    first = values[..., 0]
    if any((values[..., other] != first).any() for other in range(1, values.shape[2])):
        raise ImageError(
            f"band must have one channel, got {values.shape[2]} that differ ({label}). "
            "Export the values themselves, not a picture of them in colours."
        )
    return np.ascontiguousarray(first)
