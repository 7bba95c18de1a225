"""A prompt network with bands starts as the one without them, and learns to read them."""

import pytest
import timm
import torch
from torch import nn
from torch.nn import functional

from autosam.config import PromptSettings
from autosam.errors import CheckpointError, ModelError
from autosam.models.backbones import build_backbone
from autosam.models.imagenet import lite0_weights
from autosam.models.prompt_network import FARTHEST, PromptNetwork, build_prompt_network


def build(network: str = "light", *bands: str, side: int = 32, weights: str = "") -> PromptNetwork:
    """From one seed, as it would be with other bands."""
    torch.manual_seed(3)
    settings = PromptSettings(network=network, side=side, bands=bands, weights=weights)
    return build_prompt_network(settings, grid=8, channels=8)


def widened(network: PromptNetwork, plain: PromptNetwork) -> dict[str, nn.Parameter]:
    """The parameters that have grown."""
    shapes = {key: value.shape for key, value in plain.named_parameters()}
    return {key: p for key, p in network.named_parameters() if p.shape != shapes[key]}


@pytest.mark.parametrize("name", ["light", "hardnet39ds", "resnet18"])
def test_it_starts_as_its_rgb_self_and_learns_from_the_bands_at_once(name):
    plain, network = build(name).eval(), build(name, "nir", "dem").eval()
    pixels, bands = torch.randn(2, 3, 32, 32), 3 + 2 * torch.randn(2, 2, 32, 32)
    with torch.no_grad():
        expected, other = plain(pixels), network(pixels, -7 * bands)
    prompt = network(pixels, bands)
    assert expected.std() > 1e-4
    torch.testing.assert_close(prompt, expected, atol=1e-7, rtol=1e-5)
    torch.testing.assert_close(other, expected, atol=1e-7, rtol=1e-5)
    state = network.state_dict()
    for key, value in plain.state_dict().items():
        same = state[key].shape == value.shape
        assert torch.equal(state[key] if same else state[key][:, :3], value), key
    assert set(state) - set(plain.state_dict()) == {"band_mean", "band_std"}
    prompt.square().mean().backward()
    (kernel,) = widened(network, plain).values()
    assert kernel.shape[1] == 5
    assert not kernel[:, 3:].any()
    assert (kernel.grad[:, 3:].abs().amax(dim=(0, 2, 3)) > 0).all()


def test_all_layers_that_read_the_picture_are_widened():
    """RepVGG has two of them side by side."""
    plain, network = build("repvgg_a0").eval(), build("repvgg_a0", "dem").eval()
    assert len(widened(network, plain)) == 2
    pixels = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        prompt = network(pixels, torch.randn(1, 1, 32, 32))
        torch.testing.assert_close(prompt, plain(pixels), atol=1e-7, rtol=1e-5)


def test_imagenet_weights_of_three_channels_are_loaded_strictly():
    network = build("light", "thermal", weights="imagenet")
    published = lite0_weights()
    loaded = network.backbone.model.state_dict()
    assert torch.equal(loaded["conv_stem.weight"][:, :3], published["conv_stem.weight"])
    assert not loaded["conv_stem.weight"][:, 3:].any()
    rest = [key for key in loaded if key != "conv_stem.weight"]
    assert all(torch.equal(loaded[key], published[key]) for key in rest)


def test_a_weight_file_of_another_network_is_still_refused(tmp_path):
    torch.save(timm.create_model("resnet18").state_dict(), tmp_path / "resnet18.pth")
    with pytest.raises(CheckpointError, match=r"hardnet39ds: .*resnet18\.pth"):
        build("hardnet39ds", "nir", weights=str(tmp_path / "resnet18.pth"))


def test_a_network_whose_first_layer_mixes_pixels_and_channels_is_refused():
    with (
        torch.device("meta"),
        pytest.raises(ModelError, match=r"can read prompt\.bands, got 'tresnet_m' \(.*\(64, 48"),
    ):
        build_backbone("tresnet_m", side=64, bands=1, choices=["light"])


class Ears(nn.Module):
    """A backbone that shows what it is given."""

    def __init__(self, bands: int) -> None:
        super().__init__()
        self.feature_info = type("Info", (), {
            "reduction": lambda self: [4, 8, 16], "channels": lambda self: 3 * [3 + bands],
        })()  # fmt: skip

    def forward(self, pixels):
        self.heard = pixels
        return [functional.avg_pool2d(pixels, stride) for stride in (4, 8, 16)]


