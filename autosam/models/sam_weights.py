"""SAM's weights by name: Meta's names, Hugging Face's, the architecture behind them, and fingerprints.

Canonical names are those of a Hugging Face `SamModel` file, where the positional matrix stands once, as
`shared_image_embedding.positional_embedding`. Fingerprints are made from canonical names and float32
values, so they do not depend on the file format.

Source of Meta's names: github.com/facebookresearch/segment-anything (Apache-2.0).
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from autosam.errors import CheckpointError

Shape = tuple[int, ...]

ENCODER_PREFIX = "vision_encoder."
POSITIONAL_KEY = "shared_image_embedding.positional_embedding"
TIED_POSITIONAL_KEY = "prompt_encoder.shared_embedding.positional_embedding"
META_ATTENTION_HEADS = 8
"""Of the mask decoder; Meta's files do not tell, and every published one has eight."""

# (Meta, canonical). The order matters: the general norms come after the numbered ones.
_FRAGMENTS = (
    ("prompt_encoder.pe_layer.positional_encoding_gaussian_matrix", POSITIONAL_KEY),
    ("image_encoder.", ENCODER_PREFIX),
    ("encoder.patch_embed.proj.", "encoder.patch_embed.projection."),
    ("encoder.blocks.", "encoder.layers."),
    ("encoder.neck.0.", "encoder.neck.conv1."),
    ("encoder.neck.1.", "encoder.neck.layer_norm1."),
    ("encoder.neck.2.", "encoder.neck.conv2."),
    ("encoder.neck.3.", "encoder.neck.layer_norm2."),
    ("encoder.point_embeddings.", "encoder.point_embed."),
    ("encoder.mask_downscaling.0.", "encoder.mask_embed.conv1."),
    ("encoder.mask_downscaling.1.", "encoder.mask_embed.layer_norm1."),
    ("encoder.mask_downscaling.3.", "encoder.mask_embed.conv2."),
    ("encoder.mask_downscaling.4.", "encoder.mask_embed.layer_norm2."),
    ("encoder.mask_downscaling.6.", "encoder.mask_embed.conv3."),
    ("decoder.output_upscaling.0.", "decoder.upscale_conv1."),
    ("decoder.output_upscaling.1.", "decoder.upscale_layer_norm."),
    ("decoder.output_upscaling.3.", "decoder.upscale_conv2."),
    ("transformer.norm_final_attn.", "transformer.layer_norm_final_attn."),
    (".norm1.", ".layer_norm1."),
    (".norm2.", ".layer_norm2."),
    (".norm3.", ".layer_norm3."),
    (".norm4.", ".layer_norm4."),
)
_META_MLP = re.compile(
    r"(mask_decoder\.(?:output_hypernetworks_mlps\.\d+|iou_prediction_head))\.layers\.(\d+)\."
)
_CANONICAL_MLP = re.compile(
    r"(mask_decoder\.(?:output_hypernetworks_mlps\.\d+|iou_prediction_head))"
    r"\.(proj_in|proj_out|layers\.(\d+))\."
)

_WITHOUT_EFFECT = frozenset(
    {
        "_name_or_path",
        "architectures",
        "dtype",
        "initializer_range",
        "layer_norm_eps",
        "mlp_ratio",
        "scale",
        "torch_dtype",
        "transformers_version",
    }
)
"""Settings that may differ between two configurations of equal networks with given weights."""


def canonical_from_meta(keys: Iterable[str]) -> dict[str, str]:
    """Map each of Meta's names to its canonical name."""
    keys = list(keys)
    last: dict[str, int] = {}
    for key in keys:
        if match := _META_MLP.match(key):
            last[match[1]] = max(last.get(match[1], 0), int(match[2]))

    def rename_layer(match: re.Match[str]) -> str:
        index = int(match[2])
        if index == 0:
            return f"{match[1]}.proj_in."
        return f"{match[1]}.{'proj_out' if index == last[match[1]] else f'layers.{index - 1}'}."

    renamed = {}
    for key in keys:
        name = key
        for meta, canonical in _FRAGMENTS:
            name = name.replace(meta, canonical)
        renamed[key] = _META_MLP.sub(rename_layer, name)
    return renamed


def meta_from_canonical(keys: Iterable[str]) -> dict[str, str]:
    """Map each canonical name to Meta's name."""
    keys = list(keys)
    inner: dict[str, int] = {}
    for key in keys:
        if match := _CANONICAL_MLP.match(key):
            inner[match[1]] = max(inner.get(match[1], 0), int(match[3] or -1) + 1)

    def rename_layer(match: re.Match[str]) -> str:
        position = {"proj_in": 0, "proj_out": inner[match[1]] + 1}
        return f"{match[1]}.layers.{position.get(match[2], int(match[3] or 0) + 1)}."

    renamed = {}
    for key in keys:
        name = _CANONICAL_MLP.sub(rename_layer, key)
        for meta, canonical in _FRAGMENTS:
            name = name.replace(canonical, meta)
        renamed[key] = name
    return renamed


