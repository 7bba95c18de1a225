"""SAM against two independent implementations, and the three promises of a frozen part."""

import functools
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from segment_anything.modeling import (
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    TwoWayTransformer,
)
from segment_anything.modeling import Sam as MetaSam
from torch import Tensor, nn
from transformers import SamModel

from autosam.errors import ModelError
from autosam.models.frozen_sam import Sam
from autosam.models.sam import load_sam, save_sam_hub, save_sam_meta

TOLERANCE = 5e-5
"""Largest difference allowed between implementations, in standard deviations of the output."""


def make_meta_sam() -> MetaSam:
    """Meta's own code at side 64, with weights of a visible scale."""
    torch.manual_seed(3)
    sam = MetaSam(
        image_encoder=ImageEncoderViT(
            depth=3,
            embed_dim=32,
            img_size=64,
            num_heads=2,
            patch_size=16,
            mlp_ratio=3,
            norm_layer=functools.partial(nn.LayerNorm, eps=1e-6),
            qkv_bias=True,
            use_rel_pos=True,
            global_attn_indexes=[1],
            window_size=3,  # does not divide the grid of 4, so windows are padded
            out_chans=32,
        ),
        prompt_encoder=PromptEncoder(
            embed_dim=32,
            image_embedding_size=(4, 4),
            input_image_size=(64, 64),
            mask_in_chans=16,
        ),
        mask_decoder=MaskDecoder(
            num_multimask_outputs=3,
            transformer=TwoWayTransformer(depth=2, embedding_dim=32, mlp_dim=64, num_heads=8),
            transformer_dim=32,
            iou_head_depth=3,
            iou_head_hidden_dim=48,
        ),
    )
    with torch.no_grad():
        for parameter in sam.parameters():
            parameter.normal_(0, 0.5 if parameter.dim() > 1 else 0.1)
        for name, parameter in sam.named_parameters():
            if "norm" in name and name.endswith("weight"):
                parameter.add_(1)
    return sam.eval()


@pytest.fixture(scope="module")
def meta_sam() -> MetaSam:
    return make_meta_sam()


@pytest.fixture(scope="module")
def meta_file(meta_sam: MetaSam, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("meta") / "tiny.pth"
    torch.save(meta_sam.state_dict(), path)
    return path


@pytest.fixture
def sam(meta_file: Path) -> Sam:
    return load_sam(meta_file)


def embedding_and_prompt(batch: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    shape = (batch, 32, 4, 4)
    return torch.randn(shape, generator=generator), torch.randn(shape, generator=generator).tanh()


def assert_equal_functions(ours: Tensor, theirs: Tensor) -> None:
    assert ours.shape == theirs.shape
    assert theirs.std() > 0.05  # a scale at which a difference would be seen
    assert (ours - theirs).abs().max() / theirs.std() < TOLERANCE


def meta_masks(meta: MetaSam, image_embedding: Tensor, dense: Tensor) -> Tensor:
    """Meta decodes the prompts of one picture at a time."""
    with torch.no_grad():
        masks = [
            meta.mask_decoder(
                image_embeddings=one[None],
                image_pe=meta.prompt_encoder.get_dense_pe(),
                sparse_prompt_embeddings=torch.empty(1, 0, 32),
                dense_prompt_embeddings=prompt[None],
                multimask_output=False,
            )[0]
            for one, prompt in zip(image_embedding, dense, strict=True)
        ]
    return torch.cat(masks)


def test_the_image_encoder_equals_metas(sam: Sam, meta_sam: MetaSam) -> None:
    pixels = torch.randn(2, 3, 64, 64)
    assert_equal_functions(sam.embed(pixels), meta_sam.image_encoder(pixels).detach())


def test_the_prompt_encoder_equals_metas(sam: Sam, meta_sam: MetaSam) -> None:
    sparse, dense = meta_sam.prompt_encoder(points=None, boxes=None, masks=None)
    assert sparse.shape == (1, 0, 32)
    positional = meta_sam.prompt_encoder.get_dense_pe()
    assert_equal_functions(sam.image_positional_embedding, positional)
    assert torch.equal(sam.no_mask_embedding(3), dense.expand(3, -1, -1, -1))


def test_the_mask_decoder_equals_metas(sam: Sam, meta_sam: MetaSam) -> None:
    image_embedding, dense = embedding_and_prompt()
    ours = sam.decode(image_embedding, dense)
    assert_equal_functions(ours, meta_masks(meta_sam, image_embedding, dense))


def test_the_mask_decoder_equals_metas_where_its_layer_norm_epsilon_shows(tmp_path: Path) -> None:
    # A small variance, beside which 1e-5 is no longer nothing.
    meta = make_meta_sam()
    with torch.no_grad():
        for parameter in meta.mask_decoder.transformer.layers[0].self_attn.out_proj.parameters():
            parameter.mul_(0.005)
    torch.save(meta.state_dict(), tmp_path / "small.pth")
    sam = load_sam(tmp_path / "small.pth")
    image_embedding, dense = embedding_and_prompt()
    theirs = meta_masks(meta, image_embedding, dense)
    assert_equal_functions(sam.decode(image_embedding, dense), theirs)
    for layer in sam.mask_decoder.transformer.layers:
        for norm in (layer.layer_norm1, layer.layer_norm2, layer.layer_norm3, layer.layer_norm4):
            assert norm.eps == 1e-5
            norm.eps = 1e-6
    wrong = sam.decode(image_embedding, dense)
    assert (wrong - theirs).abs().max() / theirs.std() > 100 * TOLERANCE


def test_metas_layer_norm_epsilon_holds_for_hub_folders_too(
    tiny_sam_folder: Path, tmp_path: Path
) -> None:
    assert '"layer_norm_eps": 1e-06' in (tiny_sam_folder / "config.json").read_text()
    sam = load_sam(tiny_sam_folder)
    assert sam.mask_decoder.transformer.layers[0].layer_norm1.eps == 1e-5
    save_sam_hub(sam, tmp_path)
    stock = SamModel.from_pretrained(tmp_path)
    assert stock.mask_decoder.transformer.layers[0].layer_norm1.eps == 1e-5


def test_the_written_meta_file_is_the_one_that_was_read(
    sam: Sam, meta_sam: MetaSam, tmp_path: Path
) -> None:
    save_sam_meta(sam, tmp_path / "again.pth")
    state = torch.load(tmp_path / "again.pth", weights_only=True)
    expected = meta_sam.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[key], expected[key]) for key in expected)


