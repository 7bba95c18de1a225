"""Question: what do the results of the scoreboard say, as tables and figures that a reviewer can check?

Reads result files of `python -m benchmarks.accuracy` and nothing else. Every figure says whether its pictures
are real or drawn; whatever was prompted with the true mask is called an *oracle* and drawn hollow.

Run:    python -m benchmarks.tables RESULT.json [RESULT.json ...] -o FOLDER
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from autosam.errors import AutoSamError, DataError
from autosam.files import read_json, write_text
from benchmarks.scoreboard import figures
from benchmarks.scoreboard.records import check_result
from benchmarks.scoreboard.statistics import (
    Difference,
    Line,
    Summary,
    difference,
    lines_of,
    summary,
)

WORDS = {"real": "real rivers", "synthetic": "DRAWN scenes, no rivers"}
PROMPTED = ("null", "full box", "coarse", "own model", "oracle")
MOST_SITES = 15
"""Columns beyond which a table by site cannot be read."""
REFERENCE = "autosam"
"""The line that the others are compared with."""


def number(value: float | None, digits: int = 3) -> str:
    """As in a table: .713; - where there is none."""
    if value is None:
        return "-"
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.removeprefix("-")
    return text.removeprefix("0") if text.startswith("0.") else text.replace("-0.", "-.")


def with_interval(found: Summary | Difference, digits: int = 2) -> str:
    """.71 [.45, .86]."""
    low, high = number(found.low, digits), number(found.high, digits)
    return number(found.mean, digits) + ("" if found.low is None else f" [{low}, {high}]")


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table."""
    body = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in body)


def title(result: Mapping[str, Any], text: str) -> str:
    """A heading that says first what kind of pictures these are."""
    return f"## {WORDS[result['pictures']]} ({result['suite']}): {text}"


def _named(line: Line) -> str:
    return line.label + (" (**has seen** these pictures)" if line.has_seen else "")


def main_table(result: Mapping[str, Any], lines: Sequence[Line]) -> str:
    """Every line: accuracy, false water, cost, failures."""
    blocks, rows = result["blocks"], []
    for line in lines:
        iou, false = summary(line, "iou", blocks), summary(line, "false_water", blocks)
        rows.append([
            _named(line),
            with_interval(iou), number(iou.median, 2),
            *(number(summary(line, score, blocks).mean, 2) for score in ("f1", "boundary_iou")),
            number(summary(line, "hd95", blocks).median, 0),
            "-" if false.mean is None else f"{false.mean:.1%}",
            number(line.costs["ece"]),
            *(
                number(line.costs[cost], 0)
                for cost in ("steps", "seconds", "milliseconds", "peak_memory_mb")
            ),
            f"{line.done}" + (f", {line.failed} FAILED" if line.failed else ""),
        ])  # fmt: skip
    head = [
        "method, prompt", "IoU, mean [95 %]", "median", "F1", "boundary IoU", "HD95, px", "false water",
        "ECE", "steps", "training, s", "picture, ms", "peak, MB", "cells",
    ]  # fmt: skip
    return markdown(head, rows)


def difference_table(result: Mapping[str, Any], lines: Sequence[Line]) -> str:
    """The reference minus each other line, paired by picture, over sites."""
    reference = next((line for line in lines if line.label == REFERENCE), None)
    if reference is None:
        return ""
    rows = []
    for line in lines:
        if line is reference or not line.values("iou"):
            continue
        cells = [_named(line)]
        for score in ("iou", "boundary_iou"):
            found = difference(reference, line, score, result["blocks"])
            p = "" if found.p is None else f", p {number(found.p)}"
            cells.append(f"{with_interval(found)}{p}")
        rows.append([*cells, f"{found.blocks} / {found.pictures}"])
    head = [f"{REFERENCE} minus", "IoU", "boundary IoU", "sites / pictures"]
    return markdown(head, rows)


