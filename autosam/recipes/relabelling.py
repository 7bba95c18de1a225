"""The relabel loop: cross-fitted predictions, pruned, take the place of the labels that they refute.

Learn past bad labels by turns: ``autosam relabel RUN DATA -o DATA2``, look through DATA2/review.csv,
train on DATA2, and if need be relabel that into DATA3. DATA itself is never written to.

DATA2 is a folder dataset: ``images/``, ``masks/``, ``valid/`` of the samples where something is
ignored, a folder for each band of the run, and beside them ``review.csv``, ``review.png`` and
``relabelled.json``. The runs that it took stay in ``DATA2.cross_fitting``, so that a review needs no
training. An area that is ignored stays so in later turns.
"""

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from autosam.config import Config, load_config
from autosam.data.sources import open_data
from autosam.data.splits import check_split
from autosam.drawing import save_picture
from autosam.errors import ConfigError, MissingPathError
from autosam.evaluation.label_decisions import (
    CHOICES,
    MINIMUM_AREA,
    TRUSTED_AGREEMENT,
    Choice,
    decide,
    new_label,
    prune,
)
from autosam.evaluation.label_faults import find_fault
from autosam.files import PathLike
from autosam.models.methods import bands_needed
from autosam.overlap import mask_iou
from autosam.progress import progress_bar
from autosam.recipes.cross_fit_folder import CrossFit, open_cross_fit
from autosam.recipes.cross_fitting import cross_fit
from autosam.recipes.encoding import Say
from autosam.recipes.label_doctor import trust_sentence
from autosam.recipes.label_review import (
    CHANGE_LEGEND,
    ReviewRow,
    change_strip,
    lay_out,
    read_decisions,
    write_table,
)
from autosam.recipes.relabelled_folder import (
    REVIEW,
    OriginalFolder,
    appearing_whole,
    check_output,
    write_sample,
)
from autosam.types import Sample
from autosam.wording import counted

