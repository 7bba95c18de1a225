import numpy as np
import pytest
from scipy import ndimage

from autosam.errors import ConfigError
from autosam.maps.area_intervals import area_interval, interval_levels, river_zones

LEVELS = 254


def uncertain(size=(24, 36), seed=0):
    """A smooth probability in whole 254ths."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=size), 3)
    return (np.round(LEVELS / (1 + np.exp(-40 * noise))) / LEVELS).astype(np.float32)


def interval(probability, **options):
    areas = options.pop("areas", np.full(len(probability), 0.25))
    everywhere = np.ones(probability.shape, dtype=bool)
    return area_interval(
        probability, options.pop("zone", everywhere), areas=areas, pixel=0.5, **options
    )


def test_a_common_error_gives_the_areas_inside_the_two_bank_lines_by_hand():
    probability = np.array([[1.0, 0.96, 0.94, 0.5, 0.06, 0.04, 0.0, np.nan]], dtype=np.float32)
    found = interval(probability)
    assert (found.low, found.high) == (2 * 0.25, 5 * 0.25)
    assert found.expected == pytest.approx(0.25 * (1 + 0.96 + 0.94 + 0.5 + 0.06 + 0.04), abs=0.003)
    assert "err together" in found.assumption


@pytest.mark.parametrize("coverage", [0.5, 0.9])
def test_a_common_error_is_covered_as_often_as_stated(coverage):
    probability = uncertain()
    found = interval(probability, coverage=coverage)
    levels = np.random.default_rng(1).random(4000)
    areas = np.array([0.25 * (probability >= 1 - level).sum() for level in levels])
    assert np.mean(areas) == pytest.approx(found.expected, rel=0.02)
    assert np.mean((areas >= found.low) & (areas <= found.high)) == pytest.approx(
        coverage, abs=0.03
    )


def test_blocks_that_err_apart_have_the_spread_that_simulation_has():
    probability, generator = uncertain(), np.random.default_rng(2)
    found = interval(probability, correlation=3.0)  # six pixels
    sums = []
    for _ in range(3000):
        levels = generator.random((4, 6)).repeat(6, axis=0).repeat(6, axis=1)
        sums.append(0.25 * (probability >= 1 - levels).sum())
    assert np.mean(sums) == pytest.approx(found.expected, rel=0.01)
    assert (found.high - found.low) / (2 * 1.645) == pytest.approx(np.std(sums), rel=0.05)
    assert "blocks of 3" in found.assumption


def test_the_longer_errors_are_alike_the_wider_is_the_interval():
    probability = uncertain()
    widths = [
        interval(probability, correlation=length).high
        - interval(probability, correlation=length).low
        for length in (0.5, 1.5, 3.0, 6.0)
    ]
    common = interval(probability)
    assert sorted(widths) == widths
    assert widths[-1] < common.high - common.low


def test_a_correlation_longer_than_the_river_is_a_common_error():
    probability = uncertain()
    long, common = interval(probability, correlation=1000.0), interval(probability)
    assert (long.low, long.high) == (common.low, common.high)


def test_certain_water_has_no_interval_and_rows_count_by_their_area():
    areas = np.linspace(1, 2, 5)
    found = interval(np.ones((5, 8), np.float32), areas=areas)
    assert found.low == found.high == pytest.approx(8 * areas.sum())
    assert found.expected == pytest.approx(8 * areas.sum())


def test_no_zone_is_no_area():
    probability = uncertain()
    found = interval(probability, zone=np.zeros(probability.shape, dtype=bool))
    assert (found.expected, found.low, found.high) == (0.0, 0.0, 0.0)


def test_likely_water_belongs_to_the_nearer_river_and_apart_from_all_to_none():
    labels = np.zeros((5, 20), dtype=np.int32)
    labels[:, 2:4], labels[:, 10:12] = 1, 2
    probability = np.where(labels > 0, 0.9, 0.0)
    probability[2, 4:10] = 0.3  # a bridge of six pixels between them
    probability[4, 16:18] = 0.3  # connected to nothing
    probability[0, 1] = np.nan
    zones = river_zones(labels, probability, outer=0.05)
    assert zones[2].tolist() == [0, 0, *[1] * 5, *[2] * 5, *[0] * 8]
    assert zones[4].tolist() == labels[4].tolist()
    assert zones[0, 1] == 0


def test_levels_of_the_bank_lines():
    assert interval_levels(0.9) == pytest.approx((0.95, 0.05))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"coverage": 0.0}, "coverage must be between 0 and 1, got 0.0"),
        ({"coverage": 90}, "coverage must be between 0 and 1, got 90"),
        ({"correlation": -3.0}, "correlation length must be above 0, got -3.0"),
    ],
)
def test_what_is_no_interval_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        interval(uncertain(), **options)