def site_table(result: Mapping[str, Any], lines: Sequence[Line]) -> str:
    """Mean IoU of the pictures with water, and false water of those without, by site."""
    sites, rows = sorted(set(result["blocks"].values())), []
    if len(sites) > MOST_SITES or len(sites) == len(result["blocks"]):
        return ""
    for line in lines:
        cells = []
        for site in sites:

            def inside(name: str, site: str = site) -> bool:
                return bool(result["blocks"][name] == site)

            wet = summary(line, "iou", result["blocks"], only=inside)
            dry = summary(line, "false_water", result["blocks"], only=inside)
            words = [number(wet.mean, 2)] if wet.count else []
            words += [f"{dry.mean:.1%} false"] if dry.mean is not None else []
            cells.append("; ".join(words) or "-")
        rows.append([_named(line), *cells])
    return markdown(["method, prompt", *sites], rows)  # fmt: skip


def strata_table(result: Mapping[str, Any], lines: Sequence[Line]) -> str:
    """Mean IoU by what kind of picture it is."""
    strata = result["strata"]
    kinds = sorted({(k, v) for row in strata.values() for k, v in row.items() if v != "none"})
    rows = []
    for line in lines:
        cells = []
        for kind, value in kinds:

            def alike(name: str, kind: str = kind, value: str = value) -> bool:
                return bool(strata[name].get(kind) == value)

            found = summary(line, "iou", result["blocks"], only=alike)
            cells.append(f"{number(found.mean, 2)} ({found.count})" if found.count else "-")
        rows.append([_named(line), *cells])
    return markdown(["method, prompt", *(f"{kind}: {value}" for kind, value in kinds)], rows)


def prompt_table(result: Mapping[str, Any], lines: Sequence[Line]) -> str:
    """Methods down, sources of prompts across."""
    methods = list(dict.fromkeys(line.method for line in lines))
    found = {(line.method, line.source): line for line in lines}
    columns = [*PROMPTED, "learnt"]
    rows = []
    for method in methods:
        here = [found.get((method, source)) for source in columns]
        if sum(line is not None for line in here):
            blocks = result["blocks"]
            rows.append([
                method,
                *("" if line is None else with_interval(summary(line, "iou", blocks)) for line in here),
            ])  # fmt: skip
    heads = ["*oracle*" if column == "oracle" else column for column in columns]
    return markdown(["method", *heads], rows)


def flattering_table(result: Mapping[str, Any], lines: Sequence[Line]) -> str:
    """The published metrics of the same masks beside the true ones."""
    rows = []
    for line in lines:
        f1 = summary(line, "f1", result["blocks"])
        column = summary(line, "column_f1", result["blocks"])
        whole = summary(line, "whole_pixel_dice", result["blocks"])
        if f1.mean is None or column.mean is None or whole.mean is None:
            continue
        rows.append([
            _named(line), number(f1.mean), f"{number(column.mean)} ({column.mean - f1.mean:+.3f})",
            f"{number(whole.mean)} ({whole.mean - f1.mean:+.3f})",
        ])  # fmt: skip
    head = [
        "method, prompt",
        "F1 of all pixels",
        "F1 by column, as published",
        "Dice of whole pixels, as published",
    ]
    return markdown(head, rows)


def fold_table(result: Mapping[str, Any]) -> str:
    """The same method under each division: what a leak is worth."""
    folds = list(dict.fromkeys(cell["fold"] for cell in result["cells"]))
    rows: dict[str, list[str]] = {}
    for fold in folds:
        part = {**result, "cells": [cell for cell in result["cells"] if cell["fold"] == fold]}
        for line in lines_of(part):
            rows.setdefault(line.label, [""] * len(folds))[folds.index(fold)] = with_interval(
                summary(line, "iou", result["blocks"])
            )
    return markdown(["method, prompt", *folds], [[label, *cells] for label, cells in rows.items()])


def seed_table(lines: Sequence[Line]) -> str:
    """Every seed by itself, so that nothing hides in a mean."""
    seeds = sorted({seed for line in lines for seed in line.by_seed})
    rows = [[_named(line), *(number(line.by_seed.get(seed)) for seed in seeds)] for line in lines]
    return markdown(["method, prompt", *(f"seed {seed}" for seed in seeds)], rows)


def failures(result: Mapping[str, Any]) -> str:
    """What did not come to its end, and why."""
    found = [cell for cell in result["cells"] if cell["status"] == "failed"]
    missing = result["wanted"] - len(result["cells"])
    words = [f"- {c['fold']}, {c['method']}, seed {c['seed']}: {c['error']}" for c in found]
    words += [f"- {missing} cells were not begun."] if missing else []
    return "\n".join(words) or "None."


