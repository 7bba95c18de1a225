"""Indices by hand, Otsu against its definition, thresholds on the values and on standardised ones."""

import numpy as np
import pytest
from skimage.filters import threshold_otsu

from autosam.errors import DataError, ModelError
from autosam.prompts.band_rules import (
    band_scale,
    index_values,
    standardise,
    thermal_values,
    tune_threshold,
    water_above,
)
from autosam.types import Sample

COLOURS = np.array([[[40, 100, 7], [60, 30, 9], [0, 0, 0]]], dtype=np.uint8)


def sample(name: str = "one", **bands: list[list[float]]) -> Sample:
    arrays = {band: np.array(values, dtype=np.float32) for band, values in bands.items()}
    return Sample(name=name, image=COLOURS, bands=arrays)


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        ("ndwi", [(100 - 60) / 160, (30 - 90) / 120, -1]),
        ("mndwi", [(100 - 300) / 400, (30 - 10) / 40, -1]),
        ("ndvi", [-(60 - 40) / 100, -(90 - 60) / 150, -1]),  # NDVI with the sign turned
        ("nir", [-60, -90, 0]),
    ],
)
def test_indices_by_hand(index, expected):
    one = sample(nir=[[60, 90, 0]], swir=[[300, 10, 0]])
    values = index_values(one, index)
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, [expected], rtol=1e-6)


def test_the_scale_belongs_to_the_band():
    one = sample(nir=[[60, 90, 0]])
    values = index_values(one, "ndwi", scale=0.5)
    np.testing.assert_allclose(values, [[(100 - 30) / 130, (30 - 45) / 75, -1]], rtol=1e-6)
    np.testing.assert_array_equal(index_values(one, "nir", scale=0.5), [[-60, -90, 0]])


def test_negative_values_of_a_band_stay_inside_the_index():
    values = index_values(sample(nir=[[-30, -300, -1]]), "ndwi")
    np.testing.assert_array_equal(values, [[1, -1, -1]])


def test_indices_do_not_change_the_sample():
    one = sample(nir=[[60, 90, 0]], thermal=[[5, 6, 7]])
    for values in (index_values(one, "nir"), thermal_values(one)):
        values += 1
    np.testing.assert_array_equal(one.bands["nir"], [[60, 90, 0]])
    np.testing.assert_array_equal(one.bands["thermal"], [[5, 6, 7]])


@pytest.mark.parametrize("index", ["ndwi", "mndwi", "ndvi", "nir"])
def test_a_missing_band_is_named(index):
    band = "swir" if index == "mndwi" else "nir"
    message = (
        f"index {index} must have the band '{band}', got only red, green, blue, dem "
        rf"\(sample 'north'\)\. Put a folder {band}/ beside images/, paired by stem"
    )
    with pytest.raises(DataError, match=message):
        index_values(sample("north", dem=[[1, 2, 3]]), index)


def test_an_unknown_index_is_refused():
    with pytest.raises(DataError, match=r"got 'ndvy'\. Did you mean 'ndvi'"):
        index_values(sample(nir=[[1, 2, 3]]), "ndvy")


@pytest.mark.parametrize(
    ("highest", "expected"), [(0.9, 255), (1.0, 255), (100, 1), (255, 1), (5100, 0.05)]
)
def test_the_scale_follows_from_the_bright_end(highest, expected):
    ramp = np.linspace(0, highest, 60_000, dtype=np.float32).reshape(200, 300)
    ramp[0, 0] = 1e6  # a broken pixel
    one = Sample(name="one", image=np.zeros((200, 300, 3), np.uint8), bands={"nir": ramp})
    assert band_scale([one], "nir") == pytest.approx(expected, rel=0.01)


def test_the_scale_is_one_for_all_pictures_and_of_valid_pixels():
    def picture(value: float, *, valid: bool) -> Sample:
        shape = (20, 20)
        return Sample(
            name="one",
            image=np.zeros((*shape, 3), np.uint8),
            valid=np.full(shape, valid),
            bands={"nir": np.full(shape, value, np.float32)},
        )

    dark, bright = picture(200, valid=True), picture(5100, valid=True)
    assert band_scale([dark, bright], "nir") == pytest.approx(0.05)
    assert band_scale([dark, picture(5100, valid=False)], "nir") == 1
    assert band_scale([picture(5100, valid=False)], "nir") == 1


