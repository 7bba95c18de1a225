"""Views against a square's symmetries, windows against the picture they show, colours against hand values."""

import datetime

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from autosam.data.augmentation import (
    VIEWS,
    apply_view,
    augment_sample,
    invert_view,
    jitter_squares,
    random_crop_sample,
    view_sample,
)
from autosam.data.geometry import PADDING_COLOUR
from autosam.errors import DataError
from autosam.types import Georeference, Sample


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def numbered(height: int = 20, width: int = 31, **fields) -> Sample:
    """Every pixel tells its row (red) and column (green); the mask and valid area follow from them."""
    rows, columns = np.mgrid[:height, :width].astype(np.uint8)
    image = np.stack([rows, columns, np.full_like(rows, 255)], axis=-1)
    return Sample(name="a", image=image, **({"mask": water(image), "valid": seen(image)} | fields))


def water(image: np.ndarray) -> np.ndarray:
    return (image[..., 0] // 3 + image[..., 1] // 5) % 2 == 0


def seen(image: np.ndarray) -> np.ndarray:
    return image[..., 1] % 7 != 0


def levels(image: np.ndarray) -> dict[str, np.ndarray]:
    """Bands that follow from the picture too, in their own units."""
    rows, columns = image[..., 0].astype(np.float32), image[..., 1].astype(np.float32)
    return {"dem": 1500 + rows / 8 - columns / 4, "nir": rows * 31 + columns}


def inside(image: np.ndarray) -> np.ndarray:
    """Pixels that come from the sample, as blue tells."""
    return image[..., 2] == 255


# --- views


def test_views_by_hand():
    picture = np.array([[1, 2, 3], [4, 5, 6]])
    expected = [
        [[1, 2, 3], [4, 5, 6]],
        [[3, 6], [2, 5], [1, 4]],
        [[6, 5, 4], [3, 2, 1]],
        [[4, 1], [5, 2], [6, 3]],
        [[3, 2, 1], [6, 5, 4]],
        [[1, 4], [2, 5], [3, 6]],
        [[4, 5, 6], [1, 2, 3]],
        [[6, 3], [5, 2], [4, 1]],
    ]
    assert [apply_view(picture, view).tolist() for view in VIEWS] == expected


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("shape", [(3, 5), (5, 3, 3), (1, 7), (4, 4, 3)])
def test_views_are_undone_exactly(view, shape):
    array = generator().integers(0, 256, shape, dtype=np.uint8)
    assert np.array_equal(invert_view(apply_view(array, view), view), array)
    assert apply_view(array, view).flags["C_CONTIGUOUS"]


def test_the_views_are_closed_under_composition():
    square = np.arange(9).reshape(3, 3)
    views = {apply_view(square, view).tobytes() for view in VIEWS}
    twice = {apply_view(apply_view(square, a), b).tobytes() for a in VIEWS for b in VIEWS}
    assert len(views) == 8
    assert twice == views


@pytest.mark.parametrize("view", VIEWS)
def test_mask_and_valid_area_are_viewed_with_the_picture(view):
    viewed = view_sample(numbered(), view)
    assert np.array_equal(viewed.mask, water(viewed.image))
    assert np.array_equal(viewed.valid, seen(viewed.image))
    assert np.array_equal(viewed.image, apply_view(numbered().image, view))


def test_views_keep_name_place_and_date_but_not_the_georeference():
    where = Georeference(crs="EPSG:32610", transform=(0.125, 0, 1, 0, -0.125, 2))
    sample = numbered(georeference=where, place="LR_001_002", date=datetime.date(2012, 4, 7))
    turned = view_sample(sample, 1)
    assert (turned.name, turned.place, turned.date) == ("a", "LR_001_002", sample.date)
    assert turned.georeference is None
    assert view_sample(sample, 0).georeference == where


def test_views_of_an_unlabelled_sample_have_no_label():
    turned = view_sample(numbered(mask=None, valid=None), 5)
    assert turned.mask is None
    assert turned.valid is None


@pytest.mark.parametrize("view", VIEWS)
def test_bands_are_viewed_with_the_picture(view):
    viewed = view_sample(numbered(bands=levels(numbered().image)), view)
    assert list(viewed.bands) == ["dem", "nir"]
    for name, expected in levels(viewed.image).items():
        assert np.array_equal(viewed.bands[name], expected)


@pytest.mark.parametrize("view", [-1, 8])
@pytest.mark.parametrize("change", [apply_view, invert_view])
def test_other_views_are_refused(change, view):
    with pytest.raises(DataError, match=rf"view must be in 0\.\.7, got {view}\."):
        change(np.zeros((2, 2)), view)


# --- windows


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.3, 0.75, 1.0]))
def test_every_pixel_of_a_window_keeps_its_label(seed, crop):
    sample = augment_sample(numbered(), crop=crop, generator=generator(seed))
    real = inside(sample.image)
    assert np.array_equal(sample.mask, water(sample.image) & real)
    assert np.array_equal(sample.valid_area, seen(sample.image) & real)
    assert (sample.image[~real] == PADDING_COLOUR).all()
    assert real.any()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.3, 0.75, 1.0]))
