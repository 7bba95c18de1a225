import numpy as np
import pytest

from autosam.evaluation.metrics import METRICS, pooled, score_mask, summarise
from autosam.evaluation.result import Evaluation


def evaluation(*, groups=None, context=None):
    water = np.zeros((10, 10), dtype=bool)
    water[:5] = True
    half = water.copy()
    half[:, 5:] = False
    rows = [{"name": name, **score_mask(p, water)} for name, p in (("a", water), ("b", half))]
    summary = summarise(rows, bootstrap=100, seed=0)
    group = {"images": 2, "summary": summary, "pooled": pooled(rows)}
    return Evaluation(
        rows=tuple(rows),
        summary=summary,
        pooled=pooled(rows),
        groups=dict.fromkeys(groups or (), group),
        calibration={"ece": 0.0123, "reliability": []},
        settings={},
        context=context or {},
    )


def cells(line):
    return [cell for cell in line.split("  ") if cell.strip()]


def test_the_table_says_what_was_found():
    lines = evaluation().table().splitlines()
    assert lines[0] == "2 images"
    assert [cell.strip() for cell in cells(lines[3])] == [
        "IoU", "0.750", "0.500 to 1.000", "0.750", "0.750", "2",
    ]  # fmt: skip
    assert "calibration error" in lines[-1]
    assert "0.012" in lines[-1]


def test_undefined_scores_are_dashes_and_not_numbers():
    line = next(
        line for line in evaluation().table().splitlines() if line.startswith("false water")
    )
    assert [cell.strip() for cell in cells(line)] == ["false water", "-", "-", "-", "-", "0"]


def test_columns_line_up_and_no_line_has_blanks_at_its_end():
    lines = evaluation(groups=["short", "a much longer name"]).table().splitlines()
    assert all(line == line.rstrip() for line in lines)
    block = lines[-2:]
    assert block[0].index("0.750") == block[1].index("0.750")
    assert len(block[0]) == len(block[1])


def test_every_metric_is_in_the_table_and_in_the_dictionary():
    found = evaluation()
    assert set(found.to_dict()["summary"]) == set(METRICS)
    assert len(found.table().splitlines()) == 1 + 2 + len(METRICS) + 1


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (np.float32(0.5), 0.5),
        (np.arange(3), [0, 1, 2]),
        ((1, float("inf")), [1, None]),
        ({1: np.nan}, {"1": None}),
        (np.bool_(True), True),
    ],
)
def test_what_json_does_not_know_is_made_plain(value, plain):
    assert evaluation(context={"value": value}).to_dict()["context"]["value"] == plain
