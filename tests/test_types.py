"""Samples refuse what cannot be right; predictions say what they hold."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from autosam.errors import DataError, OutputError
from autosam.types import Prediction, Query, Sample

IMAGE = np.zeros((4, 6, 3), np.uint8)


def prediction(valid=None):
    probability = np.array([[0.9, 0.2], [0.6, 0.4]], np.float32)
    image = np.full((2, 2, 3), 100, np.uint8)
    return Prediction(name="a", image=image, probability=probability, threshold=0.5, valid=valid)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": ""}, "name must not be empty"),
        ({"image": np.zeros((4, 6), np.uint8)}, r"\(height, width, 3\), got \(4, 6\)"),
        ({"image": np.zeros((4, 6, 3), np.float32)}, "uint8 with at least one pixel, got float32"),
        ({"image": np.zeros((0, 6, 3), np.uint8)}, "at least one pixel"),
        ({"mask": np.zeros((4, 6), np.uint8)}, "mask must be bool"),
        ({"mask": np.zeros((6, 4), bool)}, r"got bool \(6, 4\)"),
        ({"valid": np.zeros((4, 5), bool)}, "valid must be bool"),
        ({"image": "river.png"}, "got str"),
    ],
)
def test_a_sample_that_cannot_be_right_is_refused(fields, message):
    with pytest.raises(DataError, match=message):
        Sample(**{"name": "a", "image": IMAGE, **fields})


def test_all_of_a_sample_counts_when_nothing_is_excluded():
    assert Sample(name="a", image=IMAGE).valid_area.all()
    assert Sample(name="a", image=IMAGE).size == (4, 6)


def test_a_prediction_measures_itself():
    assert prediction().mask.tolist() == [[True, False], [True, False]]
    assert prediction().water_share == 0.5
    assert prediction().confidence == pytest.approx((0.9 + 0.8 + 0.6 + 0.6) / 4)


def test_confidence_is_in_the_class_that_the_threshold_chose():
    # Above the threshold is only .9: .6 is called land, of which the probability is .4.
    shown = dataclasses.replace(prediction(), threshold=0.75)
    assert shown.mask.sum() == 1
    assert shown.confidence == pytest.approx((0.9 + 0.8 + 0.4 + 0.6) / 4)
    low = dataclasses.replace(prediction(), threshold=0.3)
    assert low.confidence == pytest.approx((0.9 + 0.8 + 0.6 + 0.4) / 4)


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ([1, 2, 3], r"box must be four numbers .*got shape \(3,\)\. Give one box as a flat list"),
        ([[1, 2, 3, 4]], r"box must be four numbers .*got shape \(1, 4\)\. Give one box"),
        ([1, 2, np.nan, 4], r"box must be finite numbers, got \[1.0, 2.0, nan, 4.0\]\. Check"),
        ([9, 2, 3, 4], "left <= right .*Put the smaller corner first"),
    ],
)
def test_a_box_that_cannot_be_meant_is_refused_for_its_own_reason(box, message):
    with pytest.raises(DataError, match=message):
        Query(box=np.array(box))


@pytest.mark.parametrize("name", ["shown.png", "shown.jpg"])
def test_files_say_who_made_them(tmp_path, name):
    shown = dataclasses.replace(prediction(), made_by="learnt río 12ab")
    with Image.open(shown.plot(tmp_path / name)) as plot:
        said = plot.info.get("autosam") or plot.info["comment"].decode()
    assert said in ("learnt río 12ab", "autosam learnt río 12ab")
    if name.endswith(".png"):
        assert Image.open(shown.save(tmp_path / name)).info["autosam"] == "learnt río 12ab"
    assert "comment" not in Image.open(prediction().plot(tmp_path / "none.jpg")).info


def test_pixels_without_data_are_neither_water_nor_counted():
    valid = np.array([[False, True], [True, True]])
    shown = prediction(valid)
    assert not shown.mask[0, 0]
    assert shown.water_share == pytest.approx(1 / 3)
    nothing = prediction(np.zeros((2, 2), bool))
    assert (nothing.water_share, nothing.confidence) == (0.0, 0.0)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".TIFF"])
def test_a_mask_is_written_and_read_back(tmp_path, suffix):
    path = prediction().save(tmp_path / f"mask{suffix}")
    assert np.asarray(Image.open(path)).tolist() == [[255, 0], [255, 0]]


def test_a_mask_is_transparent_where_there_is_no_data(tmp_path):
    valid = np.array([[False, True], [True, True]])
    path = prediction(valid).save(tmp_path / "mask.png")
    assert np.asarray(Image.open(path))[..., 1].tolist() == [[0, 255], [255, 255]]


def test_a_probability_is_written_as_eight_bits(tmp_path):
    path = prediction().save_probability(tmp_path / "p.png")
    assert np.asarray(Image.open(path)).tolist() == [[230, 51], [153, 102]]


def test_an_unknown_suffix_is_refused(tmp_path):
    with pytest.raises(OutputError, match=r"must end in \.png, \.tif, \.tiff, got 'mask\.gif'"):
        prediction().save(tmp_path / "mask.gif")
    with pytest.raises(OutputError, match=r"got 'plot'"):
        prediction().plot(tmp_path / "plot")
    assert list(tmp_path.iterdir()) == []


def test_a_plot_shows_the_picture_tinted_where_there_is_water(tmp_path):
    plain = np.full((40, 40, 3), 100, np.uint8)
    probability = np.zeros((40, 40), np.float32)
    probability[:, 20:] = 1
    shown = Prediction(name="a", image=plain, probability=probability, threshold=0.5)
    picture = np.asarray(Image.open(shown.plot(tmp_path / "plot.png"))).astype(int)
    assert picture[20, 5].tolist() == [100, 100, 100]
    assert picture[20, 35, 2] > picture[20, 35, 0]