def test_one_sam_has_one_fingerprint_in_every_format(
    sam: Sam, meta_file: Path, tmp_path: Path
) -> None:
    save_sam_hub(sam, tmp_path / "hub")
    save_sam_meta(sam, tmp_path / "meta.pth")
    SamModel.from_pretrained(tmp_path / "hub").save_pretrained(
        tmp_path / "shards", max_shard_size="50KB"
    )
    assert (tmp_path / "shards" / "model.safetensors.index.json").is_file()
    for source in ("hub", "meta.pth", "shards"):
        for encoder in (True, False):
            other = load_sam(tmp_path / source, encoder=encoder)
            assert other.fingerprint == sam.fingerprint
            assert other.encoder_fingerprint == sam.encoder_fingerprint


def test_a_fingerprint_sees_one_changed_number_in_its_part_only(
    meta_sam: MetaSam, sam: Sam, tmp_path: Path
) -> None:
    for key, same_encoder in (
        ("mask_decoder.iou_token.weight", True),
        ("image_encoder.neck.3.bias", False),
    ):
        state = {name: tensor.clone() for name, tensor in meta_sam.state_dict().items()}
        state[key].view(-1)[0] += 1e-3
        torch.save(state, tmp_path / "changed.pth")
        other = load_sam(tmp_path / "changed.pth", encoder=False)
        assert other.fingerprint != sam.fingerprint
        assert (other.encoder_fingerprint == sam.encoder_fingerprint) is same_encoder


def test_the_written_folder_is_read_by_transformers(sam: Sam, tmp_path: Path) -> None:
    save_sam_hub(sam, tmp_path)
    stock = SamModel.from_pretrained(tmp_path).eval()
    pixels = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        theirs = stock(pixel_values=pixels, multimask_output=False).pred_masks[:, 0]
    ours = sam.decode(sam.embed(pixels), sam.no_mask_embedding(2))
    assert_equal_functions(ours, theirs)


def test_adding_the_prompt_to_the_embedding_gives_the_same_masks_in_the_stock_model(
    sam: Sam, tmp_path: Path
) -> None:
    # The dense prompt replaces the no-mask embedding, which the stock model always adds.
    save_sam_hub(sam, tmp_path)
    stock = SamModel.from_pretrained(tmp_path).eval()
    image_embedding, dense = embedding_and_prompt()
    shifted = image_embedding + dense - sam.no_mask_embedding(2)
    with torch.no_grad():
        theirs = stock(image_embeddings=shifted, multimask_output=False).pred_masks[:, 0]
    assert_equal_functions(sam.decode(image_embedding, dense), theirs)
    added = sam.decode(image_embedding, dense + sam.no_mask_embedding(2))
    assert (added - theirs).abs().max() > 0.01


def test_no_sparse_prompt_equals_an_empty_one(sam: Sam) -> None:
    image_embedding, dense = embedding_and_prompt()
    empty = torch.empty(2, 0, 32)
    assert torch.equal(
        sam.decode(image_embedding, dense), sam.decode(image_embedding, dense, empty)
    )


