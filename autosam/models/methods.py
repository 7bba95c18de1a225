"""The table of methods: a configuration in, the network it names out."""

import dataclasses

import torch

from autosam.config import Config, GeometricSettings
from autosam.models.autosam import GEOMETRIC_METHODS, TRAINED_PARTS, PromptedSam
from autosam.models.baselines import HsvThreshold, SegFormer, UNet
from autosam.models.contract import MaskNetwork
from autosam.models.frozen_sam import Sam
from autosam.models.guided_filter import GuidedFilter
from autosam.models.prompt_network import build_prompt_network
from autosam.models.sam import load_sam
from autosam.prompts.coarse_rules import rule_bands
from autosam.prompts.prompters import needs_coarse

FROM_PIXELS = {network.method: network for network in (UNet, SegFormer)}
"""The baselines that train on the picture alone."""


def has_sam(config: Config) -> bool:
    """Whether the method has a SAM behind it; the baselines do not."""
    return config.method in TRAINED_PARTS


def has_frozen_encoder(config: Config) -> bool:
    """Whether embeddings of the method can be cached."""
    return has_sam(config) and "image_encoder" not in TRAINED_PARTS[config.method]


def method_prompts(config: Config) -> GeometricSettings | None:
    """The geometry that prompts a method at inference; None for those that prompt themselves."""
    if config.method == "decoder-box-full":
        return dataclasses.replace(config.geometric, kind="full-box")
    return config.geometric if config.method in GEOMETRIC_METHODS else None


def bands_needed(config: Config) -> tuple[str, ...]:
    """Names of the bands that a configuration reads besides red, green and blue."""
    prompts = method_prompts(config)
    coarse = rule_bands(config.coarse) if prompts and needs_coarse(prompts) else ()
    return tuple(dict.fromkeys((*config.prompt.bands, *coarse)))


def build_network(
    config: Config,
    *,
    sam: Sam | None = None,
    encoder: bool = True,
    token: str | None = None,
    pretrained: bool = True,
) -> MaskNetwork:
    """The network of a configuration, with new weights where it trains, seeded by `config.seed`.

    Args:
        config: Whose method, SAM and prompt network are built.
        sam: In the place of loading `config.sam`.
        encoder: False leaves SAM's image encoder out of memory; calls then bring embeddings.
        token: For a private SAM on the hub.
        pretrained: False leaves `prompt.weights` alone, because a checkpoint will be loaded over it.

    Raises:
        ModelError: A part cannot be built.
        AccessError: A part cannot be fetched.
    """
    network = _built(config, sam=sam, encoder=encoder, token=token, pretrained=pretrained)
    refine = config.refine
    if refine.radius:
        network.guided_filter = GuidedFilter(radius=refine.radius, epsilon=refine.epsilon)
    return network


def _built(
    config: Config, *, sam: Sam | None, encoder: bool, token: str | None, pretrained: bool
) -> MaskNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        prompt = config.prompt
        weights = prompt.weights if pretrained else ""
        if config.method in FROM_PIXELS:
            return FROM_PIXELS[config.method](prompt.network, side=prompt.side, weights=weights)
        if config.method == "threshold":
            return HsvThreshold(side=prompt.side)
        if sam is None:
            sam = load_sam(
                config.sam.name, revision=config.sam.revision or None, token=token, encoder=encoder
            )
        prompter = None
        if "prompter" in TRAINED_PARTS[config.method]:
            prompter = build_prompt_network(
                dataclasses.replace(prompt, weights=weights),
                grid=sam.grid,
                channels=sam.channels,
            )
        return PromptedSam(
            sam,
            prompter,
            method=config.method,
            checkpoint_decoder=config.train.checkpoint_decoder,
            iou_head=config.train.iou_head,
        )