def listening(*bands: str) -> PromptNetwork:
    return PromptNetwork(Ears(len(bands)), side=32, grid=4, channels=4, bands=bands).eval()


def test_bands_are_normalised_by_their_own_statistics():
    network = listening("dem", "nir")
    network.set_band_statistics([1500.0, 0.25], [20.0, 0.125])
    pixels = torch.randn(2, 3, 32, 32)
    # In float32, 1500.25 keeps its quarter; in half precision it would not.
    dem, nir = torch.full((2, 1, 32, 32), 1500.25), torch.full((2, 1, 32, 32), 0.5)
    network(pixels, torch.cat([dem, nir], dim=1))
    heard = network.backbone.heard
    torch.testing.assert_close(heard[:, :3], pixels)
    torch.testing.assert_close(heard[:, 3], torch.full((2, 32, 32), 0.0125))
    torch.testing.assert_close(heard[:, 4], torch.full((2, 32, 32), 2.0))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 3e38])
def test_no_value_of_a_band_makes_the_prompt_not_a_number(value):
    network = listening("dem", "nir")
    network.set_band_statistics([5.0, -1e30], [1e-3, 1.0])
    bands = torch.full((1, 2, 32, 32), value)
    assert network(torch.randn(1, 3, 32, 32), bands).isfinite().all()
    assert float(network.backbone.heard[:, 3:].abs().max()) <= FARTHEST


def test_statistics_are_saved_and_come_back():
    network, twin = listening("nir"), listening("nir")
    network.set_band_statistics([80.5], [31.25])
    twin.load_state_dict(network.state_dict())
    assert (float(twin.band_mean), float(twin.band_std)) == (80.5, 31.25)
    assert not [key for key in listening().state_dict() if key.startswith("band")]


@pytest.mark.parametrize(
    ("mean", "std"),
    [([1.0], [1.0, 2.0]), ([1.0, 2.0], [1.0, 0.0]), ([1.0, float("nan")], [1.0, 1.0]), ([], [])],
)
def test_statistics_that_do_not_fit_are_refused(mean, std):
    network = listening("dem", "nir")
    with pytest.raises(ModelError, match=r"each of 2 bands \(dem, nir\), got mean .* and std"):
        network.set_band_statistics(mean, std)
    with pytest.raises(ModelError, match=r"each of 0 bands \(none\)"):
        listening().set_band_statistics([], [])


@pytest.mark.parametrize("shape", [None, (2, 1, 32, 32), (1, 2, 32, 32), (2, 2, 64, 64)])
def test_bands_that_are_absent_or_of_another_shape_are_refused_by_name(shape):
    network = listening("nir", "thermal")
    bands = None if shape is None else torch.zeros(shape)
    words = r"must be \(2, 2, 32, 32\) for a network that reads nir, thermal, got"
    with pytest.raises(ModelError, match=words):
        network(torch.zeros(2, 3, 32, 32), bands)


def test_bands_for_a_network_that_reads_none_are_refused():
    with pytest.raises(ModelError, match=r"None for a network that reads no bands, got \(1, 1, "):
        listening()(torch.zeros(1, 3, 32, 32), torch.zeros(1, 1, 32, 32))


def test_what_only_a_band_shows_is_learnt():
    network = build("light", "thermal").train()
    columns = torch.arange(32).expand(4, 1, 32, 32)
    cold = (columns < torch.tensor([8, 14, 20, 26]).view(4, 1, 1, 1)).float()
    network.set_band_statistics([18.0], [4.0])
    pixels = torch.zeros(4, 3, 32, 32)
    bands = 22 - 8 * cold + torch.randn(4, 1, 32, 32)
    target = functional.avg_pool2d(cold, 4).gt(0.5).float()
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for _ in range(15):
        logits = 10 * network(pixels, bands).mean(1, keepdim=True)
        loss = functional.binary_cross_entropy_with_logits(logits, target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        predicted = 10 * network(pixels, bands).mean(1, keepdim=True) > 0
        blind = 10 * network(pixels, torch.full_like(bands, 18)).mean(1, keepdim=True) > 0
    assert (predicted == target.bool()).float().mean() > 0.95
    assert (blind == target.bool()).float().mean() < 0.9


def test_half_precision_reads_bands_too():
    network = listening("dem")
    network.set_band_statistics([1500.0], [20.0])
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        prompt = network(torch.randn(1, 3, 32, 32), torch.full((1, 1, 32, 32), 1e5))
    assert prompt.isfinite().all()
