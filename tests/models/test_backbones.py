"""Weights reach the feature networks that others have made with timm, flattened or not."""

import pytest
import timm
import torch

from autosam.models.backbones import load_backbone_weights
from autosam.models.imagenet import lite0_weights


@pytest.mark.parametrize(
    "name", ["resnet18", "convnext_atto", "hardnet39ds", "tf_efficientnet_lite0"]
)
def test_a_whole_feature_network_takes_a_file(name, tmp_path):
    torch.manual_seed(7)
    whole = timm.create_model(name).eval()
    torch.save(whole.state_dict(), tmp_path / "weights.pth")
    features = timm.create_model(name, features_only=True).eval()
    load_backbone_weights(features, name, str(tmp_path / "weights.pth"))
    images = torch.randn(1, 3, 64, 64)
    indices = features.feature_info.out_indices
    with torch.no_grad():
        expected = whole.forward_intermediates(images, indices=indices, intermediates_only=True)
        for feature, wanted in zip(features(images), expected, strict=True):
            torch.testing.assert_close(feature, wanted)


def test_a_whole_feature_network_takes_the_imagenet_weights():
    features = timm.create_model("tf_efficientnet_lite0", features_only=True)
    load_backbone_weights(features, "tf_efficientnet_lite0", "imagenet")
    packaged = lite0_weights()
    assert all(torch.equal(value, packaged[key]) for key, value in features.state_dict().items())
