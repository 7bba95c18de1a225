"""A convolutional image encoder in the place of SAM's vision transformer, for machines without a GPU.

Source: that SAM's decoder is well served by an encoder of another kind is the finding of MobileSAM (arXiv
2306.14289) and EfficientViT-SAM (arXiv 2402.05008). The neck is ours: finer features reach the embedding
by space-to-depth, since all that a mask of stride 4 shows must come out of an embedding of stride 16.
"""

from collections.abc import Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, cast

import timm
import torch
from jaxtyping import Float
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_weights

from autosam.errors import ModelError
from autosam.models.prompt_network import input_affine
from autosam.types import ImageEmbedding, Pixels

FEATURE_STRIDES = (4, 8, 16, 32)
EMBEDDING_STRIDE = 16
BACKBONE_SETTING = "backbone"
"""In the `vision_config` of a hub `config.json`: names the timm backbone where there is no transformer."""


class ConvolutionalEncoder(nn.Module):
    """Normalised pixels → SAM's image embedding, through a timm backbone and a small neck.

    Once trained, its batch normalisations are folded into the convolutions (`folded`): what is written
    and read is only the folded form.

    Args:
        backbone: timm's name; features at strides 4, 8, 16 and 32.
        channels: Of the embedding.
        trainable_norms: Build it with batch normalisations, to train it.

    Raises:
        ModelError: timm does not know the backbone, or it has other strides.
    """

    input_scale: Tensor
    input_shift: Tensor

    def __init__(
        self, backbone: str, *, channels: int = 256, trainable_norms: bool = False
    ) -> None:
        super().__init__()
        if not timm.is_model(backbone):
            raise ModelError(
                f"vision_config.backbone must be a network that timm knows, got {backbone!r}. "
                "Update timm, or download the model again."
            )
        trunk = cast(Any, timm.create_model(backbone, features_only=True, out_indices=(1, 2, 3, 4)))
        if tuple(trunk.feature_info.reduction()) != FEATURE_STRIDES:
            raise ModelError(
                f"vision_config.backbone must have features at strides {FEATURE_STRIDES}, got "
                f"{tuple(trunk.feature_info.reduction())} ({backbone})."
            )
        self.backbone_name = backbone
        self.channels = channels
        with torch.device("cpu"):  # not saved, so they must exist where weights are still to come
            scale, shift = input_affine(getattr(trunk, "pretrained_cfg", None) or {})
        self.register_buffer("input_scale", scale, persistent=False)
        self.register_buffer("input_shift", shift, persistent=False)
        self.trunk: nn.Module = trunk if trainable_norms else without_norms(trunk)
        widths = trunk.feature_info.channels()
        self.merges = nn.ModuleList(
            nn.Conv2d(width * max(1, EMBEDDING_STRIDE // stride) ** 2, channels, 1)
            for width, stride in zip(widths, FEATURE_STRIDES, strict=True)
        )
        self.refinements = nn.ModuleList(_SeparableBlock(channels) for _ in range(2))
        self.layer_norm = nn.LayerNorm(channels, eps=1e-6)

    def forward(self, pixels: Pixels) -> Any:
        """An object with `last_hidden_state`, as transformers' own encoder returns.

        Args:
            pixels: (batch, 3, side, side), normalised as for SAM; side is a multiple of 32.
        """
        return SimpleNamespace(last_hidden_state=self.embed(pixels))

    def embed(self, pixels: Pixels) -> ImageEmbedding:
        """(batch, channels, side / 16, side / 16)."""
        prepared = pixels.contiguous(memory_format=torch.channels_last)
        features = self.trunk(prepared * self.input_scale + self.input_shift)
        embedding = self._merged(features)
        for refinement in self.refinements:
            embedding = embedding + refinement(embedding)
        normalised = self.layer_norm(embedding.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return cast(Tensor, normalised.contiguous())

    def _merged(self, features: Sequence[Tensor]) -> ImageEmbedding:
        """All features at the embedding's stride, summed."""
        finer = [
            merge(_at_embedding_stride(feature, stride))
            for merge, feature, stride in zip(
                self.merges[:-1], features[:-1], FEATURE_STRIDES[:-1], strict=True
            )
        ]
        return torch.stack([*finer, _enlarged(self.merges[-1](features[-1]))]).sum(dim=0)

    def folded(self) -> "ConvolutionalEncoder":
        """The same function without batch normalisations, for an encoder that has them."""
        plain = ConvolutionalEncoder(self.backbone_name, channels=self.channels)
        state = {
            key: value for key, value in self.state_dict().items() if not key.startswith("trunk.")
        }
        state.update({f"trunk.{key}": value for key, value in folded_state(self.trunk).items()})
        plain.load_state_dict(state)
        return plain.eval()


class _SeparableBlock(nn.Module):
    """Depth-wise 5x5, 1x1, ReLU, 1x1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.expand = nn.Conv2d(channels, channels, 1)
        self.project = nn.Conv2d(channels, channels, 1)

    def forward(self, embedding: ImageEmbedding) -> ImageEmbedding:
        """What is added to the embedding."""
        return cast(Tensor, self.project(functional.relu(self.expand(self.depthwise(embedding)))))


def _at_embedding_stride(
    feature: Float[Tensor, "batch width height wide"], stride: int
) -> Float[Tensor, "batch deeper grid grid"]:
    """A finer feature with its neighbours as channels."""
    return functional.pixel_unshuffle(feature, EMBEDDING_STRIDE // stride)


def _enlarged(coarse: Float[Tensor, "batch channels half half"]) -> ImageEmbedding:
    return functional.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)


def _normalised_pairs(trunk: nn.Module) -> Iterable[tuple[str, str]]:
    """Names of each convolution and of the batch normalisation behind it, in order of execution."""
    previous = ""
    for name, module in trunk.named_modules():
        if isinstance(module, nn.Conv2d):
            previous = name
        elif isinstance(module, nn.BatchNorm2d):
            yield previous, name


def without_norms(trunk: nn.Module) -> nn.Module:
    """A timm trunk with a biased convolution and a bare activation for each normalised convolution.

    Changes the trunk that is given. Its convolutions must stand before their normalisations in
    order of definition, as timm's EfficientNets have it.
    """
    for convolution_name, norm_name in list(_normalised_pairs(trunk)):
        convolution = cast(nn.Conv2d, trunk.get_submodule(convolution_name))
        norm = trunk.get_submodule(norm_name)
        convolution.bias = nn.Parameter(torch.zeros(convolution.out_channels))
        activation = norm.act if isinstance(norm, BatchNormAct2d) else nn.Identity()
        parent, _, own = norm_name.rpartition(".")
        setattr(trunk.get_submodule(parent), own, activation)
    return trunk


def folded_state(trunk: nn.Module) -> Mapping[str, Tensor]:
    """The weights of `without_norms` that make it the same function as this trunk in evaluation mode."""
    state: dict[str, Tensor] = {}
    for convolution_name, norm_name in _normalised_pairs(trunk):
        convolution = cast(nn.Conv2d, trunk.get_submodule(convolution_name))
        norm = cast(nn.BatchNorm2d, trunk.get_submodule(norm_name))
        if norm.running_mean is None or norm.running_var is None:
            raise AssertionError("timm's normalisations keep running statistics")
        weight, bias = fuse_conv_bn_weights(
            convolution.weight, convolution.bias, norm.running_mean, norm.running_var, norm.eps,
            norm.weight, norm.bias,
        )  # fmt: skip
        state[f"{convolution_name}.weight"] = weight.detach()
        state[f"{convolution_name}.bias"] = bias.detach()
    return state
