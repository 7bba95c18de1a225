"""The figures of a result: a question each, hollow marks for oracles, the kind of pictures in each title."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from autosam.files import replacing
from autosam.plotting import LINE_COLOURS, LINE_STYLES
from benchmarks.scoreboard.statistics import Line, summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FEWEST = 5
"""Pictures below which a curve over pictures says nothing."""
Draw = Callable[[Mapping[str, Any], Sequence[Line], "Axes"], bool]


def draw_all(
    result: Mapping[str, Any], lines: Sequence[Line], folder: Path, *, words: str, stem: str
) -> list[Path]:
    """Write every figure that the result has something for, as ``stem--name.png``."""
    drawn = []
    for name, (title, draw, height) in _FIGURES.items():
        figure, axes = _figure(height(lines))
        if draw(result, lines, axes):
            axes.set_title(f"{words}: {title}", loc="left", fontsize=10)
            drawn.append(_saved(figure, folder / f"{stem}--{name}.png"))
    return drawn


def _iou(result: Mapping[str, Any], lines: Sequence[Line], axes: "Axes") -> bool:
    """A dot and its interval for each line; the best below."""
    found = [(line, summary(line, "iou", result["blocks"])) for line in lines]
    found = sorted(
        ((line, s) for line, s in found if s.mean is not None),
        key=lambda pair: -(pair[1].mean or 0),
    )
    for place, (line, score) in enumerate(found):
        colour = LINE_COLOURS[5 if line.has_seen else 1 if line.is_oracle else 0]
        if score.low is not None and score.high is not None:
            axes.plot([score.low, score.high], [place, place], color=colour, linewidth=2)
        face = "white" if line.is_oracle or line.has_seen else colour
        axes.plot([score.mean], [place], "o", markersize=7, color=colour, markerfacecolor=face)
    names = [
        line.label.replace("*", "") + (" (has seen)" if line.has_seen else "") for line, _ in found
    ]
    axes.set_yticks(range(len(found)), names, fontsize=8)
    axes.set_ylim(len(found) - 0.5, -0.5)
    axes.set_xlim(0, 1)
    axes.set_xlabel(
        "mean IoU of pictures with water, 95 % interval over sites (hollow: oracle, or has seen)"
    )
    return bool(found)


def _cost(result: Mapping[str, Any], lines: Sequence[Line], axes: "Axes") -> bool:
    """Milliseconds of a picture against IoU; of each method its best automatic prompt."""
    from matplotlib.ticker import LogLocator, NullLocator

    best: dict[str, tuple[float, float, str]] = {}
    for line in lines:
        score, cost = summary(line, "iou", result["blocks"]).mean, line.costs["milliseconds"]
        if score is None or not cost or line.is_oracle or line.has_seen:
            continue
        best[line.method] = max(best.get(line.method, (-1.0, 0.0, "")), (score, cost, line.label))
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")  # not as powers of ten
    axes.margins(x=0.05, y=0.1)
    points = []
    for score, cost, label in best.values():
        beaten = any(other > score and time < cost for other, time, _ in best.values())
        points.append((cost, score, label, "0.45" if beaten else LINE_COLOURS[0]))
        axes.plot([cost], [score], "o", color=points[-1][-1])
    axes.set_xlabel(
        "milliseconds a picture, one after the other (grey: another is better and faster)"
    )
    axes.set_ylabel("mean IoU")
    _name_points(axes, points)
    return len(best) > 1


def _name_points(axes: "Axes", points: Sequence[tuple[float, float, str, str]]) -> None:
    """Names in a column on the right, the highest first, each with a line to its point.

    Args:
        axes: With its limits as they will stay.
        points: x, y, name and colour of each.
    """
    ordered = sorted(points, key=lambda point: -point[1])
    low, high = axes.get_ylim()
    gap, place = 0.052, 1.0
    for number, (x, y, name, colour) in enumerate(ordered):
        below = gap * (len(ordered) - 1 - number)  # that those to come will need
        place = max(min((y - low) / (high - low), place), below)
        axes.annotate(
            name, (x, y), xytext=(1.03, place), textcoords="axes fraction", fontsize=7, color=colour,
            va="center", annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.5, "alpha": 0.5,
                        "shrinkA": 1, "shrinkB": 4, "relpos": (0, 0.5)},
        )  # fmt: skip
        place -= gap


def _histograms(result: Mapping[str, Any], lines: Sequence[Line], axes: "Axes") -> bool:
    """Scores of pictures, as steps."""
    shown, bins = 0, np.linspace(0, 1, 21)
    for line in _few(lines):
        values = list(line.values("iou").values())
        if len(values) < FEWEST:
            continue
        axes.hist(
            values, bins=list(bins), histtype="step", linewidth=1.8, linestyle=LINE_STYLES[shown % 4],
            color=LINE_COLOURS[shown % 6], label=f"{line.label} (median {np.median(values):.2f})",
        )  # fmt: skip
        shown += 1
    axes.set_xlabel("IoU of a picture")
    axes.set_ylabel("pictures")
    return _with_legend(axes, shown > 0)


def _risk(result: Mapping[str, Any], lines: Sequence[Line], axes: "Axes") -> bool:
    """Mean error of the pictures that are kept when the least confident are passed over."""
    shown = 0
    for line in _few(lines):
        pairs = _beside_iou(line, "confidence")
        if len(pairs) < FEWEST:
            continue
        errors = np.array([1 - iou for _, iou in sorted(pairs, key=lambda p: (-p[0], p[1]))])
        kept = np.arange(1, len(errors) + 1)
        axes.plot(
            kept / len(errors), np.cumsum(errors) / kept, LINE_STYLES[shown % 4],
            color=LINE_COLOURS[shown % 6], label=line.label,
        )  # fmt: skip
        shown += 1
    axes.set_xlabel("share of the pictures kept, the most confident first")
    axes.set_ylabel("1 - mean IoU of those kept")
    axes.set_ylim(bottom=0)
    return _with_legend(axes, shown > 0)


def _gauge(result: Mapping[str, Any], lines: Sequence[Line], axes: "Axes") -> bool:
    """What a model expects of itself against what came."""
    shown = 0
    for line in _few(lines):
        pairs = _beside_iou(line, "expected_iou")
        if len(pairs) < FEWEST:
            continue
        axes.plot(
            *np.array(pairs).T, "o", alpha=0.6, color=LINE_COLOURS[shown % 6], label=line.label
        )
        shown += 1
    axes.plot([0, 1], [0, 1], ":", color="grey")
    axes.set_xlabel("IoU that the out-of-domain gauge expects")
    axes.set_ylabel("IoU")
    return _with_legend(axes, shown > 0)


def _shares(result: Mapping[str, Any], lines: Sequence[Line], axes: "Axes") -> bool:
    """IoU against the share of the training pictures: names like autosam@25%."""
    return _curve(result, lines, axes, mark="@", whole=1.0, label="share of the training pictures")


def _noise(result: Mapping[str, Any], lines: Sequence[Line], axes: "Axes") -> bool:
    """IoU against the share of spoiled labels: names like autosam~40%."""
    return _curve(
        result, lines, axes, mark="~", whole=0.0, label="share of spoiled training labels"
    )


def _curve(
    result: Mapping[str, Any],
    lines: Sequence[Line],
    axes: "Axes",
    *,
    mark: str,
    whole: float,
    label: str,
) -> bool:
    marked = {line.method.partition(mark)[0] for line in lines if mark in line.method}
    for index, method in enumerate(sorted(marked)):
        points = []
        for line in lines:
            name, _, share = line.method.partition(mark)
            found = summary(line, "iou", result["blocks"])
            if name == method and found.mean is not None:
                points.append(
                    (
                        float(share.rstrip("%")) / 100 if share else whole,
                        found.mean,
                        found.low,
                        found.high,
                    )
                )
        x, mean, low, high = np.array(sorted(points), dtype=float).T
        axes.fill_between(x, low, high, alpha=0.15, color=LINE_COLOURS[index % 6])
        axes.plot(
            x, mean, LINE_STYLES[index % 4], marker="o", color=LINE_COLOURS[index % 6], label=method
        )
    axes.set_xlabel(label)
    axes.set_ylabel("mean IoU, 95 % interval over sites")
    return _with_legend(axes, bool(marked))


def _beside_iou(line: Line, score: str) -> list[tuple[float, float]]:
    """(score, IoU) of each picture with water that has both."""
    ious = line.values("iou")
    return [(value, ious[name]) for name, value in line.values(score).items() if name in ious]


def _with_legend(axes: "Axes", is_drawn: bool) -> bool:
    """Name what was drawn, if anything was."""
    if is_drawn:
        axes.legend(frameon=False, fontsize=8)
    return is_drawn


def _few(lines: Sequence[Line]) -> list[Line]:
    """At most six, without oracles and models that have seen the pictures."""
    fair = [line for line in lines if not (line.is_oracle or line.has_seen)]
    wanted = (
        "autosam",
        "river-nano",
        "unet",
        "autosam+decoder",
        "decoder-null",
        "zero-shot-points",
        "threshold",
    )
    first = [line for name in wanted for line in fair if line.method == name]
    return first[:6]


def _fixed(height: float) -> Callable[[Sequence[Line]], float]:
    return lambda lines: height


_FIGURES: Mapping[str, tuple[str, Draw, Callable[[Sequence[Line]], float]]] = {
    "iou": ("every method", _iou, lambda lines: 1.4 + 0.24 * len(lines)),
    "cost": ("accuracy against time", _cost, _fixed(5.0)),
    "histogram": ("scores of pictures", _histograms, _fixed(3.4)),
    "risk": ("what abstaining is worth", _risk, _fixed(3.4)),
    "gauge": ("the out-of-domain gauge", _gauge, _fixed(3.8)),
    "data": ("how much data", _shares, _fixed(3.4)),
    "noise": ("bad labels", _noise, _fixed(3.4)),
}


def _figure(height: float) -> tuple["Figure", "Axes"]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, height), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    return figure, axes


def _saved(figure: "Figure", path: Path) -> Path:
    with replacing(path) as beside:
        figure.savefig(beside, format="png")
    return path
