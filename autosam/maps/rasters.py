"""Any raster that GDAL reads, opened once and read in rows: colours, where it has data, where it lies."""

import contextlib
import dataclasses
import math
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np
import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window as RasterioWindow

from autosam.errors import ConfigError, ImageError, MissingPathError
from autosam.files import PathLike
from autosam.maps.value_range import ValueRange
from autosam.types import Georeference

RASTER_SUFFIXES = (".tif", ".tiff", ".vrt", ".jp2", ".img", ".png", ".jpg", ".jpeg")
"""What counts as a raster in a folder; a file that is named itself may have any suffix."""
GDAL_ERRORS = (RasterioError, CPLE_BaseError)
"""What rasterio raises when GDAL cannot go on."""
_MERGED = ("uint8", "uint16", "int16", "float32")
"""Types of which OpenCV lays bands side by side."""
_COLOURS = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
_URLS = ("http://", "https://")
_CACHED_BLOCK_ROWS = 2
_CACHE_MEGABYTES = 16, 256
"""Least and most of GDAL's cache of decoded blocks."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RasterChoice:
    """Which of a raster's numbers to look at."""

    bands: tuple[int, ...] = ()
    """Three for red, green and blue, or one for grey, counted from 1; none: as the raster says itself."""
    nodata: float | None = None
    """What stands for no data, in the place of what the raster says; NaN always does."""
    value_range: tuple[float, float] | None = None
    """Values that become 0 and 255; None: 8 bits as they are, anything else between two percentiles."""

    def __post_init__(self) -> None:
        if self.nodata is not None and not math.isfinite(self.nodata):
            object.__setattr__(self, "nodata", None)  # never a number of a raster
        if len(self.bands) not in (0, 1, 3) or any(band < 1 for band in self.bands):
            raise ConfigError(
                f"bands must be one or three numbers from 1, got {list(self.bands)}. "
                "Give red, green and blue, e.g. 3,2,1."
            )
        if self.value_range is not None:
            ValueRange(low=self.value_range[0], high=self.value_range[1])  # refuses what is none


