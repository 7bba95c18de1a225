"""Curves, histograms and reliability on labelled axes, as PNG.

matplotlib is loaded when the first figure is made, and its global state is never touched.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from autosam.files import PathLike, replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LINE_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
"""Okabe and Ito (2008): apart for people of every colour vision."""
LINE_STYLES = ("-", "--", "-.", ":")


def save_curves(
    path: PathLike,
    panels: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]],
    *,
    x_label: str = "epoch",
) -> Path:
    """Plot named lines over one shared axis, a panel for each quantity, as PNG.

    Args:
        path: Where to.
        panels: Label of the vertical axis -> name of the line -> its (x, y) points, for instance
            ``{"loss": {"training": [(1, 0.7), (2, 0.5)]}, "IoU": {"validation": [(1, 0.6)]}}``.
            Values that are not finite leave a gap; panels and lines may be empty.
        x_label: What the shared axis counts.

    Raises:
        OutputError: The file cannot be written.
    """
    from matplotlib.ticker import MaxNLocator

    figure, all_axes = _figure(len(panels) or 1, width=7.0, height=2.3 * (len(panels) or 1) + 0.5)
    for axes, (label, lines) in zip(all_axes, panels.items(), strict=False):
        for index, (name, points) in enumerate(lines.items()):
            x, y = np.array(points, dtype=float).reshape(-1, 2).T
            axes.plot(
                x,
                np.where(np.isfinite(y), y, np.nan),
                LINE_STYLES[index % len(LINE_STYLES)],
                color=LINE_COLOURS[index % len(LINE_COLOURS)],
                marker="o" if len(points) <= 12 else "",
                markersize=3.5,
                linewidth=1.6,
                label=name,
            )
        axes.set_ylabel(label)
        if any(name.replace("_", " ") not in label for name in lines):
            axes.legend(frameon=False)
    all_axes[-1].set_xlabel(x_label)
    all_axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True, steps=(1, 2, 5, 10)))
    figure.align_ylabels(all_axes)
    return _save_figure(figure, path)


def save_histogram(
    path: PathLike,
    values: Sequence[float],
    *,
    label: str,
    counted: str = "images",
    bounds: tuple[float, float] = (0.0, 1.0),
    bins: int = 20,
) -> Path:
    """Plot how often each value occurs, with mean and median marked, as PNG.

    Args:
        path: Where to.
        values: Inside `bounds`; none at all gives empty axes that say so.
        label: What is measured, with its unit.
        counted: What one value belongs to, for the vertical axis.
        bounds: Ends of the horizontal axis.
        bins: Bars between them.

    Raises:
        OutputError: The file cannot be written.
    """
    from matplotlib.ticker import MaxNLocator

    figure, (axes,) = _figure(1, width=6.0, height=3.4)
    axes.hist(values, bins=bins, range=bounds, color=LINE_COLOURS[0], edgecolor="white")
    axes.set_xlim(*bounds)
    axes.set_xlabel(label)
    axes.set_ylabel(f"{counted} (of {len(values)})")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, steps=(1, 2, 5, 10)))
    if len(values):
        marks = (
            ("mean", float(np.mean(values)), "-", LINE_COLOURS[1]),
            ("median", float(np.median(values)), "--", "black"),
        )
        for name, value, style, colour in marks:
            axes.axvline(value, color=colour, linestyle=style, label=f"{name} {value:.3f}")
        axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    else:
        axes.text(0.5, 0.5, "no values", transform=axes.transAxes, ha="center", color="grey")
    return _save_figure(figure, path)


def save_reliability(
    path: PathLike,
    table: Sequence[Mapping[str, float | None]],
    *,
    error: float | None,
    note: str = "",
) -> Path:
    """Plot how often pixels are water against how often they were said to be, as PNG.

    Args:
        path: Where to.
        table: Rows of `low`, `high`, `count`, `predicted`, `observed` (both shares in 0..1, None
            where no pixel fell).
        error: Expected calibration error, for the title; None when nothing was measured.
        note: Ends the title, in brackets, for instance where prompts came from.

    Raises:
        OutputError: The file cannot be written.
    """
    figure, (axes, shares) = _figure(2, width=4.6, height=5.4, ratios=(3, 1))
    points = [(r["predicted"], r["observed"]) for r in table if r["predicted"] is not None]
    axes.plot([0, 1], [0, 1], color="grey", linestyle="--", linewidth=1, label="perfect")
    if points:
        x, y = np.array(points, dtype=float).T
        axes.plot(x, y, color=LINE_COLOURS[0], marker="o", markersize=4.5, label="measured")
    axes.set_ylabel("share of pixels that are water")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.legend(frameon=False, loc="upper left")
    if error is not None:
        ending = f"\n({note})" if note else ""
        axes.set_title(f"expected calibration error {error:.4f}{ending}", fontsize=10)
    total = sum(row["count"] or 0 for row in table) or 1
    lows = [row["low"] or 0.0 for row in table]
    widths = [(row["high"] or 0.0) - (row["low"] or 0.0) for row in table]
    heights = [100 * (row["count"] or 0) / total for row in table]
    shares.bar(lows, heights, widths, align="edge", color=LINE_COLOURS[0], edgecolor="white")
    shares.set_ylabel("pixels (%)")
    shares.set_xlabel("predicted probability of water")
    return _save_figure(figure, path)


def _figure(
    panels: int, *, width: float, height: float, ratios: Sequence[float] | None = None
) -> "tuple[Figure, list[Axes]]":
    """Axes above each other with a shared x, without matplotlib's global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(panels, 1, sharex=True, squeeze=False, height_ratios=ratios)
    all_axes: list[Axes] = list(grid[:, 0])
    for axes in all_axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="0.9", linewidth=0.8)
        axes.set_axisbelow(True)
    return figure, all_axes


def _save_figure(figure: "Figure", path: PathLike) -> Path:
    path = Path(path)
    with replacing(path) as beside:
        figure.savefig(beside, format="png")
    return path
