"""A simulated person at training time, who sees the mask and clicks into its largest error."""

import numpy as np
import pytest
import torch

from autosam.config import PromptSettings
from autosam.models.autosam import PromptedSam
from autosam.models.prompt_network import build_prompt_network
from autosam.training.clicking import with_clicks
from autosam.types import Query, SquarePrompt


@pytest.fixture
def network(tiny_sam):
    prompter = build_prompt_network(
        PromptSettings(network="hardnet39ds", side=32), grid=tiny_sam.grid, channels=32
    )
    return PromptedSam(tiny_sam, prompter, method="autosam+decoder").train()


@pytest.fixture
def step(network):
    generator = torch.Generator().manual_seed(3)
    target = torch.zeros(2, 1, 16, 16, dtype=torch.bool)
    target[0, :, 4:12, 2:14] = True
    inputs = {
        "image_embedding": torch.randn(2, 32, 4, 4, generator=generator),
        "prompt_pixels": torch.randn(2, 3, 32, 32, generator=generator),
    }
    return inputs, target, torch.ones_like(target)


def test_no_round_changes_nothing(network, step):
    inputs, target, valid = step
    assert with_clicks(network, inputs, target, valid, count=0) == inputs


def test_each_round_adds_a_click_on_an_error_and_feeds_the_mask_back(network, step):
    inputs, target, valid = step
    network.eval()
    with torch.no_grad():
        first = network(**inputs)
    changed = with_clicks(network, inputs, target, valid, count=1)
    assert "prompts" not in inputs
    for index, prompt in enumerate(changed["prompts"]):
        torch.testing.assert_close(prompt.mask_logits, first[index, 0])
        (query,) = prompt.queries
        # Square pixels to cells of the mask's grid: 4 to 1, middle to middle.
        column, row = ((query.points[0] + 0.5) / 4 - 0.5).astype(int)
        truth = bool(target[index, 0, row, column])
        assert bool(first[index, 0, row, column] > 0) != truth
        assert query.labels.tolist() == [int(truth)]
    thrice = with_clicks(network, inputs, target, valid, count=3)
    assert len(thrice["prompts"][0].queries[0].labels) == 3


def test_clicks_come_on_top_of_automatic_prompts(network, step):
    inputs, target, valid = step
    box = Query(box=np.array([1, 1, 60, 60]))
    given = {**inputs, "prompts": (SquarePrompt(queries=(box, box)), SquarePrompt())}
    changed = with_clicks(network, given, target, valid, count=1)
    assert [len(query.labels) for query in changed["prompts"][0].queries] == [1, 1]
    assert all(query.box is not None for query in changed["prompts"][0].queries)


def test_the_network_is_left_as_it_was(network, step):
    inputs, target, valid = step
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with_clicks(network, inputs, target, valid, count=2)
    assert network.training
    assert network.prompter.training
    assert not network.sam.prompt_encoder.training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    network.eval()
    with_clicks(network, inputs, target, valid, count=1)
    assert not network.training


def test_ignored_pixels_get_no_click(network, step):
    inputs, target, valid = step
    changed = with_clicks(network, inputs, target, torch.zeros_like(valid), count=2)
    assert all(not prompt.queries for prompt in changed["prompts"])
