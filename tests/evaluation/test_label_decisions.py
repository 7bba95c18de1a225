"""Keep, replace or look, and the labels that follow."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from autosam.evaluation.label_decisions import decide, new_label, prune

SIZE = (64, 96)
EVERYWHERE = np.ones(SIZE, dtype=bool)


def rows(first: int, last: int) -> np.ndarray:
    found = np.zeros(SIZE, dtype=bool)
    found[first:last] = True
    return found


def sure_of(mask: np.ndarray, sureness: float) -> np.ndarray:
    return np.where(mask, sureness, 1 - sureness).astype(np.float32)


@settings(max_examples=40, deadline=None)
@given(
    mask=arrays(bool, st.tuples(st.integers(1, 24), st.integers(1, 24))), least=st.integers(0, 9)
)
def test_pruning_drops_each_component_that_is_too_small(mask, least):
    scale = 256**2 / mask.size
    labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
    expected = np.zeros_like(mask)
    for part in range(1, count + 1):
        expected |= (labels == part) & (np.count_nonzero(labels == part) >= least)
    np.testing.assert_array_equal(prune(mask, minimum_area=least * scale), expected)


def test_the_smallest_area_grows_with_the_picture():
    for side, kept in ((256, True), (512, False)):
        mask = np.zeros((side, side), dtype=bool)
        mask[:3, :4] = True  # 12 pixels
        assert prune(mask).any() == kept


def test_a_diagonal_thread_is_one_component():
    np.testing.assert_array_equal(prune(np.eye(256, dtype=bool)), np.eye(256, dtype=bool))


@pytest.mark.parametrize(
    ("predicted", "sureness", "choice"),
    [
        (rows(20, 40), 0.6, "keep"),  # the same, however unsure
        (rows(20, 41), 0.99, "keep"),  # one row of twenty-one: IoU .95
        (rows(20, 60), 0.99, "replace"),  # twice as wide, and sure of it
        (rows(20, 60), 0.8, "look"),  # twice as wide, but not sure
        (rows(0, 0), 0.99, "replace"),  # no water, and sure of it
    ],
)
def test_decisions_by_hand(predicted, sureness, choice):
    probability = sure_of(predicted, sureness)
    found = decide(rows(20, 40), predicted, probability=probability, valid=EVERYWHERE)
    assert found.choice == choice


def test_the_numbers_behind_a_decision_by_hand():
    probability = sure_of(rows(20, 60), 0.99)
    probability[40:50] = 0.6  # half of the disagreement
    found = decide(rows(20, 40), rows(20, 60), probability=probability, valid=EVERYWHERE)
    assert found.agreement == pytest.approx(0.5)
    assert found.sureness == pytest.approx(0.5)


def test_what_is_not_valid_decides_nothing():
    label, predicted = rows(20, 40), rows(20, 60)
    probability = sure_of(predicted, 0.99)
    found = decide(label, predicted, probability=probability, valid=~rows(40, 60))
    assert (found.choice, found.agreement, found.sureness) == ("keep", 1.0, 1.0)


def test_a_replaced_label_is_the_prediction_where_the_label_counted():
    label, predicted, valid = rows(20, 40), rows(20, 60), ~rows(50, 64)
    mask, after = new_label(
        "replace", label, predicted, probability=sure_of(predicted, 0.99), valid=valid
    )
    np.testing.assert_array_equal(mask, rows(20, 50))
    np.testing.assert_array_equal(after, valid)


def test_a_kept_label_is_as_it_was():
    label, valid = rows(20, 40), ~rows(50, 64)
    mask, after = new_label(
        "keep", label, rows(0, 64), probability=sure_of(rows(0, 64), 0.6), valid=valid
    )
    np.testing.assert_array_equal(mask, label)
    np.testing.assert_array_equal(after, valid)