def test_bands_move_with_the_window_and_pad_with_their_own_median(seed, crop):
    bands = levels(numbered().image)
    sample = augment_sample(numbered(bands=bands), crop=crop, generator=generator(seed))
    real = inside(sample.image)
    for name, expected in levels(sample.image).items():
        assert np.array_equal(sample.bands[name][real], expected[real])
        assert (sample.bands[name][~real] == np.median(bands[name])).all()
        assert sample.bands[name].dtype == np.float32


def test_bands_leave_the_chances_of_a_window_as_they_are():
    plain = augment_sample(numbered(), crop=0.5, generator=generator(4))
    banded = numbered(bands=levels(numbered().image))
    assert np.array_equal(
        augment_sample(banded, crop=0.5, generator=generator(4)).image, plain.image
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000))
def test_windows_are_unscaled_pieces_of_the_sample_or_hold_all_of_it(seed):
    window = random_crop_sample(numbered(), crop=0.5, generator=generator(seed))
    piece = window.image[inside(window.image)]
    rows, columns = piece[:, 0].astype(int), piece[:, 1].astype(int)
    held = (np.ptp(rows) + 1, np.ptp(columns) + 1)
    assert len(piece) == held[0] * held[1]  # each pixel once
    assert held == tuple(min(a, b) for a, b in zip(window.size, (20, 31), strict=True))
    share = window.size[1] / 31
    assert 0.48 <= share <= 2.02
    assert window.size[0] == pytest.approx(20 * share, abs=1.4)  # the shape stays


def test_windows_vary_in_size_and_place():
    windows = [random_crop_sample(numbered(), crop=0.5, generator=generator(n)) for n in range(200)]
    widths = np.array([window.size[1] for window in windows])
    assert 0.35 < (widths < 31).mean() < 0.65  # in and out are equally likely
    assert {widths.min() < 18, widths.max() > 55} == {True}
    firsts = {tuple(w.image[0, 0]) for w in windows if w.size[1] < 31}
    assert len(firsts) > 50


def test_a_crop_of_zero_gives_the_sample_back():
    sample = numbered()
    assert random_crop_sample(sample, crop=0, generator=generator()) is sample


def test_a_window_inside_a_wholly_valid_sample_needs_no_valid_area():
    windows = [
        random_crop_sample(numbered(valid=None), crop=0.5, generator=generator(n))
        for n in range(20)
    ]
    assert {w.valid is None for w in windows if w.size[1] < 31} == {True}
    assert {w.valid is None for w in windows if w.size[1] > 31} == {False}


def test_the_same_generator_gives_the_same_window_and_leaves_the_sample_alone():
    sample, before = numbered(), numbered()
    first = augment_sample(sample, crop=0.4, generator=generator(5))
    again = augment_sample(sample, crop=0.4, generator=generator(5))
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(sample.image, before.image)
    assert np.array_equal(sample.mask, before.mask)


def test_all_views_are_drawn():
    sample = numbered()
    drawn = {
        augment_sample(sample, crop=0, generator=generator(n)).image.tobytes() for n in range(100)
    }
    assert drawn == {view_sample(sample, view).image.tobytes() for view in VIEWS}


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1)])
def test_windows_of_tiny_pictures_are_never_empty(size):
    for seed in range(20):
        window = random_crop_sample(numbered(*size), crop=0.1, generator=generator(seed))
        assert inside(window.image).any()


