"""What a pixel with a wrong label does to the gradient; all else is in test_losses.py, for every loss."""

import numpy as np
import pytest
import torch

from autosam.training.losses import LOSSES

WATER, LAND = True, False


def _one(value):
    return torch.tensor([[[[value]]]])


def _gradient(name, logit, label):
    """Of the loss of a single pixel, along its logit."""
    logits = _one(float(logit)).requires_grad_()
    LOSSES[name](logits, _one(label), _one(True)).sum().backward()
    return logits.grad.item()


def _bootstrap_of_one(probability, label):
    """Reed et al. 2015 as the paper writes it, over the classes (land, water)."""
    q = np.stack([1 - probability, probability])
    t = np.stack([1 - label, label])
    z = np.stack([q[0] >= q[1], q[0] < q[1]])
    return -((0.8 * t + 0.2 * z) * np.log(q)).sum(axis=0)


def _symmetric_of_one(probability, label):
    """Wang et al. 2019 as the paper writes it, over the classes (land, water)."""
    p = np.stack([1 - probability, probability])
    q = np.stack([1 - label, label])
    log_q = np.where(q == 1, 0.0, -4.0)
    return 0.1 * -(q * np.log(p)).sum(axis=0) + 1.0 * -(p * log_q).sum(axis=0)


@pytest.mark.parametrize(
    ("name", "logit", "label", "value"),
    [
        # p = 3/4 water; log 4 = 1.3863, log 4/3 = 0.2877
        ("bootstrap", np.log(3), WATER, 0.2877),
        ("bootstrap", np.log(3), LAND, 0.8 * 1.3863 + 0.2 * 0.2877),
        ("bootstrap", -np.log(3), WATER, 0.8 * 1.3863 + 0.2 * 0.2877),
        ("symmetric", np.log(3), WATER, 0.1 * 0.2877 + 4 * 0.25),
        ("symmetric", np.log(3), LAND, 0.1 * 1.3863 + 4 * 0.75),
        ("symmetric", -np.log(3), LAND, 0.1 * 0.2877 + 4 * 0.25),
    ],
)
def test_values_by_hand(name, logit, label, value):
    loss = LOSSES[name](_one(float(logit)), _one(label), _one(True))
    assert loss.item() == pytest.approx(value, abs=1e-4)


@pytest.mark.parametrize(
    ("name", "of_one"), [("bootstrap", _bootstrap_of_one), ("symmetric", _symmetric_of_one)]
)
def test_values_are_those_of_the_papers_over_two_classes(name, of_one):
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 4, (3, 1, 9, 9))
    target, valid = generator.random((2, 3, 1, 9, 9)) < 0.6
    pixels = of_one(1 / (1 + np.exp(-logits)), target.astype(float))
    expected = [pixels[image][valid[image]].mean() for image in range(3)]
    found = LOSSES[name](*map(torch.from_numpy, (logits, target, valid)))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["bootstrap", "symmetric"])
@pytest.mark.parametrize("logit", [4, 6, 9])
def test_a_label_that_is_confidently_contradicted_pulls_less_than_in_plain_cross_entropy(
    name, logit
):
    for label, sign in ((WATER, -1), (LAND, 1)):
        robust, plain = _gradient(name, sign * logit, label), _gradient("bce", sign * logit, label)
        assert 0 < robust / plain < 0.82


@pytest.mark.parametrize("name", ["bootstrap", "symmetric"])
def test_a_contradicted_label_loses_against_an_equal_number_of_agreeing_ones(name):
    """No weight of the whole loss would do that: it is the ratio of the two that falls."""
    ratio = {loss: _gradient(loss, -4, WATER) / _gradient(loss, -4, LAND) for loss in (name, "bce")}
    assert abs(ratio[name]) < 0.82 * abs(ratio["bce"])


def test_with_the_network_and_the_label_agreed_bootstrap_is_plain_cross_entropy():
    for logit, label in ((0.3, WATER), (5, WATER), (-0.3, LAND), (-5, LAND)):
        assert _gradient("bootstrap", logit, label) == _gradient("bce", logit, label)


def test_soft_bootstrapping_with_a_constant_target_would_only_be_a_weight():
    """Why the hard form was taken."""
    logits = torch.linspace(-8, 8, 33, dtype=torch.float64, requires_grad=True)
    label = (torch.arange(33) % 2).double()
    cross_entropy = torch.nn.BCEWithLogitsLoss(reduction="sum")
    soft = 0.8 * label + 0.2 * torch.sigmoid(logits).detach()
    (of_soft,) = torch.autograd.grad(cross_entropy(logits, soft), logits)
    (of_plain,) = torch.autograd.grad(cross_entropy(logits, label), logits)
    torch.testing.assert_close(of_soft, 0.8 * of_plain)


@pytest.mark.parametrize(
    ("name", "settled"), [("bce", 0.6), ("bootstrap", 0.68), ("symmetric", 0.95)]
)
def test_five_pixels_alike_of_which_two_are_wrongly_labelled_settle_nearer_to_the_right_three(
    name, settled
):
    """Where the gradient of the one logit that they share is nil: plain cross-entropy believes all five."""
    probability = torch.linspace(0.52, 0.999, 480)
    shared = torch.logit(probability).requires_grad_()
    target = torch.tensor([1, 1, 1, 0, 0], dtype=torch.bool).expand(480, 1, 1, 5)
    logits = shared[:, None, None, None].expand(480, 1, 1, 5)
    LOSSES[name](logits, target, torch.ones_like(target)).sum().backward()
    assert shared.grad[0] < 0 < shared.grad[-1]
    assert probability[shared.grad > 0][0].item() == pytest.approx(settled, abs=0.005)
