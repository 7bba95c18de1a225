"""A trained run behind other prompts than its own: what `--prompt`, `--oracle` and `--coarse-from` say."""

import dataclasses
from pathlib import Path

from autosam.errors import ConfigError
from autosam.files import PathLike
from autosam.inference.segmenter import AutoSam
from autosam.recipes.coarse_sources import load_coarse_run


@dataclasses.dataclass(frozen=True, kw_only=True)
class PromptChoice:
    """Other prompts than a run's own.

    Raises:
        ConfigError: Two sources are named, or one for a kind that has none.
    """

    kind: str | None = None
    """'points', 'box', 'both', 'mask', 'null' or 'full-box'; None for the run's own."""
    oracle: bool = False
    """From the true mask: an upper bound."""
    coarse_from: PathLike | None = None
    """A trained run whose mask is the coarse mask; None for the run's own coarse mask."""

    def __post_init__(self) -> None:
        if self.oracle and self.coarse_from is not None:
            raise ConfigError(
                f"prompts must come from one place, got the true mask (oracle) and {self.coarse_from}. "
                "Give one of --oracle and --coarse-from."
            )

        if self.kind in ("null", "full-box") and (self.oracle or self.coarse_from is not None):
            raise ConfigError(
                f"prompts of kind {self.kind!r} must come from no mask, got one. "
                "Leave --oracle and --coarse-from out, or choose points, box, both or mask."
            )

    @property
    def name(self) -> str:
        """For a folder: which kind, from where."""
        words = ["oracle" if self.oracle else "", self.kind or ""]
        if self.coarse_from is not None:
            words.append(f"from-{Path(self.coarse_from).resolve().name}")
        return "-".join(word for word in words if word) or "own"


def prompted_model(
    run: PathLike,
    prompts: PromptChoice | None,
    *,
    device: str | None = None,
    runtime: str | None = None,
    token: str | None = None,
) -> AutoSam:
    """Load a run, behind other prompts where some are chosen.

    Raises:
        MissingPathError: The run, or the coarse run, is not there.
        ModelError: The method has no prompts to change, or needs a coarse mask and has none.
        ConfigError: The kind is unknown.
    """
    model = AutoSam.from_pretrained(run, device=device, runtime=runtime, token=token)
    if prompts is not None:
        coarse = None
        if prompts.coarse_from is not None:
            coarse = load_coarse_run(prompts.coarse_from, token=token)
        oracle = True if prompts.oracle else False if coarse is not None else None
        model = model.prompted_by(kind=prompts.kind, oracle=oracle, coarse=coarse)
    _ = model.prompter  # a coarse mask that is needed and missing is told before anything is read
    return model
