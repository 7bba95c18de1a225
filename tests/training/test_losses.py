import numpy as np
import pytest
import torch
from torch.nn import functional
from torchvision.ops import sigmoid_focal_loss

from autosam.errors import ConfigError, ModelError
from autosam.training.losses import LOSSES, dice_loss, total_loss, tversky_loss

ALL = sorted(LOSSES)


def _river(batch=2, side=24):
    """A band across each picture, at another height in each."""
    target = torch.zeros(batch, 1, side, side, dtype=torch.bool)
    for image in range(batch):
        target[image, :, 6 + image : 13 + image] = True
    return target


def _logits(target, certainty=20.0):
    return torch.where(target, certainty, -certainty)


@pytest.mark.parametrize("name", ALL)
def test_a_perfect_prediction_costs_almost_nothing(name):
    target = _river()
    values = LOSSES[name](_logits(target), target, torch.ones_like(target))
    assert (values < 1e-3).all()


@pytest.mark.parametrize("name", ["bce", "dice", "focal", "tversky"])
def test_calling_everything_water_costs_much(name):
    """The published code lost this: fifty on every logit changed its loss by 0.3 percent."""
    target = _river()
    valid = torch.ones_like(target)
    perfect = LOSSES[name](_logits(target), target, valid)
    flooded = LOSSES[name](_logits(target) + 50, target, valid)
    assert (flooded > perfect + 0.2).all()


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("shape", [(2, 24, 24), (2, 3, 24, 24), (24, 24)])
def test_rows_are_never_taken_for_channels(name, shape):
    target = torch.zeros(shape, dtype=torch.bool)
    with pytest.raises(
        ModelError, match=r"logits must be \(batch, 1, height, width\).*Add the channel"
    ):
        LOSSES[name](torch.zeros(shape), target, target)


def test_target_and_valid_must_be_bool_of_the_same_shape():
    logits, area = torch.zeros(2, 1, 8, 8), torch.ones(2, 1, 8, 8, dtype=torch.bool)
    with pytest.raises(
        ModelError, match=r"target must be bool .*\(2, 1, 8, 8\), got \(1, 1, 8, 8\)"
    ):
        dice_loss(logits, area[:1], area)
    with pytest.raises(ModelError, match=r"valid must be bool .*torch.float32"):
        dice_loss(logits, area, area.float())


