"""Rules against pictures drawn by hand: what is water, what is cleaned, what JSON keeps."""

import json

import numpy as np
import pytest

from autosam.config import CoarseSettings
from autosam.errors import CheckpointError, DataError, ModelError
from autosam.prompts.coarse_rules import (
    RULES,
    HsvRule,
    IndexRule,
    ThermalRule,
    coarse_from_dict,
    rule_bands,
)
from autosam.prompts.mask_cleaning import Cleaning
from autosam.types import Sample

BLUE = {"low": (0.55, 0.3, 0.2), "high": (0.72, 1.0, 1.0)}
ALL_RULES = [
    HsvRule(low=(0.9, 0.1, 0.0), high=(0.1, 1.0, 0.5), cleaning=Cleaning(minimum_area=0.01)),
    IndexRule(index="mndwi", threshold="otsu", scale=0.02, cleaning=Cleaning(erosions=3)),
    IndexRule(index="nir", threshold=-1.25, standardised=True),
    ThermalRule(threshold=11.5, cleaning=Cleaning(largest_hole=0.125)),
]


def river(height: int = 40, width: int = 60) -> np.ndarray:
    mask = np.zeros((height, width), dtype=bool)
    mask[10:22] = True
    return mask


def blue_river(mask: np.ndarray, **fields: object) -> Sample:
    """Blue water on green land, channels in the order red, green, blue."""
    image = np.where(mask[..., None], [30, 60, 200], [60, 140, 40]).astype(np.uint8)
    return Sample(name="blue", image=image, mask=mask, **fields)


def banded(mask: np.ndarray, **levels: tuple[float, float]) -> Sample:
    """Grey pictures with bands that have one value on water and another on land."""
    bands = {name: np.where(mask, *pair).astype(np.float32) for name, pair in levels.items()}
    image = np.full((*mask.shape, 3), 100, dtype=np.uint8)
    return Sample(name="banded", image=image, mask=mask, bands=bands)


def test_a_blue_river_on_green_is_found_exactly():
    sample = blue_river(river())
    np.testing.assert_array_equal(HsvRule(**BLUE)(sample), sample.mask)


def test_the_same_river_with_red_and_blue_exchanged_is_not():
    sample = blue_river(river())
    swapped = Sample(name="swapped", image=np.ascontiguousarray(sample.image[..., ::-1]))
    assert not HsvRule(**BLUE)(swapped).any()


@pytest.mark.parametrize(
    ("rule", "levels"),
    [
        (IndexRule(), {"nir": (40, 160)}),  # NDWI .43 on water, -.23 on land
        (IndexRule(threshold=0.4), {"nir": (40, 45)}),  # .43 and .38
        (IndexRule(index="mndwi"), {"swir": (10, 150)}),
        (IndexRule(index="ndvi"), {"nir": (40, 160)}),  # NDVI -.43 on water, .23 on land
        (IndexRule(index="ndvi", threshold=-0.4), {"nir": (40, 45)}),
        (IndexRule(index="nir", threshold=700), {"nir": (600, 800)}),
        (IndexRule(scale=0.05), {"nir": (800, 3200)}),
        (IndexRule(threshold="otsu"), {"nir": (140, 160)}),
        (IndexRule(index="nir", threshold="otsu"), {"nir": (600, 800)}),
        (IndexRule(index="nir", threshold=-1.0, standardised=True), {"nir": (600, 800)}),
        (ThermalRule(threshold=12.0), {"thermal": (9, 15)}),
        (ThermalRule(), {"thermal": (9, 15)}),
        (ThermalRule(threshold=-1.0, standardised=True), {"thermal": (9, 15)}),
    ],
)
def test_a_band_parts_water_from_land(rule, levels):
    sample = banded(river(), **levels)
    np.testing.assert_array_equal(rule(sample), sample.mask)


def test_a_threshold_beyond_the_water_finds_none_and_beyond_the_land_finds_all():
    sample = banded(river(), nir=(40, 160), thermal=(9, 15))
    for rule, beyond in ((IndexRule(threshold=0.9), IndexRule(threshold=-0.9)),
                         (ThermalRule(threshold=9), ThermalRule(threshold=16))):  # fmt: skip
        assert not rule(sample).any()
        assert beyond(sample).all()


@pytest.mark.parametrize("rule", [HsvRule(**BLUE), IndexRule(), ThermalRule(threshold=12)])
def test_where_the_picture_has_no_data_there_is_no_water(rule):
    mask, valid = river(), np.ones((40, 60), dtype=bool)
    valid[:, 30:] = False
    bands = {
        "nir": np.where(mask, 40, 160).astype(np.float32),
        "thermal": np.where(mask, 9, 15).astype(np.float32),
    }
    sample = blue_river(mask, valid=valid, bands=bands)
    np.testing.assert_array_equal(rule(sample), mask & valid)