def best_split(values: np.ndarray) -> float:
    """Otsu's definition: the level with the largest variance between what it and what exceeds it."""
    spreads = {}
    for level in np.unique(values)[:-1]:
        low, high = values[values <= level], values[values > level]
        spreads[float(level)] = len(low) * len(high) * (high.mean() - low.mean()) ** 2
    return max(spreads, key=lambda level: spreads[level])


@pytest.mark.parametrize("seed", range(4))
def test_otsu_parts_the_histogram_where_its_sides_differ_most(seed):
    generator = np.random.default_rng(seed)
    wet = generator.random((30, 40)) < generator.uniform(0.2, 0.8)
    values = np.where(
        wet, generator.normal(170, 12, wet.shape), generator.normal(90, 20, wet.shape)
    )
    values = np.clip(values, 0, 255).astype(np.float32)
    valid = np.ones(wet.shape, dtype=bool)
    found = water_above(values, threshold="otsu", standardised=False, valid=valid)
    np.testing.assert_array_equal(found, values > threshold_otsu(values))
    # Exact but for the bins of the histogram, of which there are 256.
    split, width = best_split(values.ravel()), np.ptp(values) / 256
    clear = np.abs(values - split) > width
    np.testing.assert_array_equal(found[clear], values[clear] > split)
    assert clear.mean() > 0.98


def test_otsu_looks_at_valid_pixels_only():
    values = np.array([[1, 1, 2, 2, 900, 900]], dtype=np.float32)
    valid = values < 100
    found = water_above(values, threshold="otsu", standardised=False, valid=valid)
    assert found[0, :4].tolist() == [False, False, True, True]


def test_otsu_finds_nothing_in_a_flat_picture_or_without_a_valid_pixel():
    flat = np.full((3, 4), 7, dtype=np.float32)
    for valid in (np.ones((3, 4), bool), np.zeros((3, 4), bool)):
        assert not water_above(flat, threshold="otsu", standardised=False, valid=valid).any()


def test_a_number_is_exceeded_not_reached():
    values = np.array([[0.1, 0.2, 0.3]], dtype=np.float32)
    found = water_above(values, threshold=0.2, standardised=False, valid=values > 0)
    assert found.tolist() == [[False, False, True]]


def test_standardised_values_have_no_unit():
    values = np.random.default_rng(0).normal(40, 9, (20, 30)).astype(np.float32)
    valid = np.ones(values.shape, dtype=bool)
    valid[:5] = False
    standard = standardise(values, valid)
    assert standard[valid].mean() == pytest.approx(0, abs=1e-5)
    assert standard[valid].std() == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(standardise(values * 3 - 8, valid), standard, atol=1e-4)
    assert not standardise(np.full((2, 2), 5, np.float32), np.ones((2, 2), bool)).any()
    found = water_above(values, threshold=0.5, standardised=True, valid=valid)
    np.testing.assert_array_equal(found, standard > 0.5)


def warm_river(seed: int, *, gain: float, rows: int = 6) -> Sample:
    generator = np.random.default_rng(seed)
    mask = np.zeros((30, 40), dtype=bool)
    mask[10 : 10 + rows] = True
    warmth = np.where(mask, 20, 10) + generator.normal(0, 1, mask.shape)
    band = (warmth * gain).astype(np.float32)
    image = np.zeros((30, 40, 3), np.uint8)
    return Sample(name=f"warm{seed}", image=image, mask=mask, bands={"thermal": band})


def warmth(one: Sample) -> np.ndarray:
    return one.bands["thermal"]


def test_a_threshold_in_one_unit_is_found_between_land_and_water():
    threshold, standardised = tune_threshold(
        [warm_river(0, gain=1), warm_river(1, gain=1, rows=15)], warmth
    )
    assert not standardised
    assert 13 < threshold < 17


def test_pictures_of_different_gain_are_standardised():
    rivers = [warm_river(seed, gain=gain) for seed, gain in enumerate((0.3, 1, 4))]
    threshold, standardised = tune_threshold(rivers, warmth)
    assert standardised
    unseen = warm_river(9, gain=20)
    found = water_above(
        warmth(unseen), threshold=threshold, standardised=True, valid=unseen.valid_area
    )
    assert np.mean(found == unseen.mask) > 0.99


def test_one_picture_leaves_the_unit_alone():
    _, standardised = tune_threshold([warm_river(0, gain=1)], warmth)
    assert not standardised


def test_thresholds_need_water():
    dry = warm_river(0, gain=1, rows=0)
    with pytest.raises(ModelError, match="must see water to be tuned, got 1 labelled"):
        tune_threshold([dry], warmth)
