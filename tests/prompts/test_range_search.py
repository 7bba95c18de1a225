"""Ranges and thresholds against an exhaustive search; shrunk samples against their sources."""

import itertools

import numpy as np
import pytest

from autosam.errors import ModelError
from autosam.prompts import range_search
from autosam.prompts.range_search import LabelledPixels, best_range, best_threshold, shrunk
from autosam.types import Sample


def pixels_of(values: np.ndarray, water: np.ndarray, picture: np.ndarray) -> LabelledPixels:
    return LabelledPixels(np.asarray(values, np.float32), np.asarray(water, bool), picture)


def random_pixels(seed: int, *, channels: int = 1, pictures: int = 4) -> LabelledPixels:
    """Water that is mostly, but not only, in the middle of 0..1; one picture in three is dry."""
    generator = np.random.default_rng(seed)
    values = np.round(generator.random((channels, 60 * pictures)), 1).astype(np.float32)
    picture = np.repeat(np.arange(pictures), 60)
    middle = (np.abs(values - 0.5) < 0.3).all(axis=0)
    water = (middle ^ (generator.random(len(picture)) < 0.15)) & (picture % 3 != 2)
    return LabelledPixels(values, water, picture)


def mean_iou(found: np.ndarray, pixels: LabelledPixels) -> float:
    """Picture by picture, from sets of places."""
    scores = []
    for picture in range(pixels.picture[-1] + 1):
        here = np.flatnonzero(pixels.picture == picture)
        one, other = set(here[found[here]]), set(here[pixels.water[here]])
        scores.append(len(one & other) / len(one | other) if one | other else 1.0)
    return float(np.mean(scores))


def in_range(values: np.ndarray, low: float, high: float) -> np.ndarray:
    if low > high:
        return (values >= low) | (values <= high)
    return (values >= low) & (values <= high)


