import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import jaccard_score, log_loss

from autosam.errors import DataError
from autosam.evaluation.calibration import (
    LogitHistogram,
    choose_threshold,
    expected_calibration_error,
    fit_temperature,
    negative_log_likelihood,
    reliability_table,
)


def noisy(seed, *, shape=(60, 80), temperature=1.0, shift=0.0):
    """Logits and a truth drawn from their own probabilities, so that `temperature` is right."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(shift, 3, size=shape)
    truth = generator.random(shape) < expit(logits / temperature)
    return logits.astype(np.float32), truth


def histogram_of(*images):
    histogram = LogitHistogram()
    for logits, truth in images:
        histogram.add(logits, truth=truth)
    return histogram


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_the_temperature_that_made_the_truth_is_found_again(temperature):
    logits, truth = noisy(0, shape=(400, 500), temperature=temperature)
    assert fit_temperature([logits], [truth], [None]) == pytest.approx(temperature, rel=0.02)


def test_the_fitted_temperature_beats_every_other_by_exact_likelihood():
    logits, truth = noisy(1, temperature=2.0)
    best = fit_temperature([logits], [truth], [None])

    def exact(value):
        return log_loss(truth.ravel(), expit(logits.ravel() / value))

    assert exact(best) <= min(exact(best * factor) for factor in (0.98, 1.02)) + 1e-9


def test_likelihood_from_bins_equals_that_of_scikit_learn():
    logits, truth = noisy(2)
    expected = log_loss(truth.ravel(), expit(logits.ravel().astype(float) / 1.7))
    found = negative_log_likelihood(histogram_of((logits, truth)), temperature=1.7)
    assert found == pytest.approx(expected, rel=1e-4)


def test_every_image_weighs_the_same_in_the_temperature_however_large():
    parts = [noisy(3, temperature=3.0), noisy(4, shape=(20, 20), temperature=0.5)]
    best = fit_temperature(*zip(*parts, strict=True), [None, None])

    def exact(value):
        losses = [log_loss(t.ravel(), expit(g.ravel().astype(float) / value)) for g, t in parts]
        return np.mean(losses)

    assert exact(best) <= min(exact(best * factor) for factor in (0.98, 1.02)) + 1e-9
    doubled = [(np.tile(logits, (3, 1)), np.tile(truth, (3, 1))) for logits, truth in parts[:1]]
    again = fit_temperature(*zip(*doubled, parts[1], strict=True), [None, None])
    assert again == pytest.approx(best)


@pytest.mark.parametrize("all_water", [False, True])
def test_land_alone_or_water_alone_teaches_no_temperature(all_water):
    logits = np.full((5, 6), -3.0)
    assert fit_temperature([logits], [np.full((5, 6), all_water)], [None]) == 1.0


def test_separated_validation_gives_the_end_of_the_search_and_not_zero():
    truth = np.arange(40).reshape(5, 8) > 20
    assert fit_temperature([np.where(truth, 2.0, -2.0)], [truth], [None]) == pytest.approx(
        0.05, rel=1e-3
    )


def worth(images, threshold):
    """Not by bins: scikit-learn on the pixels of the wet ones, times what stays dry of the others."""
    masks = [((p >= threshold).ravel(), truth.ravel()) for p, truth in images]
    wet = [jaccard_score(truth, mask) for mask, truth in masks if truth.any()]
    dry = [1 - mask.mean() for mask, truth in masks if not truth.any()]
    return (np.mean(wet) if wet else 1.0) * (np.mean(dry) if dry else 1.0)


@pytest.mark.parametrize("seed", range(4))
def test_the_chosen_threshold_has_the_score_it_is_said_to_have(seed):
    images = [
        noisy(seed, shift=-1.0),
        noisy(seed + 10, shape=(30, 20), shift=1.0),
        noisy(seed + 20),
    ]
    images = [(expit(logits), truth) for logits, truth in images]
    images[-1][1][:] = False
    threshold, score = choose_threshold(*zip(*images, strict=True), [None] * 3)
    assert score == pytest.approx(worth(images, threshold), abs=1e-12)


def test_no_other_threshold_is_better_than_the_chosen_one():
    images = [noisy(5, shift=-2.0, temperature=3.0), noisy(6, shape=(30, 20), shift=1.0), noisy(7)]
    images = [(expit(logits), truth) for logits, truth in images]
    images[-1][1][:] = False
    _, score = choose_threshold(*zip(*images, strict=True), [None] * 3)
    others = [worth(images, threshold) for threshold in np.linspace(0.02, 0.98, 97)]
    assert max(others) <= score + 2e-3  # between two edges of bins may lie a pixel or two


def test_small_images_count_as_much_as_large_ones_for_the_threshold():
    large = np.full((100, 100), 0.3), np.ones((100, 100), dtype=bool)
    small = np.array([[0.2, 0.4, 0.4, 0.6]]), np.array([[False, False, False, True]])
    both = [large, small, small, small]
    threshold, score = choose_threshold(*zip(*both, strict=True), [None] * 4)
    assert 0.4 < threshold <= 0.6  # pooled pixels would choose 0.3 or less
    assert score == 0.75


def test_a_dry_image_rightly_left_empty_costs_nothing():
    dry = np.full((4, 5), 0.7), np.zeros((4, 5), dtype=bool)
    wet = np.array([[0.1, 0.9]]), np.array([[False, True]])
    threshold, score = choose_threshold(*zip(dry, wet, strict=True), [None, None])
    assert 0.7 < threshold <= 0.9
    assert score == 1.0


def test_one_false_pixel_in_a_dry_image_does_not_silence_a_model():
    dry = np.full((10, 10), 0.2), np.zeros((10, 10), dtype=bool)
    dry[0][0, 0] = 0.8
    wet = np.array([[0.2, 0.2, 0.6, 0.6]]), np.array([[False, True, True, True]])
    images = [dry, dry, dry, wet]
    threshold, score = choose_threshold(*zip(*images, strict=True), [None] * 4)
    assert 0.2 < threshold <= 0.6  # mean IoU over all would be best with three dry images empty
    assert score == pytest.approx(2 / 3 * 0.99)


def test_a_limit_on_false_water_rules_thresholds_out_however_good_they_are():
    """At .3 the wet image is right and 2 of 200 dry pixels are water; at .6 half of one and 1 of 200."""
    dry = np.full((10, 20), 0.1), np.zeros((10, 20), dtype=bool)
    dry[0][0, :2] = 0.4, 0.7
    wet = np.array([[0.1, 0.1, 0.35, 0.65]]), np.array([[False, False, True, True]])
    histogram = LogitHistogram()
    for probability, truth in (dry, wet):
        histogram.add_probability(probability, truth=truth)
    threshold, score = histogram.threshold()
    assert 0.1 < threshold <= 0.35
    assert score == pytest.approx(0.99)
    threshold, score = histogram.threshold(most_false_water=0.005)
    assert 0.4 < threshold <= 0.65
    assert score == pytest.approx(0.5 * 0.995)


def test_where_no_threshold_keeps_the_limit_the_driest_is_taken():
    dry = np.array([[0.2, 1.0, 1.0]]), np.zeros((1, 3), dtype=bool)
    wet = np.array([[0.3, 0.9]]), np.array([[False, True]])
    histogram = LogitHistogram()
    for probability, truth in (dry, wet):
        histogram.add_probability(probability, truth=truth)
    threshold, score = histogram.threshold(most_false_water=0.1)
    assert 0.3 < threshold <= 0.9
    assert score == pytest.approx(1 / 3)


def test_where_all_is_dry_nothing_is_called_water():
    dry = np.array([[0.1, 0.6, 0.9]]), np.zeros((1, 3), dtype=bool)
    threshold, score = choose_threshold(*zip(dry, strict=True), [None])
    assert threshold > 0.9
    assert score == 1.0


def test_of_equally_good_thresholds_the_one_nearest_to_one_half_is_chosen():
    truth = np.array([[False, True]])
    assert choose_threshold([np.array([[0.1, 0.9]])], [truth], [None])[0] == 0.5
    threshold, _ = choose_threshold([np.array([[0.1, 0.3]])], [truth], [None])
    assert threshold == pytest.approx(0.3, abs=0.0025)
    assert threshold <= 0.3


def test_the_threshold_moves_with_the_temperature_and_its_mask_does_not():
    logits, truth = noisy(7, shift=-1.0, temperature=2.0)
    histogram = histogram_of((logits, truth))
    for temperature in (0.5, 1.0, 2.5):
        threshold, score = histogram.threshold(temperature=temperature)
        mask = expit(logits.astype(float) / temperature) >= threshold
        assert score == pytest.approx(jaccard_score(truth.ravel(), mask.ravel()), abs=1e-12)


def test_pixels_that_are_not_valid_count_nowhere():
    logits, truth = noisy(8)
    valid = np.random.default_rng(0).random(truth.shape) < 0.5
    masked, cut = LogitHistogram(), LogitHistogram()
    masked.add(np.where(valid, logits, 9.0), truth=truth | ~valid, valid=valid)
    cut.add(logits[valid][None], truth=truth[valid][None])
    assert np.array_equal(masked.counts, cut.counts)
    assert masked.threshold() == cut.threshold()


def test_images_without_valid_pixels_do_not_dilute_the_mean():
    truth = np.array([[False, True]])
    histogram = histogram_of((np.array([[-2.0, 2.0]]), truth))
    histogram.add(np.array([[5.0, -5.0]]), truth=truth, valid=np.zeros((1, 2), dtype=bool))
    assert (histogram.images, histogram.threshold()[1]) == (1, 1.0)


def test_infinite_logits_and_certain_probabilities_are_counted():
    truth = np.array([[False, True]])
    histogram = histogram_of((np.array([[-np.inf, np.inf]]), truth))
    histogram.add_probability(np.array([[0.0, 1.0]]), truth=truth)
    assert histogram.counts.sum(axis=1).tolist() == [2, 2]
    assert histogram.counts[0, 0] == histogram.counts[1, -1] == 2


def test_an_empty_validation_set_is_an_error_for_temperature_and_threshold():
    with pytest.raises(DataError, match="at least one image with valid pixels, got 0"):
        fit_temperature([], [], [])
    nothing = np.zeros((2, 2), dtype=bool)
    with pytest.raises(DataError, match=r"got 0. Raise data.validation_share"):
        choose_threshold([np.full((2, 2), 0.5)], [nothing], [nothing])


@pytest.mark.parametrize("value", [1.5, -0.1, np.nan])
def test_what_is_no_probability_is_refused(value):
    with pytest.raises(DataError, match=r"probability must be in 0..1, got .*Apply the sigmoid"):
        choose_threshold([np.array([[0.5, value]])], [np.array([[True, False]])], [None])


def test_a_network_that_diverged_is_named_as_such():
    with pytest.raises(DataError, match="logits must be numbers, got NaN"):
        fit_temperature([np.array([[0.5, np.nan]])], [np.array([[True, False]])], [None])


def test_logits_of_another_size_than_the_truth_are_refused():
    with pytest.raises(DataError, match=r"one shape, got \(2, 3\), \(3, 2\)"):
        LogitHistogram().add(np.zeros((2, 3)), truth=np.zeros((3, 2), dtype=bool))


def brute_force_error(probability, truth, rows):
    part = np.minimum((probability * rows).astype(int), rows - 1)
    total = 0.0
    for row in range(rows):
        inside = part == row
        if inside.any():
            total += abs(probability[inside].mean() - truth[inside].mean()) * inside.mean()
    return total


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_calibration_error_equals_brute_force_on_the_pixels(temperature):
    logits, truth = noisy(9, shape=(200, 300), temperature=2.0)
    expected = brute_force_error(
        expit(logits.ravel().astype(float) / temperature), truth.ravel(), 15
    )
    table = reliability_table(histogram_of((logits, truth)), temperature=temperature)
    assert expected_calibration_error(table) == pytest.approx(expected, abs=5e-4)


def test_the_right_temperature_calibrates():
    logits, truth = noisy(10, shape=(300, 400), temperature=3.0)
    histogram = histogram_of((logits, truth))
    before, after = (
        expected_calibration_error(reliability_table(histogram, temperature=value))
        for value in (1.0, histogram.temperature())
    )
    assert before > 0.1
    assert after < 0.01


def test_reliability_by_hand():
    histogram = LogitHistogram()
    probability = np.array([[0.1, 0.1, 0.1, 0.1, 0.9, 0.9]])
    histogram.add_probability(
        probability, truth=np.array([[True, False, False, False, True, True]])
    )
    table = reliability_table(histogram, rows=2)
    assert [(row["count"], row["observed"]) for row in table] == [(4, 0.25), (2, 1.0)]
    assert [row["predicted"] for row in table] == pytest.approx([0.1, 0.9], abs=1e-3)
    assert expected_calibration_error(table) == pytest.approx((4 * 0.15 + 2 * 0.1) / 6, abs=1e-3)


def test_nothing_counted_has_no_calibration_error():
    table = reliability_table(LogitHistogram())
    assert expected_calibration_error(table) is None
    assert {row["predicted"] for row in table} == {None}


def test_pixels_below_the_lowest_bin_are_never_called_water_by_mistake():
    logits, truth = np.array([[-40.0, -15.0]]), np.array([[True, True]])
    # At temperature 20 every edge is within the search, and none lies below -40.
    threshold, score = histogram_of((logits, truth)).threshold(temperature=20.0)
    assert (expit(logits / 20.0) >= threshold).tolist() == [[False, True]]
    assert score == 0.5
