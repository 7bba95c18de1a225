"""How large a raster's pixel is on the earth, and at which size a model should see it.

Lengths are geodesic, so degrees, feet and the stretched metres of web maps need no case of their own.
"""

import dataclasses
import math
from collections.abc import Sequence

import pyproj
from pyproj.exceptions import ProjError

from autosam.errors import ConfigError, DataError
from autosam.types import Georeference

SQUARE = 1.1
"""Longer over shorter side up to which a pixel passes for square."""
_OBLONG = 3.0
"""Longer over shorter side from which a geotransform is more likely wrong than meant."""
_LARGEST_FACTOR = 64.0
"""By which a raster is shrunk at most."""
_SMALLEST_FACTOR = 1 / 8
"""By which it is enlarged at most: beyond, a model sees nothing but what interpolation makes up."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelGrid:
    """The pixels in which a model sees a raster."""

    source_size: tuple[int, int]
    """(height, width) of the raster."""
    size: tuple[int, int]
    """(height, width) of the same ground as the model sees it."""
    metres: tuple[float, float] | None
    """Of the raster's own pixel, (down, along); None when unknown."""
    notes: tuple[str, ...] = ()
    """What a user should know, one sentence each."""

    @property
    def model_metres(self) -> tuple[float, float] | None:
        """(down, along) of a pixel that the model sees."""
        if self.metres is None:
            return None
        sides = zip(self.metres, self.source_size, self.size, strict=True)
        down, along = (metres * own / seen for metres, own, seen in sides)
        return down, along


def metres_per_pixel(
    georeference: Georeference | None, size: tuple[int, int]
) -> tuple[float, float] | None:
    """Height and width of the raster's middle pixel in metres.

    Args:
        georeference: Of the raster; rotation and shear are followed.
        size: (height, width) in pixels.

    Returns:
        (down, along); None where nothing says where on the earth it lies.
    """
    if georeference is None or georeference.crs is None:
        return None
    try:
        crs = pyproj.CRS.from_user_input(georeference.crs)
        if crs.geodetic_crs is None:
            return _in_own_units(crs, georeference.transform)
        to_degrees = pyproj.Transformer.from_crs(crs, crs.geodetic_crs, always_xy=True)
        cross = _middle_cross(georeference.transform, size)
        above, below, left, right = (to_degrees.transform(*end, errcheck=True) for end in cross)
    except ProjError:
        return None
    geod = crs.get_geod() or pyproj.Geod(ellps="WGS84")
    lengths = geod.inv(*above, *below)[2], geod.inv(*left, *right)[2]
    return lengths if all(math.isfinite(length) and length > 0 for length in lengths) else None


def _middle_cross(
    transform: Sequence[float], size: tuple[int, int]
) -> tuple[tuple[float, float], ...]:
    """Top, bottom, left and right of the raster's middle pixel, in the units of its transform."""
    a, b, c, d, e, f = transform
    row, column = size[0] / 2, size[1] / 2
    places = ((0.0, -0.5), (0.0, 0.5), (-0.5, 0.0), (0.5, 0.0))
    cross = [(column + across, row + down) for across, down in places]
    return tuple((a * x + b * y + c, d * x + e * y + f) for x, y in cross)


def _in_own_units(crs: pyproj.CRS, transform: Sequence[float]) -> tuple[float, float] | None:
    """For a local grid that is tied to no earth but has a unit."""
    factors = {axis.unit_conversion_factor for axis in crs.axis_info[:2]}
    if len(factors) != 1:
        return None
    (factor,) = factors
    down, along = _sides(transform)
    return down * factor, along * factor


def _sides(transform: Sequence[float]) -> tuple[float, float]:
    a, b, _, d, e, _ = transform
    return math.hypot(b, e), math.hypot(a, d)


