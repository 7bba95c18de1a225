"""The convolutional encoder: the folded form is the same function, and SAM reads it back."""

import json

import pytest
import safetensors.torch
import timm
import torch
from transformers import SamConfig, SamModel

from autosam.errors import CheckpointError, ModelError
from autosam.models.convolutional_encoder import ConvolutionalEncoder, folded_state, without_norms
from autosam.models.sam import load_sam, save_sam_hub, save_sam_meta
from autosam.models.sam_weights import POSITIONAL_KEY, TIED_POSITIONAL_KEY

BACKBONE = "tf_efficientnet_lite0"


def unsettle(module: torch.nn.Module) -> None:
    """Statistics and weights that are not those of a new network."""
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.3)
            part.running_var.uniform_(0.5, 2)
            torch.nn.init.uniform_(part.weight, 0.5, 1.5)
            torch.nn.init.normal_(part.bias, 0, 0.3)


@pytest.fixture(scope="module")
def trained() -> ConvolutionalEncoder:
    torch.manual_seed(0)
    encoder = ConvolutionalEncoder(BACKBONE, channels=32, trainable_norms=True).eval()
    unsettle(encoder)
    return encoder


@pytest.fixture(scope="module")
def sam_folder(trained, tmp_path_factory):
    """A SAM in hub format whose encoder is convolutional."""
    folder = tmp_path_factory.mktemp("convolutional")
    config = {
        "model_type": "sam",
        "vision_config": {
            "backbone": BACKBONE, "image_size": 64, "output_channels": 32, "num_pos_feats": 16,
            "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "mlp_dim": 8,
            "global_attn_indexes": [0],
        },
        "prompt_encoder_config": {"image_size": 64, "hidden_size": 32, "image_embedding_size": 4},
        "mask_decoder_config": {
            "hidden_size": 32, "mlp_dim": 64, "num_attention_heads": 2, "iou_head_hidden_dim": 32,
        },
    }  # fmt: skip
    state = SamModel(SamConfig.from_dict(config)).state_dict()
    state = {key: value for key, value in state.items() if not key.startswith("vision_encoder")}
    state.pop(TIED_POSITIONAL_KEY)
    assert POSITIONAL_KEY in state
    state |= {f"vision_encoder.{k}": v for k, v in trained.folded().state_dict().items()}
    state = {key: value.contiguous().half() for key, value in state.items()}
    safetensors.torch.save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("side", [64, 96])
def test_folding_changes_no_embedding(trained, side):
    pixels = torch.randn(2, 3, side, side)
    with torch.no_grad():
        expected, found = trained.embed(pixels), trained.folded().embed(pixels)
    assert found.shape == (2, 32, side // 16, side // 16)
    assert expected.std() > 0.5
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_a_folded_trunk_is_the_same_classifier_as_timms():
    torch.manual_seed(1)
    whole = timm.create_model(BACKBONE).eval()
    unsettle(whole)
    plain = without_norms(timm.create_model(BACKBONE)).eval()
    state = dict(plain.state_dict())
    state.update(folded_state(whole))
    state.update({k: v for k, v in whole.state_dict().items() if k.startswith("classifier")})
    plain.load_state_dict(state)
    assert not [m for m in plain.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    pixels = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(plain(pixels), whole(pixels), atol=1e-3, rtol=1e-3)


def test_fine_texture_reaches_the_embedding(trained):
    pixels = torch.zeros(1, 3, 64, 64)
    changed = pixels.clone()
    changed[..., 20:24, 20:24] = 3.0
    with torch.no_grad():
        difference = (trained.embed(changed) - trained.embed(pixels)).abs().amax(dim=1)[0]
    assert difference[1, 1] > 1.2 * difference.median()  # the cell of stride 16 that holds it


def test_sam_loads_it_and_writes_it_again(sam_folder, tmp_path, trained):
    sam = load_sam(str(sam_folder))
    pixels = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(
            sam.embed(pixels), trained.folded().half().float().embed(pixels), atol=2e-2, rtol=2e-2
        )
        assert sam.decode(sam.embed(pixels), sam.no_mask_embedding(1)).shape == (1, 1, 16, 16)
    save_sam_hub(sam, tmp_path / "again")
    again = load_sam(str(tmp_path / "again"))
    assert again.fingerprint == sam.fingerprint
    assert again.encoder_fingerprint == sam.encoder_fingerprint


def test_without_its_encoder_the_fingerprints_are_the_same(sam_folder):
    whole, part = load_sam(str(sam_folder)), load_sam(str(sam_folder), encoder=False)
    assert part.image_encoder is None
    assert part.fingerprint == whole.fingerprint


def test_metas_format_cannot_hold_it(sam_folder, tmp_path):
    with pytest.raises(ModelError, match="save_sam_hub"):
        save_sam_meta(load_sam(str(sam_folder)), tmp_path / "sam.pth")
    assert not (tmp_path / "sam.pth").exists()


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        ("no_such_network", "timm knows"),
        ("vit_tiny_patch16_224", "strides"),
        (7, "SAM that can be built"),
    ],
)
def test_another_backbone_is_refused(sam_folder, tmp_path, backbone, message):
    config = json.loads((sam_folder / "config.json").read_text())
    config["vision_config"]["backbone"] = backbone
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes((sam_folder / "model.safetensors").read_bytes())
    with pytest.raises(ModelError, match=message):
        load_sam(str(tmp_path))


def test_a_missing_weight_is_named(sam_folder, tmp_path):
    state = safetensors.torch.load_file(sam_folder / "model.safetensors")
    state.pop("vision_encoder.layer_norm.bias")
    safetensors.torch.save_file(state, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_bytes((sam_folder / "config.json").read_bytes())
    with pytest.raises(CheckpointError, match=r"layer_norm\.bias"):
        load_sam(str(tmp_path))
