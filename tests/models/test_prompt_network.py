"""The published head and its sizes, any timm backbone in front of it, and a default that is light."""

import types

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from autosam.config import PromptSettings
from autosam.errors import CheckpointError, MissingPathError, ModelError
from autosam.models.prompt_network import (
    PRESETS,
    PromptHead,
    PromptNetwork,
    build_prompt_network,
)


def build(network: str = "light", *, side: int = 64, grid: int = 16, **options) -> PromptNetwork:
    settings = {key: options.pop(key) for key in ("weights", "antialias") if key in options}
    return build_prompt_network(
        PromptSettings(network=network, side=side, **settings), grid=grid, **options
    )


def on_meta(network: str, *, side: int) -> PromptNetwork:
    """The structure alone, which runs in no time."""
    with torch.device("meta"):
        return build(network, side=side, grid=64).eval()


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


class Pools(nn.Module):
    """A backbone that anyone can follow: the pixels' means over 4, 8 and 16 pixels."""

    def __init__(self, strides=(4, 8, 16)):
        super().__init__()
        self.feature_info = types.SimpleNamespace(
            reduction=lambda: list(strides), channels=lambda: [3, 3, 3]
        )

    def forward(self, pixels: Tensor) -> list[Tensor]:
        return [functional.avg_pool2d(pixels, stride) for stride in (4, 8, 16)]


@pytest.mark.parametrize(
    ("name", "total"), [("hardnet85", 24.05), ("hardnet68", 13.24), ("hardnet39ds", 5.86)]
)
def test_parameters_equal_the_published_counts_without_the_dead_stage(name, total):
    assert round(count(on_meta(name, side=256)) / 1e6, 2) == total


def test_the_head_on_hardnet85_by_hand():
    head = on_meta("hardnet85", side=256).head
    # Convolutions with biases, then two values per channel of the normalisation.
    assert count(head.merge_middle) == (9 * 1040 + 1) * 320 + (9 * 320 + 1) * 320 + 640
    assert count(head.merge_fine) == (9 * 512 + 1) * 192 + (9 * 192 + 1) * 192 + 384
    assert count(head.final) == (9 * 192 + 1) * 256 + (9 * 256 + 1) * 256 + 512


@pytest.mark.parametrize(("side", "deep"), [(256, 16), (352, 22), (512, 32)])
def test_shapes_on_the_way_equal_the_published_ones(side, deep):
    network = on_meta("hardnet85", side=side)
    shapes = {}
    for name in ("backbone", "head.merge_middle", "head.merge_fine", "head.final"):
        network.get_submodule(name).register_forward_hook(
            lambda _module, _inputs, output, name=name: shapes.update({name: output})
        )
    prompt = network(torch.empty(1, 3, side, side, device="meta"))
    assert [tuple(f.shape[1:]) for f in shapes["backbone"]] == [
        (192, 4 * deep, 4 * deep), (320, 2 * deep, 2 * deep), (720, deep, deep),
    ]  # fmt: skip
    assert shapes["head.merge_middle"].shape[1:] == (320, 2 * deep, 2 * deep)
    assert shapes["head.merge_fine"].shape[1:] == (192, 4 * deep, 4 * deep)
    assert shapes["head.final"].shape[1:] == (256, 4 * deep, 4 * deep)
    assert prompt.shape == (1, 256, 64, 64)


