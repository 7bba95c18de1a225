"""Where a bank may lie: the inner and the outer bank line at two probabilities, and the band between."""

import dataclasses

import geopandas
import numpy as np
import shapely
from scipy.spatial import cKDTree
from skimage.measure import find_contours

from autosam.errors import ConfigError, DataError
from autosam.files import PathLike
from autosam.maps.centreline import line_length, resampled
from autosam.maps.finished_rasters import PIXEL_BUDGET, FinishedRaster, read_whole
from autosam.maps.metric_ground import Ground
from autosam.maps.vector_files import Frame, writing_vectors

_FEWEST_PIXELS = 8
"""Shorter bank lines are specks."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class BankChoice:
    """Which bank lines are drawn.

    Raises:
        ConfigError: A value cannot be used.
    """

    inner: float = 0.9
    """Probability at the inner line: inside it, water is almost certain."""
    outer: float = 0.1
    """Probability at the outer line: outside it, there is hardly any water."""
    minimum_length: float = 50.0
    """Metres of the shortest line (pixels without a coordinate reference system)."""
    pixel_budget: int = PIXEL_BUDGET
    """Pixels looked at at once; a larger raster is decimated to it."""

    def __post_init__(self) -> None:
        if not 0 < self.outer < self.inner < 1:
            raise ConfigError(
                f"probabilities must be 0 < outer < inner < 1, got outer {self.outer} and inner "
                f"{self.inner}. Use 0.1 and 0.9, for instance."
            )


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class BankLine:
    """A line of equal probability."""

    kind: str
    """'inner' or 'outer'."""
    level: float
    points: np.ndarray
    """(count, 2) pixel coordinates; closed when its ends are equal."""
    length: float
    """Metres."""
    band: np.ndarray
    """(count,) metres to the nearest line of the other kind, of points one pixel apart; NaN where there is
    none."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class BandWidth:
    """How wide the band between inner and outer lines is, over all of the inner line (metres)."""

    mean: float | None
    median: float | None
    p95: float | None
    decimation: int
    unit: str


def bank_lines(
    raster: FinishedRaster, *, choice: BankChoice | None = None
) -> tuple[list[BankLine], BandWidth]:
    """The two bank lines, by marching squares between pixel middles, and the band's width.

    Lines end where data or picture end. The width of the band at a place is the distance to the nearest line
    of the other kind, so a bank that only one of the lines has (a doubtful pond) shows as a wide band.

    Raises:
        DataError: The raster has no probability.
    """
    choice = choice or BankChoice()
    if raster.probability is None:
        raise DataError(
            f"banks must be drawn from a probability raster, got a mask alone ({raster.mask}). "
            "Give the probability too, or map again with --probability."
        )
    whole = read_whole(raster, pixel_budget=choice.pixel_budget)
    ground, probability = whole.ground, whole.probability
    if probability is None or min(probability.shape) < 2:
        raise DataError(
            f"probability must be at least 2 x 2 pixels to have banks, got {whole.water.shape} "
            f"({raster.probability}). Give a larger one."
        )
    lines = _long_lines(probability, ground, choice)
    found = [
        BankLine(
            kind=kind,
            level=level,
            points=points,
            length=line_length(ground.to_metres(points)),
            band=_distances(metres, [other[3] for other in lines if other[0] != kind]),
        )
        for kind, level, points, metres in lines
    ]
    return found, _band_width(found, decimation=whole.step, unit=ground.unit)


def write_banks(
    raster: FinishedRaster, path: PathLike, *, choice: BankChoice | None = None
) -> BandWidth:
    """Write both lines with `kind`, `probability`, `length_m`, `band_mean_m`, `band_p95_m`.

    Raises:
        OutputError: Unknown suffix, or the file cannot be written.
        DataError: The raster has no probability, or GeoJSON without a coordinate reference system.
    """
    lines, width = bank_lines(raster, choice=choice)
    ground = raster.ground.decimated(width.decimation)
    rows = {
        "kind": [line.kind for line in lines],
        "probability": [line.level for line in lines],
        "length_m": [line.length for line in lines],
        "band_mean_m": [_statistic(line.band, "mean") for line in lines],
        "band_p95_m": [_statistic(line.band, "p95") for line in lines],
        "unit": [ground.unit] * len(lines),
    }
    geometry = [shapely.LineString(ground.to_world(line.points)) for line in lines]
    types = {name: str if name in ("kind", "unit") else float for name in rows}
    frame: Frame = geopandas.GeoDataFrame(rows, geometry=geometry, crs=ground.crs).astype(types)
    frame.attrs["geometry_type"] = "LineString"
    with writing_vectors(path, layer="banks") as write:
        write(frame)
    return width


def _long_lines(
    probability: np.ndarray, ground: Ground, choice: BankChoice
) -> list[tuple[str, float, np.ndarray, np.ndarray]]:
    """Kind, probability, pixel coordinates, and metres a pixel apart."""
    least = max(choice.minimum_length, _FEWEST_PIXELS * ground.pixel)
    lines = []
    for kind, level in (("inner", choice.inner), ("outer", choice.outer)):
        for points in _contours(probability, level):
            metres = ground.to_metres(points)
            if line_length(metres) >= least:
                lines.append((kind, level, points, resampled(metres, ground.pixel)))
    return lines


def _contours(probability: np.ndarray, level: float) -> list[np.ndarray]:
    """Each (count, 2) pixel coordinates; NaN ends a line."""
    found = find_contours(probability.astype(float), level)  # type: ignore[no-untyped-call]
    return [contour[:, ::-1] + 0.5 for contour in found]


def _distances(points: np.ndarray, others: list[np.ndarray]) -> np.ndarray:
    if not others:
        return np.full(len(points), np.nan)
    distances: np.ndarray = cKDTree(np.concatenate(others)).query(points)[0]
    return distances


def _band_width(lines: list[BankLine], *, decimation: int, unit: str) -> BandWidth:
    inner = [line.band for line in lines if line.kind == "inner"]
    band = np.concatenate(inner) if inner else np.zeros(0)
    mean, median, p95 = (_statistic(band, name) for name in ("mean", "median", "p95"))
    return BandWidth(mean=mean, median=median, p95=p95, decimation=decimation, unit=unit)


def _statistic(band: np.ndarray, name: str) -> float | None:
    known = band[np.isfinite(band)]
    if not len(known):
        return None
    if name == "mean":
        return float(known.mean())
    return float(np.percentile(known, 50 if name == "median" else 95))
