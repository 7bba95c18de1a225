import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt

from autosam.config import load_config
from autosam.errors import ConfigError
from autosam.training.banks import bank_band, without_banks
from autosam.training.losses import total_loss


def _tensors(*areas):
    return [torch.from_numpy(np.ascontiguousarray(area))[None, None] for area in areas]


def _distance_to(area):
    """Of every cell to the nearest True one; infinite when there is none."""
    return distance_transform_edt(~area) if area.any() else np.full(area.shape, np.inf)


def _river(side=12, top=4, bottom=9):
    mask = np.zeros((side, side), dtype=bool)
    mask[top:bottom] = True
    return mask


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.floats(1, 6), st.integers(1, 14), st.integers(1, 14))
def test_the_band_is_what_lies_near_the_other_kind(seed, cells, height, width):
    """Against scipy's exact distances, with water, land and unlabelled cells scattered about."""
    kind = np.random.default_rng(seed).choice(3, (height, width), p=(0.5, 0.3, 0.2))
    water, land = kind == 0, kind == 1
    near = (water & (_distance_to(land) <= cells)) | (land & (_distance_to(water) <= cells))
    found = bank_band(*_tensors(water, kind != 2), cells)
    np.testing.assert_array_equal(found[0, 0].numpy(), near)


def test_a_band_of_two_cells_is_two_rows_on_each_side():
    mask = _river()
    band = bank_band(*_tensors(mask, np.ones_like(mask)), 2)[0, 0].numpy()
    rows = np.flatnonzero(band.all(axis=1))
    assert rows.tolist() == [2, 3, 4, 5, 7, 8, 9, 10]
    assert band.sum() == 8 * 12


def test_neither_the_frame_nor_unlabelled_cells_are_a_bank():
    """Water that fills the picture up to padding has no bank, whatever the target is under it."""
    target, valid = np.ones((9, 9), dtype=bool), np.ones((9, 9), dtype=bool)
    target[:, 6:] = valid[:, 6:] = False
    assert not bank_band(*_tensors(target, valid), 3).any()
    assert not bank_band(*_tensors(~target, valid), 3).any()


def test_each_image_has_its_own_band():
    masks = torch.stack([torch.from_numpy(_river(top=t, bottom=t + 5)) for t in (2, 6)])[:, None]
    valid = torch.rand(2, 1, 12, 12) > 0.2
    together = bank_band(masks, valid, 1.5)
    alone = [bank_band(masks[i : i + 1], valid[i : i + 1], 1.5) for i in range(2)]
    torch.testing.assert_close(together, torch.cat(alone))


def test_no_width_leaves_everything_and_some_width_takes_only_the_band():
    target, valid = _tensors(_river(), np.ones((12, 12), dtype=bool))
    assert without_banks(target, valid, 0) is valid
    kept = without_banks(target, valid, 1)
    torch.testing.assert_close(kept, valid & ~bank_band(target, valid, 1))
    assert 0 < kept.sum() < valid.sum()


def test_a_river_narrower_than_the_band_keeps_its_label():
    narrow, wide, dry = _river(top=5, bottom=7), _river(), np.zeros((12, 12), dtype=bool)
    targets = torch.cat(_tensors(narrow, wide, dry))
    valid = torch.ones_like(targets)
    valid[:, :, 0] = False
    kept = without_banks(targets, valid, 2)
    assert torch.equal(kept[[0, 2]], valid[[0, 2]])
    assert not torch.equal(kept[1], valid[1])
    assert (kept & targets).flatten(1).any(dim=1).tolist() == [True, True, False]


@pytest.mark.parametrize("width", ["-1", "0.5", "17"])
def test_a_width_that_means_nothing_is_refused(width):
    with pytest.raises(ConfigError, match=rf"train.ignore_bank must be 0 or in 1..16, got {width}"):
        load_config(None, [f"train.ignore_bank={width}"])


def test_the_robust_losses_and_the_width_are_settings():
    train = load_config(None, ["train.loss={symmetric: 1, bootstrap: 1}", "train.ignore_bank=1.5"])
    assert dict(train.train.loss) == {"symmetric": 1.0, "bootstrap": 1.0}
    assert train.train.ignore_bank == 1.5


def test_training_does_not_look_at_the_banks(tmp_path, monkeypatch):
    """How many cells the loss is told of in a whole epoch, whose pictures have banks."""
    from tiny_problem import problem

    from autosam.training import loop

    told = {0.0: 0, 1.0: 0}
    for width in told:

        def counting(logits, target, valid, weights, width=width):
            told[width] += int(valid.sum())
            return total_loss(logits, target, valid, weights)

        monkeypatch.setattr(loop, "total_loss", counting)
        loop.fit(**problem(tmp_path / str(width), epochs=1, ignore_bank=width))
    assert 0 < told[1.0] < told[0.0]