@pytest.mark.parametrize("grid", [16, 10, 32])
def test_the_forward_pass_equals_the_published_formula(grid):
    network = PromptNetwork(Pools(), side=64, grid=grid, channels=5, widths=(7, 6)).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1, 0.3)
            nn.init.normal_(module.bias, 0, 0.3)
            nn.init.normal_(module.running_mean, 0, 0.3)
        elif isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, 0, 0.3)
            nn.init.normal_(module.bias, 0, 0.3)
    state = {name: value.double() for name, value in network.state_dict().items()}

    def convolve(x, name):
        return functional.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=1)

    def norm(x, name):
        mean, var = state[f"{name}.running_mean"], state[f"{name}.running_var"]
        scale = state[f"{name}.weight"] / (var + 1e-5).sqrt()
        return (x - mean[:, None, None]) * scale[:, None, None] + state[f"{name}.bias"][
            :, None, None
        ]

    def merge(deep, fine, name):
        deep = functional.interpolate(deep, scale_factor=2, mode="bilinear", align_corners=False)
        x = convolve(torch.cat([deep, fine], 1), f"{name}.layers.0")
        x = norm(convolve(x, f"{name}.layers.1"), f"{name}.layers.2")
        return torch.where(x > 0, x, 0.01 * x)

    pixels = torch.randn(2, 3, 64, 64)
    fine, middle, deep = Pools()(pixels.double())
    x = merge(merge(deep, middle, "head.merge_middle"), fine, "head.merge_fine")
    x = norm(convolve(x, "head.final.0.0"), "head.final.1").clamp(min=0)
    expected = torch.tanh(convolve(x, "head.final.3.0"))
    # Aligned corners by hand: `grid` points from the first to the last of 16, both included.
    places = torch.linspace(0, 15, grid, dtype=torch.float64)
    lower = places.floor().long().clamp(max=14)
    share = places - lower
    for dim in (2, 3):
        weight = share.view(-1, 1) if dim == 2 else share.view(1, -1)
        expected = (
            expected.index_select(dim, lower) * (1 - weight)
            + expected.index_select(dim, lower + 1) * weight
        )
    with torch.no_grad():
        got = network(pixels)
    assert got.std() > 0.1
    torch.testing.assert_close(got.double(), expected, atol=1e-5, rtol=1e-5)


def test_the_prompt_stays_within_one_whatever_the_weights():
    network = build()
    nn.init.normal_(network.head.final[3][1].weight, 0, 10)
    with torch.no_grad():
        prompt = network(torch.randn(2, 3, 64, 64))
    assert 0.99 < float(prompt.abs().max()) <= 1


def test_light_needs_at_most_two_billion_multiplications_at_256():
    network = on_meta("light", side=256)
    with FlopCounterMode(display=False) as counter:
        network(torch.empty(1, 3, 256, 256, device="meta"))
    by_hooks = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(
                lambda module, _inputs, output: by_hooks.append(
                    output[0, 0].numel() * module.weight.numel()
                )
            )
    network(torch.empty(1, 3, 256, 256, device="meta"))
    assert counter.get_total_flops() == 2 * sum(by_hooks)
    assert 1e9 < sum(by_hooks) <= 2e9


@pytest.mark.parametrize("name", [*PRESETS, "resnet18", "convnext_atto"])
def test_every_weight_is_used_and_has_a_gradient_from_the_first_step(name):
    network = build(name, channels=32).train()
    network(torch.randn(2, 3, 64, 64)).square().mean().backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key
    assert float(next(network.backbone.parameters()).grad.norm()) > 1e-6


def test_a_backbone_of_a_fixed_size_that_puts_channels_last_fits_too():
    network = on_meta("swin_tiny_patch4_window7_224", side=256)
    features = network.backbone(torch.empty(1, 3, 256, 256, device="meta"))
    assert [tuple(f.shape[1:]) for f in features] == [(96, 64, 64), (192, 32, 32), (384, 16, 16)]
    assert network(torch.empty(1, 3, 256, 256, device="meta")).shape == (1, 256, 64, 64)


@pytest.mark.parametrize("name", PRESETS)
def test_the_prompt_starts_small_but_not_at_zero(name):
    network = build(name).train()
    with torch.no_grad():
        prompt = network(torch.randn(2, 3, 64, 64))
    assert 0.02 < float(prompt.square().mean().sqrt()) < 0.1


