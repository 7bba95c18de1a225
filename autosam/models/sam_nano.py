"""The small SAM of our own: its architecture, and weights drawn from a seed, equal on every machine.

Random, and yet of use: its frozen decoder passes gradient to a dense prompt and lets that prompt write
any mask, so a prompt network can be trained in front of it.
"""

import hashlib
import math
import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from autosam.models.sam_weights import POSITIONAL_KEY, Shape

NANO_CONFIG: Mapping[str, Any] = MappingProxyType(
    {
        "model_type": "sam",
        "vision_config": {
            "hidden_size": 192,
            "output_channels": 128,
            "num_hidden_layers": 8,
            "num_attention_heads": 6,
            "image_size": 512,
            "patch_size": 16,
            "window_size": 8,
            "global_attn_indexes": [3, 7],
            "num_pos_feats": 64,
            "mlp_dim": 768,
        },
        "prompt_encoder_config": {
            "hidden_size": 128,
            "image_size": 512,
            "patch_size": 16,
            "image_embedding_size": 32,
        },
        "mask_decoder_config": {
            "hidden_size": 128,
            "mlp_dim": 512,
            "num_attention_heads": 8,
            "iou_head_hidden_dim": 128,
        },
    }
)
COMMON_SHARE = 0.8
"""Of the variance of the upscaling kernels, what their four positions have in common: with independent
positions a mask that is not perfectly learnt shows their pattern as a grid of dots."""
_VECTORS = re.compile(r"(_token|_tokens|_embed|_embed\.\d)\.weight$")
"""Tokens and prompt embeddings, which are no layers."""


class NanoTensors(Mapping[str, Tensor]):
    """Each weight by its canonical name, drawn when it is asked for.

    A weight depends on its name and shape alone, so leaving the encoder out changes no other weight.
    Values are uniform: a uniform draw is integer arithmetic and a product, equal on every machine,
    where a normal draw goes through the platform's logarithm.
    """

    def __init__(self, shapes: Mapping[str, Shape]) -> None:
        self.shapes = dict(shapes)

    def __getitem__(self, key: str) -> Tensor:
        shape = self.shapes[key]
        if key.endswith(".bias"):
            return torch.zeros(shape)
        if "layer_norm" in key:
            return torch.ones(shape)
        seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big")
        drawn = 2 * np.random.RandomState(seed).random_sample(shape) - 1
        if "upscale_conv" in key:
            common = drawn[:, :, :1, :1]
            drawn = math.sqrt(COMMON_SHARE) * common + math.sqrt(1 - COMMON_SHARE) * drawn
        bound = math.sqrt(3) * _standard_deviation(key, shape)
        return torch.from_numpy((drawn * bound).astype(np.float32))

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)


def _standard_deviation(key: str, shape: Shape) -> float:
    """The scale of one weight: most layers keep the scale of what they are given."""
    if key == POSITIONAL_KEY:
        return 1.0  # as Meta's random frequencies
    if "pos_embed" in key or "rel_pos" in key:
        return 0.1
    if _VECTORS.search(key):
        return 1.0
    if "upscale_conv" in key:  # a transposed convolution: its inputs come first
        return math.sqrt(2 / shape[0])
    scale = 1 / math.sqrt(math.prod(shape[1:]))
    if "hypernetworks" in key:
        return math.sqrt(2) * scale  # behind a ReLU, after He et al. 2015
    if key.startswith("mask_decoder") and "attn" in key and "out_proj" in key:
        return (
            0.3 * scale
        )  # keeps the mask a local and nearly fixed function of embedding and prompt
    return scale
