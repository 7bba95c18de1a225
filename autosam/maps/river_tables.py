"""Measures of rivers as rows: one for each river, each reach of it and each cross-section."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from autosam.files import PathLike, replacing
from autosam.maps.centreline import line_length
from autosam.maps.river import River, RiverMeasures
from autosam.maps.widths import Stations

Row = dict[str, Any]
STATIONS_PER_REACH = 40


def river_row(river: River) -> Row:
    """One river's numbers; what was not measured is None. Lengths in the ground's unit."""
    row: Row = {"river": river.number, "area_m2": river.area, **_interval_columns(river)}
    names = "length_m", "sinuosity", "branches", "branch_length_m", "stations", "open_stations"
    widths = "width_mean_m", "width_median_m", "width_low_m", "width_high_m", "braiding_index"
    row |= dict.fromkeys((*names, *widths))
    line, stations = river.centreline, river.stations
    if line is not None and stations is not None:
        lengths = [line_length(branch) for branch in line.branches]
        row["length_m"], row["sinuosity"] = line.length, line.sinuosity
        row["branches"], row["branch_length_m"] = len(lengths), sum(lengths)
        row |= _width_columns(stations, np.ones(len(stations.along), dtype=bool))
    row["islands"] = len(river.islands)
    row["islands_m2"] = sum(island.area for island in river.islands)
    row["unit"] = river.ground.unit
    return row


def _interval_columns(river: River) -> Row:
    interval = river.interval
    return {
        "area_expected_m2": interval and interval.expected,
        "area_low_m2": interval and interval.low,
        "area_high_m2": interval and interval.high,
        "coverage": interval and interval.coverage,
        "assumption": interval and interval.assumption,
    }


def reach_rows(river: River, *, reach_length: float | None) -> list[Row]:
    """The river cut along its centreline into reaches of about this length, none of them a stump.

    Area is mean width times length, so it holds the water of every channel that a section crosses.
    """
    line, stations = river.centreline, river.stations
    if line is None or stations is None:
        return []
    wished = reach_length or STATIONS_PER_REACH * line.length / len(stations.along)
    count = max(1, round(line.length / wished))
    length = line.length / count
    rows = []
    for number in range(count):
        inside = np.floor(stations.along / length).astype(int) == number
        if not inside.any():
            continue
        widths = _width_columns(stations, inside)
        first = {"river": river.number, "reach": number + 1, "unit": river.ground.unit}
        first |= {"from_m": number * length, "to_m": (number + 1) * length}
        mean = widths["width_mean_m"]
        area = None if mean is None else mean * length
        rows.append({**first, **widths, "area_m2": area})
    return rows


def station_rows(river: River) -> list[Row]:
    """One row for each cross-section, with its place in the raster's coordinates."""
    stations = river.stations
    if stations is None:
        return []
    places = river.ground.to_world(river.ground.to_pixels(stations.points))
    low, high = stations.narrow, stations.wide
    return [
        {
            "river": river.number,
            "station": number + 1,
            "along_m": float(stations.along[number]),
            "x": float(places[number, 0]),
            "y": float(places[number, 1]),
            "width_m": float(stations.width[number]),
            "width_low_m": None if low is None else float(low[number]),
            "width_high_m": None if high is None else float(high[number]),
            "channel_width_m": float(stations.main_width[number]),
            "channels": int(stations.channels[number]),
            "open": bool(stations.is_open[number]),
            "unit": river.ground.unit,
        }
        for number in range(len(stations.along))
    ]


def write_tables(folder: PathLike, measures: RiverMeasures, *, stem: str) -> dict[str, Path]:
    """Write ``<stem>-rivers.csv``, ``-reaches.csv`` and ``-stations.csv``; None is an empty cell.

    Raises:
        OutputError: A file cannot be written.
    """
    reach_length = measures.choice.reach_length
    tables = {
        "rivers": [river_row(river) for river in measures.rivers],
        "reaches": [
            row for river in measures.rivers for row in reach_rows(river, reach_length=reach_length)
        ],
        "stations": [row for river in measures.rivers for row in station_rows(river)],
    }
    paths = {name: Path(folder) / f"{stem}-{name}.csv" for name in tables}
    for name, rows in tables.items():
        _write_csv(paths[name], rows)
    return paths


def _width_columns(stations: Stations, inside: np.ndarray) -> Row:
    """Means over the sections of a part, those that are open apart."""
    closed = inside & ~stations.is_open
    row: Row = {
        "stations": int(inside.sum()),
        "open_stations": int((inside & stations.is_open).sum()),
        "width_mean_m": float(stations.width[closed].mean()) if closed.any() else None,
        "width_median_m": float(np.median(stations.width[closed])) if closed.any() else None,
        "width_low_m": None,
        "width_high_m": None,
        "braiding_index": float(stations.channels[inside].mean()),
    }
    if stations.narrow is not None and stations.wide is not None and closed.any():
        row["width_low_m"] = float(stations.narrow[closed].mean())
        row["width_high_m"] = float(stations.wide[closed].mean())
    return row


def _write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    names = list(rows[0]) if rows else []
    with replacing(path) as beside, beside.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, names, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({key: _cell(value) for key, value in row.items()})


def _cell(value: Any) -> Any:
    """Six significant digits more than a map needs, and coordinates whole."""
    return f"{value:.10g}" if isinstance(value, float) else value
