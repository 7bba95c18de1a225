"""One coordinate frame: from the picture's pixels to SAM's square and back, whatever the picture's shape."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import SamImageProcessor, SamProcessor

from autosam.data.geometry import Frame, mask_to_low
from autosam.data.prompt_geometry import (
    MASK_LOGIT,
    points_to_original,
    points_to_square,
    prompt_to_square,
)
from autosam.errors import ImageError
from autosam.types import Prompt, Query

SIZES = [(30, 80), (80, 30), (5, 9), (257, 256)]


@given(st.integers(1, 900), st.integers(1, 900), st.sampled_from([64, 512, 1024]))
@settings(max_examples=60, deadline=None)
def test_points_come_back_from_the_square(height, width, side):
    frame = Frame.fit(height, width, side)
    points = np.array([[0, 0], [width - 1, height - 1], [width / 3, height / 2]])
    there = points_to_square(points, frame)
    assert (there >= 0).all()
    assert (there <= np.array(frame.square_size)[::-1]).all()  # sizes are (height, width)
    np.testing.assert_allclose(points_to_original(there, frame), points, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("size", SIZES)
def test_points_and_boxes_are_scaled_as_transformers_processor_does(size):
    height, width = size
    processor = SamProcessor(
        SamImageProcessor(size={"longest_edge": 128}, pad_size={"height": 128, "width": 128})
    )
    image = np.zeros((height, width, 3), np.uint8)
    points = np.array([[0.0, 0.0], [width - 1, height - 1]])
    box = np.array([0.0, 0.0, width - 1, height - 1])
    inputs = processor(
        image, input_points=[[points.tolist()]], input_boxes=[[box.tolist()]], return_tensors="pt"
    )
    prompt = Prompt(source="x", queries=(Query(points=points, labels=np.ones(2), box=box),))
    (query,) = prompt_to_square(prompt, Frame.fit(height, width, 128), 32).queries
    np.testing.assert_allclose(query.points, inputs["input_points"].reshape(2, 2), atol=1e-4)
    np.testing.assert_allclose(query.box, inputs["input_boxes"].reshape(4), atol=1e-4)


def test_a_prompt_on_a_quarter_of_the_side_is_scaled_by_four():
    frame = Frame.fit(256, 256, 1024)
    assert points_to_square(np.array([[10, 25]]), frame).tolist() == [[40, 100]]


def test_a_mask_prompt_is_the_low_mask_with_land_on_the_padding():
    mask = np.zeros((20, 40), bool)
    mask[:, 10:] = True
    frame = Frame.fit(20, 40, 64)
    logits = prompt_to_square(Prompt(source="x", mask=mask), frame, 16).mask_logits
    assert torch.equal(logits >= 0, mask_to_low(mask, frame, 16)[0])
    assert logits.max() == MASK_LOGIT
    assert (logits[8:] == -MASK_LOGIT).all()  # below the picture


def test_empty_queries_are_left_out_and_the_fusion_stays():
    padding = Query(points=np.zeros((2, 2)), labels=np.full(2, -10))
    prompt = Prompt(source="x", queries=(Query(), padding), fusion="best")
    square = prompt_to_square(prompt, Frame.fit(8, 8, 64), 16)
    assert (square.queries, square.mask_logits, square.fusion) == ((), None, "best")


def test_a_box_may_count_the_edge_of_the_picture():
    squares = [
        prompt_to_square(
            Prompt(source="x", queries=(Query(box=np.array(box)),)), Frame.fit(20, 40, 64), 16
        )
        for box in ([3, 4, 40, 20], [3, 4, 39.5, 19.5])
    ]
    np.testing.assert_array_equal(*(square.queries[0].box for square in squares))


@pytest.mark.parametrize(
    "query",
    [
        Query(points=np.array([[40.0, 3.0]]), labels=np.array([1])),
        Query(points=np.array([[-1.0, 3.0]]), labels=np.array([0])),
        Query(box=np.array([0, 0, 39, 30])),
    ],
    ids=["right of it", "left of it", "box"],
)
def test_what_lies_outside_the_picture_is_refused_in_its_own_pixels(query):
    with pytest.raises(ImageError, match=r"inside the picture of 40 x 20 pixels, got \("):
        prompt_to_square(Prompt(source="x", queries=(query,)), Frame.fit(20, 40, 64), 16)
    inside = Query(points=np.array([[-0.5, 19.5]]), labels=np.array([1]))
    assert prompt_to_square(
        Prompt(source="x", queries=(inside,)), Frame.fit(20, 40, 64), 16
    ).queries


def test_a_mask_of_another_size_is_refused():
    with pytest.raises(ImageError, match=r"height and width \(20, 40\), got \(8, 8\)"):
        prompt_to_square(Prompt(source="x", mask=np.ones((8, 8), bool)), Frame.fit(20, 40, 64), 16)
