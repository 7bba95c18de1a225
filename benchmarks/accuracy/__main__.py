"""Question: which method masks rivers best, on the same splits, with the same budget?

Every method is a row, every fold and seed a cell; a killed run goes on at the cell it was in, and a cell that
fails is a row that says so. Suites: 'rivers' (real pictures, each site held back once), 'river-nano' (those
that no stage of river-nano saw), 'synthetic' (drawn scenes), 'corridor' (a drawn river of several dates, for
leaks), 'elwha' (the dataset itself, from the hub or from disk).

Run:    python -m benchmarks.accuracy synthetic --quick
        python -m benchmarks.accuracy rivers --data FOLDER --out runs/rivers --results rivers.json
        python -m benchmarks.tables rivers.json -o tables/        makes its tables and figures
"""

import argparse
import dataclasses
import sys
from pathlib import Path

from autosam.errors import AutoSamError
from autosam.files import write_json
from benchmarks.scoreboard.board import (
    Budget,
    cells_of,
    check_results,
    check_settings,
    gather,
    prepare,
    run_all,
    strata_of_test,
)
from benchmarks.scoreboard.methods import choose_methods, foreign_method
from benchmarks.scoreboard.suites import NAMES, Suite, SuiteChoice, open_suite

QUICK = {"steps": 40, "seeds": 1, "side": 192}
QUICK_PICTURES, QUICK_FOLDS = {"rivers": 14, "river-nano": 14, "synthetic": 24, "corridor": 6}, 3
QUICK_METHODS = (
    "threshold",
    "random-forest",
    "autosam",
    "autosam+decoder",
    "decoder-null",
    "decoder-points",
    "unet",
)


def parser() -> argparse.ArgumentParser:
    """What can be typed."""
    found = argparse.ArgumentParser(
        prog="python -m benchmarks.accuracy", description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )  # fmt: skip
    found.add_argument("suite", choices=NAMES)
    found.add_argument(
        "--data", type=Path, help="folder of the real groups, or the Elwha dataset on disk"
    )
    found.add_argument(
        "--out", type=Path, help="folder of the cells; runs/scoreboard/SUITE by default"
    )
    found.add_argument("--results", type=Path, help="JSON file; OUT/scoreboard.json by default")
    found.add_argument(
        "--methods", default="", help="names, patterns or studies, with commas; 'main' by default"
    )
    found.add_argument(
        "--add", action="append", default=[], metavar="MODULE:CLASS",
        help="somebody else's model: a class whose objects turn an image into probabilities",
    )  # fmt: skip
    found.add_argument("--seeds", type=int, help="3 by default")
    found.add_argument(
        "--steps", type=int, help="optimiser steps of every method that trains; 400 by default"
    )
    found.add_argument("--batch", type=int, help="pictures a step; 4 by default")
    found.add_argument(
        "--side", type=int, help="pixels that prompt network and U-Net see; 256 by default"
    )
    found.add_argument(
        "--weights", help="where backbones start: 'imagenet' by default, '' for random"
    )
    found.add_argument("--minutes", type=float, help="after which a cell has failed; 60 by default")
    found.add_argument(
        "--sam", default="", help="in the place of the suite's own: a name, folder or hub id"
    )
    found.add_argument(
        "--pictures", type=int, help="at most so many of each site (corridor: rows of tiles)"
    )
    found.add_argument(
        "--folds", type=int, help="hold sites back in so many folds instead of one by one"
    )
    found.add_argument(
        "--quick", action="store_true", help="fewer pictures, steps, methods and folds, one seed"
    )
    found.add_argument(
        "--resume", action="store_true", help="keep the cells that came to their end"
    )
    return found


def _budget(arguments: argparse.Namespace) -> Budget:
    given = {
        field.name: getattr(arguments, field.name)
        for field in dataclasses.fields(Budget)
        if getattr(arguments, field.name) is not None
    }
    return Budget(**{**(QUICK if arguments.quick else {}), **given})


def _suite(arguments: argparse.Namespace, out: Path) -> Suite:
    pictures, folds = arguments.pictures, arguments.folds
    if arguments.quick:
        pictures = QUICK_PICTURES.get(arguments.suite) if pictures is None else pictures
        folds = QUICK_FOLDS if folds is None else folds
    return open_suite(
        SuiteChoice(
            name=arguments.suite, data=arguments.data, scratch=out, sam=arguments.sam,
            pictures=pictures or 0, folds=folds or 0,
        )
    )  # fmt: skip


def main() -> None:
    """Run the suite and write its result after every seed's worth of cells."""
    arguments = parser().parse_args()
    out = arguments.out or Path("runs/scoreboard") / arguments.suite
    try:
        added = [foreign_method(adapter) for adapter in arguments.add]
        wanted = tuple(name for name in arguments.methods.split(",") if name)
        if arguments.quick and not wanted:
            wanted = QUICK_METHODS
        methods, budget = choose_methods(wanted, added), _budget(arguments)
        suite = _suite(arguments, out)
        results = arguments.results or out / "scoreboard.json"
        cells = list(cells_of(suite, methods, budget, out))
        check_results(results, suite, cells)
        prepare(suite, out, resume=arguments.resume)
        check_settings(cells, out)
        print(
            f"{len(cells)} cells: {len(methods)} methods, {len(suite.folds)} folds, {budget.seeds} seeds."
        )
        each, kinds = len(cells) // budget.seeds, strata_of_test(suite)
        for first in range(0, len(cells), each):
            run_all(cells[first : first + each], out, budget)
            result = gather(suite, cells, out, budget, kinds)
            write_json(results, result)
    except AutoSamError as error:
        sys.exit(f"{error}")
    print(
        f"{results}\nTables and figures: python -m benchmarks.tables {results} -o {out / 'tables'}"
    )
    if failed := sum(cell["status"] == "failed" for cell in result["cells"]):
        sys.exit(f"{failed} of {len(cells)} cells FAILED: the table says why, their log.txt more.")


if __name__ == "__main__":
    main()
