import numpy as np
import pytest

from autosam.evaluation.worst import WorstPictures
from autosam.types import Sample


def offer(worst, level, iou, *, size=(30, 50)):
    """A picture of one grey level, by which it is found again on the sheet."""
    image = np.full((*size, 3), level, dtype=np.uint8)
    nothing = np.zeros(size, dtype=bool)
    sample = Sample(name=f"grey {level}", image=image, mask=nothing)
    worst.offer(sample, predicted=nothing, truth=nothing, valid=~nothing, iou=iou)


def rows_of(sheet, levels):
    """The first row of the sheet with a wide run of each grey level; None where there is none."""
    runs = {level: (sheet == level).all(axis=2).sum(axis=1) >= 50 for level in levels}
    return {level: int(np.argmax(run)) if run.any() else None for level, run in runs.items()}


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1)])
def test_the_lowest_scores_are_kept_and_the_worst_stands_at_the_top(order):
    offers = [(10, 0.1), (20, 0.2), (30, 0.7), (40, 0.9)]
    worst = WorstPictures(2)
    for index in order:
        offer(worst, *offers[index])
    found = rows_of(worst.sheet(), (10, 20, 30, 40))
    assert found[10] < found[20]
    assert found[30] is found[40] is None


def test_of_equal_scores_the_earlier_picture_is_kept_and_stands_higher():
    worst = WorstPictures(2)
    for level in (10, 20, 30):
        offer(worst, level, 0.5)
    found = rows_of(worst.sheet(), (10, 20, 30))
    assert found[10] < found[20]
    assert found[30] is None


def test_large_pictures_are_kept_small():
    worst = WorstPictures(1)
    offer(worst, 10, 0.5, size=(1500, 3000))
    assert worst.sheet().shape[1] < 2000


def test_nothing_offered_gives_no_sheet():
    assert WorstPictures(3).sheet() is None
