"""HarDNet against its published tables, counts and key names, and against pytorchcv on equal weights."""

from pathlib import Path

import pytest
import timm
import torch
from pytorchcv.models import hardnet as independent
from safetensors.torch import save_file
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from autosam.errors import CheckpointError, MissingPathError, ModelError
from autosam.models.hardnet import HarDNet, load_hardnet_weights
from autosam.models.hardnet_blocks import ARCHITECTURES, HarDBlock, block_links, block_widths

# Growth, multiplier, input channels; output and input channels of each layer; channels after
# concatenation; transition: of every block, from the tables of the paper's reference networks.
TABLES = {
    "hardnet39ds": [
        (16, 1.6, 48, [16, 26, 16, 40], [48, 64, 26, 90], 72, 96),
        (20, 1.6, 96,
         [20, 32, 20, 52, 20, 32, 20, 82, 20, 32, 20, 52, 20, 32, 20, 132],
         [96, 116, 32, 148, 52, 72, 32, 200, 82, 102, 32, 134, 52, 72, 32, 282], 292, 320),
        (64, 1.6, 320,
         [64, 102, 64, 164, 64, 102, 64, 262], [320, 384, 102, 486, 164, 228, 102, 650], 518, 640),
        (160, 1.6, 640, [160, 256, 160, 410], [640, 800, 256, 1056], 730, 1024),
    ],
    "hardnet68": [
        (14, 1.7, 64,
         [14, 24, 14, 40, 14, 24, 14, 68], [64, 78, 24, 102, 40, 54, 24, 142], 124, 128),
        (16, 1.7, 128,
         [16, 28, 16, 46, 16, 28, 16, 78, 16, 28, 16, 46, 16, 28, 16, 134],
         [128, 144, 28, 172, 46, 62, 28, 218, 78, 94, 28, 122, 46, 62, 28, 296], 262, 256),
        (20, 1.7, 256,
         [20, 34, 20, 58, 20, 34, 20, 98, 20, 34, 20, 58, 20, 34, 20, 168],
         [256, 276, 34, 310, 58, 78, 34, 368, 98, 118, 34, 152, 58, 78, 34, 466], 328, 320),
        (40, 1.7, 320,
         [40, 68, 40, 116, 40, 68, 40, 196, 40, 68, 40, 116, 40, 68, 40, 334],
         [320, 360, 68, 428, 116, 156, 68, 544, 196, 236, 68, 304, 116, 156, 68, 740], 654, 640),
        (160, 1.7, 640, [160, 272, 160, 462], [640, 800, 272, 1072], 782, 1024),
    ],
    "hardnet85": [
        (24, 1.7, 96,
         [24, 40, 24, 70, 24, 40, 24, 118], [96, 120, 40, 160, 70, 94, 40, 230], 214, 192),
        (24, 1.7, 192,
         [24, 40, 24, 70, 24, 40, 24, 118, 24, 40, 24, 70, 24, 40, 24, 200],
         [192, 216, 40, 256, 70, 94, 40, 326, 118, 142, 40, 182, 70, 94, 40, 444], 392, 256),
        (28, 1.7, 256,
         [28, 48, 28, 80, 28, 48, 28, 138, 28, 48, 28, 80, 28, 48, 28, 234],
         [256, 284, 48, 332, 80, 108, 48, 412, 138, 166, 48, 214, 80, 108, 48, 550], 458, 320),
        (36, 1.7, 320,
         [36, 62, 36, 104, 36, 62, 36, 176, 36, 62, 36, 104, 36, 62, 36, 300],
         [320, 356, 62, 418, 104, 140, 62, 522, 176, 212, 62, 274, 104, 140, 62, 698], 588, 480),
        (48, 1.7, 480,
         [48, 82, 48, 138, 48, 82, 48, 236, 48, 82, 48, 138, 48, 82, 48, 400],
         [480, 528, 82, 610, 138, 186, 82, 748, 236, 284, 82, 366, 138, 186, 82, 984], 784, 720),
        (256, 1.7, 720, [256, 436, 256, 740], [720, 976, 436, 1412], 1252, 1280),
    ],
}  # fmt: skip


def on_meta(name: str, **options: object) -> nn.Module:
    """The structure alone: no weights in memory, no time to run."""
    with torch.device("meta"):
        return timm.create_model(name, **options).eval()


