"""STAC in: the rasters that items, collections and catalogs point to."""

import dataclasses
import datetime
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from autosam.errors import DataError, MissingPackageError, MissingPathError, did_you_mean
from autosam.files import read_json
from autosam.maps.rasters import RASTER_SUFFIXES

if TYPE_CHECKING:
    import pystac

_SUFFIXES = (".json", ".geojson")
_BUCKETS = {"s3://": "/vsis3/", "gs://": "/vsigs/"}
"""What GDAL calls addresses of object stores."""
_TYPES = ("image/tiff", "image/vnd.stac.geotiff", "image/jp2", "image/png", "image/jpeg")
_PREFERRED = ("visual", "data")
"""Roles of what is masked, the best first: a picture for eyes is what models were trained with."""
_NEVER = ("thumbnail", "overview", "metadata")


@dataclasses.dataclass(frozen=True, kw_only=True)
class StacRaster:
    """A raster that an item points to."""

    raster: str
    """As GDAL is told of it: a path or an address."""
    name: str
    """Of the item, fit for a file."""
    item: str
    """Where the item lies: a path or an address."""
    times: Mapping[str, str | None]
    """``datetime``, ``start_datetime`` and ``end_datetime`` of the item, as far as it has them."""


def is_stac(source: str) -> bool:
    """Whether a source is named like an item, a collection or a catalog."""
    path = urlsplit(source).path if "://" in source else source
    return path.lower().endswith(_SUFFIXES)


def stac_rasters(source: str, *, asset: str | None = None) -> list[StacRaster]:
    """The raster of each item of an item, an item collection, a collection or a catalog.

    Args:
        source: A JSON file or its address.
        asset: Key of the asset that is the raster; None takes the one whose role is 'visual', else 'data',
            else the only one that is a raster.

    Raises:
        MissingPackageError: pystac is not installed.
        MissingPathError: There is no such file.
        DataError: It is no STAC, has no items, or an item has not one raster that can be told.
    """
    items = _read_items(source)
    if not items:
        raise DataError(f"STAC must hold an item, got none ({source}). Check the file.")
    return [_raster_of(item, base, asset) for item, base in items]


def _read_items(source: str) -> "list[tuple[pystac.Item, str]]":
    """Items, and where each lies."""
    pystac = import_pystac()
    if "://" not in source:
        source = os.path.abspath(Path(source).expanduser())
        kind = read_json(source, what="STAC file")  # with our words where it is absent or damaged
        kind = kind.get("type") if isinstance(kind, dict) else None
        if kind not in ("Feature", "FeatureCollection", "Collection", "Catalog"):
            raise _no_stac(source, f"type {kind!r}")
    try:
        try:
            found = pystac.read_file(source)
        except pystac.STACTypeError:
            return [
                (item, item.get_self_href() or source)
                for item in pystac.ItemCollection.from_file(source)
            ]
        items = [found] if isinstance(found, pystac.Item) else list(found.get_items(recursive=True))
    except FileNotFoundError as error:
        raise MissingPathError(
            f"item must exist, got {error.filename or error} (linked from {source}). Check its links."
        ) from error
    except RecursionError as error:
        raise _no_stac(source, "links that lead back to where they began") from error
    except (
        pystac.STACError,
        pystac.STACTypeError,
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        OSError,
    ) as error:
        raise _no_stac(source, f"{type(error).__name__}: {' '.join(str(error).split())}") from error
    return [(item, item.get_self_href() or source) for item in items]


def _no_stac(source: str, got: str) -> DataError:
    return DataError(
        f"STAC must be an item, an item collection, a collection or a catalog, got {got} ({source}). "
        "Check the file, or name the rasters themselves."
    )


def _raster_of(item: "pystac.Item", base: str, asset: str | None) -> StacRaster:
    from pystac.utils import make_absolute_href

    chosen = item.assets[_asset_key(item, asset)]
    href = make_absolute_href(chosen.href, base)
    for store, gdal in _BUCKETS.items():
        href = gdal + href.removeprefix(store) if href.startswith(store) else href
    times = {"datetime": None if item.datetime is None else utc(item.datetime)}
    for name in ("start_datetime", "end_datetime"):
        if item.properties.get(name):
            times[name] = str(item.properties[name])
    name = re.sub(r"^[.]+|[^\w.-]+", "_", item.id)  # a file with a dot before it is hidden
    return StacRaster(raster=href, name=name, item=base, times=times)


def _asset_key(item: "pystac.Item", asset: str | None) -> str:
    if asset is not None:
        if asset not in item.assets:
            raise DataError(
                f"asset must be one of the item's, got {asset!r} (item {item.id!r}). "
                f"{did_you_mean(asset, item.assets)}"
            )
        return asset
    rasters = {
        key: set(one.roles or ())
        for key, one in item.assets.items()
        if _is_raster(one) and not set(one.roles or ()) & set(_NEVER)
    }
    for role in _PREFERRED:
        having = [key for key, roles in rasters.items() if role in roles]
        if len(having) == 1:
            return having[0]
    if len(rasters) != 1:
        raise DataError(
            f"an item must have one raster to mask, got {', '.join(sorted(rasters)) or 'none'} "
            f"(item {item.id!r}). Choose one of its assets with --asset."
        )
    return next(iter(rasters))


def _is_raster(asset: "pystac.Asset") -> bool:
    suffix = Path(urlsplit(asset.href).path).suffix.lower()
    return (asset.media_type or "").startswith(_TYPES) or suffix in RASTER_SUFFIXES


def utc(moment: datetime.datetime) -> str:
    """As STAC writes a moment."""
    return moment.astimezone(datetime.timezone.utc).isoformat().replace("+00:00", "Z")


def import_pystac() -> Any:
    """The package, imported where it is used.

    Raises:
        MissingPackageError: It is not installed.
    """
    try:
        import pystac
    except ImportError as error:
        raise MissingPackageError(
            "STAC must be read and written with the package 'pystac', which is not installed. "
            "Install it with: pip install 'autosam[stac]'"
        ) from error
    return pystac
