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
    between = max(0, least - 0.5)  # not on the very count, where rounding decides
    np.testing.assert_array_equal(prune(mask, minimum_area=between * scale), expected)


def test_the_smallest_area_grows_with_the_picture():
    for side, kept in ((256, True), (512, False)):
        mask = np.zeros((side, side), dtype=bool)
        mask[:3, :4] = True  # 12 pixels
        assert prune(mask).any() == kept


def test_a_diagonal_thread_is_one_component():
    np.testing.assert_array_equal(prune(np.eye(256, dtype=bool)), np.eye(256, dtype=bool))


@pytest.mark.parametrize(
    ("agreement", "fault", "trusted", "choice"),
    [
        (0.95, "none", True, "keep"),
        (0.9, "bank under-filled", True, "keep"),  # they agree, whatever is missing
        (0.89, "bank under-filled", True, "replace"),
        (0.6, "bank under-filled", True, "replace"),
        (0.59, "bank under-filled", True, "look"),  # hardly the same water
        (0.8, "bank under-filled", False, "look"),  # the models are too weak
        (0.8, "channel missing", True, "look"),  # the label's fault, or the model's
        (0.8, "false water", True, "look"),
        (0.8, "none", True, "look"),  # they differ, but the model is not sure
    ],
)
def test_decisions_by_hand(agreement, fault, trusted, choice):
    assert decide(agreement, fault, trusted=trusted) == choice


def relabelled(choice, label, predicted, *, sureness, valid=EVERYWHERE):
    probability = sure_of(predicted, sureness)
    return new_label(choice, label, predicted, probability=probability, valid=valid)


def test_a_replaced_label_is_the_prediction_where_the_label_counted():
    valid = ~rows(50, 64)
    mask, after = relabelled("replace", rows(20, 40), rows(20, 60), sureness=0.99, valid=valid)
    np.testing.assert_array_equal(mask, rows(20, 50))
    np.testing.assert_array_equal(after, valid)


def test_a_replaced_label_stays_where_the_model_is_not_sure():
    label, predicted = rows(20, 40), rows(16, 44)
    probability = sure_of(predicted, 0.99)
    probability[40:] = 0.6
    mask, _ = new_label("replace", label, predicted, probability=probability, valid=EVERYWHERE)
    np.testing.assert_array_equal(mask, rows(16, 40))


def test_a_replaced_label_loses_water_that_is_surely_land():
    mask, _ = relabelled("replace", rows(20, 40) | rows(50, 60), rows(20, 40), sureness=0.9)
    np.testing.assert_array_equal(mask, rows(20, 40))


def test_single_pixels_of_doubt_leave_no_holes_in_a_replaced_label():
    label, predicted = rows(20, 40), rows(16, 40)
    probability = sure_of(predicted, 0.99)
    probability[17:19, ::5] = 0.55
    mask, _ = new_label("replace", label, predicted, probability=probability, valid=EVERYWHERE)
    np.testing.assert_array_equal(mask, rows(16, 40))


def test_a_label_to_look_at_stays_and_is_ignored_where_the_model_doubts_it_without_certainty():
    label, predicted, valid = rows(20, 40), rows(20, 60), ~rows(0, 5)
    mask, after = relabelled("look", label, predicted, sureness=0.85, valid=valid)
    np.testing.assert_array_equal(mask, label)
    np.testing.assert_array_equal(after, valid & ~rows(40, 60))
    _, after = relabelled("look", label, predicted, sureness=0.95, valid=valid)
    np.testing.assert_array_equal(after, valid)


def test_a_kept_label_is_as_it_was():
    valid = ~rows(50, 64)
    mask, after = relabelled("keep", rows(20, 40), rows(0, 64), sureness=0.6, valid=valid)
    np.testing.assert_array_equal(mask, rows(20, 40))
    np.testing.assert_array_equal(after, valid)
