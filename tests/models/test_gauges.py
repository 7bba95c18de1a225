"""Presence and domain: what they say follows from the numbers they hold."""

import numpy as np
import pytest
import torch

from autosam.errors import CheckpointError
from autosam.models.gauges import (
    Domain,
    Gauges,
    Presence,
    embedding_summary,
    water_evidence,
)

DOMAIN = Domain(mean=(0.0, 1.0), deviation=(1.0, 2.0), distances=(1.0, 2.0), iou=(0.8, 0.4))


def test_presence_is_a_logistic_curve():
    assert Presence(scale=1.0, shift=0.0).probability(0.0) == 0.5
    assert Presence(scale=2.0, shift=-1.0).probability(1.0) == pytest.approx(1 / (1 + np.exp(-1)))
    assert Presence(scale=1e6, shift=0.0).probability(-12.0) == pytest.approx(0, abs=1e-12)


def test_distance_is_the_root_mean_square_of_the_deviations():
    assert DOMAIN.distance(np.array([3.0, 9.0])) == pytest.approx(np.sqrt((9 + 16) / 2))


@pytest.mark.parametrize(
    ("distance", "iou"),
    [(0.5, 0.8), (1.0, 0.8), (1.5, 0.6), (2.0, 0.4), (3.0, 0.2), (4.0, 0.0), (9.0, 0.0)],
)
def test_expected_iou_falls_with_distance_and_to_nothing_beyond_what_was_measured(distance, iou):
    assert DOMAIN.expected_iou(distance) == pytest.approx(iou)


def test_gauges_go_through_json():
    gauges = Gauges(presence=Presence(scale=1.5, shift=0.25), domain=DOMAIN)
    assert Gauges.from_dict(gauges.to_dict()) == gauges
    assert Gauges.from_dict(None) == Gauges()


@pytest.mark.parametrize(
    "values", [{"presence": {"slope": 1}}, {"domain": {"mean": 3}}, {"domain": [1]}]
)
def test_damaged_gauges_are_refused(values):
    with pytest.raises(CheckpointError, match="gauges"):
        Gauges.from_dict(values)


def test_evidence_is_high_where_half_a_per_cent_is_water():
    logits = np.full((100, 100), -5.0, np.float32)
    assert water_evidence(logits, None, temperature=1.0) == -5.0
    logits[0, :60] = 4.0  # 0.6 % of the picture
    assert water_evidence(logits, None, temperature=2.0) == 2.0
    outside = np.ones((100, 100), bool)
    outside[0] = False
    assert water_evidence(logits, outside, temperature=1.0) == -5.0


def test_a_picture_without_data_has_no_evidence():
    nothing = np.zeros((4, 4), bool)
    assert water_evidence(np.full((4, 4), 9.0), nothing, temperature=1.0) == -12.0


def test_a_summary_is_mean_and_deviation_of_each_channel():
    embedding = torch.arange(2 * 3 * 4, dtype=torch.float16).reshape(1, 2, 3, 4)
    flat = embedding.float().reshape(2, 12).numpy()
    expected = np.concatenate([flat.mean(axis=1), flat.std(axis=1, ddof=1)])
    np.testing.assert_allclose(embedding_summary(embedding)[0], expected, rtol=1e-6)