def choose_model_grid(
    size: tuple[int, int],
    georeference: Georeference | None,
    *,
    resolution: float | None,
    trained: tuple[float, float] | None,
) -> ModelGrid:
    """Choose the pixels in which a model sees a raster.

    Args:
        size: (height, width) of the raster.
        georeference: Where it lies.
        resolution: Metres per pixel that are asked for; None keeps the raster's own where the model
            was trained with such, or nobody knows.
        trained: Lowest and highest metres per pixel that the model was trained with; None: unknown.

    Raises:
        ConfigError: The resolution is much finer or coarser than the raster's, or cannot be had because
            the raster is not georeferenced.
    """
    metres = metres_per_pixel(georeference, size)
    if metres is None:
        return _without_metres(size, georeference, resolution)
    doubts = _doubts(metres)
    if resolution is not None:
        return _at(size, metres, resolution, doubts)
    if trained is None:
        return ModelGrid(source_size=size, size=size, metres=metres, notes=doubts)
    mean = math.sqrt(metres[0] * metres[1])
    wanted = min(max(mean, trained[0]), trained[1])
    if wanted != mean:
        note = (
            f"{_length(mean)} per pixel is outside the {_length(trained[0])} to {_length(trained[1])} that "
            f"the model was trained with: it sees the raster at {_length(wanted)}"
        )
    elif max(metres) > SQUARE * min(metres):
        note = f"pixels are {_length(metres[0])} x {_length(metres[1])}: the model sees them square"
    else:
        return ModelGrid(source_size=size, size=size, metres=metres)
    return _at(size, metres, wanted, (note, *doubts))


def _doubts(metres: tuple[float, float]) -> tuple[str, ...]:
    """What is odd about a pixel's sides."""
    ratio = max(metres) / min(metres)
    if ratio < _OBLONG:
        return ()
    return (f"pixels are {ratio:.3g} times as long as wide: the geotransform may be wrong",)


def _without_metres(
    size: tuple[int, int], georeference: Georeference | None, resolution: float | None
) -> ModelGrid:
    """A raster of which nobody knows where on the earth it lies."""
    why = _why_without_metres(georeference)
    if resolution is None:
        note = f"{why}: its ground resolution is unknown, masked as it is"
        return ModelGrid(source_size=size, size=size, metres=None, notes=(note,))
    if georeference is None:
        raise ConfigError(
            f"resolution must be for a georeferenced raster, got {resolution} for one without. "
            "Leave it out, or give the raster a coordinate system."
        )
    note = f"{why}: its units are taken for metres"
    return _at(size, _sides(georeference.transform), resolution, (note,))


def _why_without_metres(georeference: Georeference | None) -> str:
    """What is wrong with where a raster says that it lies."""
    try:
        crs = pyproj.CRS.from_user_input(georeference and georeference.crs)
    except ProjError:  # none is given, or one that nobody knows
        return "no known coordinate system"
    if crs.geodetic_crs is None:
        return f"its coordinate system ({crs.name}) has no one unit of length"
    return f"its coordinates do not lie on the earth in {crs.name}"


def _at(
    size: tuple[int, int], metres: tuple[float, float], wanted: float, notes: tuple[str, ...]
) -> ModelGrid:
    finest, coarsest = max(metres) * _SMALLEST_FACTOR, min(metres) * _LARGEST_FACTOR
    if finest > coarsest:
        raise DataError(
            f"pixels must be nearly square, got {metres[0]:.3g} x {metres[1]:.3g} m. The geotransform may be "
            "wrong; else reproject the raster, for instance by gdalwarp -t_srs."
        )
    if not finest <= wanted <= coarsest:
        raise ConfigError(
            f"resolution must be {finest:.3g} to {coarsest:.3g} m for pixels of {metres[0]:.3g} x "
            f"{metres[1]:.3g} m, got {wanted:g}. Choose another with --resolution."
        )
    down, along = (max(1, round(n * own / wanted)) for n, own in zip(size, metres, strict=True))
    return ModelGrid(source_size=size, size=(down, along), metres=metres, notes=notes)


def _length(metres: float) -> str:
    return f"{metres:.3g} m" if metres >= 1 else f"{100 * metres:.3g} cm"
