"""HarDNet 39DS, 68, 68DS and 85: the paper's backbone, registered with timm, under its published key names.

Source:
    Chao et al. 2019, HarDNet: A Low Memory Traffic Network, https://arxiv.org/abs/1909.00948. Structure
    and key names follow PingoLH/Pytorch-HarDNet (MIT License, Copyright (c) 2019 PingoLH) so that its
    weight files load; written anew from a description of that network.
"""

import itertools
from typing import Any

import torch
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models._features import feature_take_indices
from torch import Tensor, nn

from autosam.errors import ModelError
from autosam.files import PathLike
from autosam.models.hardnet_blocks import (
    ARCHITECTURES,
    Architecture,
    HarDBlock,
    convolution,
    depthwise_convolution,
)
from autosam.models.weight_files import load_strictly, read_weights

__all__ = ["HarDNet", "load_hardnet_weights"]


class HarDNet(nn.Module):
    """A HarDNet classifier, which timm can cut down to a feature network.

    Args:
        architecture: One of `ARCHITECTURES`.
        num_classes: Outputs of the classifier; 0 for pooled features.
        in_chans: Channels of the image.
        global_pool: Only "avg"; timm passes it.
        drop_rate: Dropout before the classifier; None for the published one.

    Raises:
        ModelError: `global_pool` is not "avg".
    """

    def __init__(
        self,
        architecture: Architecture,
        *,
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float | None = None,
    ) -> None:
        super().__init__()
        if global_pool != "avg":
            raise ModelError(f"global_pool must be 'avg', got {global_pool!r} (HarDNet). Leave it.")
        self.architecture = architecture
        self.in_chans = in_chans
        self.base = nn.ModuleList()
        self.feature_info: list[dict[str, Any]] = []
        self._taps: list[int] = []
        self._append_stem(in_chans)
        channels = self._append_blocks()
        self.num_features = self.head_hidden_size = channels
        self.base.append(
            nn.Sequential(
                nn.AdaptiveAvgPool2d(1),
                nn.Flatten(),
                nn.Dropout(architecture.head_dropout if drop_rate is None else drop_rate),
                nn.Identity(),
            )
        )
        self._head = len(self.base) - 1
        self.reset_classifier(num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def _append_stem(self, in_chans: int) -> None:
        first, second = self.architecture.stem
        depthwise = self.architecture.depthwise
        self.base.append(convolution(in_chans, first, stride=2))
        self.base.append(convolution(first, second, kernel=1 if depthwise else 3))
        self._tap(second, reduction=2)
        self.base.append(
            depthwise_convolution(second, stride=2)
            if depthwise
            else nn.MaxPool2d(3, stride=2, padding=1)
        )

    def _append_blocks(self) -> int:
        """Append every block with what follows it, and return the channels of the last transition."""
        architecture = self.architecture
        depthwise, channels, reduction = architecture.depthwise, architecture.stem[1], 4
        for index, (growth, layers, outputs, down) in enumerate(architecture.blocks):
            block = HarDBlock(
                channels,
                growth=growth,
                multiplier=architecture.multiplier,
                layers=layers,
                depthwise=depthwise,
            )
            self.base.append(block)
            last = index == len(architecture.blocks) - 1
            if last and architecture.block_dropout:
                self.base.append(nn.Dropout(architecture.block_dropout))
            self.base.append(convolution(block.channels, outputs, kernel=1))
            channels = outputs
            if down or last:
                self._tap(channels, reduction=reduction)
            if down:
                self.base.append(
                    depthwise_convolution(channels, stride=2) if depthwise else nn.MaxPool2d(2)
                )
                reduction *= 2
        return channels

    def _tap(self, channels: int, *, reduction: int) -> None:
        """Offer the module appended last as the feature of its stride."""
        index = len(self.base) - 1
        self._taps.append(index)
        self.feature_info.append(
            {"num_chs": channels, "reduction": reduction, "module": f"base.{index}"}
        )

    def get_classifier(self) -> nn.Module:
        """The last linear layer, or an identity."""
        return self.base[self._head].get_submodule("3")

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Put in a new classifier; 0 classes for none. `global_pool` is there for timm."""
        self.num_classes = num_classes
        linear = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()
        self.base[self._head].add_module("3", linear)

    def forward_features(self, x: Tensor) -> Tensor:
        """The deepest feature map, (batch, channels, height / 32, width / 32) unless cut off."""
        for module in itertools.islice(self.base, self._head):
            x = module(x)
        return x

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Class logits (batch, num_classes), or the pooled features before them."""
        head = self.base[self._head]
        for module in list(head.children())[:2] if pre_logits else [head]:
            x = module(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        """Class logits of normalised images (batch, in_chans, height, width)."""
        return self.forward_head(self.forward_features(x))

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """The feature maps that timm asks for; strides 2, 4, 8, 16 and 32 have indices 0 to 4."""
        if output_fmt != "NCHW":
            raise ModelError(f"output_fmt must be 'NCHW', got {output_fmt!r} (HarDNet). Leave it.")
        taken, deepest = feature_take_indices(len(self._taps), indices)
        wanted = {self._taps[index] for index in taken}
        end = self._taps[deepest] + 1 if stop_early or intermediates_only else self._head
        features = []
        for position, module in enumerate(itertools.islice(self.base, end)):
            x = module(x)
            if position in wanted:
                features.append(x)
        return features if intermediates_only else (x, features)

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop what lies beyond the deepest of `indices`, so that no parameter is left unused."""
        taken, deepest = feature_take_indices(len(self._taps), indices)
        if prune_head:
            self.base = self.base[: self._taps[deepest] + 1]
            self.num_classes = 0
        return taken


def load_hardnet_weights(model: nn.Module, path: PathLike) -> None:
    """Load a published HarDNet file, ``.pth`` or ``.safetensors``, with or without its classifier.

    Args:
        model: A `HarDNet`, or timm's feature network around one; stages that were cut off are skipped.
        path: For example hardnet68.pth of PingoLH/Pytorch-HarDNet.

    Raises:
        ModelError: `model` is no HarDNet.
        MissingPathError: There is no such file.
        CheckpointError: The file is damaged, or belongs to another network.
    """
    network = model if isinstance(model, HarDNet) else getattr(model, "model", None)
    if not isinstance(network, HarDNet):
        raise ModelError(
            f"model must be a HarDNet, got {type(model).__name__}. Make one with timm.create_model."
        )
    with torch.device("meta"):
        complete = HarDNet(network.architecture)
    load_strictly(
        network,
        read_weights(path),
        complete=complete.state_dict().keys(),
        classifier=f"base.{complete._head}",
        source=path,
    )


def _timm_settings(classifier: str) -> dict[str, Any]:
    """No address of weights: there is none that timm could load; see `load_hardnet_weights`."""
    return {
        "url": "",
        "num_classes": 1000,
        "input_size": (3, 224, 224),
        "pool_size": (7, 7),
        "crop_pct": 0.875,
        "interpolation": "bilinear",
        "mean": IMAGENET_DEFAULT_MEAN,
        "std": IMAGENET_DEFAULT_STD,
        "first_conv": "base.0.conv",
        "classifier": classifier,
    }


default_cfgs = generate_default_cfgs(
    {
        "hardnet39ds": _timm_settings("base.14.3"),
        "hardnet68": _timm_settings("base.16.3"),
        "hardnet68ds": _timm_settings("base.16.3"),
        "hardnet85": _timm_settings("base.19.3"),
    }
)


def _create(variant: str, *, pretrained: bool, **options: Any) -> nn.Module:
    # The getter keeps the published key names, which timm's flattening wrapper would rewrite.
    options.setdefault("feature_cls", "getter")
    if not options.get("features_only"):
        options.pop("feature_cls")
    network: nn.Module = build_model_with_cfg(
        HarDNet, variant, pretrained, model_cfg=None, architecture=ARCHITECTURES[variant], **options
    )
    return network


@register_model
def hardnet39ds(pretrained: bool = False, **options: Any) -> nn.Module:
    """HarDNet-39DS: 3.5 M parameters with its classifier, depth-wise."""
    return _create("hardnet39ds", pretrained=pretrained, **options)


@register_model
def hardnet68(pretrained: bool = False, **options: Any) -> nn.Module:
    """HarDNet-68: 17.6 M parameters with its classifier."""
    return _create("hardnet68", pretrained=pretrained, **options)


@register_model
def hardnet68ds(pretrained: bool = False, **options: Any) -> nn.Module:
    """HarDNet-68DS: 4.2 M parameters with its classifier, depth-wise."""
    return _create("hardnet68ds", pretrained=pretrained, **options)


@register_model
def hardnet85(pretrained: bool = False, **options: Any) -> nn.Module:
    """HarDNet-85: 36.7 M parameters with its classifier; the backbone of the AutoSAM paper."""
    return _create("hardnet85", pretrained=pretrained, **options)
