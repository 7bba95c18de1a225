"""Vector files: GeoPackage, GeoJSON, GeoParquet and FlatGeobuf, written beside and then renamed.

The suffix says the format. GeoJSON is in EPSG:4326 with outer rings anticlockwise and cut at the
antimeridian, as RFC 7946 asks; the others keep the raster's own coordinate reference system.
"""

import contextlib
import shutil
import sqlite3
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import geopandas
import pandas
import pyogrio
from pyogrio.errors import DataLayerError, DataSourceError

from autosam.errors import DataError, OutputError, did_you_mean
from autosam.files import PathLike, replacing
from autosam.maps.antimeridian import brought_together, cut_at_antimeridian, holds_a_pole
from autosam.maps.metric_ground import lies_on_earth

Frame = Any
"""geopandas.GeoDataFrame, which has no type information."""
VECTOR_FORMATS: Mapping[str, str] = {
    ".gpkg": "GPKG",
    ".geojson": "GeoJSON",
    ".parquet": "Parquet",
    ".fgb": "FlatGeobuf",
}
"""Suffix -> GDAL's name of the format."""
_NO_DATE = "2000-01-01T00:00:00Z"
"""In the place of today's in a GeoPackage: equal polygons are equal files."""
_LEAST_FREE = 2**20
"""Bytes below which a disk counts as full: what GDAL says of it names tables and temporary files."""
_DECIMALS = 9
"""Of degrees in GeoJSON: a tenth of a millimetre, since seven would fold outlines of drone pictures."""


def vector_format(path: PathLike) -> str:
    """The format of a file by its suffix.

    Raises:
        OutputError: It is none of `VECTOR_FORMATS`.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in VECTOR_FORMATS:
        raise OutputError(
            f"vector file must end in {', '.join(VECTOR_FORMATS)}, got {Path(path).name!r}. "
            f"{did_you_mean(suffix, VECTOR_FORMATS)}"
        )
    return VECTOR_FORMATS[suffix]


def check_replaceable(path: PathLike, *, column: str) -> None:
    """Refuse to write over a vector file that is not of our making.

    Args:
        path: Where one is to be written.
        column: That ours have.

    Raises:
        OutputError: A file is there without that column, or with more than one layer.
    """
    if Path(path).exists() and not _has_column(path, column):
        raise OutputError(
            f"output must be new or autosam's own, got {path}, which holds something else that would be "
            "lost. Choose another name, or move it away."
        )


def _has_column(path: PathLike, column: str) -> bool:
    """Whether it is the only layer's."""
    try:
        if vector_format(path) == "Parquet":
            return column in pandas.read_parquet(path, columns=[column])
        if len(pyogrio.list_layers(path)) != 1:
            return False
        return column in pyogrio.read_info(path)["fields"]
    except (OSError, ValueError, RuntimeError, LookupError):
        return False  # damaged, or of another kind


@contextlib.contextmanager
def writing_vectors(path: PathLike, *, layer: str) -> Iterator[Callable[[Frame], None]]:
    """A function that takes frames one after the other; the file appears when the block ends well.

    GeoPackage is written frame by frame; the other formats cannot grow, so their frames are held.

    Args:
        path: Its suffix says the format.
        layer: Name in a GeoPackage.

    Raises:
        OutputError: Unknown suffix, or the file cannot be written.
        DataError: GeoJSON of geometry without a coordinate reference system.
    """
    form, held, count = vector_format(path), [], 0
    with replacing(path) as beside:

        def write(frame: Frame) -> None:
            nonlocal count
            count += len(frame)
            if form == "GPKG":
                _write(frame, beside, form=form, layer=layer, final=Path(path))
            else:
                held.append(frame)

        yield write
        if form == "GPKG":
            _check_geopackage(beside, Path(path), {layer: count})
        if held:
            # Frames without rows would turn the column types of the others into objects.
            filled = [frame for frame in held if len(frame)] or held[:1]
            joined = geopandas.GeoDataFrame(
                pandas.concat(filled, ignore_index=True), crs=held[0].crs
            )
            _write(joined, beside, form=form, layer=layer, final=Path(path))


