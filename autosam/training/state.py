"""What a killed run needs to go on as if nothing had happened: safetensors and JSON, never half-written.

Each save is a new folder ``state/<number>`` that appears by one rename when all of it is on the disk;
the one before is removed after. So whenever a run is killed, at least one whole state is there (once
the first was written).
"""

import dataclasses
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from autosam.errors import OutputError, TrainingError

FORMAT_VERSION = 1
_UNFINISHED = ".unfinished"


@dataclasses.dataclass(kw_only=True)
class Standing:
    """How far a run has come."""

    epoch: int = 0
    """Epochs finished."""
    position: int = 0
    """Forward passes of each process done in the epoch that is under way."""
    step: int = 0
    """Optimiser steps done."""
    best_score: float | None = None
    """On validation; None before the first."""
    best_epoch: int = 0
    """From 1; 0 before the first validation."""
    epochs_without_better: int = 0
    """Validations since the best."""
    history_length: int = 0
    """Rows of the history that belong to this state."""
    seconds: float = 0.0
    """Spent training and validating, over all interruptions."""
    epoch_seconds: float = 0.0
    """Spent on forward and backward passes of the epoch under way."""
    stopped: str = ""
    """Why the run ended: 'epochs', 'patience' or 'time limit'; empty while it goes on."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SavedState:
    """One save: tensors by name, the standing, and plain values beside them."""

    tensors: dict[str, Tensor]
    standing: Standing
    identity: dict[str, Any]
    """What the run must share with the one that resumes it."""
    plain: dict[str, Any]
    """States of generators and of the gradient scaler, as JSON keeps them exactly."""


class StateFolder:
    """The states of one run.

    Args:
        path: The folder ``state`` of a run; made when first written to.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def save(self, state: SavedState) -> None:
        """Write a state, then remove all earlier ones.

        Raises:
            OutputError: The folder cannot be written, or the disk is full; earlier states remain.
        """
        earlier = self._numbered()
        number = int(earlier[-1].name) + 1 if earlier else 1
        beside = self.path / f"{number:08d}{_UNFINISHED}"
        try:
            shutil.rmtree(beside, ignore_errors=True)
            beside.mkdir(parents=True)
            _write(beside, state)
            beside.rename(self.path / f"{number:08d}")
            _synchronise(self.path)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(beside, ignore_errors=True)
            raise OutputError(
                f"training state could not be written to {self.path}: {error}. "
                "Free some space or choose another folder, then resume."
            ) from error
        for folder in earlier:
            shutil.rmtree(folder, ignore_errors=True)

    def load(self) -> SavedState | None:
        """The newest state that is whole, or None when none was ever written.

        Raises:
            TrainingError: There are states, but none can be read.
        """
        damaged = []
        for folder in reversed(self._numbered()):
            try:
                return _read(folder)
            except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
                damaged.append(f"{folder.name}: {type(error).__name__}: {error}")
        if damaged:
            raise TrainingError(
                f"training state must be readable, got damage in {self.path} ({'; '.join(damaged)}). "
                "Start the run again in another folder."
            )
        return None

    def remove_unfinished(self) -> None:
        """Delete what a killed process left half-written."""
        for folder in self.path.glob(f"*{_UNFINISHED}"):
            shutil.rmtree(folder, ignore_errors=True)

    def _numbered(self) -> list[Path]:
        if not self.path.is_dir():
            return []
        return sorted(folder for folder in self.path.iterdir() if folder.name.isdigit())


def _write(folder: Path, state: SavedState) -> None:
    # A clone of its own for each: safetensors refuses tensors that share memory.
    tensors = {
        key: tensor.detach().cpu().clone().contiguous() for key, tensor in state.tensors.items()
    }
    save_file(tensors, folder / "state.safetensors")
    description = {
        "format_version": FORMAT_VERSION,
        "standing": dataclasses.asdict(state.standing),
        "identity": state.identity,
        "plain": state.plain,
    }
    # Python writes the shortest digits that read back to the same float: nothing is lost.
    text = json.dumps(description, allow_nan=False)
    (folder / "state.json").write_text(text, encoding="utf-8")
    for path in (folder / "state.safetensors", folder / "state.json", folder):
        _synchronise(path)


def _read(folder: Path) -> SavedState:
    description = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    if description["format_version"] != FORMAT_VERSION:
        raise ValueError(f"format version {description['format_version']}, not {FORMAT_VERSION}")
    with safe_open(folder / "state.safetensors", framework="pt") as stream:
        tensors = {key: stream.get_tensor(key) for key in stream.keys()}  # noqa: SIM118
    return SavedState(
        tensors=tensors,
        standing=Standing(**description["standing"]),
        identity=description["identity"],
        plain=description["plain"],
    )


def _synchronise(path: Path) -> None:
    """Put a file, or a folder's list of names, on the disk."""
    if path.is_dir() and os.name == "nt":
        return  # Windows has no such call for folders, and needs none
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_identity(saved: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to resume a run with other settings, data or processes than it began with.

    Raises:
        TrainingError: Something differs; all differences are named.
    """
    keys = sorted(saved.keys() | now.keys())
    different = [key for key in keys if saved.get(key) != now.get(key)]
    if different:
        shown = "; ".join(
            f"{key}: {saved.get(key)!r} then, {now.get(key)!r} now" for key in different
        )
        raise TrainingError(
            f"a resumed run must have the settings it began with, got other ones ({shown}). "
            "Put them back, or start in another folder."
        )
