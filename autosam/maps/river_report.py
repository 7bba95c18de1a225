"""One page about the rivers of a raster: a map, the width along the largest, and the numbers, as PNG.

matplotlib is loaded when the page is made, and its global state is never touched.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from autosam.drawing import shrink
from autosam.files import PathLike, replacing
from autosam.maps.river import River, RiverMeasures
from autosam.maps.river_tables import river_row
from autosam.maps.widths import Stations
from autosam.plotting import LINE_COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WATER, _LAND, _NO_DATA = (158, 202, 225), (250, 249, 245), (205, 205, 205)
_LINE, _BRANCH, _SECTION = "#08306b", "#2171b5", LINE_COLOURS[5]
_MAP_PIXELS = 1600
_MOST_ROWS = 6
_MOST_SECTIONS = 60
_ROW, _NOTE = 0.3, 0.19
"""Inches."""


def save_report(path: PathLike, measures: RiverMeasures) -> Path:
    """Draw the page; long lists are cut and say so.

    Raises:
        OutputError: The file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    height, width = measures.raster.water.shape
    map_height = float(np.clip(10.2 * height / width, 3.2, 8.5))
    table_height = _table_height(measures)
    figure = Figure(figsize=(11, map_height + table_height + 4.0), dpi=130)
    figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.08)
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(4, 1, height_ratios=(map_height, 2.0, 0.8, table_height))
    plan, widths, channels, table = (figure.add_subplot(grid[row]) for row in range(4))
    channels.sharex(widths)
    figure.suptitle(measures.raster.name, fontsize=15, fontweight="bold", x=0.02, ha="left")
    _draw_map(plan, measures)
    _draw_widths(widths, channels, measures.rivers[0])
    _draw_table(table, measures)
    path = Path(path)
    with replacing(path) as beside:
        figure.savefig(beside, format="png")
    return path


def _draw_map(axes: "Axes", measures: RiverMeasures) -> None:
    raster = measures.raster
    height, width = raster.water.shape
    picture = np.full((height, width, 3), _LAND, dtype=np.uint8)
    picture[raster.water] = _WATER
    picture[~raster.valid] = _NO_DATA
    for colour, label in ((_WATER, "water"), (_NO_DATA, "no data")):
        if label == "water" or not raster.valid.all():
            axes.fill([], [], color=np.array(colour) / 255, label=label)
    axes.imshow(shrink(picture, _MAP_PIXELS), extent=(0, width, height, 0), aspect="equal")
    for river in measures.rivers:
        _draw_river(axes, river, measures)
    axes.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])
    axes.spines[:].set_color("0.6")
    _draw_scale(axes, measures)
    handles, labels = axes.get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    if once:
        axes.legend(
            once.values(), once.keys(), loc="upper left", bbox_to_anchor=(0, -0.01), ncols=6,
            frameon=False, fontsize=9,
        )  # fmt: skip


