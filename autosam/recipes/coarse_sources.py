"""Where the coarse mask of a run comes from: a rule tuned on its training masks, or another trained run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from autosam.config import Config
from autosam.data.manifests import read_split
from autosam.data.splits import Split
from autosam.errors import ConfigError, MissingPathError
from autosam.files import PathLike
from autosam.inference.coarse_models import ModelMask
from autosam.inference.segmenter import AutoSam
from autosam.models.methods import method_prompts
from autosam.prompts.coarse_masks import CoarseMask, fit_coarse
from autosam.prompts.coarse_rules import RULES
from autosam.prompts.prompters import needs_coarse
from autosam.recipes.encoding import Say
from autosam.types import Sample
from autosam.wording import counted


def find_coarse(
    config: Config,
    training: Sequence[Sample],
    validation: Sequence[Sample],
    split: Split,
    *,
    token: str | None,
    say: Say,
) -> tuple[CoarseMask | None, dict[str, Any]]:
    """The coarse mask of a configuration, and what is to be told of it.

    Args:
        config: Its method, and the sections geometric and coarse.
        training: What a rule is tuned on, and nothing else.
        validation: What the tuned rule is judged on.
        split: To see whether another run has learnt from what this one is judged on.
        token: For a private run on the hub.
        say: Told how good the coarse mask is, or that it may flatter.

    Returns:
        None and {} where the prompts need no coarse mask.

    Raises:
        MissingPathError: The run is not there.
        DataError: A band that the rule reads is missing, or no training mask has water.
    """
    prompts = method_prompts(config)
    if prompts is None or not needs_coarse(prompts):
        return None, {}
    source = config.coarse.source
    if source not in RULES:
        return _run_as_coarse(source, split, token=token, say=say)
    mask, report = fit_coarse(config.coarse, training, validation, seed=config.seed)
    training_iou, validation_iou = (
        "unknown" if report[key] is None else f"{report[key]:.3f}"
        for key in ("training_iou", "validation_iou")
    )
    say(f"Mask of {mask.name}: IoU {training_iou} on training, {validation_iou} on validation.")
    return mask, {"source": source, **report}


def _run_as_coarse(
    source: str, split: Split, *, token: str | None, say: Say
) -> tuple[CoarseMask, dict[str, Any]]:
    model = load_coarse_run(source, token=token)
    seen = seen_before(source, (*split.validation, *split.test))
    if seen:
        say(flattery(source, seen))
    report = {"source": source, "method": model.config.method, "seen_by_coarse_run": len(seen)}
    return ModelMask(model), report


def load_coarse_run(source: PathLike, *, token: str | None = None) -> AutoSam:
    """A trained run whose mask is to be the coarse mask.

    Raises:
        MissingPathError: There is neither such a folder nor such a rule.
        ConfigError: The run itself prompts from the true mask.
    """
    try:
        model = AutoSam.from_pretrained(source, token=token)
    except MissingPathError as error:
        raise MissingPathError(
            f"coarse mask must be {', '.join(RULES)} or a trained run, got {str(source)!r}. "
            f"({error.args[-1]})"
        ) from error
    if model.uses_truth:
        raise ConfigError(
            f"coarse run must not prompt from the true mask, got {source}, an oracle. "
            "Choose a run whose prompts nobody has to make."
        )
    return model


def seen_before(source: PathLike, judged: Sequence[str]) -> list[str]:
    """Those of the pictures that a coarse run was trained on, by name; none where its split is unknown."""
    path = Path(source) / "split.json"
    if not path.is_file():
        return []
    trained = set(read_split(path).train)
    return [name for name in judged if name in trained]


def flattery(source: PathLike, seen: Sequence[str]) -> str:
    """What a reader must know of a coarse run that has seen the pictures."""
    return (
        f"The coarse run {source} was trained on {counted(len(seen), 'picture')} that this run is judged "
        f"on, {seen[0]} among them: its prompts flatter. Train it on this run's split."
    )