def test_read_only_pictures_of_an_unlabelled_sample_can_be_cropped():
    sample = numbered(mask=None, valid=None)
    sample.image.setflags(write=False)
    assert random_crop_sample(sample, crop=0.5, generator=generator()).mask is None


@pytest.mark.parametrize("crop", [-0.1, 1.5])
def test_shares_of_a_side_that_make_no_sense_are_refused(crop):
    with pytest.raises(DataError, match=rf"crop must be in 0\.\.1, got {crop}"):
        random_crop_sample(numbered(), crop=crop, generator=generator())


# --- colours


def colours(*rgb: tuple[int, int, int]) -> torch.Tensor:
    return torch.tensor(rgb, dtype=torch.uint8)[:, :, None, None].repeat(1, 1, 8, 8)


def torch_generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_no_jitter_gives_the_squares_back():
    squares = colours((10, 20, 30))
    assert jitter_squares(squares, strength=0, generator=torch_generator()) is squares


def test_each_picture_of_a_batch_changes_by_its_own_amounts():
    squares = colours(*[(120, 100, 80)] * 6)
    changed = jitter_squares(squares, strength=0.4, generator=torch_generator())
    assert changed.dtype == torch.uint8
    assert len({tuple(picture[:, 0, 0].tolist()) for picture in changed}) == 6
    assert (squares == colours(*[(120, 100, 80)] * 6)).all()


def test_the_same_generator_gives_the_same_colours():
    squares = torch.randint(0, 256, (3, 3, 8, 8), dtype=torch.uint8)
    first = jitter_squares(squares, strength=0.4, generator=torch_generator(1))
    assert torch.equal(jitter_squares(squares, strength=0.4, generator=torch_generator(1)), first)
    assert not torch.equal(
        jitter_squares(squares, strength=0.4, generator=torch_generator(2)), first
    )


def test_brightness_of_grey_pictures_stays_within_the_strength():
    squares = colours(*[(100, 100, 100)] * 300)
    changed = jitter_squares(squares, strength=0.2, generator=torch_generator())[:, :, 0, 0].float()
    # Contrast, saturation and hue leave a flat grey picture as it is, but for rounding.
    assert (changed.amax(dim=1) - changed.amin(dim=1)).max() <= 1
    assert 78 <= changed.min() < 84  # each of the steps rounds down
    assert 116 < changed.max() <= 121
    assert changed.mean() == pytest.approx(100, abs=3)


def test_contrast_spreads_grey_levels_about_their_mean():
    half = torch.full((200, 3, 8, 8), 80, dtype=torch.uint8)
    half[..., 4:] = 120
    changed = jitter_squares(half, strength=0.5, generator=torch_generator()).float()
    dark, bright = changed[:, 0, 0, 0], changed[:, 0, 0, 7]
    spread = (bright - dark) / (bright + dark) / 0.2  # 1 when contrast is unchanged
    assert 0.45 < spread.min() < 0.6
    assert 1.4 < spread.max() < 1.55


def test_hue_turns_by_at_most_a_tenth():
    from skimage.color import rgb2hsv

    squares = colours(*[(200, 100, 100)] * 300)
    changed = jitter_squares(squares, strength=1.0, generator=torch_generator())
    pixels = changed[:, :, 0, 0].numpy()
    hue, saturation, value = rgb2hsv(pixels[None])[0].T
    coloured = (saturation > 0.2) & (value > 0.2) & (pixels.max(axis=1) < 255)
    turn = np.minimum(hue, 1 - hue)[coloured]
    assert 0.09 < turn.max() < 0.11


def test_an_empty_batch_stays_empty():
    squares = torch.zeros(0, 3, 8, 8, dtype=torch.uint8)
    assert jitter_squares(squares, strength=0.5, generator=torch_generator()).shape == squares.shape


@pytest.mark.parametrize("strength", [-0.1, 1.5])
def test_strengths_that_make_no_sense_are_refused(strength):
    with pytest.raises(DataError, match=rf"strength must be in 0\.\.1, got {strength}"):
        jitter_squares(colours((1, 2, 3)), strength=strength, generator=torch_generator())