class Raster:
    """An open raster; made by `open_raster`."""

    def __init__(self, dataset: Any, label: str, choice: RasterChoice) -> None:
        self._dataset = dataset
        self.label = label
        self.bands = _chosen_bands(dataset, choice.bands, label)
        self._bands_are_named = bool(choice.bands) or set(_COLOURS) <= set(dataset.colorinterp)
        self._palette = _palette(dataset, self.bands)
        self._nodata = _possible_nodata(choice.nodata, self.dtype, label)
        self._kind = _mask_kind(dataset, self.bands)
        self._lost: str | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """Which bands were taken for the colours, where neither the raster nor anybody says so."""
        plain = [kind for kind in self._dataset.colorinterp if kind != ColorInterp.alpha]
        if self._bands_are_named or len(plain) == len(self.bands):
            return ()
        taken = ", ".join(str(band) for band in self.bands)
        seen = "are taken for red, green and blue" if len(self.bands) == 3 else "is taken for grey"
        return (f"of its {len(plain)} bands {taken} {seen}; --bands names others",)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self._dataset.height, self._dataset.width

    @property
    def dtype(self) -> str:
        """Type of the stored values."""
        return str(self._dataset.dtypes[self.bands[0] - 1])

    @property
    def bytes_per_pixel(self) -> int:
        """Of the bands that are read, as they are stored."""
        return len(self.bands) * np.dtype(self.dtype).itemsize

    @property
    def block_bytes(self) -> int:
        """Of one stored block of all bands, which GDAL must hold decoded."""
        rows, columns = self._dataset.block_shapes[self.bands[0] - 1]
        return int(rows * columns * self._dataset.count * np.dtype(self.dtype).itemsize)

    @property
    def has_palette(self) -> bool:
        """Whether it stores numbers of colours, of which `read_decimated` gives the numbers."""
        return self._palette is not None

    @property
    def has_overviews(self) -> bool:
        """Whether it holds smaller versions of itself."""
        return bool(self._dataset.overviews(self.bands[0]))

    @property
    def cache_bytes(self) -> int:
        """Of decoded blocks that GDAL keeps."""
        return _cache_megabytes(self._dataset) * 2**20

    @property
    def georeference(self) -> Georeference | None:
        """Where it lies; None when nothing is known of it."""
        dataset = self._dataset
        if dataset.crs is None and dataset.transform.is_identity:
            return None
        crs = dataset.crs.to_wkt() if dataset.crs else None
        a, b, c, d, e, f = tuple(dataset.transform)[:6]
        return Georeference(crs=crs or None, transform=(a, b, c, d, e, f))

    @property
    def has_data_everywhere(self) -> bool:
        """Whether nothing can be without data, so that nobody has to look."""
        return self._nodata is None and self._kind == "all" and np.dtype(self.dtype).kind != "f"

    def read(self, top: int, bottom: int, *, left: int = 0, right: int | None = None) -> np.ndarray:
        """(rows, columns, bands) of the chosen bands in the stored type; a palette's colours as uint8.

        Raises:
            ImageError: The file is damaged there, or cannot be reached.
        """
        window = self._window(top, bottom, left, right)
        with self._reading():
            stored = self._dataset.read(list(self.bands), window=window)
        if self._palette is not None:
            return np.asarray(self._palette[stored[0]])
        if str(stored.dtype) in _MERGED:  # several times as fast as numpy
            return np.asarray(cv2.merge(list(stored))).reshape(*stored.shape[1:], len(stored))
        return np.ascontiguousarray(np.moveaxis(stored, 0, -1))

    def read_valid(
        self, top: int, bottom: int, *, left: int = 0, right: int | None = None
    ) -> np.ndarray:
        """(rows, columns) bool, False where the raster has no data in any of the chosen bands.

        Nodata value, alpha (fully transparent), dataset mask and NaN all count.

        Raises:
            ImageError: As for `read`.
        """
        window = self._window(top, bottom, left, right)
        if self.has_data_everywhere:
            return np.ones((int(window.height), int(window.width)), bool)
        bands = list(self.bands)
        with self._reading():
            if self._kind == "shared":
                valid = self._dataset.read_masks(bands[0], window=window) > 0
            else:
                valid = (self._dataset.read_masks(bands, window=window) > 0).any(axis=0)
            if self._nodata is not None or np.dtype(self.dtype).kind == "f":
                valid &= self._has_numbers(self._dataset.read(bands, window=window))
        return np.asarray(valid)

    def read_decimated(self, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """The whole raster at another size, from overviews where there are some, else single pixels.

        Args:
            shape: (height, width).

        Returns:
            (bands, height, width) as it is stored, and (height, width) bool where there is data.

        Raises:
            ImageError: As for `read`.
        """
        bands = list(self.bands)
        with self._reading():
            values = self._dataset.read(bands, out_shape=(len(bands), *shape))
            masks = self._dataset.read_masks(bands, out_shape=(len(bands), *shape))
        return values, (masks > 0).any(axis=0) & self._has_numbers(values)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        """GDAL says once that a mosaic's part cannot be read, then gives zeros for it: here it stays said."""
        if self._lost is not None:
            raise ImageError(self._lost)
        try:
            with gdal_named(self.label):
                yield
        except ImageError as error:
            if self._dataset.driver == "VRT":
                self._lost = str(error)
            raise

    def _has_numbers(self, stored: np.ndarray) -> np.ndarray:
        """(bands, rows, columns) to (rows, columns) bool: some band is a number and not nodata."""
        numbers = np.isfinite(stored) if stored.dtype.kind == "f" else np.ones(stored.shape, bool)
        if self._nodata is not None:
            numbers &= stored != self._nodata
        return np.asarray(numbers.any(axis=0))

    def _window(self, top: int, bottom: int, left: int, right: int | None) -> Any:
        right = self.size[1] if right is None else right
        return RasterioWindow(left, top, right - left, bottom - top)


@contextlib.contextmanager
def open_raster(
    source: PathLike, *, choice: RasterChoice | None = None, label: str | None = None
) -> Iterator[Raster]:
    """Open a raster; what GDAL keeps of it in memory follows from its width, never from its height.

    Args:
        source: A file of any format that GDAL reads, a VRT, an http(s) address or a ``/vsi...`` path.
        choice: Which of its numbers to look at.
        label: What messages call it; its source when None.

    Raises:
        MissingPathError: There is no such file.
        ImageError: It is no raster, is damaged, or has bands that cannot be colours.
        ConfigError: It has not the bands that are asked for.
    """
    path, label = gdal_path(source), label or str(source)
    remote = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR"} if path.startswith("/vsi") else {}
    with rasterio.Env(GDAL_CACHEMAX=_CACHE_MEGABYTES[0], GDAL_HTTP_TIMEOUT=30, **remote):
        with gdal_named(label), ungeoreferenced():
            dataset = rasterio.open(path)
        with dataset:
            if dataset.driver == "VRT":
                _check_parts(path, label)
            raster = Raster(dataset, label, choice or RasterChoice())
            with rasterio.Env(GDAL_CACHEMAX=_cache_megabytes(dataset)):
                yield raster


def _check_parts(path: str, label: str) -> None:
    """Refuse a mosaic of which a file is missing: without a value for no data GDAL would show it as black."""
    mosaic = Path(path)
    try:
        sources = ElementTree.parse(mosaic).iter("SourceFilename")
    except (OSError, ElementTree.ParseError):
        return  # elsewhere, or written into the name itself
    for source in sources:
        name = (source.text or "").strip()
        if not name or ":" in name or name.startswith("/vsi"):
            continue  # GDAL's own names
        part = mosaic.parent / name if source.get("relativeToVRT") == "1" else Path(name)
        if not part.exists():
            raise ImageError(
                f"mosaic must have all its parts, got none at {part} ({label}). Put it there, or build the "
                "mosaic anew without it."
            )


def is_remote(source: str) -> bool:
    """Whether it is an address, or a path of GDAL's own, and no file of this machine."""
    return source.startswith((*_URLS, "/vsi"))


def gdal_path(source: PathLike) -> str:
    """What GDAL calls a source.

    Raises:
        MissingPathError: There is no such file.
        ImageError: It is a folder, or an empty file.
    """
    name = os.fspath(source)
    if name.startswith(_URLS):
        return f"/vsicurl/{name}"
    if name.startswith("/vsi"):
        return name
    path = Path(name).expanduser()
    if not path.exists():
        raise MissingPathError(f"raster must exist, got {name}. Check the path.")
    if path.is_dir():
        raise ImageError(f"raster must be a file, got a folder ({name}). Name a file inside it.")
    if path.stat().st_size == 0:
        raise ImageError(f"raster must not be empty, got 0 bytes ({name}). Copy it again.")
    return str(path)


@contextlib.contextmanager
def ungeoreferenced() -> Iterator[None]:
    """Let rasterio be silent about rasters that lie nowhere: they are welcome, and a note says so."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


@contextlib.contextmanager
def gdal_named(label: str) -> Iterator[None]:
    """Turn what GDAL raises while reading into one sentence.

    Raises:
        ImageError: Always in its place.
    """
    try:
        yield
    except GDAL_ERRORS as error:
        got = " ".join(str(error.__cause__ or error).split())
        raise ImageError(
            f"raster must be whole and of a format that GDAL reads, got: {got} ({label}). "
            "Check the address, or copy the file again."
        ) from error


def _cache_megabytes(dataset: Any) -> int:
    """Room for two rows of blocks of all bands, so that no block is decoded twice."""
    block = dataset.block_shapes[0][0] * dataset.width * dataset.count
    needed = _CACHED_BLOCK_ROWS * block * np.dtype(dataset.dtypes[0]).itemsize / 2**20
    least, most = _CACHE_MEGABYTES
    return int(min(max(needed + 1, least), most))


def _chosen_bands(dataset: Any, wanted: Sequence[int], label: str) -> tuple[int, ...]:
    if dataset.count == 0:
        raise ImageError(
            f"raster must have bands, got none ({label}). "
            "It may be a container: name one of its subdatasets as GDAL does."
        )
    kinds = list(dataset.colorinterp)
    if wanted:
        bands = tuple(wanted)
    elif all(colour in kinds for colour in _COLOURS):
        bands = tuple(kinds.index(colour) + 1 for colour in _COLOURS)
    else:
        plain = [i + 1 for i, kind in enumerate(kinds) if kind != ColorInterp.alpha]
        bands = tuple(plain[:3] if len(plain) >= 3 else plain[:1])
    if not bands or max(bands) > dataset.count:
        raise ConfigError(
            f"bands must be among the {dataset.count} of the raster, got {list(bands)} ({label}). "
            "Give red, green and blue, e.g. 3,2,1, or one band for grey."
        )
    strange = sorted(
        {dataset.dtypes[band - 1] for band in bands if "complex" in dataset.dtypes[band - 1]}
    )
    if strange:
        raise ImageError(
            f"raster must hold real numbers, got {strange[0]} ({label}). Choose other bands."
        )
    return bands


def _possible_nodata(nodata: float | None, dtype: str, label: str) -> float | None:
    """Refuse a value that no pixel can have: it would pass for a raster without gaps."""
    if nodata is not None and np.dtype(dtype).kind in "iu":
        least, most = np.iinfo(dtype).min, np.iinfo(dtype).max
        if not (least <= nodata <= most and float(nodata).is_integer()):
            raise ConfigError(
                f"nodata must be a whole number from {least} to {most} for a raster of {dtype}, got "
                f"{nodata:g} ({label}). Give one that it holds, or leave it out."
            )
    return nodata


def _palette(dataset: Any, bands: Sequence[int]) -> np.ndarray | None:
    """(256, 3) uint8 colours of a raster that stores numbers of colours; None for any other."""
    is_palette = dataset.colorinterp[bands[0] - 1] == ColorInterp.palette
    if len(bands) != 1 or not is_palette or dataset.dtypes[bands[0] - 1] != "uint8":
        return None
    table = np.zeros((256, 3), np.uint8)
    for number, colour in dataset.colormap(bands[0]).items():
        table[number] = colour[:3]
    return table


def _mask_kind(dataset: Any, bands: Sequence[int]) -> str:
    """'all' where everything has data, 'shared' for alpha or a mask of the dataset, else 'own'."""
    flags = dataset.mask_flag_enums[bands[0] - 1]
    # A band that is asked for as a colour is no alpha, whatever the file calls its fourth.
    taken = any(dataset.colorinterp[band - 1] == ColorInterp.alpha for band in bands)
    if MaskFlags.all_valid in flags or taken:
        return "all"
    return "shared" if MaskFlags.per_dataset in flags or MaskFlags.alpha in flags else "own"
