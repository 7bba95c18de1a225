import math
import time

import cv2
import numpy as np
import pytest
import torch
from monai.metrics import compute_hausdorff_distance
from scipy import ndimage

from autosam.evaluation.boundaries import boundary_band, boundary_scores


def scores(predicted, truth, valid=None, *, pixels=2, share=0.02):
    valid = np.ones_like(truth) if valid is None else valid
    return boundary_scores(
        predicted & valid, truth & valid, valid=valid, boundary_pixels=pixels, boundary_share=share
    )


def blobs(shape, seed, *, margin=0):
    """Random lakes; with a margin they keep away from the frame."""
    smooth = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 3)
    inner = np.pad(np.ones([side - 2 * margin for side in shape], dtype=bool), margin)
    return (smooth > 0) & inner


def contour_points(mask, valid):
    """Water with valid land on one of four sides, pixel by pixel."""
    points = []
    for y, x in np.argwhere(mask & valid):
        sides = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
        inside = [(a, b) for a, b in sides if 0 <= a < mask.shape[0] and 0 <= b < mask.shape[1]]
        if any(valid[side] and not mask[side] for side in inside):
            points.append((y, x))
    return np.array(points, dtype=float)


def nearest(first, second):
    return np.sqrt(((first[:, None] - second[None]) ** 2).sum(-1)).min(axis=1)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("shape", [(23, 41), (41, 23)])
def test_distance_and_f1_equal_brute_force_at_the_frame_and_with_a_valid_area(seed, shape):
    predicted, truth, valid = (blobs(shape, seed + offset) for offset in (0, 100, 200))
    a, b = contour_points(predicted, valid), contour_points(truth, valid)
    forth, back = nearest(a, b), nearest(b, a)
    precision, recall = (forth <= 2).mean(), (back <= 2).mean()
    found = scores(predicted, truth, valid)
    assert found["hd95"] == pytest.approx(max(np.percentile(forth, 95), np.percentile(back, 95)))
    assert found["boundary_f1"] == pytest.approx(2 * precision * recall / (precision + recall))


@pytest.mark.parametrize("seed", range(6))
def test_hd95_equals_that_of_monai_on_lakes_away_from_the_frame(seed):
    predicted, truth = blobs((60, 90), seed, margin=2), blobs((60, 90), seed + 100, margin=2)
    tensors = [torch.from_numpy(mask)[None, None].float() for mask in (predicted, truth)]
    expected = compute_hausdorff_distance(*tensors, include_background=True, percentile=95)
    assert scores(predicted, truth)["hd95"] == pytest.approx(float(expected), abs=1e-4)


def reference_band(mask, share):
    """As Boundary IoU's authors do it: erode by a 3 x 3 square again and again, on a frame of land."""
    width = max(1, round(share * math.hypot(*mask.shape)))
    framed = np.pad(mask.astype(np.uint8), 1)
    eroded = cv2.erode(framed, np.ones((3, 3), np.uint8), iterations=width)[1:-1, 1:-1]
    return mask & ~eroded.astype(bool)


@pytest.mark.parametrize("share", [0.001, 0.02, 0.05])
@pytest.mark.parametrize("seed", range(4))
def test_boundary_iou_equals_the_authors_way_on_lakes_away_from_the_frame(seed, share):
    predicted, truth = blobs((70, 110), seed, margin=1), blobs((70, 110), seed + 100, margin=1)
    first, second = reference_band(predicted, share), reference_band(truth, share)
    expected = (first & second).sum() / (first | second).sum()
    assert scores(predicted, truth, share=share)["boundary_iou"] == pytest.approx(expected)


def test_boundary_iou_by_hand_for_a_river_across_the_picture():
    truth, predicted = np.zeros((2, 100, 100), dtype=bool)
    truth[30:70], predicted[30:69] = True, True  # diagonal 141, so the band is 3 pixels wide
    # Bands are rows 30-32 with 67-69 and 30-32 with 66-68: five common of seven.
    assert scores(predicted, truth)["boundary_iou"] == 5 / 7


