"""Hand-made labels and predictions, of which anybody can say what is wrong."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss

from autosam.errors import DataError
from autosam.evaluation.label_faults import LabelFault, find_fault, label_loss, suspicion

SIZE = (128, 160)
EVERYWHERE = np.ones(SIZE, dtype=bool)


def area(rows: slice, columns: slice = slice(None)) -> np.ndarray:
    found = np.zeros(SIZE, dtype=bool)
    found[rows, columns] = True
    return found


RIVER = area(slice(40, 70))
"""30 pixels wide, from edge to edge."""
SIDE_CHANNEL = area(slice(70, 128), slice(100, 112))
"""12 pixels wide, 58 long, flowing out of the river."""
POND = area(slice(90, 110), slice(10, 50))


def fault(water: np.ndarray, label: np.ndarray, *, sureness=0.95, valid=EVERYWHERE) -> LabelFault:
    probability = np.where(water, sureness, 1 - sureness).astype(np.float32)
    return find_fault(probability, label, threshold=0.5, valid=valid)


def test_water_missing_along_both_banks_is_an_under_filled_label():
    found = fault(RIVER, area(slice(46, 66)))
    assert found.kind == "bank under-filled"
    assert found.bank_pixels == (30 - 20) * SIZE[1]
    assert found.shares == {"bank_share": 1 / 3, "channel_share": 0, "false_share": 0}


def test_water_missing_along_one_bank_up_to_half_the_river_is_an_under_filled_label():
    assert fault(RIVER, area(slice(40, 56))).kind == "bank under-filled"


def test_a_branch_that_the_label_lacks_is_a_missing_channel():
    found = fault(RIVER | SIDE_CHANNEL, RIVER)
    assert found.kind == "channel missing"
    assert found.channel_pixels == 58 * 12
    assert found.bank_pixels == 0


def test_water_apart_from_the_label_is_a_missing_channel():
    assert fault(RIVER | POND, RIVER).channel_pixels == 20 * 40


def test_a_river_that_ends_too_early_in_the_label_is_a_missing_channel():
    assert fault(RIVER, area(slice(40, 70), slice(0, 80))).kind == "channel missing"


def test_a_label_without_any_water_lacks_its_channel():
    found = fault(RIVER, np.zeros(SIZE, dtype=bool))
    assert (found.kind, found.channel_pixels) == ("channel missing", int(RIVER.sum()))


def test_labelled_water_that_is_surely_land_is_false_water():
    found = fault(RIVER, RIVER | POND)
    assert (found.kind, found.false_pixels) == ("false water", 20 * 40)


def test_the_fault_of_the_most_pixels_is_named():
    label = area(slice(44, 70)) | POND  # 4 rows lost, and a pond too much
    assert fault(RIVER, label).kind == "false water"
    assert fault(RIVER | SIDE_CHANNEL, area(slice(44, 70)) | POND).shares.keys() == {
        "bank_share", "channel_share", "false_share",
    }  # fmt: skip


def test_equal_masks_have_no_fault():
    assert fault(RIVER, RIVER) == LabelFault(
        kind="none", bank_pixels=0, channel_pixels=0, false_pixels=0, water_pixels=int(RIVER.sum())
    )


def test_a_disagreement_of_which_the_model_is_not_sure_is_no_fault():
    assert fault(RIVER, area(slice(40, 55)), sureness=0.6).kind == "none"


def test_a_speck_on_dry_land_is_no_fault():
    assert fault(area(slice(0, 3), slice(0, 5)), np.zeros(SIZE, dtype=bool)).kind == "none"


def test_what_is_not_valid_is_no_fault():
    assert fault(RIVER | POND, RIVER, valid=~POND).kind == "none"
    assert fault(RIVER, RIVER | POND, valid=~POND).kind == "none"
    assert fault(RIVER, RIVER | POND, valid=np.zeros(SIZE, dtype=bool)).water_pixels == 0


@pytest.mark.parametrize("turn", [np.transpose, np.flipud, np.fliplr, np.rot90])
def test_the_kind_does_not_depend_on_the_direction_of_the_river(turn):
    for label in (area(slice(46, 66)), area(slice(40, 70), slice(0, 80)), RIVER | POND):
        water = np.where(turn(RIVER), 0.95, 0.05)
        turned = find_fault(water, turn(label), threshold=0.5, valid=turn(EVERYWHERE))
        assert turned == fault(RIVER, label)


def test_arrays_of_other_shapes_are_refused():
    with pytest.raises(DataError, match=r"of one shape.*\(128, 160\), \(160, 128\)"):
        find_fault(np.zeros(SIZE), RIVER.T, threshold=0.5, valid=EVERYWHERE)
    with pytest.raises(DataError, match="label bool"):
        label_loss(np.zeros(SIZE), RIVER.astype(np.uint8), valid=EVERYWHERE)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), share=st.floats(0.1, 0.9))
def test_the_loss_is_that_of_another_library_over_valid_pixels(seed, share):
    generator = np.random.default_rng(seed)
    probability = generator.uniform(0.01, 0.99, (9, 12))
    label, valid = generator.random((9, 12)) < share, generator.random((9, 12)) < 0.7
    expected = log_loss(label[valid], probability[valid], labels=[False, True])
    assert label_loss(probability, label, valid=valid) == pytest.approx(expected)


def test_the_loss_of_a_sure_mistake_is_finite_and_that_of_nothing_is_nothing():
    wrong = label_loss(np.zeros(SIZE), EVERYWHERE, valid=EVERYWHERE)
    assert wrong == pytest.approx(np.log(255))
    assert label_loss(np.zeros(SIZE), EVERYWHERE, valid=~EVERYWHERE) == 0


def test_a_band_along_the_bank_is_more_suspect_than_a_picture_that_the_model_cannot_read():
    band = fault(RIVER, area(slice(45, 65)))
    elsewhere = fault(area(slice(90, 128)), RIVER)
    assert elsewhere.bank_pixels == 0
    band_loss = label_loss(np.where(RIVER, 0.95, 0.05), area(slice(45, 65)), valid=EVERYWHERE)
    failure_loss = label_loss(np.where(area(slice(90, 128)), 0.95, 0.05), RIVER, valid=EVERYWHERE)
    assert failure_loss > band_loss
    assert suspicion(band_loss, band) > suspicion(failure_loss, elsewhere)
    assert suspicion(band_loss, band) == pytest.approx(band_loss + 20 / 3)