def _draw_river(axes: "Axes", river: River, measures: RiverMeasures) -> None:
    shift = _shift(river, measures)
    for island in river.islands:
        x, y = (np.array(island.outline.exterior.coords) + shift).T
        axes.fill(x, y, facecolor="#d9e8c4", edgecolor="#5b7f2b", linewidth=0.7, label="island")
    line, stations = river.centreline, river.stations
    if line is None or stations is None:
        return
    for points, colour, size, label in (
        *((branch, _BRANCH, 0.9, "branch") for branch in line.branches),
        (line.main, _LINE, 1.7, "centreline"),
    ):
        axes.plot(*(river.ground.to_pixels(points) + shift).T, color=colour, lw=size, label=label)
    every = max(1, len(stations.along) // _MOST_SECTIONS)
    for number in range(every // 2, len(stations.along), every):
        reach = np.array([stations.left[number], stations.right[number]])
        ends = stations.points[number] + reach[:, None] * stations.normals[number]
        style = ":" if stations.is_open[number] else "-"
        axes.plot(
            *(river.ground.to_pixels(ends) + shift).T, style, color=_SECTION, lw=0.9
        )  # fmt: skip
    axes.plot([], [], color=_SECTION, lw=0.9, label="cross-section (dotted: open)")
    if len(measures.rivers) > 1 and river.number <= _MOST_ROWS:
        place = river.ground.to_pixels(stations.points[len(stations.points) // 2][None])[0] + shift
        axes.annotate(
            str(river.number), place, ha="center", va="center", fontsize=9, fontweight="bold",
            bbox={"boxstyle": "circle,pad=0.25", "fc": "white", "ec": _LINE},
        )  # fmt: skip


def _shift(river: River, measures: RiverMeasures) -> np.ndarray:
    """(column, row) of the river's cut in the raster."""
    corner = river.ground.to_world(np.zeros((1, 2)))
    shift: np.ndarray = measures.raster.ground.from_world(corner)[0]
    return shift


def _draw_scale(axes: "Axes", measures: RiverMeasures) -> None:
    """A bar of a round length in the lower right corner."""
    ground, (height, width) = measures.raster.ground, measures.raster.water.shape
    side = ground.sides[1]
    wished = width * side / 5
    power = 10.0 ** np.floor(np.log10(wished))
    length = max(step * power for step in (1, 2, 5) if step * power <= wished)
    right, low = width * 0.975, height * 0.95
    ends = [right - length / side, right]
    axes.plot(ends, [low, low], color="white", lw=6, solid_capstyle="butt")
    axes.plot(ends, [low, low], color="0.1", lw=3, solid_capstyle="butt")
    text = f"{length / 1000:g} km" if ground.unit == "m" and length >= 1000 else ""
    axes.text(
        (ends[0] + ends[1]) / 2, low - height * 0.015, text or f"{length:g} {ground.unit}",
        ha="center", va="bottom", fontsize=9,
        bbox={"fc": "white", "ec": "none", "alpha": 0.75, "pad": 1.5},
    )  # fmt: skip


def _draw_widths(axes: "Axes", below: "Axes", river: River) -> None:
    stations, unit = river.stations, river.ground.unit
    for panel in (axes, below):
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(axis="y", color="0.9", linewidth=0.8)
        panel.set_axisbelow(True)
    axes.set_title(f"Width along river {river.number}", loc="left", fontsize=11)
    axes.set_ylabel(f"width ({unit})")
    below.set_ylabel("channels")
    below.set_xlabel(f"along the centreline ({unit})")
    axes.tick_params(labelbottom=False)
    if stations is None or river.centreline is None:
        axes.text(0.5, 0.5, "no centreline", transform=axes.transAxes, ha="center", color="grey")
        return
    _draw_width_lines(axes, stations)
    below.step(stations.along, stations.channels, where="mid", color=LINE_COLOURS[2], lw=1.5)
    below.set_ylim(0, max(2, int(stations.channels.max())) + 0.5)
    below.set_xlim(0, river.centreline.length)


def _draw_width_lines(axes: "Axes", stations: Stations) -> None:
    if stations.narrow is not None and stations.wide is not None:
        axes.fill_between(
            stations.along, stations.narrow, stations.wide, color=LINE_COLOURS[4], alpha=0.35,
            linewidth=0, label="almost certain to at all likely",
        )  # fmt: skip
    axes.plot(stations.along, stations.width, color=LINE_COLOURS[0], lw=1.6, label="all channels")
    if (stations.channels > 1).any():
        axes.plot(
            stations.along, stations.main_width, "--", color=LINE_COLOURS[1], lw=1.3,
            label="channel at the centreline",
        )  # fmt: skip
    opened = stations.is_open
    if opened.any():
        axes.plot(
            stations.along[opened], stations.width[opened], "o", mfc="white", mec=_SECTION, ms=4,
            label="open: wider than measured",
        )  # fmt: skip
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=9, loc="lower right", bbox_to_anchor=(1, 1.0), ncols=4)


def _draw_table(axes: "Axes", measures: RiverMeasures) -> None:
    from matplotlib.transforms import Bbox

    axes.axis("off")
    cells = [_header(measures), *(_cells(river) for river in measures.rivers[:_MOST_ROWS])]
    share = _ROW * len(cells) / _table_height(measures)
    table = axes.table(
        cells, bbox=Bbox.from_bounds(0, 1 - share, 1, share), cellLoc="right", edges="horizontal"
    )
    table.auto_set_font_size(False)
    table.set_fontsize(9.5)
    for (row, _), cell in table.get_celld().items():
        cell.set_edgecolor("0.85")
        if row == 0:
            cell.set_text_props(fontweight="bold")
    text = "\n".join(f"· {note}" for note in _notes(measures))
    axes.text(0, 0, text, transform=axes.transAxes, fontsize=8.5, color="0.35", va="bottom")


def _table_height(measures: RiverMeasures) -> float:
    """Inches of the table and the notes below it."""
    rows = min(len(measures.rivers), _MOST_ROWS) + 1
    return _ROW * rows + _NOTE * len(_notes(measures)) + 0.15


def _header(measures: RiverMeasures) -> tuple[str, ...]:
    unit = measures.raster.ground.unit
    square = "px" if unit == "px" else "m²"
    return (
        "river", f"area ({square})", f"interval ({square})", f"length ({unit})", "sinuosity",
        f"mean width ({unit})", "braiding", f"islands ({square})",
    )  # fmt: skip


def _cells(river: River) -> tuple[str, ...]:
    row = river_row(river)
    islands = f"{row['islands']}" + (f" ({row['islands_m2']:,.0f})" if row["islands"] else "")
    interval = "–"
    if river.interval is not None:
        interval = f"{river.interval.low:,.0f} … {river.interval.high:,.0f}"
    return (
        str(river.number), _number(river.area, 0), interval, _number(row["length_m"], 0),
        _number(row["sinuosity"], 2), _number(row["width_mean_m"], 1),
        _number(row["braiding_index"], 2), islands,
    )  # fmt: skip


def _notes(measures: RiverMeasures) -> list[str]:
    notes = list(measures.notes)
    interval = measures.rivers[0].interval
    if interval is not None:
        notes.insert(0, f"{interval.coverage:.0%} interval: {interval.assumption}")
    if len(measures.rivers) > _MOST_ROWS:
        notes.insert(0, f"the largest {_MOST_ROWS} of {len(measures.rivers)} rivers are shown")
    return notes


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"
