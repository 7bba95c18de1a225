"""The folder of a cross-fitting: who may write to it, and what a finished one holds.

``config.yaml``, ``fold_<number>/split.json``, ``fold_<number>/run/``, ``fold_<number>/finished.json``
and, for each sample, ``probabilities/<name>.png``.
"""

import contextlib
import dataclasses
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from autosam.config import Config, dump_config, load_config
from autosam.data.images import read_labels
from autosam.data.manifests import Split, read_split, shown, write_split
from autosam.data.sources import SampleCollection
from autosam.errors import AutoSamError, MissingPathError, OutputError, SplitError, TrainingError
from autosam.evaluation.file_names import safe_file_name
from autosam.files import PathLike, read_json, write_text

LEVELS = 255
"""Of a stored probability: one byte each, an error of at most 0.002."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CrossFit:
    """What models say of samples that they have not seen; maps are read when they are asked for."""

    directory: Path
    samples: SampleCollection
    splits: tuple[Split, ...]
    """Of each fold; the test part is what its model has not seen."""
    thresholds: tuple[float, ...]
    """Of each fold's model, chosen on its validation part."""
    agreements: Mapping[str, float]
    """IoU of each sample's label and mask, 0..1."""

    @property
    def agreement(self) -> float:
        """Median IoU of label and mask, 0..1: how far the models can be trusted to judge labels."""
        return float(np.median(list(self.agreements.values())))

    def fold(self, name: str) -> int:
        """The fold that held a sample out, from 0."""
        return next(fold for fold, split in enumerate(self.splits) if name in split.test)

    def threshold(self, name: str) -> float:
        """Of the model that masked the sample."""
        return self.thresholds[self.fold(name)]

    def probability(self, name: str) -> np.ndarray:
        """(height, width) float32 in 0..1, in steps of 1/255, of water.

        Raises:
            MissingPathError: The map was removed.
            ImageError: It is damaged.
        """
        values = read_labels(probability_path(self.directory, name))
        probability: np.ndarray = values.astype(np.float32) / np.float32(LEVELS)
        return probability


def open_cross_fit(directory: PathLike, samples: SampleCollection) -> CrossFit:
    """What a finished cross-fitting has left.

    Args:
        directory: Its folder.
        samples: Those it was made of.

    Raises:
        MissingPathError: A fold is not finished, or there is none.
        SplitError: The samples' names are others, or a model has seen what it masked.
    """
    directory = Path(directory)
    folders = sorted(directory.glob("fold_*"), key=lambda path: int(path.name.split("_")[1]))
    unfinished = [folder.name for folder in folders if not (folder / "finished.json").is_file()]
    if unfinished or not folders:
        raise MissingPathError(
            f"cross-fitting must be finished, got {', '.join(unfinished) or 'no folds'} in {directory}. "
            "Run the same command again without --review: it goes on where it was cut off."
        )
    splits = tuple(read_split(folder / "split.json") for folder in folders)
    held = [name for split in splits for name in split.test]
    if sorted(held) != sorted(samples.names):
        other = sorted({*held} ^ {*samples.names}) or held
        raise SplitError(
            f"cross-fitting must be of these samples, got others in {directory} ({shown(other)}). "
            "Cross-fit again in another folder."
        )
    for folder, split in zip(folders, splits, strict=True):
        check_unseen(folder / "run", split.test)
    finished = [read_json(folder / "finished.json", what="fold") for folder in folders]
    return CrossFit(
        directory=directory,
        samples=samples,
        splits=splits,
        thresholds=tuple(float(values["threshold"]) for values in finished),
        agreements={name: iou for values in finished for name, iou in values["iou"].items()},
    )


def check_unseen(run: Path, names: Sequence[str]) -> None:
    """Refuse a run that has trained on one of these samples, or chosen its checkpoint by it.

    Raises:
        SplitError: It has, as its own manifest says.
        MissingPathError: It has no manifest.
    """
    division = read_split(run / "split.json")
    seen = sorted({*names} & {*division.train, *division.validation})
    if seen:
        raise SplitError(
            f"a fold's model must not have seen what it masks, got {len(seen)} samples that it trained on "
            f"or chose by ({shown(seen)}; {run}). Remove the folder and cross-fit again."
        )


def check_directory(directory: Path, config: Config) -> None:
    """Refuse a folder that holds something else, or that was begun with another configuration.

    Raises:
        OutputError: It is a file, or holds no cross-fitting.
        TrainingError: Its configuration is another, or there are several processes.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise TrainingError(
            f"cross-fitting must run in one process, got {os.environ['WORLD_SIZE']}. "
            "Start it without accelerate launch."
        )
    if directory.exists() and not directory.is_dir():
        raise OutputError(f"output must be a folder, got the file {directory}. Choose another.")
    written = directory / "config.yaml"
    if not written.is_file():
        if directory.is_dir() and any(directory.iterdir()):
            raise OutputError(
                f"output must be a new or empty folder, or a cross-fitting to go on with, got {directory}. "
                "Choose another with -o."
            )
        return
    before, now = load_config(written).to_dict(), config.to_dict()
    for values in (before, now):
        values["train"].pop("time_limit")
    changed = [key for key in now if before.get(key) != now[key]]
    if changed:
        raise TrainingError(
            f"a cross-fitting must go on with its own configuration, got another {changed[0]!r} than "
            f"{written} has. Use the same one, or another folder with -o."
        )


def claim(directory: Path, config: Config, splits: Sequence[Split]) -> None:
    """Write down what is done here, or make sure that it is the same.

    Raises:
        TrainingError: It was begun with other samples, labels or folds.
    """
    paths = [fold_folder(directory, fold) / "split.json" for fold in range(len(splits))]
    before = {path: read_split(path).hash for path in directory.glob("fold_*/split.json")}
    now = {path: split.hash for path, split in zip(paths, splits, strict=True)}
    if before.items() - now.items():
        raise TrainingError(
            f"a cross-fitting must go on with its own samples, labels and folds, got others than in "
            f"{directory} ({len(before)} folds then, {len(now)} now). Use another folder with -o."
        )
    if not (directory / "config.yaml").is_file():
        write_text(directory / "config.yaml", dump_config(config))
    for path, split in zip(paths, splits, strict=True):
        if path not in before:
            write_split(path, split)


@contextlib.contextmanager
def leaving_nothing(directory: Path) -> Iterator[None]:
    """After a mistake that was found before any training, leave the name free for the next try."""
    was_there = [path for path in (directory, *directory.parents) if path.exists()]
    try:
        yield
    except AutoSamError:
        begun = any(directory.glob("fold_*/run")) or directory in was_there
        if not begun and directory.is_dir():
            shutil.rmtree(directory)
            for parent in directory.parents:
                if parent in was_there or any(parent.iterdir()):
                    break
                parent.rmdir()
        raise


def fold_folder(directory: Path, fold: int) -> Path:
    """Of a fold, counted from 0."""
    return directory / f"fold_{fold + 1}"


def finished_file(directory: Path, fold: int) -> Path:
    """Written last, when every map of a fold is there."""
    return fold_folder(directory, fold) / "finished.json"


def probability_path(directory: Path, name: str) -> Path:
    """Of a sample's map."""
    return directory / "probabilities" / f"{safe_file_name(name)}.png"
