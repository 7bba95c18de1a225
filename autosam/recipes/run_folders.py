"""The folder of a run: where it may lie, whose it is, the settings and the split that are written in it."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from autosam.config import Config, dump_config, flattened, load_config
from autosam.data.sources import OpenedData, make_split
from autosam.data.splits import Split, add_hashes, check_split, read_split, write_split
from autosam.errors import OutputError, TrainingError
from autosam.files import write_json, write_text
from autosam.recipes.environment import environment
from autosam.training.processes import is_main_process


def claim(directory: Path, config: Config, *, resume: bool, replace: bool) -> None:
    """Make the folder this run's own, or make sure that it is.

    Args:
        directory: Of the run.
        config: Its settings, which are written down.
        resume: Go on with the run that is there, which must be of the same settings.
        replace: Throw away the run that is there.

    Raises:
        OutputError: It is a file, or holds another run.
        TrainingError: There is nothing to resume, or the configuration has changed.
    """
    written = directory / "config.yaml"
    if directory.exists() and not directory.is_dir():
        raise OutputError(f"output must be a folder, got the file {directory}. Choose another.")
    if resume:
        if not written.is_file():
            raise TrainingError(
                f"--resume must find a run, got no config.yaml in {directory}. Train without --resume."
            )
        _check_same_config(load_config(written), config, directory)
        return
    if not is_main_process():
        return
    if replace and written.is_file():
        shutil.rmtree(directory)
    if directory.is_dir() and any(directory.iterdir()):
        raise OutputError(
            f"output must be a new or empty folder, got {directory}. "
            "Choose another with -o, or go on with --resume."
        )
    write_json(directory / "environment.json", environment())
    write_text(written, dump_config(config))


def _check_same_config(before: Config, now: Config, directory: Path) -> None:
    """All but the time limit must be as it was, or the end would not be the same."""
    old, new = flattened(before.to_dict()), flattened(now.to_dict())
    changed = sorted(key for key in old if old[key] != new.get(key) and key != "train.time_limit")
    if changed:
        key = changed[0]
        raise TrainingError(
            f"--resume must use the run's own configuration, got {key}={new.get(key)!r} where {directory} "
            f"has {old[key]!r}. Resume with {directory / 'config.yaml'}."
        )


def check_apart(directory: Path, sources: Sequence[str]) -> None:
    """Refuse to write among the pictures and labels of a dataset.

    Raises:
        OutputError: The folder is one of the sources, or lies in one.
    """
    here = directory.resolve()
    for source in (Path(source).resolve() for source in sources if Path(source).exists()):
        if here == source or source in here.parents:
            raise OutputError(
                f"output must lie apart from the data, got {directory} in {source}, whose masks it would "
                "mix with. Choose another with -o."
            )


def settle_split(config: Config, data: OpenedData, directory: Path) -> Split:
    """The run's split: as it was written, as it was given, or made now and written down.

    Args:
        config: Says how to divide, or names the split.
        data: What is divided.
        directory: Of the run.

    Raises:
        SplitError: The split does not fit the data.
    """
    path = directory / "split.json"
    given = Path(config.data.manifest) if config.data.manifest else None
    if path.is_file() or given is not None:
        split = read_split(path if path.is_file() else given or path)
        check_split(split, data.samples)
    else:
        split = make_split(config.data, data, seed=config.seed)
        split = add_hashes(split, data.samples.select(split.names))
    if not path.is_file() and is_main_process():
        write_split(path, split)
    return split
