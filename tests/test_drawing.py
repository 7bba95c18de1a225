import numpy as np
import pytest
from PIL import Image

from autosam.drawing import (
    ERROR_LEGEND,
    contact_sheet,
    error_map,
    hatched,
    overlay,
    save_picture,
    shrink,
)
from autosam.errors import DataError


def grey(height=40, width=60, level=120):
    return np.full((height, width, 3), level, dtype=np.uint8)


def square(height=40, width=60):
    mask = np.zeros((height, width), dtype=bool)
    mask[10:30, 20:50] = True
    return mask


def is_blue(pixel):
    return int(pixel[2]) > int(pixel[0]) + 40


def test_water_is_tinted_blue_and_land_far_from_it_left_alone():
    drawn = overlay(grey(), square())
    assert is_blue(drawn[20, 35])
    assert np.array_equal(drawn[:8], grey()[:8])
    assert np.array_equal(drawn[:, :18], grey()[:, :18])


@pytest.mark.parametrize("level", [0, 255])
def test_the_bank_stands_out_on_shadow_and_on_snow(level):
    drawn = overlay(grey(level=level), square()).astype(int)
    line, water, land = drawn[10, 35], drawn[20, 35], drawn[9, 35]
    assert np.abs(line - water).max() > 100
    assert np.abs(line - land).max() > 100


def test_the_frame_of_the_picture_is_not_outlined():
    drawn = overlay(grey(), np.ones((40, 60), dtype=bool))
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) == 1


def test_an_empty_mask_gives_the_image_as_it_was():
    image = np.random.default_rng(0).integers(0, 255, (30, 50, 3), dtype=np.uint8)
    assert np.array_equal(overlay(image, np.zeros((30, 50), dtype=bool)), image)


def test_truth_is_outlined_in_another_colour_and_not_tinted():
    truth = np.roll(square(), -9, axis=0)
    drawn = overlay(grey(), np.zeros_like(truth), truth=truth)
    assert drawn[1, 35].tolist() == [255, 255, 255]
    assert drawn[10, 35].tolist() == [120, 120, 120]


def test_drawing_does_not_change_what_it_was_given():
    image, mask = grey(), square()
    overlay(image, mask, truth=mask)
    error_map(image, mask, ~mask, mask)
    assert np.array_equal(image, grey())
    assert np.array_equal(mask, square())


def test_each_kind_of_error_has_the_colour_of_the_legend():
    predicted = np.array([[True, True, False, False, True]])
    truth = np.array([[True, False, True, False, False]])
    valid = np.array([[True, True, True, True, False]])
    drawn = error_map(grey(1, 5, 255), predicted, truth, valid)[0].astype(int)
    for index, (_, colour) in zip((0, 1, 2), ERROR_LEGEND, strict=False):
        distances = [np.abs(drawn[index] - np.array(other)).sum() for _, other in ERROR_LEGEND]
        assert np.argmin(distances) == [c for _, c in ERROR_LEGEND].index(colour)
    assert drawn[3].min() > 200
    assert len(set(drawn[4])) == 1
    assert drawn[4][0] < 180


def test_without_a_valid_area_nothing_is_ignored():
    mask = square()
    everything = np.ones_like(mask)
    assert np.array_equal(
        error_map(grey(), mask, mask, None), error_map(grey(), mask, mask, everything)
    )


def test_hatching_covers_its_area_with_two_greys_and_nothing_else():
    drawn = hatched(grey(level=10), square())
    assert np.array_equal(drawn[~square()], grey(level=10)[~square()])
    assert len(np.unique(drawn[square()])) == 2


@pytest.mark.parametrize(
    ("image", "mask", "message"),
    [
        (grey(), np.zeros((60, 40), bool), r"mask must be bool .* \(40, 60\), got bool \(60, 40\)"),
        (grey(), np.zeros((40, 60), np.uint8), r"mask must be bool .* got uint8"),
        (
            grey().astype(float),
            square(),
            r"image must be \(height, width, 3\) uint8, got .*float64",
        ),
        (grey()[..., 0], square(), r"image must be .* got \(40, 60\) uint8"),
    ],
)
def test_shapes_and_types_that_do_not_fit_are_refused(image, mask, message):
    with pytest.raises(DataError, match=message):
        overlay(image, mask)


def test_a_contact_sheet_holds_every_picture_unchanged_and_in_reading_order():
    pictures = [grey(30, 50, level) for level in (10, 20, 30, 40, 60)]
    sheet = contact_sheet(pictures, [""] * 5, 2)
    found = {level: np.argwhere((sheet == level).all(axis=2)) for level in (10, 20, 30, 40, 60)}
    assert all(len(places) >= 30 * 50 for places in found.values())
    corners = [tuple(np.median(places, axis=0)) for places in found.values()]
    assert corners == sorted(corners)
    assert [corners[0][0], corners[2][0]] == [corners[1][0], corners[3][0]]
    assert corners[0][1] == corners[2][1] == corners[4][1]


def test_pictures_of_different_sizes_do_not_cover_each_other():
    pictures = [grey(60, 30, 10), grey(20, 90, 20), grey(5, 5, 40)]
    sheet = contact_sheet(pictures, ["one", "two", "three"], 2)
    for picture in pictures:
        assert (sheet == picture[0, 0]).all(axis=2).sum() >= picture.shape[0] * picture.shape[1]


def test_titles_are_written_and_long_ones_stay_above_their_picture():
    dark = grey(30, 100, 0)
    empty, short, long = (
        contact_sheet([dark, dark], [title, ""], 2) for title in ("", "river", "river" * 40)
    )
    assert (short != empty).any()
    changed = np.flatnonzero((long != empty).any(axis=(0, 2)))
    assert changed.max() < empty.shape[1] // 2


def test_a_title_in_any_language_does_not_fail():
    assert contact_sheet([grey()], ["rivière · река · 川"], 1).ndim == 3


@pytest.mark.parametrize("width", [80, 300, 1200])
def test_the_legend_shows_its_colours_however_narrow_the_sheet(width):
    sheet = contact_sheet([grey(80, width)], ["a"], 1, legend=ERROR_LEGEND)
    for _, colour in ERROR_LEGEND:
        assert (sheet == colour).all(axis=2).sum() > 50


@pytest.mark.parametrize(
    ("pictures", "titles", "columns"), [([], [], 2), ([grey()], [], 2), ([grey()], ["a"], 0)]
)
def test_a_sheet_without_pictures_titles_or_columns_is_refused(pictures, titles, columns):
    with pytest.raises(DataError, match=f"got {len(pictures)} pictures, {len(titles)} titles"):
        contact_sheet(pictures, titles, columns)


@pytest.mark.parametrize("shape", [(100, 400), (400, 100)])
def test_shrinking_keeps_the_proportions_and_the_mean(shape):
    picture = np.random.default_rng(0).integers(0, 255, (*shape, 3), dtype=np.uint8)
    small = shrink(picture, 40)
    assert small.shape[:2] == (shape[0] // 10, shape[1] // 10)
    assert small.mean() == pytest.approx(picture.mean(), abs=1)


def test_shrinking_never_loses_a_side_and_never_enlarges():
    assert shrink(grey(1, 5000), 40).shape == (1, 40, 3)
    assert shrink(grey(10, 20), 40).shape == (10, 20, 3)


def test_a_saved_picture_is_read_back_as_it_was(tmp_path):
    picture = np.random.default_rng(0).integers(0, 255, (7, 9, 3), dtype=np.uint8)
    path = save_picture(tmp_path / "new" / "picture.png", picture)
    assert np.array_equal(np.array(Image.open(path)), picture)
