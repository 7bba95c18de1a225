"""Fitting presence and domain: against scikit-learn, and on data whose answer is known."""

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from autosam.evaluation.gauge_fitting import fit_domain, fit_presence


def test_presence_tells_wet_from_dry_and_is_never_certain():
    evidence = [4.0, 5.0, 6.0, 3.0, -6.0, -5.0, -7.0, -4.0]
    presence = fit_presence(evidence, [True] * 4 + [False] * 4)
    assert 0.7 < presence.probability(4.0) < 0.999
    assert 0.001 < presence.probability(-5.0) < 0.3
    assert presence.probability(5.0) > presence.probability(-1.0)


def test_presence_is_even_where_evidence_says_nothing():
    generator = np.random.default_rng(0)
    evidence = generator.normal(size=400)
    presence = fit_presence(evidence, generator.random(400) < 0.5)
    assert presence is None or abs(presence.probability(0.0) - 0.5) < 0.05


def test_as_many_dry_as_wet_pictures_would_count_the_same():
    evidence, wet = [2.0] * 30 + [-2.0] * 3, [True] * 30 + [False] * 3
    presence = fit_presence(evidence, wet)
    assert presence.probability(0.0) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("wet", [[True] * 6, [False] * 6, [True, True, False, False, True, True]])
def test_too_few_pictures_of_a_kind_give_no_presence(wet):
    assert fit_presence([1.0] * len(wet), wet) is None


def test_evidence_against_all_sense_gives_no_presence():
    assert fit_presence([-3.0] * 5 + [3.0] * 5, [True] * 5 + [False] * 5) is None


def test_expected_iou_is_isotonic_regression_on_distance():
    generator = np.random.default_rng(1)
    training = generator.normal(size=(200, 5))
    validation = generator.normal(size=(40, 5)) * np.linspace(0.5, 3, 40)[:, None]
    iou = np.clip(1 - np.linspace(0, 0.8, 40) + generator.normal(0, 0.1, 40), 0, 1)
    domain = fit_domain(training, validation, iou)
    scores = (validation - training.mean(axis=0)) / training.std(axis=0)
    distance = np.sqrt((scores**2).mean(axis=1))
    fitted = IsotonicRegression(increasing=False, out_of_bounds="clip").fit(distance, iou)
    order = np.sort(distance)
    for part, place, value in zip(
        np.array_split(order, len(domain.iou)), domain.distances, domain.iou, strict=True
    ):
        assert place == pytest.approx(part.mean())
        assert value == pytest.approx(fitted.predict(part).mean(), abs=1e-6)
    assert list(domain.distances) == sorted(domain.distances)
    assert list(domain.iou) == sorted(domain.iou, reverse=True)


def test_pictures_like_those_of_training_are_at_a_distance_of_one():
    generator = np.random.default_rng(2)
    training = generator.normal(3, 2, size=(500, 64))
    domain = fit_domain(training, generator.normal(3, 2, size=(20, 64)), [0.5] * 20)
    assert domain.distance(generator.normal(3, 2, size=64)) == pytest.approx(1, abs=0.25)
    assert domain.distance(generator.normal(9, 2, size=64)) > 2


def test_a_channel_that_never_changes_does_not_divide_by_zero():
    training = np.zeros((10, 3))
    domain = fit_domain(training, np.zeros((10, 3)), [0.5] * 10)
    assert domain.distance(np.zeros(3)) == 0
    assert np.isfinite(domain.distance(np.ones(3)))


def test_too_few_pictures_give_no_domain():
    assert fit_domain(np.zeros((20, 3)), np.zeros((7, 3)), [0.5] * 7) is None
    assert fit_domain(np.zeros((7, 3)), np.zeros((20, 3)), [0.5] * 20) is None
