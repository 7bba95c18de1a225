"""What prompts a trained model: the automatic prompt of a sample, and other prompts on demand."""

import dataclasses
import warnings
from typing import TYPE_CHECKING, Any

from autosam.config import Config, GeometricSettings, config_from_dict
from autosam.errors import ConfigError, ModelError, PromptMismatchWarning
from autosam.inference.coarse_models import ModelMask, shares_encoder
from autosam.models.autosam import PromptedSam
from autosam.prompts.coarse_rules import rule_bands
from autosam.prompts.prompters import GeometricPrompter, needs_coarse
from autosam.types import ImageEmbedding, Prompt, Sample

if TYPE_CHECKING:
    from autosam.inference.segmenter import AutoSam

_TRAINED_ON_PROMPTS = ("decoder", "decoder-null", "decoder-box-full")
"""Methods whose decoder has learnt to expect one kind of prompt."""


def automatic_prompt(
    model: "AutoSam", sample: Sample, image_embedding: ImageEmbedding | None
) -> Prompt | None:
    """As `AutoSam.prompt_for`."""
    prompter = model.prompter
    if isinstance(prompter, GeometricPrompter) and isinstance(prompter.coarse, ModelMask):
        shared = image_embedding if shares_encoder(model.coarse, model.network) else None
        return prompter.draw(sample, prompter.coarse.mask_of(sample, image_embedding=shared))
    return None if prompter is None else prompter(sample)


def prompt_bands(model: "AutoSam") -> tuple[str, ...]:
    """Names of the bands that the coarse mask reads besides red, green and blue."""
    if model.geometric is None or not needs_coarse(model.geometric):
        return ()
    if isinstance(model.coarse, ModelMask):
        return model.coarse.model.bands
    if model.coarse is None:
        return rule_bands(model.config.coarse)
    return tuple(getattr(model.coarse, "bands", ()))  # a plain function reads none


def coarse_identity(model: "AutoSam") -> str:
    """What tells a coarse mask from others, after a space; nothing where the prompts need none."""
    if model.coarse is None or model.geometric is None or not needs_coarse(model.geometric):
        return ""
    if isinstance(model.coarse, ModelMask):
        return f" {model.coarse.model.identity}"
    return f" {model.coarse!r}"


def other_prompts(model: "AutoSam", *, kind: str | None, oracle: bool | None) -> GeometricSettings:
    """The settings of `AutoSam.prompted_by`, whose caller is warned where they do not fit the weights."""
    if not isinstance(model.network, PromptedSam) or model.network.prompter is not None:
        raise ModelError(
            f"other prompts must be for decoder, decoder-null, decoder-box-full or zero-shot, got "
            f"{model.config.method!r}, which needs none. Leave them out."
        )
    if oracle not in (None, True, False):
        raise ConfigError(f"oracle must be True or False, got {oracle!r}. Leave it out.")
    before = model.geometric or GeometricSettings(kind="null")
    settings = _changed(model.config, before, kind=kind, oracle=oracle)
    if settings.kind != before.kind and model.config.method in _TRAINED_ON_PROMPTS:
        warnings.warn(
            f"{model.config.method!r} was trained with prompts of kind {before.kind!r} and is now given "
            f"{settings.kind!r}: its masks may suffer.",
            PromptMismatchWarning,
            stacklevel=3,
        )
    return settings


def _changed(
    config: Config, before: GeometricSettings, *, kind: str | None, oracle: bool | None
) -> GeometricSettings:
    values: dict[str, Any] = {**dataclasses.asdict(config.geometric), "kind": before.kind}
    if kind is not None:
        values["kind"] = kind
    if oracle is not None:
        values["source"] = "oracle" if oracle else "coarse"
    return config_from_dict({"geometric": values}).geometric
