"""Colours against matplotlib, ranges by hand, the search against brute force."""

import numpy as np
import pytest
from matplotlib.colors import hsv_to_rgb
from matplotlib.colors import rgb_to_hsv as matplotlib_hsv

from autosam.errors import ModelError
from autosam.prompts import colour_rules
from autosam.prompts.colour_rules import rgb_to_hsv, tune_hsv_range, water_by_colour
from autosam.types import Sample

EVERYTHING = {"low": (0.0, 0.0, 0.0), "high": (1.0, 1.0, 1.0)}


def strip(*colours: tuple[int, int, int]) -> np.ndarray:
    return np.array([colours], dtype=np.uint8)


def test_colours_are_those_of_matplotlib():
    levels = [0, 1, 2, 3, 60, 127, 128, 200, 254, 255]
    image = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(10, 100, 3)
    image = image.astype(np.uint8)
    np.testing.assert_allclose(rgb_to_hsv(image), matplotlib_hsv(image / 255), atol=5e-5)
    floats = (image / 255).astype(np.float32)
    np.testing.assert_allclose(rgb_to_hsv(floats), rgb_to_hsv(image), atol=1e-6)


def test_blue_water_is_found_and_would_not_be_with_channels_swapped():
    image = strip((30, 60, 200), (60, 140, 40), (200, 60, 30))
    blue = {"low": (0.55, 0.3, 0.2), "high": (0.72, 1.0, 1.0)}
    np.testing.assert_array_equal(water_by_colour(image, **blue), [[True, False, False]])
    np.testing.assert_array_equal(water_by_colour(image[..., ::-1], **blue), [[False, False, True]])


def test_bounds_are_inside_the_range():
    colour = (100, 150, 50)
    exact = tuple(rgb_to_hsv(strip(colour))[0, 0].tolist())
    assert water_by_colour(strip(colour, (101, 150, 50)), low=exact, high=exact).tolist() == [
        [True, False]
    ]


@pytest.mark.parametrize(
    ("channel", "outside"), [(0, (60, 200, 140)), (1, (190, 210, 190)), (2, (20, 70, 20))]
)
def test_each_channel_can_exclude_a_colour(channel, outside):
    image = strip((60, 200, 60), outside)
    inside = rgb_to_hsv(image)[0, 0]
    low, high = [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]
    low[channel], high[channel] = float(inside[channel]) - 0.05, float(inside[channel]) + 0.05
    assert water_by_colour(image, low=low, high=high).tolist() == [[True, False]]


def test_a_hue_may_go_through_red():
    colours = hsv_to_rgb([[[hue, 1, 1] for hue in (0.85, 0.95, 0.0, 0.05, 0.15, 0.5)]])
    image = np.rint(colours * 255).astype(np.uint8)
    found = water_by_colour(image, low=(0.9, 0.5, 0.5), high=(0.1, 1.0, 1.0))
    assert found.tolist() == [[False, True, True, True, False, False]]


def test_a_picture_is_looked_at_in_strips(monkeypatch):
    image = np.random.default_rng(0).integers(0, 256, (37, 23, 3)).astype(np.uint8)
    bounds = {"low": (0.8, 0.2, 0.1), "high": (0.3, 0.9, 0.8)}
    whole = water_by_colour(image, **bounds)
    monkeypatch.setattr(colour_rules, "_PIXELS_AT_ONCE", 50)
    np.testing.assert_array_equal(water_by_colour(image, **bounds), whole)
    assert 0.1 < whole.mean() < 0.9
    assert water_by_colour(image, **EVERYTHING).all()


def red_river(seed: int) -> Sample:
    """Water whose hue lies on both sides of red, on land of yellow and violet."""
    generator = np.random.default_rng(seed)
    mask = np.zeros((30, 40), dtype=bool)
    mask[10 : 16 + seed] = True
    land = generator.choice([0.2, 0.75], mask.shape) + generator.uniform(-0.05, 0.05, mask.shape)
    hue = np.where(mask, generator.uniform(-0.08, 0.08, mask.shape) % 1, land)
    colours = np.stack([hue, np.full(mask.shape, 0.6), np.full(mask.shape, 0.7)], axis=-1)
    image = np.rint(hsv_to_rgb(colours) * 255).astype(np.uint8)
    return Sample(name=f"red{seed}", image=image, mask=mask)


def test_water_on_both_sides_of_red_is_learnt():
    low, high, score = tune_hsv_range([red_river(0), red_river(3)], side=64, rounds=5, smooth=False)
    assert low[0] > 0.85
    assert high[0] < 0.15
    assert score > 0.98
    unseen = red_river(6)
    found = water_by_colour(unseen.image, low=low, high=high)
    assert np.mean(found == unseen.mask) > 0.99


def test_grey_water_is_learnt_among_colours():
    """What no range of blue finds: grey water beside green forest and brown soil."""
    generator = np.random.default_rng(0)
    mask = np.zeros((40, 50), dtype=bool)
    mask[12:22] = True
    soil = generator.random((40, 50, 1)) < 0.5
    image = np.where(soil, [140, 110, 70], [60, 95, 50])
    image[mask] = 130 + generator.integers(-10, 10, (int(mask.sum()), 1))
    image = (image + generator.integers(-4, 5, image.shape)).astype(np.uint8)
    low, high, score = tune_hsv_range(
        [Sample(name="grey", image=image, mask=mask)], side=64, rounds=5, smooth=False
    )
    assert score > 0.98
    assert high[1] < 0.2 < 0.4  # no saturation
    assert np.mean(water_by_colour(image, low=low, high=high) == mask) > 0.99


def test_pixels_that_are_not_valid_do_not_count():
    sample = red_river(0)
    wrong = sample.mask.copy()
    wrong[20:] = True
    valid = np.ones_like(wrong)
    valid[20:] = False
    hidden = Sample(name="hidden", image=sample.image, mask=wrong, valid=valid)
    seen = Sample(name="seen", image=sample.image, mask=wrong)
    assert tune_hsv_range([hidden], side=64, rounds=5, smooth=False)[2] > 0.98
    assert tune_hsv_range([seen], side=64, rounds=5, smooth=False)[2] < 0.9


def test_unlabelled_samples_are_left_out():
    sample = red_river(0)
    unlabelled = Sample(name="unlabelled", image=sample.image)
    with_it = tune_hsv_range([unlabelled, sample], side=64, rounds=5, smooth=False)
    alone = tune_hsv_range([sample], side=64, rounds=5, smooth=False)
    assert with_it[2] == alone[2]
    with pytest.raises(ModelError, match="must see water to be tuned, got 0 labelled"):
        tune_hsv_range([unlabelled], side=64, rounds=5, smooth=False)