def test_sparse_tokens_change_the_mask_as_in_metas_decoder(sam: Sam, meta_sam: MetaSam) -> None:
    image_embedding, dense = embedding_and_prompt(1)
    sparse = torch.randn(1, 3, 32)
    with torch.no_grad():
        theirs, _ = meta_sam.mask_decoder(
            image_embeddings=image_embedding,
            image_pe=meta_sam.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
        )
    assert_equal_functions(sam.decode(image_embedding, dense, sparse), theirs)
    assert (theirs - sam.decode(image_embedding, dense)).abs().max() > 0.01


def test_images_in_a_batch_do_not_affect_each_other(sam: Sam) -> None:
    pixels = torch.randn(3, 3, 64, 64)
    _, dense = embedding_and_prompt(3)
    together = sam.decode(sam.embed(pixels), dense)
    alone = [sam.decode(sam.embed(pixels[i : i + 1]), dense[i : i + 1]) for i in range(len(pixels))]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-5, atol=1e-5)


def test_gradient_passes_through_the_frozen_decoder_and_stops_at_nothing_of_it(sam: Sam) -> None:
    image_embedding, dense = embedding_and_prompt()
    dense.requires_grad_(True)
    sam.decode(image_embedding, dense).square().mean().backward()
    assert dense.grad is not None
    assert (dense.grad.abs() > 0).float().mean() > 0.99
    assert all(parameter.grad is None for parameter in sam.parameters())
    assert not any(parameter.requires_grad for parameter in sam.parameters())


def test_the_gradient_of_the_dense_prompt_is_the_slope_of_the_mask(sam: Sam) -> None:
    sam.double()
    image_embedding, dense = (tensor.double() for tensor in embedding_and_prompt(1))
    dense.requires_grad_(True)
    sam.decode(image_embedding, dense).square().mean().backward()
    direction = torch.randn_like(dense)
    with torch.no_grad():
        high, low = (
            sam.decode(image_embedding, dense + step * direction).square().mean()
            for step in (1e-5, -1e-5)
        )
    slope = float((high - low) / 2e-5)
    assert float((dense.grad * direction).sum()) == pytest.approx(slope, rel=1e-5)


def test_a_frozen_sam_stays_in_evaluation_mode_whatever_its_parent_does(sam: Sam) -> None:
    parent = nn.Sequential(sam)
    parent.train()
    assert parent.training
    assert not any(module.training for module in sam.modules())


def test_only_the_unfrozen_part_follows_train_and_takes_gradient(sam: Sam) -> None:
    sam.unfreeze("mask_decoder")
    parent = nn.Sequential(sam)
    parent.train()
    assert all(module.training for module in sam.mask_decoder.modules())
    assert not any(module.training for module in sam.image_encoder.modules())
    assert not sam.training
    sam.decode(sam.embed(torch.randn(1, 3, 64, 64)), embedding_and_prompt(1)[1]).mean().backward()
    assert all(parameter.grad is None for parameter in sam.image_encoder.parameters())
    parent.eval()
    assert not any(module.training for module in sam.modules())


def test_every_unfrozen_weight_of_the_decoder_receives_a_gradient(sam: Sam) -> None:
    # Distributed training takes a weight that trains without a gradient for an error.
    sam.unfreeze("mask_decoder")
    sam.decode(*embedding_and_prompt()).square().mean().backward()
    for name, parameter in sam.mask_decoder.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
    left_out = [n for n, p in sam.mask_decoder.named_parameters() if not p.requires_grad]
    other_outputs = ("iou_prediction_head", *(f"output_hypernetworks_mlps.{i}" for i in (1, 2, 3)))
    assert all(name.startswith(other_outputs) for name in left_out)


def test_an_unfrozen_encoder_receives_gradient_through_the_decoder(sam: Sam) -> None:
    sam.unfreeze("image_encoder")
    sam.decode(sam.embed(torch.randn(1, 3, 64, 64)), embedding_and_prompt(1)[1]).mean().backward()
    assert all(parameter.grad is not None for parameter in sam.image_encoder.parameters())
    assert all(parameter.grad is None for parameter in sam.mask_decoder.parameters())


def test_unfreezing_an_unknown_or_absent_part_is_refused(meta_file: Path) -> None:
    sam = load_sam(meta_file, encoder=False)
    with pytest.raises(
        ModelError, match=r"must be 'image_encoder' or 'mask_decoder'.*got 'image_enc"
    ):
        sam.unfreeze("image_encoder")
    with pytest.raises(ModelError, match="got 'prompt_encoder'"):
        sam.unfreeze("prompt_encoder")  # type: ignore[arg-type]