@pytest.mark.parametrize("name", ALL)
def test_each_image_has_its_own_value(name):
    target, logits = _river(3), torch.randn(3, 1, 24, 24)
    valid = torch.rand(3, 1, 24, 24) > 0.2
    together = LOSSES[name](logits, target, valid)
    alone = [LOSSES[name](logits[i : i + 1], target[i : i + 1], valid[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(together, torch.cat(alone))
    assert together.shape == (3,)


@pytest.mark.parametrize("name", ALL)
def test_appended_padding_changes_nothing(name):
    target, logits = _river(2, 20), torch.randn(2, 1, 20, 20)
    valid = torch.rand(2, 1, 20, 20) > 0.1
    padded = functional.pad(logits, (0, 7, 0, 5), value=float("nan"))
    wide_target = functional.pad(target, (0, 7, 0, 5), value=True)
    wide_valid = functional.pad(valid, (0, 7, 0, 5), value=False)
    torch.testing.assert_close(
        LOSSES[name](padded, wide_target, wide_valid), LOSSES[name](logits, target, valid)
    )


@pytest.mark.parametrize("name", ALL)
def test_ignored_pixels_get_no_gradient_and_give_none(name):
    target, valid = _river(), torch.rand(2, 1, 24, 24) > 0.5
    first = torch.randn(2, 1, 24, 24)
    second = torch.where(valid, first, 1e4)
    gradients = []
    for logits in (first, second):
        logits.requires_grad_()
        LOSSES[name](logits, target, valid).sum().backward()
        gradients.append(logits.grad)
    torch.testing.assert_close(*gradients)
    assert not gradients[0][~valid].any()
    assert gradients[0][valid].any()


@pytest.mark.parametrize("name", ALL)
def test_an_image_without_valid_pixels_gives_nothing_at_all(name):
    logits = torch.full((2, 1, 12, 12), float("inf"), requires_grad=True)
    target, nowhere = _river(2, 12), torch.zeros(2, 1, 12, 12, dtype=torch.bool)
    values = LOSSES[name](logits, target, nowhere)
    values.sum().backward()
    assert values.tolist() == [0, 0]
    assert not logits.grad.any()


@pytest.mark.parametrize("name", ALL)
def test_half_precision_logits_are_summed_in_float32(name):
    """512 * 512 ones overflow float16, whose largest number is 65504."""
    target = torch.ones(1, 1, 512, 512, dtype=torch.bool)
    logits = torch.full((1, 1, 512, 512), 3.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = LOSSES[name](logits.half(), target, target)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, LOSSES[name](logits, target, target))


def test_bce_is_that_of_torch_over_valid_pixels():
    target, logits, valid = _river(), torch.randn(2, 1, 24, 24) * 5, torch.rand(2, 1, 24, 24) > 0.3
    expected = [
        functional.binary_cross_entropy_with_logits(
            logits[i][valid[i]], target[i][valid[i]].float()
        )
        for i in range(2)
    ]
    torch.testing.assert_close(LOSSES["bce"](logits, target, valid), torch.stack(expected))


def test_focal_is_that_of_torchvision_over_valid_pixels():
    target, logits, valid = _river(), torch.randn(2, 1, 24, 24) * 5, torch.rand(2, 1, 24, 24) > 0.3
    expected = [
        sigmoid_focal_loss(logits[i][valid[i]], target[i][valid[i]].float(), reduction="mean")
        for i in range(2)
    ]
    torch.testing.assert_close(LOSSES["focal"](logits, target, valid), torch.stack(expected))


@pytest.mark.parametrize(
    ("predicted", "true", "dice", "tversky"),
    [
        ([1, 1, 0, 0], [1, 1, 0, 0], 0.0, 0.0),  # perfect
        ([1, 1, 0, 0], [1, 1, 1, 1], 1 - 5 / 7, 1 - 3 / (3 + 0.7 * 2)),  # half missed
        ([1, 1, 1, 1], [1, 1, 0, 0], 1 - 5 / 7, 1 - 3 / (3 + 0.3 * 2)),  # as much invented
        ([0, 0, 0, 0], [0, 0, 0, 0], 0.0, 0.0),  # rightly nothing
        ([1, 1, 1, 1], [0, 0, 0, 0], 1 - 1 / 5, 1 - 1 / (1 + 0.3 * 4)),  # wrongly everything
    ],
)
def test_overlap_losses_by_hand(predicted, true, dice, tversky):
    target = torch.tensor(true, dtype=torch.bool).reshape(1, 1, 2, 2)
    logits = _logits(torch.tensor(predicted, dtype=torch.bool).reshape(1, 1, 2, 2), 100.0)
    valid = torch.ones_like(target)
    assert dice_loss(logits, target, valid).item() == pytest.approx(dice, abs=1e-6)
    assert tversky_loss(logits, target, valid).item() == pytest.approx(tversky, abs=1e-6)


def test_a_cut_river_costs_more_in_cldice_than_in_dice():
    target = torch.zeros(1, 1, 40, 60, dtype=torch.bool)
    target[:, :, 15:25] = True
    thinner, cut = target.clone(), target.clone()
    thinner[:, :, 15] = thinner[:, :, 24] = False  # a sixth of the area, the line whole
    cut[..., 20:32] = False  # a fifth of the area, and of the line
    valid = torch.ones_like(target)
    cost = {
        name: [LOSSES[name](_logits(mask), target, valid).item() for mask in (thinner, cut)]
        for name in ("dice", "cldice")
    }
    assert cost["cldice"][0] < 1e-3
    assert cost["cldice"][1] > 0.08
    assert cost["dice"][0] == pytest.approx(cost["dice"][1], abs=0.01)


def test_the_soft_skeleton_of_a_mask_is_a_line_inside_it():
    """Against the morphology of scikit-image: thin, inside, and along the middle."""
    from skimage.morphology import medial_axis

    from autosam.training.losses import _soft_skeleton

    target = torch.zeros(1, 1, 40, 60)
    target[:, :, 15:24] = 1
    line = _soft_skeleton(target, torch.ones_like(target))[0, 0].numpy() > 0.5
    axis = medial_axis(target[0, 0].numpy() > 0)
    assert line[:, 10:50].sum(axis=0).max() <= 2
    np.testing.assert_array_equal(line[:, 10:50], axis[:, 10:50])


def test_the_total_is_the_weighted_sum_and_the_terms_are_not():
    target, logits = _river(), torch.randn(2, 1, 24, 24, requires_grad=True)
    valid = torch.ones_like(target)
    total, terms = total_loss(logits, target, valid, {"bce": 2.0, "dice": 0.5, "focal": 0.0})
    assert set(terms) == {"bce", "dice"}
    assert not any(term.requires_grad for term in terms.values())
    assert total.item() == pytest.approx(2 * terms["bce"].item() + 0.5 * terms["dice"].item())
    assert terms["bce"].item() == pytest.approx(LOSSES["bce"](logits, target, valid).mean().item())


def test_two_half_batches_average_to_the_whole():
    target, logits, valid = _river(4), torch.randn(4, 1, 24, 24), torch.rand(4, 1, 24, 24) > 0.5
    valid[0] = False
    weights = {"bce": 1.0, "dice": 1.0}
    whole = total_loss(logits, target, valid, weights)[0]
    halves = [
        total_loss(logits[h], target[h], valid[h], weights)[0] for h in (slice(2), slice(2, 4))
    ]
    torch.testing.assert_close(whole, torch.stack(halves).mean())


def test_unknown_or_missing_terms_are_refused():
    area = torch.ones(1, 1, 4, 4, dtype=torch.bool)
    with pytest.raises(ConfigError, match=r"train.loss.dise is not a loss. Did you mean 'dice'"):
        total_loss(torch.zeros(1, 1, 4, 4), area, area, {"dise": 1.0})
    with pytest.raises(ConfigError, match="must have a term above 0"):
        total_loss(torch.zeros(1, 1, 4, 4), area, area, {"dice": 0.0})


@pytest.mark.parametrize("name", ALL)
def test_every_loss_learns_a_river(name):
    target = _river()
    valid = torch.ones_like(target)
    logits = torch.zeros(2, 1, 24, 24, requires_grad=True)
    optimiser = torch.optim.Adam([logits], lr=0.3)
    start = LOSSES[name](logits, target, valid).mean().item()
    for _ in range(60):
        optimiser.zero_grad()
        LOSSES[name](logits, target, valid).mean().backward()
        optimiser.step()
    assert LOSSES[name](logits, target, valid).mean().item() < 0.35 * start
