"""Geometry against transformers' SAM processor, Pillow, exact fractions and hand values."""

import itertools
import math
import warnings
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import SamImageProcessor

from autosam.data.geometry import (
    PADDING_COLOUR,
    Frame,
    logits_to_original,
    mask_to_low,
    normalise,
    scale_sizes,
    shrink_squares,
    to_square,
    valid_to_low,
)
from autosam.errors import ImageError

SIDES = [64, 512, 1024]
LENGTH = st.one_of(st.integers(1, 40), st.integers(1, 10_000), st.sampled_from([1, 1024, 6000]))


def processor(side: int) -> SamImageProcessor:
    return SamImageProcessor(size={"longest_edge": side}, pad_size={"height": side, "width": side})


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


# --- sizes


@settings(max_examples=500, deadline=None)
@given(LENGTH, LENGTH, st.sampled_from(SIDES))
def test_sizes_equal_those_of_transformers_but_are_never_zero(height, width, side):
    theirs = processor(side)._get_preprocess_shape((height, width), side)
    assert Frame.fit(height, width, side).square_size == tuple(max(1, n) for n in theirs)


@pytest.mark.parametrize(
    ("size", "side", "expected"),
    [
        ((1024, 1024), 1024, (1024, 1024)),
        ((2000, 3000), 1024, (683, 1024)),  # 682.67
        ((1, 6000), 1024, (1, 1024)),  # 0.17, which transformers refuses as 0
        ((6000, 1), 64, (64, 1)),
        ((1, 1), 512, (512, 512)),
        ((3, 16), 8, (2, 8)),  # 1.5 rounds up
    ],
)
def test_sizes_by_hand(size, side, expected):
    assert Frame.fit(*size, side).square_size == expected


def test_a_frame_of_nothing_is_refused():
    with pytest.raises(ImageError, match="must be 1 or more, got 0, 5 and 64"):
        Frame.fit(0, 5, 64)


# --- into the square


@pytest.mark.parametrize("side", [64, 512])
@pytest.mark.parametrize(
    "size", [(1, 40), (40, 1), (7, 5), (64, 64), (333, 517), (517, 333), (100, 6000), (1500, 64)]
)
def test_pixels_equal_those_of_transformers(size, side):
    image = noise(*size)
    theirs = processor(side)(image, return_tensors="pt", input_data_format="channels_last")
    square, frame = to_square(image, side)
    ours = normalise(square[None], torch.tensor([frame.square_size]))
    assert frame.square_size == tuple(theirs["reshaped_input_sizes"][0].tolist())
    torch.testing.assert_close(ours, theirs["pixel_values"], rtol=0, atol=3e-7)


def test_shrinking_differs_from_pillow_by_at_most_one_grey_level():
    image = noise(400, 600)
    square, _ = to_square(image, 256)
    pillow = np.asarray(Image.fromarray(image).resize((256, 171), Image.Resampling.BILINEAR))
    ours = square[:, :171].permute(1, 2, 0).numpy()
    difference = np.abs(ours.astype(int) - pillow.astype(int))
    assert difference.max() <= 1
    assert difference.mean() < 0.01


@pytest.mark.parametrize("size", [(20, 64), (64, 20)])
def test_the_picture_lies_at_the_top_left_and_padding_below_or_right(size):
    image = np.full((*size, 3), 200, dtype=np.uint8)
    square, _ = to_square(image, 64)
    expected = torch.tensor(PADDING_COLOUR, dtype=torch.uint8)[:, None, None].repeat(1, 64, 64)
    expected[:, : size[0], : size[1]] = 200
    assert torch.equal(square, expected)


