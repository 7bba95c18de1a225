"""What `autosam predict` does: load the model, mask every picture, say what became of each."""

import dataclasses
import glob
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from autosam.errors import ConfigError
from autosam.files import PathLike
from autosam.inference.masking import MaskedFile, mask_files, plan_masks
from autosam.inference.segmenter import AutoSam
from autosam.progress import progress_bar
from autosam.recipes.prompting import PromptChoice, prompted_model


@dataclasses.dataclass(frozen=True)
class PredictedFile:
    """One picture's outcome, ready to print."""

    outcome: MaskedFile

    @property
    def status(self) -> str:
        """As `MaskedFile.status`."""
        return self.outcome.status

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {**dataclasses.asdict(self.outcome), "notes": list(self.outcome.notes)}

    def sentence(self) -> str:
        """One line for the console."""
        outcome = self.outcome
        if outcome.status == "failed":
            return f"{outcome.source}: failed: {outcome.error}"
        if outcome.status != "written":
            return f"{outcome.source}: {outcome.mask} {outcome.status}"
        notes = "".join(f" ({note})" for note in outcome.notes)
        return (
            f"{outcome.source}: {outcome.mask}, water {outcome.water_share:.1%}, "
            f"confidence {outcome.confidence:.2f}{_gauges(outcome)}{notes}"
        )


UNLIKELY = 0.5
"""Probability of a river below which the console says that there may be none."""
POOR_IOU = 0.5
"""Expected IoU below which the console warns of an unfamiliar picture."""


def _gauges(outcome: MaskedFile) -> str:
    """What the model says of its own answer, where there is something to say."""
    said = ""
    if outcome.presence is not None:
        doubt = ": perhaps no river here" if outcome.presence < UNLIKELY else ""
        said += f", river {outcome.presence:.0%}{doubt}"
    if outcome.expected_iou is not None and outcome.expected_iou < POOR_IOU:
        said += (
            f", unlike the training pictures (distance {outcome.domain_distance:.1f}, "
            f"expected IoU {outcome.expected_iou:.2f})"
        )
    return said


def predict_files(
    model: str,
    source: Sequence[str],
    output: PathLike,
    *,
    overwrite: bool = False,
    probability: bool = False,
    preview: bool = False,
    dihedral: bool = False,
    dry_run: bool = False,
    prompts: PromptChoice | None = None,
    band_folders: Mapping[str, PathLike] | None = None,
    device: str | None = None,
    runtime: str | None = None,
    token: str | None = None,
) -> list[PredictedFile]:
    """Mask pictures into a folder.

    Args:
        model: 'river-nano', the folder of a run, or ``owner/name`` on the hub.
        source: Pictures, folders and glob patterns.
        output: Folder for the masks.
        overwrite: Mask again what is finished, and write over files that are not autosam's.
        probability: Also write the probability.
        preview: Also write a tinted picture.
        dihedral: The mean of each picture's eight views, for eight times the work.
        dry_run: Plan only; the model is not even loaded.
        prompts: Other prompts than the run's own; an oracle is refused, for there is no truth here.
        band_folders: Where the bands lie that the model reads; by default beside the pictures' folder.
        device: As for `AutoSam`.
        runtime: As for `AutoSam.from_pretrained`.
        token: For a private model.

    Raises:
        ConfigError: A source is empty, a band is not read by the model, or prompts are an oracle.
        OutputError: A file in the way is not autosam's, or of another model.
    """
    if any(not str(one).strip() for one in source):
        raise ConfigError("picture must be named, got ''. Name a file, a folder or a pattern.")
    missing = [one for one in source if not (Path(one).exists() or glob.has_magic(one))]
    if len(missing) < len(source):
        source = [one for one in source if one not in missing]
    pictures: str | list[str] = source[0] if len(source) == 1 else _expanded(source)
    pairs = plan_masks(pictures, output)
    loaded = None
    if not dry_run:
        loaded = _automatic_model(model, prompts, device=device, runtime=runtime, token=token)
        _check_bands(loaded, band_folders or {})
    with progress_bar("masking", total=len(pairs)) as advance:
        outcomes = mask_files(
            loaded,
            pictures,
            output,
            overwrite=overwrite,
            probability=probability,
            preview=preview,
            dihedral=dihedral,
            band_folders=band_folders,
            on_each=lambda _: advance(1),
        )
    lost = [_lost(path) for path in missing if path not in source]
    return [PredictedFile(outcome) for outcome in [*outcomes, *lost]]


def _automatic_model(
    source: str,
    prompts: PromptChoice | None,
    *,
    device: str | None,
    runtime: str | None,
    token: str | None,
) -> AutoSam:
    """A model that needs no true mask.

    Raises:
        ConfigError: Its prompts are an oracle.
    """
    model = prompted_model(source, prompts, device=device, runtime=runtime, token=token)
    if model.uses_truth:
        raise ConfigError(
            f"prompts must not come from the true mask to mask pictures that have none, got an oracle "
            f"({source}). Give --coarse-from a trained run, or train with geometric.source=coarse."
        )
    return model


def _check_bands(model: AutoSam, folders: Mapping[str, PathLike]) -> None:
    """Every folder is of a band that is read, or a name was mistyped."""
    for band in folders:
        if band not in model.bands:
            reads = ", ".join(model.bands) or "none besides red, green and blue"
            raise ConfigError(
                f"--band must name a band that the model reads, got {band!r} (it reads {reads}). "
                "Leave it out, or mend the name."
            )


def _lost(path: str) -> MaskedFile:
    return MaskedFile(
        source=path, mask="", status="failed", error="There is no such file. Check the path."
    )


def _expanded(source: Sequence[str]) -> list[str]:
    """Folders and patterns among several arguments, listed; a plain path stays as it is."""
    from autosam.data.images import find_images

    found: list[str] = []
    for one in source:
        several = Path(one).is_dir() or glob.has_magic(one)
        found += [str(path) for path in find_images(one)] if several else [one]
    return found