def report(result: Mapping[str, Any], folder: Path, *, stem: str) -> str:
    """All tables of one result as Markdown; its figures are written into the folder.

    Where folds are several divisions of the same pictures, one of which may leak, each is told by itself.

    Args:
        result: From `read_result`.
        folder: Of the figures.
        stem: With which their names begin.
    """
    folds = list(dict.fromkeys(cell["fold"] for cell in result["cells"]))
    several = len(folds) > 1
    parts = [f"{title(result, 'by division')}\n\n{fold_table(result)}"] if several else []
    if several and divides_anew(result):
        for fold in folds:
            part = {**result, "cells": [cell for cell in result["cells"] if cell["fold"] == fold]}
            parts += _told(part, folder, stem=f"{stem}--{fold}", words=f", division {fold}")
    else:
        parts = [*_told(result, folder, stem=stem, words=""), *parts]
    parts.append(f"{title(result, 'failures')}\n\n{failures(result)}")
    return "\n\n".join([_preface(result), *parts]) + "\n"


def divides_anew(result: Mapping[str, Any]) -> bool:
    """Whether a picture is judged in more than one fold, which then must not be put into one mean."""
    seen: dict[str, str] = {}
    for cell in result["cells"]:
        for judgement in cell.get("judgements", ()):
            for name in judgement["rows"]:
                if seen.setdefault(name, cell["fold"]) != cell["fold"]:
                    return True
    return False


def _told(result: Mapping[str, Any], folder: Path, *, stem: str, words: str) -> list[str]:
    """Tables and figures of cells whose scores may be put together."""
    lines = lines_of(result)
    parts: list[tuple[str, str]] = [
        ("every method", main_table(result, lines)),
        ("differences, paired over sites", difference_table(result, lines)),
        ("by site", site_table(result, lines)),
        ("by kind of picture", strata_table(result, lines)),
        ("what a prompt is worth", prompt_table(result, lines)),
        ("the published metrics on the same masks", flattering_table(result, lines)),
        ("every seed", seed_table(lines)),
    ]
    drawn = figures.draw_all(
        result, lines, folder, words=f"{WORDS[result['pictures']]}{words}", stem=stem
    )
    tables = [f"{title(result, text + words)}\n\n{table}" for text, table in parts if table]
    return [*tables, *(f"![{path.stem}]({path.name})" for path in drawn)]


def _preface(result: Mapping[str, Any]) -> str:
    """What a reader must know before the first number."""
    budget, machine = result["budget"], result["environment"]
    seeds = f"{budget['seeds']} seed{'s' if budget['seeds'] > 1 else ''}"
    return (
        f"# Scoreboard: {result['suite']}\n\n**{WORDS[result['pictures']]}.** {result['note']} SAM: "
        f"`{result['sam']}`. Budget of every method that trains: {budget['steps']} steps of "
        f"{budget['batch']} pictures, {seeds}. IoU, F1, boundary IoU and HD95 are of pictures with water "
        "(HD95: the median), false water is the share of wet pixels in pictures without; intervals draw "
        "whole sites. *Oracle* prompts come from the true mask: an upper bound, no result. "
        f"{machine['processor']}, {machine['threads']} threads, torch {machine['versions']['torch']}."
    )


def read_result(path: Path) -> dict[str, Any]:
    """A result of the scoreboard.

    Raises:
        DataError: It is not one.
    """
    result = read_json(path, what="result")
    if not isinstance(result, dict) or result.get("question") != "scoreboard":
        raise DataError(
            f"result must be of python -m benchmarks.accuracy, got {path}. Give its JSON file."
        )
    check_result(result)
    return result


def main(say: Callable[[str], None] = print) -> None:
    """Write tables and figures of every result."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tables",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("results", type=Path, nargs="+")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder")
    arguments = parser.parse_args()
    if arguments.output.exists() and not arguments.output.is_dir():
        sys.exit(f"-o must be a folder, got the file {arguments.output}. Choose another.")
    try:
        for path in arguments.results:
            result = read_result(path)
            arguments.output.mkdir(parents=True, exist_ok=True)
            text = report(result, arguments.output, stem=path.stem)
            write_text(arguments.output / f"{path.stem}.md", text)
            say(str(arguments.output / f"{path.stem}.md"))
    except AutoSamError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
