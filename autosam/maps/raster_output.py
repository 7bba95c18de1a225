"""Strips of pixels to one cloud-optimised GeoTIFF, written beside its place and then renamed.

Strips are small compressed GeoTIFFs of their own, joined by a virtual raster that GDAL copies with
overviews: memory holds a strip while it is written and GDAL's cache while it is copied.
"""

import contextlib
import dataclasses
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import rasterio
import rasterio.shutil
from rasterio.windows import Window

from autosam.errors import OutputError
from autosam.files import replacing
from autosam.maps.rasters import GDAL_ERRORS, ungeoreferenced
from autosam.types import Georeference

BLOCK = 512
"""Height and width of the blocks of what is written."""
STRIP_BLOCK = 256
"""Of strips; as many rows are made together."""
MASK_NODATA = 255
"""In a mask and in a probability of 8 bits."""
PROBABILITY_LEVELS = 254
"""What probability 1 is in 8 bits, so that 255 is free."""
_COPY_CACHE_MEGABYTES = 16, 128
"""Least and most of GDAL's cache while it copies; between them it follows from the width alone."""
_COPIED_BLOCK_ROWS = 4
"""That are kept: of the strips and of the joined raster, one that is used and one that is begun."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layer:
    """One raster that is written."""

    name: str
    """'mask' or 'probability'."""
    dtype: str
    """'uint8' or 'float32'."""
    description: str
    """Of its band."""
    nodata: float
    colours: Mapping[int, tuple[int, int, int]] = dataclasses.field(default_factory=dict)
    """By value, for a mask."""
    scale: float = 1.0
    """By which a stored value is multiplied to get what it means."""

    @property
    def is_mask(self) -> bool:
        """Whether values are classes, which must not be averaged."""
        return bool(self.colours)


MASK_LAYER = Layer(
    name="mask",
    dtype="uint8",
    description="water",
    nodata=MASK_NODATA,
    colours={0: (235, 235, 235), 1: (0, 114, 178), MASK_NODATA: (0, 0, 0)},
)
PROBABILITY_LAYERS = {
    "uint8": Layer(
        name="probability",
        dtype="uint8",
        description="probability of water",
        nodata=MASK_NODATA,
        scale=1 / PROBABILITY_LEVELS,
    ),
    "float32": Layer(
        name="probability",
        dtype="float32",
        description="probability of water",
        nodata=float("nan"),
    ),
}


def write_strip(
    targets: Sequence[tuple[Path, Layer]],
    size: tuple[int, int],
    pieces: Callable[[int, int], Sequence[np.ndarray]],
) -> None:
    """Write one strip of several layers, each in one step.

    Args:
        targets: Where each layer goes.
        size: (height, width) of the strip.
        pieces: Gives for first row and first row beyond, from top to bottom, (rows, width) of each layer's
            type.

    Raises:
        OutputError: The disk is full, or the folder cannot be written.
    """
    height, width = size
    raw = sum(height * width * np.dtype(layer.dtype).itemsize for _, layer in targets)
    _check_space(targets[0][0], raw)
    with contextlib.ExitStack() as renamed:
        files = [renamed.enter_context(replacing(path)) for path, _ in targets]
        with _writing(targets[0][0]), contextlib.ExitStack() as closed:
            opened = [
                closed.enter_context(_new_strip(file, layer, size))
                for file, (_, layer) in zip(files, targets, strict=True)
            ]
            for top in range(0, height, STRIP_BLOCK):
                bottom = min(top + STRIP_BLOCK, height)
                for strip, piece in zip(opened, pieces(top, bottom), strict=True):
                    strip.write(piece, 1, window=Window(0, top, width, bottom - top))
        for file, (path, _) in zip(files, targets, strict=True):
            _check_whole(file, path)


def _new_strip(file: Path, layer: Layer, size: tuple[int, int]) -> Any:
    return rasterio.open(
        file, "w", driver="GTiff", height=size[0], width=size[1], count=1, dtype=layer.dtype,
        tiled=True, blockxsize=STRIP_BLOCK, blockysize=STRIP_BLOCK, compress="zstd", zstd_level=1,
        bigtiff="if_safer",
    )  # fmt: skip


def write_cog(
    output: Path,
    layer: Layer,
    strips: Sequence[tuple[Path, int]],
    *,
    size: tuple[int, int],
    georeference: Georeference | None,
    tags: Mapping[str, str],
) -> None:
    """Join strips to a cloud-optimised GeoTIFF with overviews, in one step.

    Args:
        output: Where.
        layer: What it is.
        strips: File and first row of each, from top to bottom, without gaps.
        size: (height, width) of the whole.
        georeference: Of the whole.
        tags: For the file.

    Raises:
        OutputError: The disk is full, or the folder cannot be written.
    """
    joined = strips[0][0].with_name(f"{layer.name}.vrt")
    _check_space(output, sum(strip.stat().st_size for strip, _ in strips if strip.exists()))
    joined.write_text(_virtual(layer, strips, size, georeference, tags), encoding="utf-8")
    options: dict[str, Any] = {
        "compress": "DEFLATE", "blocksize": BLOCK, "num_threads": "ALL_CPUS", "bigtiff": "IF_SAFER",
        "overview_resampling": "NEAREST" if layer.is_mask else "AVERAGE", "statistics": "NO",
    }  # fmt: skip
    with replacing(output) as beside:
        with _writing(output), rasterio.Env(GDAL_CACHEMAX=_copy_cache(layer, size[1])):
            rasterio.shutil.copy(str(joined), str(beside), driver="COG", **options)
        _check_whole(beside, output)
    joined.unlink()


def _check_space(path: Path, needed: int) -> None:
    """Refuse what would not fit, before GDAL meets the end of the disk and says so in lines of its own."""
    try:
        free = shutil.disk_usage(path.parent).free
    except OSError:
        return  # writing will say what is wrong with the folder
    if free < needed:
        raise OutputError(
            f"{path} could not be written: it may need {needed / 1e6:.1f} MB, and {free / 1e6:.1f} MB are "
            "free. The disk is full: free some space and run again."
        )


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn what GDAL raises while writing into one sentence."""
    try:
        with ungeoreferenced():
            yield
    except GDAL_ERRORS as error:
        got = " ".join(str(error.__cause__ or error).split())
        raise OutputError(
            f"{path} could not be written: {got}. Check the free space and the rights of the folder."
        ) from error


