import numpy as np
import pytest
from PIL import Image

from autosam.data.images import STRETCH_PERCENTILES, read_image
from autosam.errors import ConfigError, ImageError
from autosam.maps.value_range import ValueRange, range_of_sample


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.float32])
def test_scaling_by_hand(dtype):
    values = np.array([0, 100, 180, 300, 400], dtype)
    scaled = ValueRange(low=100, high=300).to_8_bits(values)
    assert scaled.dtype == np.uint8
    assert scaled.tolist() == [0, 0, 102, 255, 255]


def test_16_bits_are_scaled_as_pictures_are(tmp_path):
    values = np.random.default_rng(0).integers(0, 4000, (30, 40), dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    found = range_of_sample(values, percentiles=STRETCH_PERCENTILES, label="x", source="all pixels")
    assert np.array_equal(found.to_8_bits(values), read_image(tmp_path / "deep.png").image[..., 0])


def test_what_is_no_number_is_black():
    scaled = ValueRange(low=0, high=1).to_8_bits(np.array([np.nan, np.inf, 1.0], np.float32))
    assert scaled.tolist() == [0, 255, 255]


def test_8_bits_stay_as_they_are():
    values = np.arange(256, dtype=np.uint8)
    assert np.array_equal(ValueRange().to_8_bits(values), values)


def test_the_range_lies_between_percentiles():
    values = np.arange(1001, dtype=np.uint16)
    found = range_of_sample(values, percentiles=(2, 98), label="x", source="all pixels")
    assert (found.low, found.high) == (20, 980)
    assert found.source == "2 % and 98 % of all pixels"


def test_a_flat_raster_keeps_its_brightness():
    values = np.full(10, 32768, np.uint16)
    found = range_of_sample(values, percentiles=(2, 98), label="x", source="all pixels")
    assert found.to_8_bits(values).tolist() == [128] * 10


def test_nothing_to_look_at_is_an_error():
    with pytest.raises(ImageError, match=r"got none in a sample of it \(ortho\)"):
        range_of_sample(np.full(3, np.nan), percentiles=(2, 98), label="ortho", source="all pixels")


def test_a_range_has_its_smaller_end_first():
    with pytest.raises(ConfigError, match="got 9 and 3"):
        ValueRange(low=9, high=3)