def test_a_cached_half_precision_embedding_decodes_like_its_float32_copy(sam: Sam) -> None:
    image_embedding, dense = embedding_and_prompt()
    half = image_embedding.half()
    logits = sam.decode(half, dense)
    assert logits.dtype == torch.float32
    assert torch.equal(logits, sam.decode(half.float(), dense))


def test_without_the_encoder_only_decoding_works(sam: Sam, meta_file: Path, tmp_path: Path) -> None:
    light = load_sam(meta_file, encoder=False)
    assert light.image_encoder is None
    assert (light.side, light.grid, light.low_side, light.channels) == (64, 4, 16, 32)
    arguments = embedding_and_prompt()
    assert torch.equal(light.decode(*arguments), sam.decode(*arguments))
    with pytest.raises(ModelError, match="Load it with encoder=True"):
        light.embed(torch.zeros(1, 3, 64, 64))
    with pytest.raises(ModelError, match="to be written, got one without"):
        save_sam_hub(light, tmp_path / "light")
    assert not (tmp_path / "light").exists()


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (torch.zeros(1, 3, 32, 64), r"\(any, 3, 64, 64\), got torch.float32 \(1, 3, 32, 64\)"),
        (torch.zeros(3, 64, 64), r"got torch.float32 \(3, 64, 64\)"),
        (torch.zeros(1, 3, 64, 64, dtype=torch.uint8), r"floating point .*got torch.uint8"),
    ],
)
def test_pixels_of_another_side_or_kind_are_refused(sam: Sam, pixels: Tensor, message: str) -> None:
    with pytest.raises(ModelError, match="pixels must be.*" + message):
        sam.embed(pixels)


def test_embeddings_and_prompts_of_another_shape_are_refused(sam: Sam) -> None:
    image_embedding, dense = embedding_and_prompt()
    with pytest.raises(ModelError, match=r"image embedding must be .*\(any, 32, 4, 4\)"):
        sam.decode(image_embedding[:, :, :2], dense)
    with pytest.raises(ModelError, match=r"dense prompt must be .*\(2, 32, 4, 4\), got .*\(1, 32"):
        sam.decode(image_embedding, dense[:1])
    with pytest.raises(ModelError, match=r"sparse prompt must be .*\(2, any, 32\)"):
        sam.decode(image_embedding, dense, torch.zeros(2, 1, 1, 32))


def test_a_half_precision_checkpoint_becomes_float32_of_equal_value(
    tiny_sam_folder: Path, tmp_path: Path
) -> None:
    SamModel.from_pretrained(tiny_sam_folder).half().save_pretrained(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    sam = load_sam(tmp_path)
    assert stored["mask_decoder.iou_token.weight"].dtype == torch.float16
    assert sam.mask_decoder.iou_token.weight.dtype == torch.float32
    assert torch.equal(
        sam.mask_decoder.iou_token.weight, stored["mask_decoder.iou_token.weight"].float()
    )
    save_sam_hub(sam, tmp_path / "float32")
    assert load_sam(tmp_path / "float32").fingerprint == sam.fingerprint


NANO_FINGERPRINT = "e3ec76a8ce1e098bf991111a2e209dfdc7912ea5abf986280e73c5da73fc2820"
NANO_ENCODER_FINGERPRINT = "b24abc307fcd7b64a1c0d3cfdcb30c8d984f193c09c2f572dda58d77ef0b8524"


def test_nano_is_the_same_on_every_machine() -> None:
    sam = load_sam("nano")
    assert sam.fingerprint == NANO_FINGERPRINT
    assert sam.encoder_fingerprint == NANO_ENCODER_FINGERPRINT
    assert load_sam("nano", encoder=False).fingerprint == NANO_FINGERPRINT
    assert sam.is_random
    assert (sam.side, sam.grid, sam.low_side, sam.channels) == (512, 32, 128, 128)
    assert sum(p.numel() for p in sam.image_encoder.parameters()) == 4_089_536


def test_nanos_frozen_decoder_lets_a_bounded_prompt_write_any_mask() -> None:
    sam = load_sam("nano")
    rough = torch.from_numpy(np.random.RandomState(4).standard_normal((1, 1, 9, 9))).float()
    target = F.interpolate(rough, size=(128, 128), mode="bicubic") > 0.15
    image_embedding = sam.embed(
        F.interpolate(torch.randn(1, 3, 64, 64), size=(512, 512), mode="bilinear")
    )
    assert image_embedding.std() == pytest.approx(1, abs=0.1)
    free = torch.zeros(1, 128, 32, 32, requires_grad=True)
    optimiser = torch.optim.Adam([free], lr=0.05)
    for _ in range(40):
        logits = sam.decode(image_embedding, torch.tanh(free))
        loss = F.binary_cross_entropy_with_logits(logits, target.float())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    water = logits > 0
    assert float((water & target).sum() / (water | target).sum()) > 0.9