def _copy_cache(layer: Layer, width: int) -> int:
    needed = _COPIED_BLOCK_ROWS * BLOCK * width * np.dtype(layer.dtype).itemsize / 2**20
    least, most = _COPY_CACHE_MEGABYTES
    return int(min(max(needed + 1, least), most))


def _check_whole(beside: Path, path: Path) -> None:
    """GDAL may close a file on a full disk without a word; its last block is then missing."""
    try:
        with ungeoreferenced(), rasterio.open(beside) as written:
            written.read(1, window=Window(written.width - 1, written.height - 1, 1, 1))
    except GDAL_ERRORS as error:
        raise OutputError(
            f"{path} could not be written: what was written cannot be read back. "
            "The disk may be full: free some space and run again."
        ) from error


def _virtual(
    layer: Layer,
    strips: Sequence[tuple[Path, int]],
    size: tuple[int, int],
    georeference: Georeference | None,
    tags: Mapping[str, str],
) -> str:
    """The strips as one virtual raster, in GDAL's own words."""
    height, width = size
    root = ElementTree.Element("VRTDataset", rasterXSize=str(width), rasterYSize=str(height))
    if georeference is not None:
        if georeference.crs is not None:
            _child(root, "SRS", georeference.crs)
        a, b, c, d, e, f = georeference.transform
        _child(root, "GeoTransform", ", ".join(repr(float(value)) for value in (c, a, b, f, d, e)))
    metadata = _child(root, "Metadata")
    for key, value in tags.items():
        _child(metadata, "MDI", value, key=key)
    kind = {"uint8": "Byte", "float32": "Float32"}[layer.dtype]
    band = _child(root, "VRTRasterBand", dataType=kind, band="1", blockXSize=str(BLOCK),
                  blockYSize=str(BLOCK))  # fmt: skip
    _child(band, "Description", layer.description)
    _child(band, "NoDataValue", f"{layer.nodata:g}")
    _child(band, "ColorInterp", "Palette" if layer.colours else "Gray")
    if layer.colours:
        table = _child(band, "ColorTable")
        for number in range(max(layer.colours) + 1):
            red, green, blue = layer.colours.get(number, (0, 0, 0))
            _child(table, "Entry", c1=str(red), c2=str(green), c3=str(blue), c4="255")
    if layer.scale != 1:
        _child(band, "Offset", "0")
        _child(band, "Scale", repr(layer.scale))
    for number, (path, top) in enumerate(strips):
        end = strips[number + 1][1] if number + 1 < len(strips) else height
        source = _child(band, "SimpleSource")
        _child(source, "SourceFilename", path.name, relativeToVRT="1")
        _child(source, "SourceBand", "1")
        place = {"xOff": "0", "xSize": str(width), "ySize": str(end - top)}
        _child(source, "SrcRect", yOff="0", **place)
        _child(source, "DstRect", yOff=str(top), **place)
    return ElementTree.tostring(root, encoding="unicode")


def _child(
    parent: ElementTree.Element, name: str, text: str | None = None, **attributes: str
) -> ElementTree.Element:
    element = ElementTree.SubElement(parent, name, attributes)
    element.text = text
    return element
