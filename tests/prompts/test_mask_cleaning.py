"""Components and holes against masks drawn by hand and scikit-image, erosion against cv2 pass by pass."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import label
from skimage.segmentation import clear_border

from autosam.errors import DataError
from autosam.prompts.mask_cleaning import Cleaning, clean_mask

NOTHING = {"minimum_area": 0.0, "largest_hole": 0.0, "erosions": 0}


def picture(*rows: str) -> np.ndarray:
    return np.array([[sign == "#" for sign in row] for row in rows])


def blobs(seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    rough = cv2.GaussianBlur(generator.normal(size=(40, 56)), (0, 0), 0.7 + seed % 4)
    return rough > np.quantile(rough, generator.uniform(0.2, 0.8))


def two_rivers() -> np.ndarray:
    mask = np.zeros((60, 80), dtype=bool)
    mask[5:30] = True
    mask[40:43] = True
    return mask


def test_a_component_below_the_share_goes_and_one_of_the_share_stays():
    mask = picture(
        "##..........",
        "..........#.",
        ".........#..",
        "............",
        ".###........",
        "............",
    )
    # Of 72 pixels: two (a corner holds them together), two, three.
    cleaned = clean_mask(mask, **{**NOTHING, "minimum_area": 3 / 72})
    np.testing.assert_array_equal(np.argwhere(cleaned), [[4, 1], [4, 2], [4, 3]])
    np.testing.assert_array_equal(clean_mask(mask, **{**NOTHING, "minimum_area": 2 / 72}), mask)


def test_all_components_may_go():
    mask = np.eye(20, dtype=bool)
    assert not clean_mask(mask, **{**NOTHING, "minimum_area": 0.06}).any()


def test_holes_up_to_the_share_close_unless_they_touch_the_frame():
    mask = picture(
        "#.######",
        "#.##..##",
        "########",
        "#.##.###",
        "##.#.###",
        "####.###",
        "########",
    )
    # Land: 2 at the frame; holes of 2, 3, and two of 1 that a corner does not join.
    cleaned = clean_mask(mask, **{**NOTHING, "largest_hole": 2 / 56})
    expected = mask.copy()
    expected[1, 4:6] = expected[3, 1] = expected[4, 2] = True
    np.testing.assert_array_equal(cleaned, expected)


def test_a_narrow_river_beside_a_wide_one_is_kept():
    core = clean_mask(two_rivers(), **{**NOTHING, "erosions": 5})
    # The frame is no bank: the wide river loses five rows at each bank, the narrow one all but its middle.
    expected = np.zeros((60, 80), dtype=bool)
    expected[10:25] = True
    expected[41] = True
    np.testing.assert_array_equal(core, expected)


@pytest.mark.parametrize("erosions", [0, 3])
@pytest.mark.parametrize("value", [True, False])
def test_a_mask_of_one_value_stays(value, erosions):
    mask = np.full((9, 14), value)
    changes = {"minimum_area": 0.1, "largest_hole": 0.1, "erosions": erosions}
    np.testing.assert_array_equal(clean_mask(mask, **changes), mask)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (7, 1)])
def test_the_smallest_masks_are_cleaned(shape):
    mask = np.arange(shape[0] * shape[1]).reshape(shape) % 3 == 0
    changes = {"minimum_area": 0.0, "largest_hole": 0.0, "erosions": 2}
    np.testing.assert_array_equal(clean_mask(mask, **changes), mask)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), share=st.floats(0, 0.2))
def test_cleaning_agrees_with_scikit_image(seed, share):
    mask = blobs(seed)
    parts = label(mask, connectivity=2)
    sizes = np.bincount(parts.ravel())
    expected = mask & (sizes[parts] >= share * mask.size)
    lands = label(~expected, connectivity=1)
    inner = clear_border(lands)
    hole_sizes = np.bincount(lands.ravel())
    expected |= (inner > 0) & (hole_sizes[inner] <= share * mask.size)
    cleaned = clean_mask(mask, minimum_area=share, largest_hole=share, erosions=0)
    np.testing.assert_array_equal(cleaned, expected)
    again = clean_mask(cleaned, minimum_area=share, largest_hole=share, erosions=0)
    np.testing.assert_array_equal(again, cleaned)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), passes=st.integers(0, 6))
def test_each_component_is_eroded_until_the_pass_before_it_would_vanish(seed, passes):
    mask = blobs(seed)
    expected = np.zeros_like(mask)
    parts = label(mask, connectivity=2)
    for number in range(1, parts.max() + 1):
        part = (parts == number).astype(np.uint8)
        for _ in range(passes):
            smaller = cv2.erode(part, np.ones((3, 3), np.uint8))
            part = smaller if smaller.any() else part
        expected |= part.astype(bool)
    core = clean_mask(mask, minimum_area=0, largest_hole=0, erosions=passes)
    np.testing.assert_array_equal(core, expected)


def test_the_mask_that_is_given_is_not_changed():
    mask = two_rivers()
    mask[10, 10] = False
    before = mask.copy()
    clean_mask(mask, minimum_area=0.06, largest_hole=0.1, erosions=2)
    np.testing.assert_array_equal(mask, before)


def test_cleaning_is_what_its_numbers_say():
    mask = two_rivers()
    cleaning = Cleaning(minimum_area=0.06, erosions=1)
    expected = clean_mask(mask, minimum_area=0.06, largest_hole=0, erosions=1)
    np.testing.assert_array_equal(cleaning(mask), expected)
    assert expected[6:29].all()
    assert not expected[40:43].any()  # 3 of 60 rows are a share of .05


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"minimum_area": 1.5}, r"minimum_area must be in 0\.\.1, got 1\.5"),
        ({"largest_hole": -0.1}, r"largest_hole must be in 0\.\.1, got -0\.1"),
        ({"erosions": -1}, "erosions must be a whole number of 0 or more, got -1"),
        ({"erosions": 1.5}, "erosions must be a whole number of 0 or more, got 1.5"),
    ],
)
def test_numbers_out_of_range_are_refused(changes, message):
    with pytest.raises(DataError, match=message):
        clean_mask(two_rivers(), **{**NOTHING, **changes})


def test_what_is_no_bool_mask_is_refused():
    with pytest.raises(DataError, match="mask must be bool"):
        clean_mask(np.zeros((4, 4), np.uint8), **NOTHING)
