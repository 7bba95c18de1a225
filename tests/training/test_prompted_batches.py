"""Prompts in training: from the true mask, in the view's own frame, anew in each epoch, never by chance."""

import numpy as np
import pytest

from autosam.config import GeometricSettings
from autosam.data.augmentation import apply_view
from autosam.data.geometry import Frame
from autosam.data.prompt_geometry import points_to_original
from autosam.errors import TrainingError
from autosam.training.batches import TrainingItems
from autosam.training.randomness import Address
from autosam.types import Sample


def wide_sample(name="a"):
    """Wider than high, with water at the right; its lower half is not valid."""
    mask, valid = np.zeros((40, 90), bool), np.ones((40, 90), bool)
    mask[4:36, 60:86] = True
    valid[20:] = False
    return Sample(name=name, image=np.zeros((40, 90, 3), np.uint8), mask=mask, valid=valid)


def items(*, views=(0,), samples=None, needs=("pixels", "prompts"), **settings):
    return TrainingItems(
        samples or [wide_sample("a"), wide_sample("b")], side=64, low_side=16, prompt_side=64,
        needs=needs, geometric=GeometricSettings(**settings), views=views, seed=7,
    )  # fmt: skip


def queries(batch):
    return [prompt.queries[0] for prompt in batch.prompts]


def test_prompts_are_redrawn_in_each_epoch_and_equal_when_it_is_resumed():
    first, again, next_epoch = (
        queries(items()[[Address(epoch, 0), Address(epoch, 1)]]) for epoch in (0, 0, 1)
    )
    assert np.array_equal(first[0].points, again[0].points)
    assert not np.array_equal(first[0].points, first[1].points)  # each sample has its own chance
    assert not np.array_equal(first[0].points, next_epoch[0].points)
    alone = queries(items()[[Address(0, 1)]])
    assert np.array_equal(alone[0].points, first[1].points)  # whatever stands beside it


@pytest.mark.parametrize("view", range(8))
def test_points_lie_on_valid_water_of_the_view_that_is_seen(view):
    sample = wide_sample()
    water = apply_view(sample.mask & sample.valid, view)
    frame = Frame.fit(*water.shape, 64)
    for epoch in range(5):
        (query,) = queries(items(views=(view,), negative=2)[[Address(epoch, 0)]])
        columns, rows = np.rint(points_to_original(query.points, frame)).astype(int).T
        valid = apply_view(sample.valid, view)
        assert water[rows, columns].tolist() == (query.labels == 1).tolist()
        assert valid[rows, columns].all()


def test_boxes_are_perturbed_and_turn_with_the_view():
    exact = items(kind="box", perturbation=0.0, views=(1,))
    (query,) = queries(exact[[Address(0, 0)]])
    turned = apply_view(wide_sample().mask & wide_sample().valid, 1)
    rows, columns = np.nonzero(turned)
    scale = 64 / 90
    expected = np.array([columns.min(), rows.min(), columns.max(), rows.max()]) * scale
    np.testing.assert_allclose(query.box, expected, atol=0.6)
    moved = [queries(items(kind="box")[[Address(e, 0)]])[0].box for e in range(4)]
    assert len({tuple(box) for box in moved}) == 4


def test_a_dry_picture_gets_the_empty_prompt():
    dry = Sample(name="dry", image=np.zeros((40, 90, 3), np.uint8), mask=np.zeros((40, 90), bool))
    batch = items(samples=[dry, wide_sample()])[[Address(0, 0), Address(0, 1)]]
    assert batch.prompts[0].queries == ()
    assert (batch.prompts[1].queries[0].labels == 1).all()


def test_who_asks_for_no_prompts_is_given_none():
    assert items(needs=("pixels",))[[Address(0, 0)]].prompts is None


def test_prompts_want_their_settings():
    with pytest.raises(TrainingError, match="geometric must be given"):
        TrainingItems([wide_sample()], side=64, low_side=16, prompt_side=64, needs={"prompts"})
