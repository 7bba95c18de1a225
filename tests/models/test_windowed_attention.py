"""The encoder in strips against transformers' own, whose function it must be, on weights that show it."""

from typing import Any

import pytest
import torch
from torch import nn
from transformers import SamVisionConfig
from transformers.models.sam.modeling_sam import SamVisionEncoder

from autosam.models import windowed_attention
from autosam.models.frozen_sam import Sam
from autosam.models.windowed_attention import encode_in_strips, encodes_in_strips

TOLERANCE = 3e-6


def make_encoder(**changes: Any) -> SamVisionEncoder:
    """Weights of a visible scale: as initialised, a missing bias of positions would not show."""
    values = {
        "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "mlp_dim": 64,
        "global_attn_indexes": [1], "image_size": 80, "window_size": 2, "output_channels": 16,
    }  # fmt: skip
    encoder = SamVisionEncoder(SamVisionConfig(**{**values, **changes}))
    for name, parameter in encoder.named_parameters():
        scale = 0.5 if "pos" in name else 0.2
        nn.init.normal_(parameter, 1.0 * ("norm" in name and parameter.dim() == 1), scale)
    return encoder.eval().requires_grad_(False)


def relative_difference(encoder: SamVisionEncoder, pixels: torch.Tensor) -> float:
    theirs = encoder(pixels).last_hidden_state
    ours = encode_in_strips(encoder, pixels)
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype
    return float((ours - theirs).norm() / theirs.norm())


@pytest.mark.parametrize("window", [2, 3, 5, 7])  # the grid of 5: padded, divided, exceeded
@pytest.mark.parametrize("strip_bytes", [1, 2**24])
def test_the_embedding_is_that_of_transformers(
    window: int, strip_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windowed_attention, "STRIP_BYTES", strip_bytes)
    monkeypatch.setattr(windowed_attention, "BIAS_BYTES", strip_bytes)
    encoder = make_encoder(window_size=window)
    assert relative_difference(encoder, torch.randn(2, 3, 80, 80)) < TOLERANCE


@pytest.mark.parametrize(
    "changes",
    [
        {"qkv_bias": False},
        {"use_rel_pos": False},
        {"use_abs_pos": False},
        {"global_attn_indexes": []},
        {"global_attn_indexes": [0, 1, 2]},
        {"num_attention_heads": 8, "mlp_dim": 24},
        {"image_size": 112, "patch_size": 8, "window_size": 4},
    ],
    ids=str,
)
def test_every_kind_of_sam_is_encoded_as_by_transformers(changes: dict[str, Any]) -> None:
    encoder = make_encoder(**changes)
    pixels = torch.randn(1, 3, *[encoder.config.image_size] * 2)
    assert relative_difference(encoder, pixels) < TOLERANCE


@pytest.mark.parametrize("name", ["rel_pos_h", "rel_pos_w", "qkv.bias"])
def test_what_the_strips_treat_by_themselves_shows_in_the_embedding(name: str) -> None:
    # Were it not so, the comparisons above would prove nothing of it.
    encoder, pixels = make_encoder(window_size=3), torch.randn(1, 3, 80, 80)
    before = encode_in_strips(encoder, pixels)
    for layer in encoder.layers:
        layer.attn.get_parameter(name).zero_()
    change = (encode_in_strips(encoder, pixels) - before).norm() / before.norm()
    assert change > 1000 * TOLERANCE


def test_more_threads_than_one_head_feeds_take_several_heads_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(windowed_attention, "THREADS_OF_A_HEAD", 1 / 3)
    encoder = make_encoder(num_attention_heads=4)
    assert relative_difference(encoder, torch.randn(1, 3, 80, 80)) < TOLERANCE


@pytest.mark.parametrize("window", [3, 0])
def test_half_precision_is_nearer_than_that_of_transformers(window: int) -> None:
    encoder, pixels = make_encoder(window_size=window), torch.randn(1, 3, 80, 80)
    exact = encoder(pixels).last_hidden_state
    with torch.autocast("cpu", torch.bfloat16):
        ours = encode_in_strips(encoder, pixels)
        theirs = encoder(pixels).last_hidden_state
    assert ours.dtype == torch.float32
    ours_error, theirs_error = ((half - exact).norm() for half in (ours, theirs))
    assert 0 < ours_error < theirs_error
    assert all(one.dtype == torch.float32 for one in encoder.parameters())


def test_rows_and_columns_of_a_bias_add_up_in_either_format(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    down, across = torch.randn(2, 2, 3, 5, 4, 7).bfloat16()
    by_product = windowed_attention._bias(down, across)
    monkeypatch.setattr(windowed_attention, "SHORT_SIDE", 6)
    assert torch.equal(by_product, windowed_attention._bias(down, across))
    wanted = down[1, 2, 0, 3, 6] + across[1, 2, 0, 3, 2]
    assert by_product[1, 2, 3, 6 * 7 + 2] == wanted


def test_a_sam_encodes_in_strips_until_its_encoder_trains(
    tiny_sam: Sam, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("strips have no gradient")

    pixels = torch.randn(1, 3, 64, 64)
    assert encodes_in_strips(tiny_sam.image_encoder, pixels)
    assert not encodes_in_strips(tiny_sam.image_encoder, pixels.requires_grad_())
    assert not encodes_in_strips(nn.Identity(), pixels.detach())
    tiny_sam.unfreeze("image_encoder")
    monkeypatch.setattr("autosam.models.frozen_sam.encode_in_strips", refuse)
    tiny_sam.embed(pixels.detach()).mean().backward()
    assert all(p.grad is not None for p in tiny_sam.image_encoder.parameters())
    with torch.no_grad(), pytest.raises(AssertionError, match="no gradient"):
        tiny_sam.embed(pixels.detach())
