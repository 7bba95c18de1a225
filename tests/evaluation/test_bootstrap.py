import numpy as np
import pytest
from scipy import stats

from autosam.evaluation import bootstrap
from autosam.evaluation.bootstrap import interval_of_mean


def names(count):
    return [str(index) for index in range(count)]


def test_interval_agrees_with_scipy_on_independent_images():
    values = np.random.default_rng(0).beta(5, 2, size=80)
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    found = interval_of_mean(values, names(80), resamples=20_000, seed=0)
    assert found == pytest.approx(tuple(expected), abs=1e-3)  # both draw at random


def test_interval_equals_a_loop_that_draws_blocks_one_by_one():
    values, blocks = np.array([0.1, 0.3, 0.9, 0.5, 0.8]), list("aabcc")
    members = [values[[0, 1]], values[[2]], values[[3, 4]]]
    drawn = np.random.default_rng(3).integers(3, size=(200, 3))
    means = [np.concatenate([members[block] for block in draw]).mean() for draw in drawn]
    expected = np.percentile(means, (2.5, 97.5))
    found = interval_of_mean(values, blocks, resamples=200, seed=3)
    assert found == pytest.approx(tuple(expected))


def test_equal_seeds_give_equal_intervals_and_others_do_not():
    values = np.random.default_rng(0).random(30)
    first, again, other = (
        interval_of_mean(values, names(30), resamples=100, seed=seed) for seed in (4, 4, 5)
    )
    assert first == again
    assert first != other


def test_drawing_in_portions_changes_nothing(monkeypatch):
    values = np.random.default_rng(0).random(30)
    whole = interval_of_mean(values, names(30), resamples=500, seed=0)
    monkeypatch.setattr(bootstrap, "RESAMPLES_AT_ONCE", 100)
    assert interval_of_mean(values, names(30), resamples=500, seed=0) == whole


def test_blocks_of_alike_images_widen_the_interval():
    values = np.repeat(np.random.default_rng(0).random(10), 8)
    low, high = interval_of_mean(values, names(80), resamples=1000, seed=0)
    blocks = [str(index // 8) for index in range(80)]
    wide_low, wide_high = interval_of_mean(values, blocks, resamples=1000, seed=0)
    assert wide_high - wide_low > 2 * (high - low)


@pytest.mark.parametrize("blocks", [[], ["a"], ["a", "a", "a"]])
def test_fewer_than_two_blocks_say_nothing_about_spread(blocks):
    values = np.linspace(0, 1, len(blocks))
    assert interval_of_mean(values, blocks, resamples=100, seed=0) == (None, None)
