"""The record of one cell, checked when it is written and when it is read."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autosam.errors import DataError
from autosam.files import read_json, write_json

RECORD_VERSION = 1
RESULT_VERSION = 1
"""Of the file that gathers all cells."""
FILE = "cell.json"
SCORES = (
    "iou", "f1", "precision", "recall", "boundary_iou", "hd95", "false_water", "water_share", "confidence",
    "presence", "expected_iou", "domain_distance", "column_f1", "whole_pixel_dice",
)  # fmt: skip
"""Of each picture; None where it is not defined."""
_Schema = Mapping[str, Any]
_NUMBER = (int, float)
_JUDGEMENT: _Schema = {
    "source": str, "is_oracle": bool, "prompt": (str, type(None)), "rows": list,
    "ece": (*_NUMBER, type(None)), "reliability": list, "openings": int,
    "milliseconds": (*_NUMBER, type(None)),
}  # fmt: skip
_DONE: _Schema = {
    "version": int, "status": str, "suite": str, "pictures": str, "fold": str, "method": str, "seed": int,
    "has_seen": bool, "split": str, "data": str, "counts": dict, "sam": (str, type(None)), "config": dict,
    "training": dict, "judgements": list, "wall_seconds": _NUMBER, "cpu_seconds": _NUMBER,
    "peak_memory_mb": _NUMBER, "environment": dict,
}  # fmt: skip
_RESULT: _Schema = {
    "version": int, "suite": str, "pictures": str, "note": str, "sam": str, "budget": dict, "wanted": int,
    "blocks": dict, "strata": dict, "score_names": list, "cells": list, "environment": dict,
}  # fmt: skip
_FAILED: _Schema = {
    "version": int, "status": str, "suite": str, "pictures": str, "fold": str, "method": str, "seed": int,
    "error": str, "environment": dict,
}  # fmt: skip


def check_record(record: Mapping[str, Any]) -> None:
    """Refuse a record that does not say all that it must.

    Raises:
        DataError: A key is missing or of another kind, a number is not finite, a picture is judged twice,
            or prompts from the true mask are not called an oracle.
    """
    schema = _FAILED if record.get("status") == "failed" else _DONE
    _check(record, schema, "record")
    for judgement in record.get("judgements", ()):
        _check(judgement, _JUDGEMENT, f"judgement {judgement.get('source')!r}")
        names = [row["name"] for row in judgement["rows"]]
        if len(names) != len(set(names)):
            raise DataError(
                f"record must judge each picture once, got {len(names)} rows for {len(set(names))} pictures. "
                "Delete the cell's folder and run it again."
            )
        if judgement["is_oracle"] != (judgement["source"] == "oracle"):
            raise DataError(
                "record must call prompts from the true mask an oracle and no others, got source "
                f"{judgement['source']!r} with is_oracle {judgement['is_oracle']}. Run the cell again."
            )
        for row in judgement["rows"]:
            _check(row, {"name": str}, "row")
            for score in SCORES:
                value = row.get(score, "missing")
                if value is not None and not (isinstance(value, _NUMBER) and math.isfinite(value)):
                    raise DataError(
                        f"row must have {score} as a finite number or null, got {value!r} ({row['name']}). "
                        "Run the cell again."
                    )
            iou = row["iou"]
            if iou is not None and not 0 <= iou <= 1:
                raise DataError(
                    f"row must have an iou in 0..1, got {iou} ({row['name']}). Run the cell again."
                )


def check_result(result: Mapping[str, Any]) -> None:
    """Refuse a gathered result whose tables would not say what was measured.

    Raises:
        DataError: A key is missing or of another kind, the version is another, a cell is there twice, or
            one of its records is refused by `check_record`.
    """
    _check(result, _RESULT, "result")
    if result["version"] != RESULT_VERSION or result["pictures"] not in ("real", "synthetic"):
        raise DataError(
            f"result must be of version {RESULT_VERSION} with pictures real or synthetic, got version "
            f"{result['version']} and {result['pictures']!r}. Run benchmarks.accuracy again."
        )
    names, cells = list(result["score_names"]), set()
    for cell in result["cells"]:
        check_record(_expanded(cell, names))
        key = (cell["fold"], cell["method"], cell["seed"])
        if key in cells:
            raise DataError(
                f"result must hold each cell once, got {key} twice. Run benchmarks.accuracy again."
            )
        cells.add(key)
        judged = {name for one in cell.get("judgements", ()) for name in one["rows"]}
        lost = sorted(judged - result["blocks"].keys())
        if lost:
            raise DataError(
                f"result must give the site of every picture, got none of {lost[0]!r}. Run "
                "benchmarks.accuracy again."
            )


def _expanded(cell: Mapping[str, Any], names: list[str]) -> dict[str, Any]:
    """A gathered cell as it was recorded, by names of scores."""
    judgements = []
    for judgement in cell.get("judgements", ()):
        rows = judgement["rows"]
        wrong = [name for name, row in rows.items() if len(row) != len(names)]
        if wrong:
            raise DataError(
                f"row must have {len(names)} scores, got {len(rows[wrong[0]])} ({wrong[0]}). "
                "Run the cell again."
            )
        named = [{"name": name, **dict(zip(names, row, strict=True))} for name, row in rows.items()]
        judgements.append({**judgement, "rows": named})
    return {**cell, "judgements": judgements} if "judgements" in cell else dict(cell)


def _check(values: Mapping[str, Any], schema: _Schema, what: str) -> None:
    for key, kind in schema.items():
        value = values.get(key, "missing")
        if key not in values or not isinstance(value, kind):
            raise DataError(
                f"{what} must have {key} of its kind, got {value!r}. Run the cell again with this version."
            )
        if isinstance(value, float) and not math.isfinite(value):
            raise DataError(f"{what} must have a finite {key}, got {value}. Run the cell again.")


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Check and write a cell's record."""
    check_record(record)
    write_json(folder / FILE, record)


def read_record(folder: Path) -> dict[str, Any] | None:
    """A cell's record; None where it has not come to its end.

    Raises:
        DataError: It is damaged.
    """
    if not (folder / FILE).is_file():
        return None
    record = read_json(folder / FILE, what="record of a cell")
    if not isinstance(record, dict):
        raise DataError(f"record of a cell must be a JSON object, got {folder / FILE}. Delete it.")
    check_record(record)
    return record
