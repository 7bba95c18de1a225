"""Areas in degrees that cross the antimeridian, cut there as RFC 7946 asks (section 3.1.9)."""

import numpy as np
import shapely
from shapely import affinity

_WORLD = shapely.box(-180, -90, 180, 90)


def holds_a_pole(area: shapely.Polygon) -> bool:
    """Whether the outline of an area in degrees goes round the earth: it is then no ring in degrees."""
    around = np.unwrap(shapely.get_coordinates(area.exterior)[:, 0], period=360)
    return bool(abs(around[-1] - around[0]) > 180)


def brought_together(area: shapely.Polygon) -> shapely.Polygon:
    """An area on both sides of the antimeridian in one piece, its western degrees counted on beyond 180.

    Args:
        area: In degrees; narrower than half the globe, or it is taken for one that crosses.
    """
    west, _, east, _ = area.bounds
    if not east - west > 180:
        return area
    return shapely.transform(
        area, lambda points: np.column_stack([np.mod(points[:, 0], 360), points[:, 1]])
    )


def cut_at_antimeridian(area: shapely.Polygon) -> shapely.Polygon | shapely.MultiPolygon:
    """The same area within -180 and 180 degrees of longitude; left as it is where it lies there.

    Args:
        area: In one piece, in degrees that may go on beyond 180 or -180.
    """
    west, _, east, _ = area.bounds
    if not (west < -180 or east > 180):
        return area
    turned = (affinity.translate(area, turn) for turn in (-360, 0, 360))
    pieces = [
        piece
        for one in turned
        for piece in shapely.get_parts(shapely.intersection(one, _WORLD))
        if piece.area
    ]
    return pieces[0] if len(pieces) == 1 else shapely.MultiPolygon(pieces)