def test_light_learns_where_a_disc_is():
    network = build("light", side=64, grid=16, channels=8)
    rows, columns = np.mgrid[:64, :64]
    discs = torch.from_numpy(
        np.stack([(rows - 20) ** 2 + (columns - c) ** 2 < 150 for c in (16, 30, 44, 50)])
    ).float()
    pixels = discs[:, None].expand(-1, 3, -1, -1) + 0.1 * torch.randn(4, 3, 64, 64)
    target = functional.avg_pool2d(discs[:, None], 4).gt(0.5).float()
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for _ in range(30):
        logits = 10 * network(pixels).mean(1, keepdim=True)
        loss = functional.binary_cross_entropy_with_logits(logits, target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    predicted = 10 * network(pixels).mean(1, keepdim=True) > 0
    intersection = (predicted & target.bool()).sum()
    assert float(intersection / (predicted | target.bool()).sum()) > 0.85


def test_images_in_a_batch_do_not_affect_each_other():
    network = build(side=64).eval()
    pixels = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        alone = torch.cat([network(pixels[:1]), network(pixels[1:])])
        torch.testing.assert_close(network(pixels), alone, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("name", "mean", "std"), [
    ("light", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    ("hardnet39ds", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
])  # fmt: skip
def test_the_backbone_sees_the_normalisation_that_it_expects(name, mean, std):
    network = build(name, side=32).eval()
    seen = []
    network.backbone.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    image = torch.randint(0, 256, (1, 3, 32, 32)).double()
    sam_mean = torch.tensor([123.675, 116.28, 103.53], dtype=torch.float64).view(3, 1, 1)
    sam_std = torch.tensor([58.395, 57.12, 57.375], dtype=torch.float64).view(3, 1, 1)
    with torch.no_grad():
        network(((image - sam_mean) / sam_std).float())
    expected = (image / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    torch.testing.assert_close(seen[0], expected.float(), atol=1e-5, rtol=1e-5)


def test_nothing_but_weights_and_statistics_is_saved():
    network = build()
    assert not [key for key in network.state_dict() if key.startswith("input_")]
    twin = build()
    twin.load_state_dict(network.state_dict())
    pixels = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(twin.eval()(pixels), network.eval()(pixels), atol=0, rtol=0)


def test_one_seed_gives_one_network():
    states = []
    for _ in range(2):
        torch.manual_seed(5)
        states.append(build("hardnet39ds").state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_how_the_square_is_shrunk_is_remembered():
    assert build(antialias=False).antialias is False
    assert build(antialias=True).antialias is True


def test_widths_follow_the_backbone_unless_given():
    published = PromptHead((4, 6, 10), outputs=8)
    assert published.merge_middle.layers[0].weight.shape == (6, 16, 3, 3)
    assert published.merge_fine.layers[0].weight.shape == (4, 10, 3, 3)
    slim = PromptHead((4, 6, 10), outputs=8, widths=(5, 3), separable=True)
    assert slim.merge_fine.layers[0].weight.shape == (3, 9, 3, 3)
    assert slim.final[3][0].weight.shape == (8, 1, 3, 3)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("hardnet86", "got 'hardnet86'. Did you mean 'hardnet8"),
        ("lihgt", "Did you mean 'light'"),
        ("resnet19", "Did you mean 'resnet18'"),
        (
            "??",
            "got '[?][?]'. Choose one of: hardnet39ds, hardnet68, hardnet68ds, hardnet85, light",
        ),
        (
            "vit_tiny_patch16_224",
            r"strides 4, 8 and 16, of \[\(56, 56\).*\(14, 14\).*Choose one of",
        ),
        ("inception_v3", r"must have features at strides 4, 8 and 16.*\(inception_v3\)"),
    ],
)
def test_unsuitable_networks_are_refused_with_a_suggestion(name, words):
    with pytest.raises(ModelError, match=words):
        build(name, side=224)


def test_a_network_that_cannot_take_the_side_is_refused():
    with pytest.raises(ModelError, match=r"must give features of a 80 px square, got 'maxvit"):
        build("maxvit_pico_rw_256", side=80)


def test_other_strides_and_sides_are_refused():
    with pytest.raises(ModelError, match=r"strides \(4, 8, 16\), got \(2, 4, 8\) \(Pools\)"):
        PromptNetwork(Pools((2, 4, 8)), side=64, grid=4)
    with pytest.raises(ModelError, match=r"must be 64 x 64, got \(1, 3, 32, 32\)"):
        build(side=64)(torch.zeros(1, 3, 32, 32))


@pytest.mark.parametrize(
    "name", ["hardnet39ds", "resnet18", "tf_efficientnet_lite0", "convnext_atto"]
)
def test_a_weight_file_starts_the_backbone(name, tmp_path):
    torch.manual_seed(7)
    whole = timm.create_model(name).state_dict()
    torch.save(whole, tmp_path / "weights.pth")
    torch.manual_seed(8)
    network = build(name, weights=str(tmp_path / "weights.pth"))
    loaded = network.backbone.model.state_dict()
    assert len(loaded) > 20
    assert all(torch.equal(value, whole[key]) for key, value in loaded.items())


def test_the_weights_of_another_network_are_refused(tmp_path):
    torch.save(timm.create_model("resnet18").state_dict(), tmp_path / "resnet18.pth")
    with pytest.raises(CheckpointError, match=r"left over .*\(hardnet68: .*resnet18\.pth\)"):
        build("hardnet68", weights=str(tmp_path / "resnet18.pth"))
    with pytest.raises(MissingPathError, match=r"weights must be a file, got .*absent\.pth"):
        build("light", weights=str(tmp_path / "absent.pth"))