def randomise(network: nn.Module) -> None:
    """Weights of a visible scale, and batch statistics that are not 0 and 1."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0.2, 0.3)
            nn.init.normal_(module.running_mean, 0, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
        elif isinstance(module, nn.Conv2d | nn.Linear):
            fan = module.weight[0].numel()
            nn.init.normal_(module.weight, 0, (2 / fan) ** 0.5)


def test_links_of_the_first_eight_layers_by_hand():
    assert block_links(8) == [[0], [1, 0], [2], [3, 2, 0], [4], [5, 4], [6], [7, 6, 4, 0]]


def test_widths_are_made_even_downwards_from_the_next_integer():
    # 14 x 1.7 = 23.8 -> 24; 14 x 1.7 x 1.7 = 40.46 -> 40; 14 x 1.7^3 = 68.78 -> 68
    assert block_widths(block_links(8), growth=14, multiplier=1.7)[1::2] == [24, 40, 24, 68]


@pytest.mark.parametrize("name", TABLES)
def test_every_block_equals_the_published_table(name):
    network = on_meta(name)
    blocks = [module for module in network.modules() if isinstance(module, HarDBlock)]
    assert len(blocks) == len(TABLES[name])
    positions = [n for n, module in enumerate(network.base) if isinstance(module, HarDBlock)]
    for block, position, row in zip(blocks, positions, TABLES[name], strict=True):
        growth, multiplier, inputs, outputs, read, concatenated, transition = row
        first = [
            next(m for m in layer.modules() if isinstance(m, nn.Conv2d)) for layer in block.layers
        ]
        assert [convolution.out_channels for convolution in first] == outputs
        assert [convolution.in_channels for convolution in first] == read
        assert block.channels == concatenated
        after = next(
            module.conv for module in network.base[position + 1 :] if hasattr(module, "conv")
        )
        assert (after.in_channels, after.out_channels) == (concatenated, transition)
        assert (growth, inputs) == (outputs[0], read[0])
        assert multiplier == ARCHITECTURES[name].multiplier


def test_the_depthwise_68_has_the_channels_of_the_plain_one():
    plain, depthwise = ARCHITECTURES["hardnet68"], ARCHITECTURES["hardnet68ds"]
    assert (plain.stem, plain.multiplier, plain.blocks) == (
        depthwise.stem, depthwise.multiplier, depthwise.blocks,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "millions", "entries", "giga"),
    [
        ("hardnet39ds", 3.488, 446, 0.429),
        ("hardnet68ds", 4.181, 788, 0.775),
        ("hardnet68", 17.565, 404, 4.246),
        ("hardnet85", 36.670, 506, 9.074),
    ],
)
def test_size_and_cost_equal_the_published_ones(name, millions, entries, giga):
    network = on_meta(name)
    assert round(sum(p.numel() for p in network.parameters()) / 1e6, 3) == millions
    assert len(network.state_dict()) == entries
    with FlopCounterMode(display=False) as counter:
        network(torch.empty(1, 3, 224, 224, device="meta"))
    assert counter.get_total_flops() / 2e9 == pytest.approx(giga, abs=6e-4)


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("hardnet85", ["base.0.conv.weight", "base.4.norm.running_var", "base.3.layers.7.conv.weight",
                       "base.16.layers.3.norm.num_batches_tracked", "base.18.conv.weight", "base.19.3.bias"]),
        ("hardnet68", ["base.1.norm.bias", "base.14.layers.0.conv.weight", "base.15.conv.weight",
                       "base.16.3.weight"]),
        ("hardnet39ds", ["base.2.dwconv.weight", "base.2.norm.weight", "base.3.layers.0.layer1.conv.weight",
                         "base.3.layers.0.layer1.norm.bias", "base.3.layers.3.layer2.dwconv.weight",
                         "base.12.layers.3.layer2.norm.running_mean", "base.11.dwconv.weight",
                         "base.14.3.weight"]),
        ("hardnet68ds", ["base.13.dwconv.weight", "base.13.norm.weight", "base.16.3.weight"]),
    ],
)  # fmt: skip
def test_published_key_names(name, keys):
    state = on_meta(name).state_dict()
    assert set(keys) <= state.keys()
    assert not [key for key in state if key.endswith("conv.bias")]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_equal_weights_give_the_outputs_of_an_independent_implementation(name):
    torch.manual_seed(1)
    ours = timm.create_model(name).eval()
    randomise(ours)
    theirs = getattr(independent, name)()
    for module in list(theirs.modules()):
        for child, layer in module.named_children():
            if type(layer) is nn.ReLU:
                # pytorchcv leaves the layers inside plain blocks uncapped; the published network caps all.
                setattr(module, child, nn.ReLU6())
    own, other = ours.state_dict(), theirs.state_dict()
    assert [v.shape for v in own.values()] == [v.shape for v in other.values()]
    theirs.load_state_dict(dict(zip(other, own.values(), strict=True)))
    theirs.eval()
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        expected, got = theirs(images), ours(images)
    assert expected.std() > 0.1
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "channels", "positions"),
    [
        ("hardnet39ds", [48, 96, 320, 640, 1024], [1, 4, 7, 10, 13]),
        ("hardnet68", [64, 128, 320, 640, 1024], [1, 4, 9, 12, 15]),
        ("hardnet68ds", [64, 128, 320, 640, 1024], [1, 4, 9, 12, 15]),
        ("hardnet85", [96, 192, 320, 720, 1280], [1, 4, 9, 14, 18]),
    ],
)
def test_timm_features_are_the_outputs_of_the_published_taps(name, channels, positions):
    features = timm.create_model(name, features_only=True).eval()
    assert features.feature_info.reduction() == [2, 4, 8, 16, 32]
    assert features.feature_info.channels() == channels
    whole = timm.create_model(name).eval()
    randomise(whole)
    features.model.load_state_dict(whole.state_dict(), strict=False)
    tapped = {}
    for position in positions:
        whole.base[position].register_forward_hook(
            lambda _module, _inputs, output, position=position: tapped.update({position: output})
        )
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        whole(images)
        maps = features(images)
    for stride, position, feature in zip((2, 4, 8, 16, 32), positions, maps, strict=True):
        assert feature.shape[-2:] == (64 // stride, 96 // stride)
        torch.testing.assert_close(feature, tapped[position])


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("indices", [(1, 2, 3), (4,)])
def test_a_feature_network_has_no_parameter_without_gradient(name, indices):
    features = timm.create_model(name, features_only=True, out_indices=indices)
    sum(feature.square().mean() for feature in features(torch.randn(2, 3, 64, 64))).backward()
    without = [key for key, parameter in features.named_parameters() if parameter.grad is None]
    assert without == []


def test_a_stride_16_backbone_of_85_leaves_17_and_a_half_million_weights_out():
    parameters = on_meta("hardnet85", features_only=True, out_indices=(1, 2, 3)).parameters()
    assert sum(p.numel() for p in parameters) / 1e6 == pytest.approx(17.88, abs=0.005)


def test_classes_and_channels_are_free():
    network = timm.create_model("hardnet39ds", num_classes=5, in_chans=1).eval()
    images = torch.randn(2, 1, 64, 64)
    assert network(images).shape == (2, 5)
    assert network.get_classifier().out_features == 5
    network.reset_classifier(0)
    features = network.forward_features(images)
    pooled = features.mean((2, 3))
    torch.testing.assert_close(network(images), pooled)
    torch.testing.assert_close(network.forward_head(features, pre_logits=True), pooled)
    last, maps = network.forward_intermediates(images, indices=[0, 4])
    torch.testing.assert_close(last, features)
    torch.testing.assert_close(maps[1], features)


def test_other_pooling_and_layouts_are_refused():
    with pytest.raises(ModelError, match="global_pool must be 'avg', got 'max'"):
        HarDNet(ARCHITECTURES["hardnet39ds"], global_pool="max")
    with pytest.raises(ModelError, match="output_fmt must be 'NCHW', got 'NLC'"):
        on_meta("hardnet39ds").forward_intermediates(torch.empty(1), output_fmt="NLC")


@pytest.fixture(scope="module")
def published() -> nn.Module:
    torch.manual_seed(2)
    network = timm.create_model("hardnet39ds")
    randomise(network)
    return network


def save(state: dict[str, torch.Tensor], path: Path) -> Path:
    if path.suffix == ".safetensors":
        save_file({key: value.contiguous() for key, value in state.items()}, path)
    else:
        torch.save(state, path)
    return path


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("with_classifier", [True, False])
@pytest.mark.parametrize("options", [{}, {"features_only": True, "out_indices": (1, 2, 3)}])
def test_a_published_file_loads_whole_or_cut_off(
    published, tmp_path, suffix, with_classifier, options
):
    state = published.state_dict()
    if not with_classifier:
        state = {key: value for key, value in state.items() if not key.startswith("base.14.")}
    path = save(state, tmp_path / f"weights{suffix}")
    network = timm.create_model("hardnet39ds", **options)
    load_hardnet_weights(network, path)
    loaded = network.state_dict()
    for key, value in loaded.items():
        key = key.removeprefix("model.")
        if key in state:
            torch.testing.assert_close(value, state[key], atol=0, rtol=0)
    kept = [key for key in loaded if key.removeprefix("model.") not in state]
    assert kept == ([] if options or with_classifier else ["base.14.3.weight", "base.14.3.bias"])


def test_another_network_s_file_is_refused_and_nothing_changes(published, tmp_path):
    path = save(published.state_dict(), tmp_path / "hardnet39ds.pth")
    network = timm.create_model("hardnet68ds", features_only=True, out_indices=(1,))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"left over .*of another shape .*hardnet39ds\.pth"):
        load_hardnet_weights(network, path)
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key])


def test_a_missing_tensor_is_named(published, tmp_path):
    state = dict(published.state_dict())
    del state["base.4.conv.weight"]
    path = save(state, tmp_path / "weights.pth")
    with pytest.raises(
        CheckpointError, match=r"1 missing \['base\.4\.conv\.weight'\], 0 left over"
    ):
        load_hardnet_weights(timm.create_model("hardnet39ds"), path)


def test_only_hardnets_are_loaded_and_only_from_files(tmp_path):
    with pytest.raises(ModelError, match="model must be a HarDNet, got Linear"):
        load_hardnet_weights(nn.Linear(1, 1), tmp_path / "weights.pth")
    with pytest.raises(MissingPathError, match=r"weights must be a file, got .*absent"):
        load_hardnet_weights(timm.create_model("hardnet39ds"), tmp_path / "absent.pth")
