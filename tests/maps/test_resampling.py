import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from autosam.maps.resampling import AxisResampling, resample

lengths = st.integers(1, 40)


@pytest.mark.parametrize(("before", "after"), [(40, 10), (10, 40), (33, 20), (20, 33)])
def test_it_is_the_antialiased_bilinear_of_torch(before, after):
    image = np.random.default_rng(0).random((before, before + 3)).astype(np.float32)
    down, along = AxisResampling(before, after), AxisResampling(before + 3, after + 2)
    ours = resample(image, down.matrix(0, after), along.matrix(0, after + 2))
    theirs = functional.interpolate(
        torch.from_numpy(image)[None, None], (after, after + 2), mode="bilinear", antialias=True
    )
    np.testing.assert_allclose(ours, theirs[0, 0].numpy(), atol=1e-5)


@given(lengths, lengths, st.data())
def test_a_piece_has_the_bits_of_the_whole(before, after, data):
    axis = AxisResampling(before, after)
    first = data.draw(st.integers(0, after - 1))
    last = data.draw(st.integers(first + 1, after))
    values = np.random.default_rng(before).random((before, 4)).astype(np.float32)
    begin, end = axis.inputs(first, last)
    piece = resample(values[begin:end], axis.matrix(first, last), None)
    whole = resample(values[slice(*axis.inputs(0, after))], axis.matrix(0, after), None)
    assert np.array_equal(piece, whole[first:last])


@given(lengths, lengths)
def test_a_constant_stays_constant(before, after):
    axis = AxisResampling(before, after)
    begin, end = axis.inputs(0, after)
    flat = resample(np.full((end - begin, 2), 7, np.uint8), axis.matrix(0, after), None)
    np.testing.assert_allclose(flat, 7, rtol=1e-6)


@given(lengths, lengths, st.data())
def test_what_a_strip_of_outputs_needs_lies_within_reach(before, after, data):
    axis = AxisResampling(before, after)
    edge = data.draw(st.integers(0, before))  # where a strip of inputs begins
    first = edge * after // before
    if first < after:
        assert axis.inputs(first, first + 1)[0] >= edge - axis.reach
    if first > 0:
        assert axis.inputs(first - 1, first)[1] <= edge + axis.reach


def test_channels_are_kept_apart():
    image = np.zeros((6, 8, 3), np.uint8)
    image[..., 1] = 200
    small = resample(image, AxisResampling(6, 3).matrix(0, 3), AxisResampling(8, 4).matrix(0, 4))
    assert small.shape == (3, 4, 3)
    np.testing.assert_allclose(small[..., 1], 200, rtol=1e-6)
    assert (small[..., [0, 2]] == 0).all()
