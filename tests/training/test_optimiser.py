import itertools
import math

import pytest
import torch
from tiny_problem import TinyNetwork

from autosam.config import TrainSettings
from autosam.training.optimiser import (
    build_optimiser,
    moments,
    rate_factor,
    restore_moments,
    set_rates,
)

SETTINGS = TrainSettings(learning_rate=1e-2, decoder_learning_rate=1e-3, weight_decay=0.1)


def test_only_matrices_decay():
    network = TinyNetwork()
    for group in build_optimiser(network, SETTINGS).param_groups:
        expected = 0.1 if all(parameter.ndim >= 2 for parameter in group["params"]) else 0.0
        assert group["weight_decay"] == expected
        assert len({parameter.ndim >= 2 for parameter in group["params"]}) == 1


def test_each_parameter_that_trains_is_there_once_with_the_rate_of_its_part():
    network = TinyNetwork()
    rates = {
        parameter: group["lr"]
        for group in build_optimiser(network, SETTINGS).param_groups
        for parameter in group["params"]
    }
    assert set(rates) == set(network.trained_parameters())
    assert {rates[p] for p in network.head.parameters()} == {1e-3}
    assert {rates[p] for p in network.body.parameters()} == {1e-2}


def test_the_schedule_by_hand():
    factors = [rate_factor(step, warmup=4, planned=12) for step in range(13)]
    assert factors[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert factors[8] == pytest.approx(0.5)
    assert factors[10] == pytest.approx(0.5 * (1 + math.cos(0.75 * math.pi)))
    assert factors[12] == 0
    assert all(earlier > later for earlier, later in itertools.pairwise(factors[4:]))


def test_the_schedule_is_that_of_torch():
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([parameter], lr=1.0)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=20)
    for step in range(20):
        expected = optimiser.param_groups[0]["lr"]
        assert rate_factor(step, warmup=0, planned=20) == pytest.approx(expected, abs=1e-12)
        optimiser.step()
        cosine.step()


@pytest.mark.parametrize("planned", [1, 2, 5])
def test_a_warm_up_longer_than_the_run_takes_half_of_it(planned):
    factors = [rate_factor(step, warmup=20, planned=planned) for step in range(planned)]
    assert max(factors) == 1.0
    assert min(factors) > 0


def test_all_parts_follow_the_schedule_alike():
    optimiser = build_optimiser(TinyNetwork(), SETTINGS)
    for factor in (0.5, 0.1):
        set_rates(optimiser, factor)
        assert {group["lr"] / group["peak"] for group in optimiser.param_groups} == {factor}


def test_moments_go_from_one_optimiser_to_another():
    network, other = TinyNetwork(), TinyNetwork()
    pixels = torch.randn(2, 3, 32, 32)
    optimiser, second = build_optimiser(network, SETTINGS), build_optimiser(other, SETTINGS)
    for _ in range(2):
        network(pixels).square().mean().backward()
        optimiser.step()
    other.load_trained_state(network.trained_state())
    restore_moments(other, second, {k: v.clone() for k, v in moments(network, optimiser).items()})
    for net, opt in ((network, optimiser), (other, second)):
        opt.zero_grad()
        net.eval()(pixels).square().mean().backward()
        opt.step()
    for key, value in network.trained_state().items():
        assert torch.equal(value, other.trained_state()[key]), key
