"""Hand-made labels and predictions, of which anybody can say what is wrong."""

import numpy as np
import pytest

from autosam.errors import DataError
from autosam.evaluation.label_faults import LabelFault, find_fault, label_loss

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