@pytest.mark.parametrize("circular", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_the_range_of_one_channel_is_the_best_of_all(seed, circular):
    pixels = random_pixels(seed)
    if circular:
        pixels = pixels_of((pixels.values + 0.5) % 1, pixels.water, pixels.picture)
    low, high, score = best_range(pixels, circular=(circular,), rounds=3)
    bounds = np.unique(pixels.values[0, pixels.water])
    pairs = itertools.product(bounds, bounds)
    tried = {
        pair: mean_iou(in_range(pixels.values[0], *pair), pixels)
        for pair in pairs
        if circular or pair[0] <= pair[1]
    }
    assert score == pytest.approx(max(tried.values()))
    assert tried[low[0], high[0]] == pytest.approx(score)
    assert (low[0] > high[0]) == circular


@pytest.mark.parametrize("seed", range(3))
def test_no_channel_of_three_can_be_bettered_alone(seed):
    pixels = random_pixels(seed, channels=3)
    low, high, score = best_range(pixels, circular=(True, False, False), rounds=20)

    def found(lows: np.ndarray, highs: np.ndarray) -> np.ndarray:
        inside = [in_range(*one) for one in zip(pixels.values, lows, highs, strict=True)]
        return np.all(inside, axis=0)

    assert mean_iou(found(low, high), pixels) == pytest.approx(score)
    for channel in range(3):
        bounds = np.unique(pixels.values[channel, pixels.water])[::2]
        for pair in itertools.combinations_with_replacement(bounds, 2):
            lows, highs = low.copy(), high.copy()
            lows[channel], highs[channel] = pair
            assert mean_iou(found(lows, highs), pixels) <= score + 1e-9


def test_only_a_circular_channel_wraps():
    values = [[0.1, 0.4, 0.6, 0.9]]
    pixels = pixels_of(values, [True, False, False, True], np.zeros(4, int))
    low, high, score = best_range(pixels, circular=(False,), rounds=3)
    assert (low[0], high[0], score) == (np.float32(0.1), np.float32(0.9), 0.5)
    low, high, score = best_range(pixels, circular=(True,), rounds=3)
    assert (low[0], high[0], score) == (np.float32(0.9), np.float32(0.1), 1.0)


def test_of_equal_ranges_the_widest_wins_and_wraps_only_where_it_must():
    pixels = pixels_of([[0.1, 0.3, 0.5]], [True] * 3, np.zeros(3, int))
    low, high, score = best_range(pixels, circular=(True,), rounds=3)
    assert (low[0], high[0]) == (np.float32(0.1), np.float32(0.5))
    assert score == 1.0


def test_a_picture_without_water_counts_against_what_is_found_in_it():
    values = [[0.5, 0.5, 0.5, 0.9, 0.1, 0.9, 0.1]]
    water = [True] * 4 + [False] * 3
    both = np.zeros(7, int)
    wet_and_dry = np.repeat([0, 1], [5, 2])
    # As one picture, .9 is worth its one pixel of land; as a dry one of two, it is not.
    low, high, score = best_range(pixels_of(values, water, both), circular=(False,), rounds=3)
    assert (low[0], high[0], score) == (np.float32(0.5), np.float32(0.9), pytest.approx(4 / 5))
    low, high, score = best_range(
        pixels_of(values, water, wet_and_dry), circular=(False,), rounds=3
    )
    assert (low[0], high[0], score) == (np.float32(0.5), np.float32(0.5), pytest.approx(7 / 8))


def test_many_pictures_are_scored_in_parts(monkeypatch):
    pixels = random_pixels(2, channels=2, pictures=7)
    whole = best_range(pixels, circular=(True, False), rounds=5)
    monkeypatch.setattr(range_search, "_PICTURES_AT_ONCE", 3)
    for one, other in zip(best_range(pixels, circular=(True, False), rounds=5), whole, strict=True):
        np.testing.assert_allclose(one, other)


def test_one_pass_is_one_pass():
    pixels = random_pixels(1, channels=3)
    scores = [best_range(pixels, circular=(False,) * 3, rounds=rounds)[2] for rounds in (1, 20)]
    assert scores[0] < scores[1]


@pytest.mark.parametrize("seed", range(4))
def test_the_threshold_is_the_best_of_all(seed):
    pixels = random_pixels(seed)
    threshold, score = best_threshold(pixels)
    values = pixels.values[0]
    tried = [mean_iou(values > one, pixels) for one in [-1, *np.unique(values)]]
    assert score == pytest.approx(max(tried))
    assert mean_iou(values > threshold, pixels) == pytest.approx(score)


def test_a_threshold_keeps_away_from_both_sides():
    values = [[0.0, 0.1, 0.2, 0.8, 0.9, 1.0]]
    pixels = pixels_of(values, [False] * 3 + [True] * 3, np.zeros(6, int))
    threshold, score = best_threshold(pixels)
    assert score == 1.0
    assert 0.3 < threshold < 0.7


def test_all_water_is_a_threshold_below_everything():
    pixels = pixels_of([[3.0, 3.0]], [True, True], np.zeros(2, int))
    threshold, score = best_threshold(pixels)
    assert threshold < 3
    assert score == 1.0


def test_pictures_count_alike_whatever_their_size():
    """A large dry-side picture must not outvote two small ones."""
    values = np.concatenate([[0.2, 0.8], [0.2, 0.8], np.full(100, 0.8), np.full(100, 0.2)])
    water = np.concatenate([[0, 1], [0, 1], np.ones(100), np.ones(100)])
    picture = np.repeat([0, 1, 2], [2, 2, 200])
    _, score = best_threshold(pixels_of(values[None], water, picture))
    # Above .5: 1, 1 and .5; everything: .5, .5 and 1.
    assert score == pytest.approx(2.5 / 3)


def sample(height: int = 40, width: int = 60, **fields: object) -> Sample:
    generator = np.random.default_rng(0)
    arrays: dict[str, object] = {
        "image": generator.integers(0, 256, (height, width, 3)).astype(np.uint8),
        "mask": generator.random((height, width)) < 0.5,
        "bands": {"nir": generator.random((height, width)).astype(np.float32)},
    }
    return Sample(name="one", **{**arrays, **fields})


def test_labelled_pixels_are_the_valid_ones_in_order():
    valid = np.zeros((2, 3), dtype=bool)
    valid[0, 1] = valid[1, 2] = True
    mask = np.array([[False, True, False], [True, True, False]])
    image = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    one = Sample(name="one", image=image, mask=mask, valid=valid)
    without = Sample(name="without", image=image, mask=mask, valid=np.zeros_like(valid))
    pixels = LabelledPixels.of([one, without, one], lambda s: s.image.transpose(2, 0, 1))
    np.testing.assert_array_equal(pixels.values, [[3, 15, 3, 15], [4, 16, 4, 16], [5, 17, 5, 17]])
    assert pixels.water.tolist() == [True, False, True, False]
    assert pixels.picture.tolist() == [0, 0, 1, 1]


def test_samples_without_water_cannot_be_learnt_from():
    dry = sample(mask=np.zeros((40, 60), bool))
    with pytest.raises(ModelError, match="must see water to be tuned, got 2 labelled samples"):
        LabelledPixels.of([dry, dry, sample(mask=None)], lambda s: s.bands["nir"])


def test_single_pixels_are_taken_from_one_place_of_every_array():
    image = np.zeros((40, 60, 3), dtype=np.uint8)
    image[..., 0] = np.arange(60)
    whole = sample(
        image=image,
        mask=image[..., 0] > 30,
        valid=image[..., 0] < 50,
        bands={"nir": image[..., 0].astype(np.float32)},
    )
    small = shrunk(whole, 20, smooth=False)
    assert small.size == (13, 20)
    columns = small.image[..., 0]
    np.testing.assert_array_equal(small.mask, columns > 30)
    np.testing.assert_array_equal(small.valid, columns < 50)
    np.testing.assert_array_equal(small.bands["nir"], columns)
    assert set(columns.ravel().tolist()) <= set(range(60))


def test_smooth_shrinking_averages():
    image = np.zeros((4, 8, 3), dtype=np.uint8)
    image[:, ::2] = 100
    small = shrunk(sample(4, 8, image=image), 4, smooth=True)
    assert (small.image == 50).all()
    assert small.bands["nir"].std() > 0


def test_a_small_sample_stays():
    one = sample()
    assert shrunk(one, 60, smooth=True) is one


def test_levels_are_as_fine_as_their_docstrings_say():
    assert 1 / (range_search.RANGE_LEVELS - 1) == 0.0125
    assert 1 / (range_search.THRESHOLD_LEVELS - 1) == 0.0025