def config_from_shapes(shapes: Mapping[str, Shape], *, where: str) -> dict[str, Any]:
    """The architecture, in the words of a hub `config.json`, read off the shapes of the weights.

    Args:
        shapes: By canonical name.
        where: The file, for the error message.

    Raises:
        CheckpointError: The weights are not those of a SAM.
    """
    try:
        vision = _vision_config(shapes)
        hidden = shapes["prompt_encoder.no_mask_embed.weight"][1]
        return {
            "model_type": "sam",
            "vision_config": vision,
            "prompt_encoder_config": {
                "hidden_size": hidden,
                "image_size": vision["image_size"],
                "patch_size": vision["patch_size"],
                "image_embedding_size": vision["image_size"] // vision["patch_size"],
                "mask_input_channels": shapes["prompt_encoder.mask_embed.conv2.weight"][0],
                "num_point_embeddings": _count(shapes, r"prompt_encoder\.point_embed\.(\d+)\."),
            },
            "mask_decoder_config": _decoder_config(shapes),
        }
    except (KeyError, IndexError, ZeroDivisionError) as error:
        raise CheckpointError(
            f"weights must be a SAM's, got {where} (nothing fits {error}). Give one of Meta's "
            "sam_vit_b, sam_vit_l or sam_vit_h .pth files, or one of the same architecture."
        ) from error


def _vision_config(shapes: Mapping[str, Shape]) -> dict[str, Any]:
    _, grid, _, hidden = shapes["vision_encoder.pos_embed"]
    patch = shapes["vision_encoder.patch_embed.projection.weight"][-1]
    layers = _count(shapes, r"vision_encoder\.layers\.(\d+)\.")
    # A layer's table of relative positions has 2 * size - 1 rows: size is the grid where it is global.
    tables = [shapes[f"vision_encoder.layers.{index}.attn.rel_pos_h"] for index in range(layers)]
    spans = [(rows + 1) // 2 for rows, _ in tables]
    return {
        "hidden_size": hidden,
        "output_channels": shapes["vision_encoder.neck.conv1.weight"][0],
        "num_hidden_layers": layers,
        "num_attention_heads": hidden // tables[0][1],
        "num_channels": shapes["vision_encoder.patch_embed.projection.weight"][1],
        "image_size": grid * patch,
        "patch_size": patch,
        "qkv_bias": "vision_encoder.layers.0.attn.qkv.bias" in shapes,
        "window_size": min(spans),
        "global_attn_indexes": [index for index, span in enumerate(spans) if span == grid],
        "num_pos_feats": shapes[POSITIONAL_KEY][1],
        "mlp_dim": shapes["vision_encoder.layers.0.mlp.lin1.weight"][0],
    }


def _decoder_config(shapes: Mapping[str, Shape]) -> dict[str, Any]:
    layer = "mask_decoder.transformer.layers.0."
    inner, hidden = shapes[layer + "cross_attn_token_to_image.q_proj.weight"]
    head = r"mask_decoder\.iou_prediction_head\.(proj_in|proj_out|layers\.\d+)\.weight"
    return {
        "hidden_size": hidden,
        "mlp_dim": shapes[layer + "mlp.lin1.weight"][0],
        "num_hidden_layers": _count(shapes, r"mask_decoder\.transformer\.layers\.(\d+)\."),
        "num_attention_heads": META_ATTENTION_HEADS,
        "attention_downsample_rate": hidden // inner,
        "num_multimask_outputs": shapes["mask_decoder.mask_tokens.weight"][0] - 1,
        "iou_head_depth": sum(bool(re.fullmatch(head, key)) for key in shapes),
        "iou_head_hidden_dim": shapes["mask_decoder.iou_prediction_head.proj_in.weight"][0],
    }


def _count(shapes: Mapping[str, Shape], pattern: str) -> int:
    """How many numbers stand where `pattern` has its group."""
    return len({match[1] for key in shapes if (match := re.match(pattern, key))})


def tensor_digest(tensor: Tensor) -> bytes:
    """SHA-256 of the shape and the float32 bytes."""
    values = tensor.detach().to(device="cpu", dtype=torch.float32).contiguous()
    digest = hashlib.sha256(repr(tuple(values.shape)).encode())
    digest.update(values.reshape(-1).numpy().data)
    return digest.digest()


def fingerprint(digests: Mapping[str, bytes]) -> str:
    """SHA-256, as hex, over canonical names in order, each with its tensor's digest."""
    total = hashlib.sha256()
    for key in sorted(digests):
        total.update(key.encode() + b"\0" + digests[key])
    return total.hexdigest()


def lost_settings(ours: Mapping[str, Any], told: Mapping[str, Any]) -> dict[str, Any]:
    """What of our configuration differs from the one that a file without configuration tells.

    Args:
        ours: In the words of a hub `config.json`; older files carry more settings than matter.
        told: The same, completed from `config_from_shapes`.
    """
    return {
        f"{part}.{key}": ours[part].get(key)
        for part in ("vision_config", "prompt_encoder_config", "mask_decoder_config")
        for key, value in told[part].items()
        if key not in _WITHOUT_EFFECT and ours[part].get(key) != value
    }