SHEET_ROWS = 24
"""Samples on review.png: those of which the most changes."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Relabelled:
    """What came of a turn."""

    directory: Path
    rows: tuple[ReviewRow, ...]
    """One per sample, in the order of the data."""
    config: Path
    """Of the run that it followed."""
    agreement: float
    """Median IoU of labels and predictions, 0..1."""

    @property
    def counts(self) -> dict[str, int]:
        """Samples of each decision."""
        found = Counter(row.decision for row in self.rows)
        return {choice: found[choice] for choice in CHOICES}

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        rows = [row.to_dict() for row in self.rows]
        agreement = round(self.agreement, 4)
        place = str(self.directory)
        return {"directory": place, "agreement": agreement, "counts": self.counts, "samples": rows}

    def sentence(self) -> str:
        """A few lines for the console."""
        kept, replaced, looked = (self.counts[choice] for choice in CHOICES)
        return (
            f"{counted(kept, 'label')} kept, {replaced} replaced, {looked} to look at, in {self.directory}\n"
            f"{trust_sentence(self.agreement)}\n"
            f"Look at {self.directory / 'review.png'}; change decisions in {self.directory / REVIEW} and "
            "run the same command again with --review and that file.\n"
            f"Then: autosam train {self.config} --set data.source=[{self.directory}] -o NEW_RUN"
        )


def relabel(
    run: PathLike,
    data: str,
    output: PathLike,
    *,
    folds: int = 3,
    minimum_area: float = MINIMUM_AREA,
    review: PathLike | None = None,
    group_by: str | None = None,
    token: str | None = None,
    say: Say = lambda line: None,
) -> Relabelled:
    """Write a dataset whose labels were checked by models that had not seen them.

    The rule, per sample (see `decide`): keep the label at an IoU of .9 or more with the pruned
    prediction. Else replace it, wherever the model is sure, if its likely fault is an under-filled bank, the
    IoU is .6 or more, and the median IoU over all samples .7 or more. Else keep it for a person to look
    at, and ignore, until then, where the two disagree and the model is not certain.

    Args:
        run: Folder of a run, whose configuration is trained once per fold.
        data: A folder dataset, a hub id or another source that a configuration may name.
        output: Folder of the new dataset; an older one of ours is replaced, if nobody edited it.
        folds: As for `cross_fit`.
        minimum_area: As for `prune`.
        review: A review.csv whose decisions are taken instead of the rule's; nothing is trained.
        group_by: In the place of the run's `data.group_by`.
        token: For a private dataset or SAM.
        say: Told what happens next.

    Raises:
        MissingPathError: The run has no configuration, or no finished folds are there to review.
        ConfigError: The smallest area is below 0.
        OutputError: The output is not apart from the data, is not ours, or was edited by hand.
        DataError, SplitError, TrainingError: As for `cross_fit` and `read_decisions`.
    """
    output, written = Path(output), Path(run) / "config.yaml"
    if not minimum_area >= 0:
        raise ConfigError(
            f"--minimum-area must be 0 or more, got {minimum_area}. Use 0 to keep all."
        )
    config = _config_of(written, data, group_by)
    check_output(output, [data], reviewed=review is not None)
    if review is None:
        cross = cross_fit(config, _fits(output), folds=folds, token=token, say=say)
        decisions: dict[str, Choice] = {}
    else:
        samples = open_data(config.data, token=token, bands=bands_needed(config)).samples
        decisions = read_decisions(review, samples.names)
        cross = open_cross_fit(_fits(output), samples)
        check_split(cross.splits[0], samples)
    facts = {
        "run": str(run),
        "data": data,
        "folds": len(cross.splits),
        "minimum_area": minimum_area,
    }
    facts["reviewed"] = review is not None
    with appearing_whole(output, facts) as folder:
        judge = _Judge(cross, minimum_area, decisions)
        rows = _write_samples(folder, judge, OriginalFolder(Path(data)))
        write_table(folder / REVIEW, [row.to_dict() for row in rows])
        _draw_review(folder / "review.png", judge, rows)
    return Relabelled(directory=output, rows=tuple(rows), config=written, agreement=cross.agreement)


def _config_of(written: Path, data: str, group_by: str | None) -> Config:
    if not written.is_file():
        raise MissingPathError(
            f"run must hold config.yaml, got none in {written.parent}. Give the folder of a run."
        )
    config = load_config(written)
    group_by = config.data.group_by if group_by is None else group_by
    settings = dataclasses.replace(config.data, source=(data,), group_by=group_by)
    return dataclasses.replace(config, data=settings)


def _fits(output: Path) -> Path:
    """Where the folds are trained: beside the dataset, which comes and goes whole."""
    return output.with_name(f"{output.name}.cross_fitting")


class _Judge:
    """A sample's prediction, its decision, and the label that follows.

    Args:
        cross: Predictions.
        minimum_area: Of a component that stays.
        decisions: Of a person, by name; empty to follow the rule.
    """

    def __init__(self, cross: CrossFit, minimum_area: float, decisions: dict[str, Choice]) -> None:
        self.cross = cross
        self._minimum_area = minimum_area
        self._decisions = decisions
        self._trusted = cross.agreement >= TRUSTED_AGREEMENT

    def predicted(self, sample: Sample) -> np.ndarray:
        """(height, width) bool, pruned."""
        water = self.cross.probability(sample.name) >= self.cross.threshold(sample.name)
        return prune(water, minimum_area=self._minimum_area)

    def __call__(self, sample: Sample) -> tuple[np.ndarray, np.ndarray, ReviewRow]:
        """(new mask, new valid area, row of the review)."""
        probability = self.cross.probability(sample.name)
        threshold = self.cross.threshold(sample.name)
        predicted = self.predicted(sample)
        label, valid = _label(sample), sample.valid_area
        agreement = mask_iou(predicted, label, valid=valid)
        fault = find_fault(probability, label, threshold=threshold, valid=valid).kind
        suggested = decide(agreement, fault, trusted=self._trusted)
        decision = self._decisions.get(sample.name, suggested)
        mask, kept = new_label(decision, label, predicted, probability=probability, valid=valid)
        row = ReviewRow(
            name=sample.name,
            decision=decision,
            suggested=suggested,
            agreement=agreement,
            kind=fault,
            **_shares(sample, mask, kept),
        )
        return mask, kept, row


def _label(sample: Sample) -> np.ndarray:
    """Cross-fitting has refused samples without one."""
    return np.zeros(sample.size, dtype=bool) if sample.mask is None else sample.mask


def _shares(sample: Sample, mask: np.ndarray, valid: np.ndarray) -> dict[str, float]:
    """Of the pixels that counted: what changes, and the water before and after."""
    before, label = sample.valid_area, _label(sample)
    counted = int(np.count_nonzero(before)) or 1
    areas = {
        "changed_share": before & ((mask != label) | ~valid),
        "old_water_share": label & before,
        "new_water_share": mask & valid,
    }
    return {name: np.count_nonzero(area) / counted for name, area in areas.items()}


def _write_samples(folder: Path, judge: _Judge, original: OriginalFolder) -> list[ReviewRow]:
    rows = []
    samples = judge.cross.samples
    with progress_bar("relabelling", total=len(samples)) as advance:
        for sample in samples:
            mask, valid, row = judge(sample)
            write_sample(folder, sample, original, mask=mask, valid=valid)
            rows.append(row)
            advance(1)
    return rows


def _draw_review(path: Path, judge: _Judge, rows: list[ReviewRow]) -> None:
    """The samples of which the most changes; without any change, those that agree the least."""
    order = sorted(rows, key=lambda row: (-row.changed_share, row.agreement, row.name))
    chosen = [row.name for row in order[:SHEET_ROWS]]
    strips = []
    for sample in judge.cross.samples.select(chosen):
        mask, valid, row = judge(sample)
        predicted = judge.predicted(sample)
        strips.append(change_strip(sample, predicted=predicted, mask=mask, valid=valid, row=row))
    save_picture(path, lay_out(strips, CHANGE_LEGEND))
