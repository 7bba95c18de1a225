"""What stands for a mask: nothing, a frame, points, boxes or itself; from a coarse mask or from the truth."""

import numpy as np
import pytest

from autosam.config import GeometricSettings
from autosam.errors import DataError
from autosam.prompts.prompters import (
    LONGEST_SIDE,
    FullBoxPrompter,
    GeometricPrompter,
    NullPrompter,
    OraclePrompter,
    draw_prompt,
    make_prompter,
    needs_coarse,
)
from autosam.types import Sample


def two_rivers(height=60, width=100):
    mask = np.zeros((height, width), bool)
    mask[5:25, 10:60] = True
    mask[40:50, 30:90] = True
    return mask


def sample(mask=None, valid=None, height=60, width=100):
    return Sample(name="s", image=np.zeros((height, width, 3), np.uint8), mask=mask, valid=valid)


def drawn(mask, *, seed=0, valid=None, training=False, **settings):
    return draw_prompt(
        mask, GeometricSettings(**settings), source="test", valid=valid, training=training,
        generator=np.random.default_rng(seed),
    )  # fmt: skip


class Left:
    """A coarse mask: the left half is water."""

    name = "coarse left"

    def __call__(self, sample):
        mask = np.zeros(sample.size, bool)
        mask[:, : sample.size[1] // 2] = True
        return mask


def test_points_are_one_joint_query_of_three_on_water_by_default():
    prompt = drawn(two_rivers())
    (query,) = prompt.queries
    assert query.labels.tolist() == [1, 1, 1]
    assert query.box is None
    assert all(two_rivers()[int(y), int(x)] for x, y in query.points)


def test_single_queries_take_the_points_on_land_along():
    prompt = drawn(two_rivers(), fusion="mean", negative=2, spacing=False)
    assert len(prompt.queries) == 3
    assert all(query.labels.tolist() == [1, 0, 0] for query in prompt.queries)
    assert prompt.fusion == "mean"
    on_land = {tuple(query.points[1:].ravel()) for query in prompt.queries}
    assert len(on_land) == 1
    assert drawn(two_rivers(), fusion="best").fusion == "best"


def test_a_box_is_tight_and_several_components_are_one_box_or_one_each():
    (query,) = drawn(two_rivers(), kind="box").queries
    assert query.box.tolist() == [10, 5, 89, 49]
    each = drawn(two_rivers(), kind="box", components="each")
    assert sorted(q.box.tolist() for q in each.queries) == [[10, 5, 59, 24], [30, 40, 89, 49]]
    assert each.fusion == "union"


def test_boxes_move_in_training_only():
    exact = drawn(two_rivers(), kind="box", seed=3).queries[0].box
    moved = [
        drawn(two_rivers(), kind="box", seed=s, training=True).queries[0].box for s in range(40)
    ]
    assert exact.tolist() == [10, 5, 89, 49]
    assert np.abs(np.mean(moved, axis=0) - exact).max() < 2.0
    assert np.ptp(moved, axis=0).min() > 2


def test_both_is_points_and_a_box_in_one_query():
    (query,) = drawn(two_rivers(), kind="both").queries
    assert query.box.tolist() == [10, 5, 89, 49]
    assert len(query.labels) == 3


def test_the_mask_itself_can_be_the_prompt_and_ignored_pixels_are_no_water_in_it():
    valid = np.ones((60, 100), bool)
    valid[:30] = False
    prompt = drawn(two_rivers(), kind="mask", valid=valid)
    assert prompt.queries == ()
    assert np.array_equal(prompt.mask, two_rivers() & valid)
    (query,) = drawn(two_rivers(), kind="box", valid=valid).queries
    assert query.box.tolist() == [30, 40, 89, 49]


@pytest.mark.parametrize("kind", ["points", "box", "both", "mask", "null"])
def test_an_empty_mask_gives_the_empty_prompt(kind):
    prompt = drawn(np.zeros((20, 30), bool), kind=kind)
    assert (prompt.queries, prompt.mask) == ((), None)


@pytest.mark.parametrize("kind", ["points", "box", "both"])
def test_a_river_of_one_pixel_can_be_prompted(kind):
    mask = np.zeros((33, 47), bool)
    mask[20, 11] = True
    (query,) = drawn(mask, kind=kind).queries
    if kind != "box":
        assert query.points.tolist() == [[11, 20]]
    if kind != "points":
        assert query.box.tolist() == [11, 20, 11, 20]


def test_a_very_large_mask_is_shrunk_without_losing_its_thin_river():
    mask = np.zeros((40, 3 * LONGEST_SIDE), bool)
    mask[17] = True
    (query,) = drawn(mask, kind="both", spacing=False).queries
    assert np.abs(query.points[:, 1] - 17).max() <= 1.5
    np.testing.assert_allclose(query.box[[0, 2]], [0, 3 * LONGEST_SIDE - 1], atol=1.5)


def test_the_null_and_the_full_box_know_nothing_of_the_picture():
    assert NullPrompter()(sample()).queries == ()
    (query,) = FullBoxPrompter()(sample()).queries
    assert query.box.tolist() == [0, 0, 99, 59]


def test_a_coarse_mask_prompts_the_same_way_every_time_and_says_where_it_is_from():
    prompter = GeometricPrompter(GeometricSettings(kind="both"), Left())
    first, second = prompter(sample()), prompter(sample(mask=two_rivers()))
    assert first.source == "coarse left both"
    assert np.array_equal(
        first.queries[0].points, second.queries[0].points
    )  # truth is not looked at
    assert (first.queries[0].points[:, 0] < 50).all()


def test_an_oracle_says_so_and_wants_the_truth():
    prompter = OraclePrompter(GeometricSettings(kind="box", source="oracle"))
    assert prompter(sample(mask=two_rivers())).source == "oracle box"
    with pytest.raises(DataError, match=r"oracle prompt must be made from a true mask.*'s'"):
        prompter(sample())


def test_the_settings_choose_the_prompter():
    chosen = {
        kind: type(make_prompter(GeometricSettings(kind=kind), Left())).__name__
        for kind in ("null", "full-box", "points", "mask")
    }
    assert chosen == {
        "null": "NullPrompter", "full-box": "FullBoxPrompter", "points": "GeometricPrompter",
        "mask": "GeometricPrompter",
    }  # fmt: skip
    oracle = GeometricSettings(source="oracle")
    assert isinstance(make_prompter(oracle, None), OraclePrompter)
    assert [needs_coarse(s) for s in (GeometricSettings(), oracle)] == [True, False]
    with pytest.raises(DataError, match="must come from a coarse mask, got none"):
        make_prompter(GeometricSettings(), None)


def test_a_coarse_mask_of_another_size_or_kind_is_refused():
    class Wrong:
        name = "coarse wrong"

        def __call__(self, sample):
            return np.zeros((3, 3))

    prompter = GeometricPrompter(GeometricSettings(), Wrong())
    with pytest.raises(DataError, match=r"bool with the image's height and width \(60, 100\), got"):
        prompter(sample())
