"""What a person adds, and a simulated person who clicks where it is most wrong."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays

from autosam.errors import DataError
from autosam.prompts.corrections import (
    SCRIBBLE_POINTS,
    corrected,
    correction,
    next_click,
    scribble_points,
)
from autosam.types import Prompt, Query


def test_nothing_given_is_no_correction():
    assert correction() is None
    assert correction(points=[], labels=[]) is None


def test_clicks_a_box_and_scribbles_are_one_query():
    query = correction(
        points=[(3, 4)], labels=[0], box=(1, 2, 9, 8), scribbles=[(np.array([[0, 0], [7, 0]]), 1)]
    )
    assert query.labels.tolist() == [0] + [1] * SCRIBBLE_POINTS
    assert query.box.tolist() == [1, 2, 9, 8]


def test_scribbles_are_followed_evenly_along_their_bends():
    places = scribble_points(np.array([[0, 0], [7, 0], [7, 7]]))
    assert places[0].tolist() == [0, 0]
    assert places[-1].tolist() == [7, 7]
    assert {tuple(place) for place in places} >= {(2.0, 0.0), (7.0, 5.0)}  # steps of 14 / 7
    assert scribble_points(np.array([[4, 5], [4, 5]])).tolist() == [[4, 5]]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"points": [(1, 2)]}, "got points without labels"),
        ({"labels": [1]}, "got labels without points"),
        ({"points": [(1, 2)], "labels": [1, 0]}, "one label each"),
        ({"points": [1, 2], "labels": [1]}, r"points must be \(count, 2\)"),
        ({"points": [(1, 2)], "labels": [5]}, r"labels must be 1 \(water\)"),
        ({"points": [(1, 2)], "labels": [0.5]}, r"labels must be 1 \(water\)"),
        ({"points": [("a", "b")], "labels": [1]}, "points must be real numbers"),
        ({"box": (5, 5, 1, 1)}, "left <= right"),
        ({"box": (5, 5)}, r"box must be four numbers .*got shape \(2,\)"),
        ({"box": [[1, 2, 3, 4]]}, r"got shape \(1, 4\)\. Give one box as left, top, right, bottom"),
        ({"box": 7}, r"got the one number 7\. Give one box as left"),
        ({"box": (1, 2, np.nan, 4)}, "box must be finite numbers"),
        ({"box": (0, 0, 1e300, 4)}, "box must lie in the picture"),
        ({"box": np.array([1, 2, 3, 4], complex)}, r"real numbers, got array\(\[1\.\+0\.j"),
        ({"box": ["1", "2", "3", "4"]}, "box must be real numbers"),
        ({"box": [0, 0, 10**400, 4]}, "box must be real numbers"),
        ({"points": [(1, 2)], "labels": 1}, r"got the one number 1\. Give one for each point: 1"),
        ({"points": [(1, 2)], "labels": [[1]]}, r"flat list, got shape \(1, 1\)\. Give one for"),
        ({"box": "everywhere"}, "box must be real numbers"),
        ({"points": [(1, 2)], "labels": [-10]}, r"labels must be 1 \(water\)"),
        ({"points": [(1, 2)], "labels": [np.nan]}, r"labels must be 1 \(water\)"),
        ({"points": [(1e300, 2)], "labels": [1]}, "points must lie in the picture"),
        ({"scribbles": [(np.zeros((0, 2)), 1)]}, "at least one point"),
        (
            {"scribbles": [(np.array([[0, 0], [1e300, 1]]), 1)]},
            r"scribble must lie in the picture, got \[\[0\.0, 0\.0\], \[1e\+300",
        ),
        ({"scribbles": None}, "scribbles must be a list, got NoneType"),
        ({"scribbles": [(np.zeros((2, 2)), "water")]}, "scribble must be a line and its label"),
        ({"scribbles": [(np.zeros((2, 2)), 1, 2)]}, "scribble must be a line and its label"),
    ],
)
def test_a_correction_that_cannot_be_meant_is_refused(given, message):
    with pytest.raises(DataError, match=message):
        correction(**given)


def test_every_query_takes_the_correction_along_and_the_boxes_yield():
    own = Query(points=np.array([[1, 1]]), labels=np.array([1]), box=np.array([0, 0, 4, 4]))
    prompt = Prompt(source="coarse hsv both", queries=(own, own), fusion="best")
    new = corrected(prompt, correction(points=[(2, 2)], labels=[0], box=(1, 1, 3, 3)))
    assert new.source == "coarse hsv both + human"
    assert new.fusion == "best"
    for query in new.queries:
        assert query.labels.tolist() == [1, 0]
        assert query.box.tolist() == [1, 1, 3, 3]
    only_clicks = corrected(prompt, correction(points=[(2, 2)], labels=[0]))
    assert only_clicks.queries[0].box.tolist() == [0, 0, 4, 4]
    assert (
        corrected(Prompt(source="learnt"), correction(box=(0, 0, 1, 1))).queries[0].box is not None
    )


def test_the_next_click_is_the_middle_of_the_largest_error():
    truth = np.zeros((30, 40), bool)
    truth[10:21, 20:31] = True
    assert next_click(truth, truth) is None
    place, label = next_click(np.zeros_like(truth), truth)
    assert (place.tolist(), label) == ([25, 15], 1)
    predicted = truth.copy()
    predicted[0:5, 0:5] = True
    place, label = next_click(predicted, truth)
    assert (place.tolist(), label) == ([2, 2], 0)
    valid = np.ones_like(truth)
    valid[:8] = False
    assert next_click(predicted, truth, valid=valid) is None


def test_missed_and_invented_water_that_touch_are_two_errors():
    truth, predicted = np.zeros((20, 40), bool), np.zeros((20, 40), bool)
    truth[:, :25] = True
    predicted[:, 25:] = True
    place, label = next_click(predicted, truth)
    assert label == 1
    assert place[0] < 25


@given(arrays(bool, (9, 13)), arrays(bool, (9, 13)), arrays(bool, (9, 13)))
@settings(max_examples=80, deadline=None)
def test_a_click_is_always_on_a_valid_error_and_asks_for_the_truth(predicted, truth, valid):
    click = next_click(predicted, truth, valid=valid)
    wrong = (predicted != truth) & valid
    assert (click is None) == (not wrong.any())
    if click is not None:
        (x, y), label = click
        assert wrong[int(y), int(x)]
        assert truth[int(y), int(x)] == bool(label)