def test_the_frame_of_the_picture_is_no_bank():
    full_width = np.zeros((40, 60), dtype=bool)
    full_width[10:30] = True
    band = boundary_band(full_width, valid=np.ones_like(full_width), width=2)
    assert np.flatnonzero(band.any(axis=1)).tolist() == [10, 11, 28, 29]
    assert band[10].all()


def test_the_edge_of_the_valid_area_is_no_bank():
    water, valid = np.zeros((2, 40, 60), dtype=bool)
    water[10:30], valid[:, :35] = True, True
    band = boundary_band(water & valid, valid=valid, width=3)
    assert not band[13:27].any()
    assert band[10:13, :35].all()


def test_a_valid_area_that_ends_inside_the_river_adds_no_bank_to_any_score():
    truth, predicted, valid = np.zeros((3, 60, 80), dtype=bool)
    truth[20:40], predicted[22:42], valid[:, :50] = True, True, True
    cut = scores(predicted, truth, valid, share=0.03)
    assert cut["hd95"] == 2.0
    assert cut["boundary_f1"] == 1.0
    # Both bands are 3 rows at each bank, moved by two: one common row of five at each.
    assert cut["boundary_iou"] == pytest.approx(2 / 10)


def test_a_bank_two_pixels_off_counts_and_one_three_pixels_off_does_not():
    truth = np.zeros((50, 50), dtype=bool)
    truth[20:] = True
    moved = np.zeros_like(truth)
    moved[22:] = True
    assert scores(moved, truth)["boundary_f1"] == 1.0
    moved[22] = False
    assert scores(moved, truth)["boundary_f1"] == 0.0
    assert scores(moved, truth, pixels=3)["boundary_f1"] == 1.0


def test_hd95_counts_pixels_and_grows_with_the_picture():
    truth = np.zeros((40, 40), dtype=bool)
    truth[10:30, 10:30] = True
    moved = np.roll(truth, 4, axis=1)
    double = np.ones((2, 2), dtype=bool)
    assert scores(moved, truth)["hd95"] == 4.0
    assert scores(np.kron(moved, double), np.kron(truth, double))["hd95"] == 8.0


def test_a_single_far_pixel_among_many_does_not_move_hd95():
    truth = np.zeros((80, 80), dtype=bool)
    truth[20:60, 20:60] = True
    speck = truth.copy()
    speck[0, 0] = True
    assert scores(speck, truth)["hd95"] == 0.0


def test_all_water_against_none_has_no_bank_and_still_scores_nothing():
    full = np.ones((20, 30), dtype=bool)
    expected = {"boundary_iou": 0.0, "boundary_f1": 0.0, "hd95": None}
    assert scores(full, ~full) == expected
    assert scores(~full, full) == expected


def test_a_bank_where_the_truth_is_all_water_scores_nothing():
    full = np.ones((20, 30), dtype=bool)
    river = full.copy()
    river[:5] = False
    assert scores(river, full) == {"boundary_iou": 0.0, "boundary_f1": 0.0, "hd95": None}


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (2, 3)])
def test_the_smallest_pictures_are_judged_without_a_fault(shape):
    water = np.ones(shape, dtype=bool)
    water.ravel()[::2] = False
    assert scores(water, water) == {"boundary_iou": 1.0, "boundary_f1": 1.0, "hd95": 0.0}


def test_a_picture_of_24_megapixels_takes_seconds():
    small = blobs((400, 600), 7)
    truth = np.kron(small, np.ones((10, 10), dtype=bool))
    begin = time.perf_counter()
    found = scores(np.roll(truth, 5, axis=0), truth)
    assert time.perf_counter() - begin < 20  # about 2 s on one idle core
    assert found["hd95"] == pytest.approx(5, abs=1)
