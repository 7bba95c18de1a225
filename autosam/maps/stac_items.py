"""STAC out: an item beside each mask, and one collection of all that lie in a folder.

Assets, footprint and pixels are said as the extensions `projection`, `raster` and `classification` have it.
"""

import dataclasses
import datetime
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyproj
import rasterio
import shapely
from shapely.geometry import shape
from shapely.geometry.polygon import orient

from autosam.files import read_json, write_json
from autosam.maps.antimeridian import cut_at_antimeridian
from autosam.maps.metric_ground import lies_on_earth
from autosam.maps.model_grid import metres_per_pixel
from autosam.maps.raster_output import MASK_LAYER, MASK_NODATA
from autosam.maps.rasters import is_remote, ungeoreferenced
from autosam.maps.stac import StacRaster, import_pystac, utc
from autosam.maps.vectors import are_polygons_of
from autosam.types import Georeference

if TYPE_CHECKING:
    import pystac

COLLECTION = "stac-collection.json"
"""The file of the collection, in the folder of the masks."""
_VECTORS = {
    ".gpkg": "application/geopackage+sqlite3",
    ".geojson": "application/geo+json",
    ".parquet": "application/vnd.apache.parquet",
    ".fgb": "application/vnd.flatgeobuf",
}
_OUTLINE_POINTS = 9
"""Along each side of a raster, so that a side that is bent in degrees keeps its place."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class StacMask:
    """A mask of which an item tells."""

    mask: Path
    source: str
    """The raster that was masked."""
    origin: StacRaster | None
    """The item that pointed to it."""
    report: Mapping[str, Any]
    """What lies as JSON beside the mask."""


def item_file(mask: Path) -> Path:
    """Where the item of a mask lies."""
    return mask.with_suffix(".stac.json")


def write_stac(folder: Path, masks: Sequence[StacMask]) -> Path:
    """Write an item beside each mask, and a collection of all items in the folder.

    Items of masks that were written before stay in the collection as long as their masks are there.

    Args:
        folder: Of the masks.
        masks: Of which items are written.

    Returns:
        The file of the collection.

    Raises:
        MissingPackageError: pystac is not installed.
        OutputError: The folder cannot be written.
    """
    pystac = import_pystac()
    new = {item_file(one.mask): _item(one) for one in masks}
    old = [file for file in sorted(folder.glob("*.stac.json")) if file not in new]
    items = dict(new)
    for file in old:
        if file.with_name(file.name.replace(".stac.json", ".tif")).is_file():
            items[file] = pystac.Item.from_dict(read_json(file, what="item"))
            items[file].clear_links(pystac.RelType.COLLECTION)
            for relation in (pystac.RelType.ROOT, pystac.RelType.PARENT):
                items[file].clear_links(relation)
    placed = [item for item in items.values() if item.bbox is not None]
    everywhere = pystac.SpatialExtent([[-180.0, -90.0, 180.0, 90.0]])
    extent = pystac.Extent.from_items(placed or list(items.values())) if placed else None
    collection = pystac.Collection(
        id="autosam-masks",
        title="River masks",
        description="Water as autosam sees it: 1 water, 0 land, 255 no data.",
        extent=extent or pystac.Extent(everywhere, pystac.TemporalExtent([[None, None]])),
        license="other",
        href=str(folder / COLLECTION),
        catalog_type=pystac.CatalogType.SELF_CONTAINED,
    )
    for file, item in sorted(items.items()):
        hrefs = {key: asset.href for key, asset in item.assets.items()}
        collection.add_item(item)
        item.set_self_href(os.path.abspath(file))
        for key, href in hrefs.items():  # beside the item, wherever pystac would have put it
            item.assets[key].href = href
    collection.set_self_href(os.path.abspath(folder / COLLECTION))
    for file, item in items.items():
        write_json(file, item.to_dict(include_self_link=False))
    write_json(folder / COLLECTION, collection.to_dict(include_self_link=False))
    return folder / COLLECTION


def _item(one: StacMask) -> "pystac.Item":
    import pystac
    from pystac.extensions.projection import ProjectionExtension

    with ungeoreferenced(), rasterio.open(one.mask) as mask:
        size, transform = (mask.height, mask.width), tuple(mask.transform)[:6]
        crs = pyproj.CRS.from_wkt(mask.crs.to_wkt()) if mask.crs else None
    geometry = None if crs is None else _footprint(crs, transform, size)
    plan = one.report["plan"]
    item = pystac.Item(
        id=one.mask.stem,
        geometry=geometry,
        bbox=None if geometry is None else _bounds(geometry),
        **_times(one),
        properties={
            "created": utc(_written(one.mask)),
            "autosam:model": plan["model"],
            "autosam:version": plan["autosam"],
            "autosam:threshold": one.report["threshold"],
            "autosam:failed_tiles": len(one.report["tiles"]["failed"]),
        },
    )
    if one.origin is None:
        item.properties["autosam:datetime_is"] = f"of the file {_dated_file(one).name}"
    metres = metres_per_pixel(_georeference(crs, transform), size)
    if metres is not None:
        item.properties["gsd"] = round(max(metres), 6)
    if crs is not None:
        code = crs.to_authority()
        ProjectionExtension.ext(item, add_if_missing=True).apply(
            code=None if code is None else ":".join(code),
            wkt2=crs.to_wkt() if code is None else None,
            shape=list(size),
            transform=[float(value) for value in transform],
        )
    _add_assets(item, one, metres)
    _add_origin(item, one)
    return item


def _add_assets(item: "pystac.Item", one: StacMask, metres: tuple[float, float] | None) -> None:
    import pystac
    from pystac.extensions.classification import Classification, ClassificationExtension
    from pystac.extensions.raster import DataType, RasterBand, RasterExtension

    resolution = None if metres is None else round(max(metres), 6)
    item.add_asset("mask", pystac.Asset(f"./{one.mask.name}", title="Water, land and no data",
                                        media_type=pystac.MediaType.COG, roles=["data"]))  # fmt: skip
    names = {0: "land", 1: "water", MASK_NODATA: "no_data"}
    classes = [
        Classification.create(
            value=value,
            name=name,
            description=name.replace("_", " "),
            color_hint="{:02X}{:02X}{:02X}".format(*MASK_LAYER.colours[value]),
            nodata=True if value == MASK_NODATA else None,
        )
        for value, name in names.items()
    ]
    ClassificationExtension.ext(item.assets["mask"], add_if_missing=True).apply(classes=classes)
    RasterExtension.ext(item.assets["mask"], add_if_missing=True).apply(
        [
            RasterBand.create(
                nodata=MASK_NODATA, data_type=DataType.UINT8, spatial_resolution=resolution
            )
        ]
    )
    probability = one.mask.with_suffix(".probability.tif")
    if probability.is_file():
        with ungeoreferenced(), rasterio.open(probability) as stored:
            kind, scale = DataType(stored.dtypes[0]), stored.scales[0]
        item.add_asset("probability", pystac.Asset(f"./{probability.name}", roles=["data"],
                       media_type=pystac.MediaType.COG, title="Probability of water"))  # fmt: skip
        RasterExtension.ext(item.assets["probability"]).apply(
            [
                RasterBand.create(
                    nodata=MASK_NODATA if kind == DataType.UINT8 else "nan",  # type: ignore[arg-type]
                    data_type=kind,
                    scale=None if scale == 1 else scale,
                    spatial_resolution=resolution,
                )
            ]
        )
    report = one.mask.with_suffix(".json")
    item.add_asset("report", pystac.Asset(f"./{report.name}", title="What was done",
                                          media_type=pystac.MediaType.JSON, roles=["metadata"]))  # fmt: skip
    for suffix, kind_of in _VECTORS.items():
        polygons = one.mask.with_suffix(suffix)
        if polygons.is_file() and are_polygons_of(polygons, one.mask):
            item.add_asset(suffix[1:], pystac.Asset(f"./{polygons.name}", title="Polygons of water",
                                                    media_type=kind_of, roles=["data"]))  # fmt: skip


def _add_origin(item: "pystac.Item", one: StacMask) -> None:
    """Where it comes from: an item by 'derived_from', a raster that no item points to by 'via'."""
    import pystac

    href = one.source if one.origin is None else one.origin.item
    if not is_remote(href) and "://" not in href:
        href = Path(os.path.relpath(href, one.mask.parent)).as_posix()
    if one.origin is None:
        item.add_link(pystac.Link("via", href, title="The raster that was masked"))
    else:
        item.add_link(
            pystac.Link(pystac.RelType.DERIVED_FROM, href, media_type=pystac.MediaType.GEOJSON)
        )


def _times(one: StacMask) -> dict[str, Any]:
    """Of the item that it is derived from; else of the raster's file, or of the mask's."""
    from pystac.utils import str_to_datetime

    if one.origin is not None:
        known = one.origin.times
        return {"datetime": None} | {
            name: None if moment is None else str_to_datetime(moment)
            for name, moment in known.items()
        }
    return {"datetime": _written(_dated_file(one))}


def _dated_file(one: StacMask) -> Path:
    return Path(one.source) if Path(one.source).is_file() else one.mask


def _written(file: Path) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(int(file.stat().st_mtime), datetime.timezone.utc)


def _georeference(crs: "pyproj.CRS | None", transform: Sequence[float]) -> Georeference:
    a, b, c, d, e, f = (float(value) for value in transform)
    return Georeference(crs=None if crs is None else crs.to_wkt(), transform=(a, b, c, d, e, f))


def _footprint(
    crs: pyproj.CRS, transform: Sequence[float], size: tuple[int, int]
) -> dict[str, Any] | None:
    """The raster's outline in degrees, anticlockwise where north is up; None where it has no place."""
    if not lies_on_earth(crs):
        return None
    height, width = size
    along = np.linspace(0, 1, _OUTLINE_POINTS)[:-1]
    columns = np.concatenate([0 * along, along, 0 * along + 1, 1 - along]) * width
    rows = np.concatenate([along, 0 * along + 1, 1 - along, 0 * along]) * height
    a, b, c, d, e, f = transform
    to_degrees = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    x, y = to_degrees.transform(a * columns + b * rows + c, d * columns + e * rows + f)
    if not (np.isfinite(x).all() and np.isfinite(y).all() and np.abs(y).max() <= 90):
        return None
    outline = np.column_stack([np.unwrap(x, period=360), y])
    if outline[:, 0].min() >= -180 and outline[:, 0].max() <= 180:
        ring = outline.round(9).tolist()
        return {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}
    cut = cut_at_antimeridian(shapely.Polygon(outline))
    rings = [
        shapely.get_coordinates(orient(piece).exterior).round(9).tolist()
        for piece in shapely.get_parts(cut)
    ]
    if len(rings) == 1:
        return {"type": "Polygon", "coordinates": rings}
    return {"type": "MultiPolygon", "coordinates": [[ring] for ring in rings]}


def _bounds(geometry: Mapping[str, Any]) -> list[float]:
    """West, south, east, north; west is the larger where the antimeridian lies between."""
    boxes = [shapely.bounds(piece) for piece in shapely.get_parts(shape(geometry))]
    west, south, east, north = np.array(boxes).T
    if len(boxes) == 1:
        return [float(one) for one in boxes[0]]
    return [float(west.max()), float(south.min()), float(east.min()), float(north.max())]
