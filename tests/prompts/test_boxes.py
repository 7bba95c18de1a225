"""Boxes against hand values and scikit-image, their perturbation against what it must never do."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import label, regionprops

from autosam.errors import DataError
from autosam.prompts.boxes import component_boxes, full_box, perturbed, tight_box


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def pieces() -> np.ndarray:
    """Areas 10, 5 (one pixel touches by a corner) and 1."""
    mask = np.zeros((30, 50), dtype=bool)
    mask[3:5, 4:9] = True
    mask[20:22, 30:32] = True
    mask[22, 32] = True
    mask[29, 49] = True
    return mask


EMPTY = np.zeros((7, 9), dtype=bool)


# --- tight boxes


def test_a_tight_box_by_hand():
    mask = np.zeros((10, 20), dtype=bool)
    mask[2:5, 7:13] = True
    box = tight_box(mask)
    assert box.tolist() == [7, 2, 12, 4]
    assert box.dtype == np.float32


def test_the_box_of_one_pixel_is_that_pixel():
    mask = EMPTY.copy()
    mask[6, 8] = True
    assert tight_box(mask).tolist() == [8, 6, 8, 6]


def test_an_empty_mask_has_no_box():
    assert tight_box(EMPTY) is None
    boxes = component_boxes(EMPTY)
    assert boxes.shape == (0, 4)
    assert boxes.dtype == np.float32


def test_a_full_mask_has_the_full_box():
    full = full_box(7, 9)
    assert full.tolist() == [0, 0, 8, 6]
    assert full.dtype == np.float32
    assert np.array_equal(tight_box(~EMPTY), full)
    assert np.array_equal(component_boxes(~EMPTY), full[None])


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.001, 0.6))
def test_a_tight_box_cannot_be_smaller(seed, share):
    mask = generator(seed).random((15, 22)) < share
    box = tight_box(mask)
    if box is None:
        assert not mask.any()
        return
    left, top, right, bottom = box.astype(int)
    window = mask[top : bottom + 1, left : right + 1]
    assert window.sum() == mask.sum()
    assert all(side.any() for side in (window[0], window[-1], window[:, 0], window[:, -1]))


# --- a box for each piece


def test_boxes_of_pieces_by_hand():
    assert component_boxes(pieces()).tolist() == [[4, 3, 8, 4], [30, 20, 32, 22], [49, 29, 49, 29]]


def test_small_pieces_get_no_box():
    assert len(component_boxes(pieces(), minimum_area=5)) == 2
    assert len(component_boxes(pieces(), minimum_area=6)) == 1
    assert component_boxes(pieces(), minimum_area=11).shape == (0, 4)


def test_at_most_so_many_boxes_and_those_of_the_largest():
    assert component_boxes(pieces(), most=2).tolist() == [[4, 3, 8, 4], [30, 20, 32, 22]]
    dots = np.zeros((20, 20), dtype=bool)
    dots[::2, ::2] = True
    assert len(component_boxes(dots)) == 16


def test_equal_pieces_come_from_top_to_bottom_and_from_left_to_right():
    dots = np.zeros((12, 12), dtype=bool)
    dots[[9, 1, 5, 1], [0, 8, 2, 3]] = True
    assert component_boxes(dots)[:, :2].tolist() == [[3, 1], [8, 1], [2, 5], [0, 9]]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.02, 0.6), st.integers(0, 6))
def test_boxes_agree_with_another_library(seed, share, minimum_area):
    mask = generator(seed).random((19, 25)) < share
    regions = [
        (-region.area, *region.bbox)
        for region in regionprops(label(mask, connectivity=2))
        if region.area >= minimum_area
    ]
    expected = [
        [left, top, right - 1, bottom - 1] for _, top, left, bottom, right in sorted(regions)
    ]
    boxes = component_boxes(mask, minimum_area=minimum_area, most=1000)
    areas = [area for area, *_ in sorted(regions)]
    assert sorted(boxes.tolist()) == sorted(expected)
    if len(set(areas)) == len(areas):
        assert boxes.tolist() == expected


def test_the_piece_of_a_real_river_holds_its_box(shared_data):
    import cv2

    path = str(shared_data / "elwha" / "masks" / "elwha_m0217.png")
    mask = cv2.imread(path, cv2.IMREAD_GRAYSCALE) > 0
    boxes = component_boxes(mask, minimum_area=100)
    whole = tight_box(mask)
    assert 1 <= len(boxes) <= 16
    assert (boxes[:, :2] >= whole[:2]).all()
    assert (boxes[:, 2:] <= whole[2:]).all()


# --- perturbation


def boxes_in(size: tuple[int, int], *, count: int, seed: int) -> np.ndarray:
    """Boxes of every shape, down to one pixel, some at the border."""
    random = generator(seed)
    ends = [np.sort(random.integers(0, length, (count, 2)), axis=1) for length in size[::-1]]
    boxes = np.stack([ends[0][:, 0], ends[1][:, 0], ends[0][:, 1], ends[1][:, 1]], axis=1)
    boxes[: count // 3, 2:] = boxes[: count // 3, :2]
    return boxes.astype(np.float32)


@settings(max_examples=120, deadline=None)
@given(
    st.integers(0, 10_000),
    st.integers(1, 400),
    st.integers(1, 400),
    st.floats(0, 3, allow_subnormal=False),
)
def test_a_box_is_never_turned_inside_out_nor_leaves_the_picture(seed, height, width, share):
    boxes = boxes_in((height, width), count=30, seed=seed)
    moved = perturbed(boxes, size=(height, width), share=share, generator=generator(seed))
    assert moved.shape == (30, 4)
    assert moved.dtype == np.float32
    assert (moved[:, :2] <= moved[:, 2:]).all()
    assert (moved >= 0).all()
    assert (moved <= [width - 1, height - 1, width - 1, height - 1]).all()
    assert np.abs(moved - boxes).max() <= share * max(height, width) + 1e-3


def test_no_share_moves_nothing():
    boxes = boxes_in((90, 120), count=60, seed=1)
    kept = perturbed(boxes, size=(90, 120), share=0, generator=generator())
    assert np.array_equal(kept, boxes)
    assert kept is not boxes


def test_sides_move_inwards_as_often_and_as_far_as_outwards():
    boxes = np.tile(np.float32([100, 80, 180, 160]), (20_000, 1))
    moved = perturbed(boxes, size=(240, 256), share=10 / 256, generator=generator())
    shift = (moved - boxes).astype(float)
    assert np.abs(shift).max() <= 10 + 1e-4
    # Uniform in -10..10: deviation 5.77, so the mean of 20 000 is within 0.17 of 0 but for 1 in 30 000.
    assert np.abs(shift.mean(axis=0)).max() < 0.17
    assert np.abs((shift > 0).mean(axis=0) - 0.5).max() < 0.015
    assert np.allclose(shift.std(axis=0), 20 / np.sqrt(12), atol=0.1)
    # Each side by itself.
    assert np.abs(np.corrcoef(shift.T) - np.eye(4)).max() < 0.03


def test_the_longer_side_sets_how_far_sides_move():
    boxes = np.tile(np.float32([400, 40, 600, 60]), (500, 1))
    moved = perturbed(boxes, size=(100, 1000), share=0.01, generator=generator())
    assert 9 < np.abs(moved - boxes).max() <= 10 + 1e-4
    assert np.abs(moved - boxes)[:, 1].max() > 9


def test_a_box_of_one_pixel_stays_a_box_around_its_place():
    boxes = np.tile(np.float32([50, 50, 50, 50]), (4000, 1))
    moved = perturbed(boxes, size=(101, 101), share=0.1, generator=generator())
    thin = moved[:, 0] == moved[:, 2]
    assert 0.45 < thin.mean() < 0.55  # the sides would have crossed every other time
    assert np.abs((moved[:, 0] + moved[:, 2]) / 2 - 50).max() <= 10.1
    assert abs(((moved[:, 0] + moved[:, 2]) / 2 - 50).mean()) < 0.3


def test_one_box_may_come_without_a_list_and_is_left_alone():
    box = np.float32([10, 10, 40, 30])
    moved = perturbed(box, size=(60, 60), share=0.05, generator=generator())
    assert moved.shape == (4,)
    assert box.tolist() == [10, 10, 40, 30]
    many = perturbed(box[None], size=(60, 60), share=0.05, generator=generator())
    assert np.array_equal(many[0], moved)
    assert not np.array_equal(moved, box)
    none = perturbed(np.zeros((0, 4)), size=(60, 60), share=0.05, generator=generator())
    assert none.shape == (0, 4)


# --- what is refused


@pytest.mark.parametrize("mask", [np.ones((3, 4)), np.ones(4, dtype=bool), None])
@pytest.mark.parametrize("make", [tight_box, component_boxes])
def test_other_masks_are_refused(make, mask):
    with pytest.raises(DataError, match=r"mask must be bool \(height, width\)"):
        make(mask)


@pytest.mark.parametrize(("minimum_area", "most"), [(-1, 16), (1, 0), (1, -3)])
def test_numbers_of_pieces_out_of_range_are_refused(minimum_area, most):
    with pytest.raises(DataError, match=rf"at least 0 and 1, got {minimum_area} and {most}\."):
        component_boxes(pieces(), minimum_area=minimum_area, most=most)


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (-1, 2)])
def test_pictures_without_a_pixel_are_refused(size):
    with pytest.raises(DataError, match=rf"1 or more, got {size[0]} and {size[1]}\."):
        full_box(*size)
    with pytest.raises(DataError, match=rf"1 or more, got {size[0]} and {size[1]}\."):
        perturbed(np.zeros((1, 4)), size=size, share=0.1, generator=generator())


@pytest.mark.parametrize("share", [-0.1, float("nan"), float("inf")])
def test_shares_out_of_range_are_refused(share):
    with pytest.raises(DataError, match=rf"share must be 0 or more and finite, got {share}"):
        perturbed(full_box(5, 5), size=(5, 5), share=share, generator=generator())


@pytest.mark.parametrize("boxes", [np.zeros((2, 3)), np.zeros((1, 1, 4)), [0, 0, 1, 1]])
def test_boxes_of_another_shape_are_refused(boxes):
    with pytest.raises(DataError, match=r"boxes must be \(4,\) or \(count, 4\), got "):
        perturbed(boxes, size=(5, 5), share=0.1, generator=generator())


def test_boxes_turned_inside_out_or_not_finite_are_refused():
    boxes = np.array([[0.0, 0, 4, 4], [3, 0, 2, 4]])
    with pytest.raises(DataError, match=r"left <= right .* got \[3\.0, 0\.0, 2\.0, 4\.0\]\."):
        perturbed(boxes, size=(5, 5), share=0.1, generator=generator())
    with pytest.raises(DataError, match=r"got \[0\.0, nan, 4\.0, 4\.0\]\. Leave out what"):
        perturbed(np.array([0, np.nan, 4, 4]), size=(5, 5), share=0.1, generator=generator())


def test_other_generators_are_refused():
    with pytest.raises(DataError, match=r"must be a numpy\.random\.Generator, got int\."):
        perturbed(full_box(5, 5), size=(5, 5), share=0.1, generator=0)