def test_read_only_and_reversed_arrays_are_read_without_a_warning():
    image = noise(30, 20)
    frozen = image.copy()
    frozen.setflags(write=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        squares = [to_square(array, 32)[0] for array in (image, frozen, image[::-1, ::-1])]
    assert torch.equal(squares[0], squares[1])
    assert torch.equal(squares[2], to_square(np.ascontiguousarray(image[::-1, ::-1]), 32)[0])


@pytest.mark.parametrize(
    "image", [np.zeros((4, 5), np.uint8), np.zeros((4, 5, 3)), np.zeros((0, 5, 3), np.uint8)]
)
def test_other_arrays_than_rgb_pictures_are_refused(image):
    with pytest.raises(ImageError, match=r"image must be \(height, width, 3\) uint8"):
        to_square(image, 64)


# --- normalisation


def test_normalisation_happens_once():
    squares = torch.zeros(2, 3, 2, 2, dtype=torch.uint8)
    squares[0] = 255
    pixels = normalise(squares, torch.tensor([[2, 2], [2, 2]]))
    assert pixels[0, 0, 0, 0].item() == pytest.approx(2.2489, abs=5e-5)
    assert pixels[1, 0, 0, 0].item() == pytest.approx(-2.1179, abs=5e-5)


def test_padding_is_exactly_zero_for_each_size_in_a_batch():
    squares = torch.full((3, 3, 8, 8), 7, dtype=torch.uint8)
    pixels = normalise(squares, torch.tensor([[8, 3], [2, 8], [8, 8]]))
    value = (7 - 103.53) / 57.375  # blue
    expected = torch.zeros(3, 8, 8)
    expected[0, :, :3] = expected[1, :2] = expected[2] = value
    torch.testing.assert_close(pixels[:, 2], expected)


def test_normalising_leaves_the_squares_alone():
    squares = torch.full((1, 3, 4, 4), 7, dtype=torch.uint8)
    normalise(squares, torch.tensor([[1, 1]]))
    assert (squares == 7).all()


# --- smaller squares


def test_squares_of_the_wanted_side_stay_as_they_are():
    squares = torch.from_numpy(noise(16, 16)).permute(2, 0, 1)[None]
    assert torch.equal(shrink_squares(squares, 16, antialias=True), squares)


def test_shrinking_with_antialias_equals_pillow_for_each_picture_in_a_batch():
    images = [noise(96, 96), noise(96, 96)[::-1].copy()]
    squares = torch.stack([torch.from_numpy(image).permute(2, 0, 1) for image in images])
    small = shrink_squares(squares, 32, antialias=True).permute(0, 2, 3, 1).numpy()
    pillow = [Image.fromarray(i).resize((32, 32), Image.Resampling.BILINEAR) for i in images]
    assert np.abs(small.astype(int) - np.stack([np.asarray(p) for p in pillow])).max() <= 1


def test_shrinking_without_antialias_samples_between_aligned_corners():
    row = torch.tensor([0, 10, 20, 31, 40], dtype=torch.uint8)
    squares = row.expand(2, 3, 5, 5).contiguous()
    small = shrink_squares(squares, 3, antialias=False)
    assert torch.equal(small, torch.tensor([0, 20, 40], dtype=torch.uint8).expand(2, 3, 3, 3))
    # Four samples lie at columns 0, 4/3, 8/3 and 4.
    small = shrink_squares(squares, 4, antialias=False)
    expected = torch.tensor([0, 13, 27, 40], dtype=torch.uint8)  # 13.33 and 27.33
    assert torch.equal(small[0, 0, 0], expected)


@pytest.mark.parametrize("size", [(90, 128), (128, 90)])
def test_padding_does_not_darken_the_edge_of_a_shrunk_picture(size):
    square, frame = to_square(np.full((*size, 3), 255, dtype=np.uint8), 128)
    sizes = torch.tensor([frame.square_size])
    small = normalise(shrink_squares(square[None], 32, antialias=True), scale_sizes(sizes, 128, 32))
    pixels = normalise(square[None], sizes)
    ideal = torch.nn.functional.interpolate(pixels, (32, 32), mode="bilinear", antialias=True)
    rows, columns = scale_sizes(sizes, 128, 32)[0].tolist()
    difference = (small - ideal)[..., :rows, :columns].abs().max().item()
    assert difference < 0.02  # one grey level; black padding would make it 1.1


@given(st.integers(1, 1024), st.integers(1, 1024), st.sampled_from([256, 512, 1024, 352]))
def test_sizes_scale_by_rounding_half_up(height, width, side):
    expected = [
        max(1, math.floor(Fraction(n * side, 1024) + Fraction(1, 2))) for n in (height, width)
    ]
    sizes = torch.tensor([[height, width], [1024, 1024]])
    assert scale_sizes(sizes, 1024, side).tolist() == [expected, [side, side]]


# --- masks on the low grid


def brute_overlaps(length: int, square_length: int, side: int, low: int) -> list[list[Fraction]]:
    """Exact share of each cell that each pixel covers."""
    cell, pixel = Fraction(side, low), Fraction(square_length, length)
    return [
        [
            max(Fraction(0), min((i + 1) * cell, (j + 1) * pixel) - max(i * cell, j * pixel)) / cell
            for j in range(length)
        ]
        for i in range(low)
    ]


def brute_shares(mask: np.ndarray, frame: Frame, low: int) -> list[list[Fraction]]:
    rows = brute_overlaps(mask.shape[0], frame.square_size[0], frame.side, low)
    columns = brute_overlaps(mask.shape[1], frame.square_size[1], frame.side, low)
    water = [(int(y), int(x)) for y, x in np.argwhere(mask)]
    return [
        [sum((row[y] * column[x] for y, x in water), Fraction(0)) for column in columns]
        for row in rows
    ]


@st.composite
def masks(draw):
    height, width = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    bits = draw(st.lists(st.booleans(), min_size=height * width, max_size=height * width))
    return np.array(bits).reshape(height, width)


@settings(max_examples=60, deadline=None)
@given(masks(), st.sampled_from([(16, 4), (10, 4), (8, 8), (6, 2)]))
def test_low_masks_equal_exact_areas(mask, sides):
    side, low = sides
    frame = Frame.fit(*mask.shape, side)
    expected = [[s >= Fraction(1, 2) for s in row] for row in brute_shares(mask, frame, low)]
    assert mask_to_low(mask, frame, low)[0].tolist() == expected


@settings(max_examples=60, deadline=None)
@given(masks(), st.sampled_from([(16, 4), (10, 4), (8, 8), (6, 2)]))
def test_low_valid_areas_are_cells_that_are_all_valid_picture(valid, sides):
    side, low = sides
    frame = Frame.fit(*valid.shape, side)
    expected = [[s == 1 for s in row] for row in brute_shares(valid, frame, low)]
    assert valid_to_low(valid, frame, low)[0].tolist() == expected


@pytest.mark.parametrize(
    ("size", "expected"), [((5, 8), (2, 4)), ((8, 5), (4, 2)), ((1, 8), (0, 4))]
)
def test_without_a_valid_area_all_whole_cells_of_the_picture_are_valid(size, expected):
    low = valid_to_low(None, Frame.fit(*size, 8), 4)
    wanted = torch.zeros(1, 4, 4, dtype=torch.bool)
    wanted[:, : expected[0], : expected[1]] = True
    assert torch.equal(low, wanted)


def test_exactly_half_a_cell_is_water():
    mask = np.zeros((6, 6), dtype=bool)
    mask[:, :1] = True  # half of each cell's two columns
    low = mask_to_low(mask, Frame.fit(6, 6, 12), 3)
    assert low[0].tolist() == [[True, False, False]] * 3


def test_very_wide_masks_have_the_means_of_their_blocks():
    mask = np.random.default_rng(0).random((64, 6144)) < np.linspace(0.2, 0.8, 6144)
    low = mask_to_low(mask, Frame.fit(64, 6144, 768), 192)  # 32 px to a cell
    blocks = mask.reshape(2, 32, 192, 32).mean(axis=(1, 3))
    assert np.array_equal(low[0, :2].numpy(), blocks >= 0.5)
    assert not low[0, 2:].any()


def test_a_mask_of_another_size_is_refused():
    with pytest.raises(ImageError, match=r"height and width \(5, 8\), got \(8, 5\)"):
        mask_to_low(np.zeros((8, 5), bool), Frame.fit(5, 8, 16), 4)


# --- back to the picture


@pytest.mark.parametrize("leading", [(), (1,)])
@pytest.mark.parametrize(
    "size", [(64, 64), (333, 517), (517, 333), (20, 11), (1, 30), (900, 7), (100, 2500)]
)
def test_logits_come_back_as_transformers_brings_them(size, leading):
    frame = Frame.fit(*size, 128)
    logits = torch.randn(*leading, 32, 32)
    theirs = processor(128).post_process_masks(
        [logits.reshape(1, 1, 32, 32)], [size], [frame.square_size], binarize=False
    )
    ours = logits_to_original(logits, frame)
    assert ours.shape == size
    torch.testing.assert_close(ours, theirs[0][0, 0], rtol=0, atol=0)


def test_half_precision_logits_come_back_in_float32():
    frame = Frame.fit(10, 20, 64)
    logits = torch.randn(16, 16).half()
    expected = logits_to_original(logits.float(), frame)
    assert torch.equal(logits_to_original(logits, frame), expected)


@pytest.mark.parametrize("size", [(512, 300), (300, 512), (90, 70), (777, 2000)])
def test_a_mask_survives_the_way_to_the_low_grid_and_back(size):
    y, x = np.mgrid[: size[0], : size[1]]
    centre, radius = (size[0] * 0.6, size[1] * 0.45), min(size) * 0.3
    mask = (y + 0.5 - centre[0]) ** 2 + (x + 0.5 - centre[1]) ** 2 <= radius**2
    frame = Frame.fit(*size, 512)
    low = mask_to_low(mask, frame, 128).float() * 2 - 1
    back = (logits_to_original(low, frame) > 0).numpy()
    assert (back & mask).sum() / (back | mask).sum() > 0.93
    cell = 4 * max(size) / 512  # pixels of the picture in one cell
    shift = np.abs(np.argwhere(back).mean(axis=0) - np.argwhere(mask).mean(axis=0))
    assert shift.max() < 0.15 * cell  # misplaced grids shift by half a cell


def test_every_combination_of_tiny_sizes_goes_there_and_back():
    for height, width in itertools.product([1, 2, 3, 65], repeat=2):
        square, frame = to_square(noise(height, width), 64)
        assert torch.isfinite(normalise(square[None], torch.tensor([frame.square_size]))).all()
        assert logits_to_original(torch.full((16, 16), 3.0), frame).eq(3).all()