def write_layers(path: PathLike, layers: Mapping[str, Frame]) -> Path:
    """Write several layers into one GeoPackage in one step.

    Raises:
        OutputError: The suffix is not .gpkg, or the file cannot be written.
    """
    path = Path(path)
    if vector_format(path) != "GPKG":
        raise OutputError(
            f"file of several layers must end in .gpkg, got {path.name!r}. Write a GeoPackage."
        )
    with replacing(path) as beside:
        for name, frame in layers.items():
            _write(frame, beside, form="GPKG", layer=name, final=path)
        _check_geopackage(beside, path, {name: len(frame) for name, frame in layers.items()})
    return path


def _write(frame: Frame, beside: Path, *, form: str, layer: str, final: Path) -> None:
    try:
        if form == "Parquet":
            frame.to_parquet(beside, index=False)
            return
        options: dict[str, Any] = {"geometry_type": _geometry_type(frame), "layer": layer}
        if form == "GeoJSON":
            frame = _in_degrees(frame, final)
            options["geometry_type"] = "Unknown"  # what the antimeridian cuts has several parts
            options |= {"RFC7946": "YES", "COORDINATE_PRECISION": str(_DECIMALS)}
        else:
            options["append"] = form == "GPKG" and _holds(beside, layer)
        with warnings.catch_warnings():
            # "'crs' was not provided": said by the recipe, in the user's words.
            warnings.filterwarnings("ignore", message=".*crs.*", category=UserWarning)
            pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": _NO_DATE})
            try:
                pyogrio.write_dataframe(frame, beside, driver=form, **options)
            finally:
                pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": None})
        if form == "GeoJSON":
            _check_geojson(beside, final)
    except (DataSourceError, DataLayerError) as error:
        if shutil.disk_usage(beside.parent).free < _LEAST_FREE:
            raise _on_full_disk(final, "no space is left") from error
        got = " ".join(str(error).split()).replace(str(beside), str(final))
        raise OutputError(
            f"{final} could not be written: {got}. Choose a folder with space that you may write to."
        ) from error


def _check_geojson(beside: Path, final: Path) -> None:
    """GDAL closes GeoJSON on a full disk without a word; its last brackets are then missing."""
    with beside.open("rb") as stream:
        stream.seek(max(0, beside.stat().st_size - 16))
        if b"".join(stream.read().split())[-2:] != b"]}":
            raise _on_full_disk(final)


def _check_geopackage(beside: Path, final: Path, counts: Mapping[str, int]) -> None:
    """GDAL closes a GeoPackage on a full disk without a word; its last spatial index is then missing."""
    try:
        with contextlib.closing(sqlite3.connect(beside)) as database:
            for layer, count in counts.items():
                query = f'SELECT count(*) FROM "rtree_{layer}_geom"'
                if database.execute(query).fetchone()[0] != count:
                    raise _on_full_disk(final)
    except sqlite3.Error as error:
        raise _on_full_disk(final) from error


def _on_full_disk(final: Path, got: str = "its end is missing") -> OutputError:
    return OutputError(
        f"{final} could not be written: {got}. The disk may be full: free some space and run again."
    )


def _holds(path: Path, layer: str) -> bool:
    return path.exists() and layer in pyogrio.list_layers(path)[:, 0]


def _geometry_type(frame: Frame) -> str:
    """Of the first geometry; a frame without rows says it by `attrs`, being able to say it nowhere else."""
    if len(frame):
        return str(frame.geometry.iloc[0].geom_type)
    return str(frame.attrs.get("geometry_type", "Polygon"))


def _in_degrees(frame: Frame, final: Path) -> Frame:
    if not lies_on_earth(frame.crs):
        got = (
            "without a coordinate reference system" if frame.crs is None else f"in {frame.crs.name}"
        )
        raise DataError(
            f"GeoJSON must be in EPSG:4326, got geometry {got} ({final}), which does not say where on the "
            "earth it is. Write .gpkg, or georeference the raster first."
        )
    in_degrees = frame.to_crs(4326)
    whole = [_cut(shape, final) for shape in in_degrees.geometry]
    return in_degrees.set_geometry(geopandas.GeoSeries(whole, index=frame.index, crs=4326))


def _cut(shape: Any, final: Path) -> Any:
    """An area within -180 and 180 degrees; anything else as it is."""
    if shape.geom_type != "Polygon":
        return shape
    if holds_a_pole(shape):
        raise DataError(
            f"GeoJSON must be of areas beside the poles, got one around a pole ({final}), whose outline is "
            "no ring in degrees. Write .gpkg."
        )
    return cut_at_antimeridian(brought_together(shape))
