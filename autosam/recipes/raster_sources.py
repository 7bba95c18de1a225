"""Which rasters the sources of `autosam map` mean, and the mask that each will get."""

import dataclasses
import glob
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from autosam.errors import ConfigError
from autosam.files import PathLike
from autosam.inference.output_names import pair_outputs
from autosam.inference.planned_rasters import outputs_of
from autosam.maps.rasters import RASTER_SUFFIXES, is_remote
from autosam.maps.stac import StacRaster, is_stac, stac_rasters
from autosam.maps.stac_items import item_file


@dataclasses.dataclass(frozen=True, kw_only=True)
class RasterPair:
    """A raster and the mask it will get."""

    source: str
    mask: Path
    origin: StacRaster | None = None
    """The STAC item that points to it."""


def pair_rasters(
    source: Sequence[str], output: PathLike, *, asset: str | None = None
) -> list[RasterPair]:
    """Pair each raster with the mask it will get: ``output/<name>.tif``, or the name of its STAC item.

    A raster that is named and not there is kept, to be reported like any other that fails.

    Args:
        source: Rasters, addresses, folders, glob patterns, and STAC files.
        output: A folder.
        asset: Key of the asset of STAC items; None as for `stac_rasters`.

    Raises:
        ConfigError: A source is empty, a folder or pattern holds no raster, or an asset is named for
            sources that are not STAC.
        DataError: A STAC file cannot be read, or its rasters cannot be told.
        OutputError: As for `pair_outputs`.
    """
    if asset is not None and not any(is_stac(one) for one in source):
        raise ConfigError(
            f"asset must be of STAC items, got {asset!r} for sources of which none is STAC ({source[0]}). "
            "Leave it out, or name an item, a collection or a catalog (.json)."
        )
    found: dict[str, StacRaster | None] = {}
    for one in source:
        for raster, origin in _found(one, asset):
            found.setdefault(raster, origin)
    named = [
        (raster, _stem(raster) if origin is None else origin.name)
        for raster, origin in found.items()
    ]
    masks = pair_outputs(named, output, suffix=".tif", companions=_companions, what="rasters")
    return [
        RasterPair(source=raster, mask=mask, origin=found[raster])
        for raster, mask in zip(found, masks, strict=True)
    ]


def _companions(mask: Path) -> tuple[Path, ...]:
    return *outputs_of(mask), item_file(mask)


def _found(source: str, asset: str | None) -> list[tuple[str, StacRaster | None]]:
    if is_stac(source):
        return [(one.raster, one) for one in stac_rasters(source, asset=asset)]
    return [(raster, None) for raster in _found_rasters(source)]


def _found_rasters(source: str) -> list[str]:
    if not str(source).strip():
        raise ConfigError("raster must be named, got ''. Name a file, a folder or a pattern.")
    path = Path(source)
    if is_remote(source) or path.is_file():
        return [source]
    if path.is_dir():
        files, kind = list(path.iterdir()), "folder"
    elif glob.has_magic(source):
        files, kind = [Path(found) for found in glob.glob(source, recursive=True)], "pattern"
    else:
        return [source]
    rasters = sorted(str(file) for file in files if _is_raster(file))
    if not rasters:
        raise ConfigError(
            f"{kind} must hold a raster ({', '.join(RASTER_SUFFIXES)}), got none ({source}). "
            "Check the path, or name the files themselves."
        )
    return rasters


def _is_raster(file: Path) -> bool:
    return (
        file.suffix.lower() in RASTER_SUFFIXES and not file.name.startswith(".") and file.is_file()
    )


def _stem(raster: str) -> str:
    path = urlsplit(raster).path if raster.startswith(("http://", "https://")) else raster
    return PurePosixPath(path).stem if is_remote(raster) else Path(raster).stem