def test_specks_and_pinholes_go_and_a_narrow_river_stays():
    whole = river()
    whole[30:33, :50] = True  # a narrow river
    drawn = whole.copy()
    drawn[35, 5] = True  # a speck
    drawn[15, 20] = False  # a pinhole
    share = 4 / whole.size
    cleaning = Cleaning(minimum_area=share, largest_hole=share)
    found = HsvRule(**BLUE, cleaning=cleaning)(blue_river(drawn))
    np.testing.assert_array_equal(found, whole)
    eroded = HsvRule(**BLUE, cleaning=Cleaning(minimum_area=share, erosions=4))(blue_river(whole))
    assert eroded[31, :49].all()
    assert eroded.sum() == 49 + 4 * 60


@pytest.mark.parametrize("kind", [IndexRule, ThermalRule])
def test_masks_of_bands_are_cleaned_too(kind):
    sample = banded(river(), nir=(40, 160), thermal=(9, 15))
    cleaning = Cleaning(erosions=2)
    found = kind(threshold="otsu", cleaning=cleaning)(sample)
    np.testing.assert_array_equal(found, cleaning(sample.mask))
    assert found.sum() == 8 * 60


def test_names_are_short():
    assert [rule.name for rule in ALL_RULES] == [
        "coarse hsv", "coarse mndwi", "coarse nir", "coarse thermal",
    ]  # fmt: skip


@pytest.mark.parametrize("rule", ALL_RULES, ids=lambda rule: rule.name)
def test_a_rule_comes_back_from_json(rule):
    text = json.dumps(rule.to_dict(), allow_nan=False)
    again = coarse_from_dict(json.loads(text))
    assert again == rule
    assert json.dumps(again.to_dict()) == text
    assert type(again) is RULES[rule.to_dict()["kind"]]


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "texture"},
        {"cleaning": {"minimum": 0}},
        {"cleaning": {"minimum_area": 7}},
        {"low": [0, 0]},
        {"low": [0, 0, 2]},
        {"threshold": 3},
    ],
)
def test_what_is_no_rule_is_refused(change):
    values = {**HsvRule(**BLUE).to_dict(), **change}
    with pytest.raises(CheckpointError, match="kind of hsv, index, thermal"):
        coarse_from_dict(values)


@pytest.mark.parametrize("missing", ["kind", "cleaning", "low"])
def test_a_rule_without_a_part_is_refused(missing):
    values = HsvRule(**BLUE).to_dict()
    del values[missing]
    with pytest.raises(CheckpointError, match=missing):
        coarse_from_dict(values)


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        (HsvRule, {"low": (0, 0.5, 0), "high": (1, 0.4, 1)}, "low before high but for hue"),
        (HsvRule, {"low": (0, 0, 0.5), "high": (1, 1, 0.4)}, "low before high but for hue"),
        (HsvRule, {"low": (0, 0, 0), "high": (179, 1, 1)}, r"got \(0, 0, 0\) and \(179, 1, 1\)"),
        (HsvRule, {"low": (0, 0), "high": (1, 1)}, "two triples"),
        (HsvRule, {"low": None, "high": (1, 1, 1)}, "two triples of numbers, got None"),
        (HsvRule, {"low": "abc", "high": (1, 1, 1)}, "two triples of numbers, got 'abc'"),
        (IndexRule, {"scale": "1"}, "scale must be positive, got '1'"),
        (IndexRule, {"index": "evi"}, "ndwi, mndwi, ndvi, nir, got 'evi'"),
        (IndexRule, {"threshold": "fit"}, "finite number or 'otsu', got 'fit'"),
        (IndexRule, {"threshold": float("nan")}, "finite number or 'otsu', got nan"),
        (IndexRule, {"scale": 0.0}, r"scale must be positive, got 0\.0"),
        (ThermalRule, {"threshold": True}, "finite number or 'otsu', got True"),
    ],
)
def test_a_rule_that_cannot_be_is_refused(kind, fields, message):
    with pytest.raises(ModelError, match=message):
        kind(**fields)


def test_a_rule_names_the_band_it_lacks():
    with pytest.raises(DataError, match=r"band 'thermal'.*sample 'blue'.*folder thermal/"):
        ThermalRule()(blue_river(river()))


@pytest.mark.parametrize(
    ("settings", "bands"),
    [
        (CoarseSettings(), ()),
        (CoarseSettings(source="index"), ("nir",)),
        (CoarseSettings(source="index", index="mndwi"), ("swir",)),
        (CoarseSettings(source="index", index="nir"), ("nir",)),
        (CoarseSettings(source="thermal"), ("thermal",)),
        (CoarseSettings(source="runs/unet"), ()),
    ],
)
def test_settings_tell_the_bands_of_their_rule(settings, bands):
    assert rule_bands(settings) == bands
