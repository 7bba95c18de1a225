"""The same numbers as in the history, sent to TensorBoard or Weights & Biases on request."""

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from autosam.errors import ConfigError, MissingPackageError, did_you_mean
from autosam.files import write_text


class Tracker(Protocol):
    """Somewhere numbers go."""

    def log(self, values: Mapping[str, float], *, step: int) -> None:
        """Send named numbers that belong to one optimiser step."""

    def close(self) -> None:
        """Send what is left."""


class TensorBoardTracker:
    """Event files for TensorBoard; after a resumption, steps sent again replace the earlier ones.

    Args:
        directory: Where event files go.
        settings: Written as text beside the numbers.
        step: From which a resumed run goes on; 0 at the start.

    Raises:
        MissingPackageError: tensorboard is not installed.
    """

    def __init__(self, directory: Path, settings: Mapping[str, Any], *, step: int) -> None:
        _import("tensorboard", extra="tensorboard")
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(
            str(directory / "tensorboard"), purge_step=step + 1 if step else None
        )
        self._writer.add_text("settings", "\n".join(f"    {k}: {v}" for k, v in settings.items()))

    def log(self, values: Mapping[str, float], *, step: int) -> None:
        """One scalar for each name."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush the event file."""
        self._writer.close()


class WandbTracker:
    """A run of Weights & Biases, named after the folder it trains in; ``wandb.txt`` holds its id.

    Args:
        directory: Where its own files go.
        settings: Shown as the run's configuration.
        step: From which a resumed run goes on; 0 at the start.

    Raises:
        MissingPackageError: wandb is not installed.
    """

    def __init__(self, directory: Path, settings: Mapping[str, Any], *, step: int) -> None:
        wandb: Any = _import("wandb", extra="wandb")
        remembered = directory / "wandb.txt"
        known = remembered.read_text("utf-8").strip() if step and remembered.is_file() else None
        self._run = wandb.init(
            project="autosam", name=directory.name, dir=str(directory), config=dict(settings),
            id=known, resume="allow" if known else None,
        )  # fmt: skip
        write_text(remembered, f"{self._run.id}\n")

    def log(self, values: Mapping[str, float], *, step: int) -> None:
        """All names at once."""
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        """Upload what is left and end the run."""
        self._run.finish()


TRACKERS: dict[str, type[TensorBoardTracker] | type[WandbTracker]] = {
    "tensorboard": TensorBoardTracker,
    "wandb": WandbTracker,
}


def open_trackers(
    names: Sequence[str], directory: Path, settings: Mapping[str, Any], *, step: int
) -> list[Tracker]:
    """The trackers of those names.

    Raises:
        ConfigError: A name is unknown.
        MissingPackageError: A tracker's package is not installed.
    """
    for name in names:
        if name not in TRACKERS:
            remedy = did_you_mean(name, TRACKERS)
            raise ConfigError(f"train.trackers: {name!r} is not a tracker. {remedy}")
    return [TRACKERS[name](directory, settings, step=step) for name in names]


def _import(package: str, *, extra: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MissingPackageError(
            f"train.trackers must name installed packages, got {package!r}, which is not. "
            f"Install it with: pip install 'autosam[{extra}]'"
        ) from error
