"""The one IoU of two masks, by hand and against scikit-learn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays
from sklearn.metrics import jaccard_score

from autosam.overlap import mask_iou, water_score


def test_half_of_a_river_missed_is_one_half_whatever_its_orientation():
    truth = np.zeros((6, 8), bool)
    truth[2:4] = True
    half = truth.copy()
    half[:, 4:] = False
    assert mask_iou(half, truth) == 0.5
    assert mask_iou(half.T, truth.T) == 0.5


def test_two_empty_masks_agree_and_what_is_not_valid_does_not_count():
    empty, full = np.zeros((3, 3), bool), np.ones((3, 3), bool)
    assert mask_iou(empty, empty) == 1
    assert mask_iou(empty, full) == 0
    assert mask_iou(empty, full, valid=empty) == 1


@given(arrays(bool, (5, 7)), arrays(bool, (5, 7)), arrays(bool, (5, 7)))
def test_it_is_scikit_learns_on_the_valid_pixels(mask, other, valid):
    kept, truth = mask[valid], other[valid]
    if (kept | truth).any():
        expected = jaccard_score(truth, kept)
        assert mask_iou(mask, other, valid=valid) == pytest.approx(expected)


def test_the_score_that_chooses_weighs_found_water_against_false_water():
    assert water_score([0.5, 0.7], [0.0, 0.1]) == pytest.approx(0.6 * 0.95)
    assert water_score([], [0.25]) == 0.75  # nothing but dry ground
    assert water_score([0.8], []) == 0.8
    assert water_score([0.0], [0.0]) == 0.0  # silence is not an answer
