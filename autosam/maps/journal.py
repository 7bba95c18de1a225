"""What is finished of a raster that is being masked, so that a run that was killed goes on.

The folder ``<output>.unfinished`` holds the plan, and for each finished strip its rasters and, written
last, its record. Strips are functions of the plan alone; the output is made from them when all are there,
and is the same whoever made them and when.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from autosam.embeddings.claims import Claims
from autosam.errors import CacheError, DataError, OutputError
from autosam.files import read_json, write_json

_LOCK = "lock"


class Journal:
    """The unfinished work on one output; made by `open_journal`."""

    def __init__(self, folder: Path, plan: Mapping[str, Any]) -> None:
        self.folder = folder
        self.resumed = False
        """Whether strips of an earlier run with the same plan were found."""
        try:
            same = read_json(folder / "plan.json") == plan
        except (DataError, FileNotFoundError):
            same = False
        if not same:
            self.clear()
            write_json(folder / "plan.json", plan)
        self.resumed = any(folder.glob("strip-*.json"))

    def record(self, strip: int) -> dict[str, Any] | None:
        """What was written down of a strip; None while it is not finished."""
        path = self.folder / f"strip-{strip:06d}.json"
        try:
            record: dict[str, Any] = read_json(path)
        except (DataError, FileNotFoundError):
            return None
        return record

    def finish(self, strip: int, record: Mapping[str, Any]) -> None:
        """Write down that a strip is finished; its rasters are there already.

        Raises:
            OutputError: The disk is full.
        """
        write_record(self.folder, strip, record)

    def raster(self, layer: str, strip: int) -> Path:
        """Where a layer of a strip lies."""
        return strip_file(self.folder, layer, strip)

    def publish(self, made: Path, output: Path) -> None:
        """Move a whole file from the folder to where it belongs, in one step.

        Raises:
            OutputError: There is a folder of its name, or the output's folder is not writable.
        """
        try:
            os.replace(made, output)
        except OSError as error:
            raise OutputError(
                f"{output} could not be written: {error.strerror}. Choose another output."
            ) from error

    def clear(self) -> None:
        """Remove everything but the lock: the outputs are there, or belong to another plan."""
        for path in self.folder.iterdir():
            if path.name != _LOCK:
                path.unlink()


@contextlib.contextmanager
def open_journal(output: Path, plan: Mapping[str, Any]) -> Iterator[Journal]:
    """Open the journal of an output, and hold it against every other run until the block ends.

    Strips of another plan are removed: they belong to another model, raster or setting.

    Args:
        output: What is being made.
        plan: JSON values: everything that the strips follow from.

    Raises:
        OutputError: Another run is at work on this output, or the folder cannot be written.
    """
    folder = unfinished(output)
    claims = Claims(folder)
    try:
        free = claims.take(_LOCK)
    except CacheError as error:
        reason = getattr(error.__cause__, "strerror", None) or error.__cause__
        raise OutputError(
            f"{output} could not be written: {reason}. Choose an output folder that you may write to."
        ) from error
    if not free:
        raise OutputError(
            f"output must have one run at work on it, got a second for {output}. "
            "Wait for the first to end, or choose another output."
        )
    try:
        yield Journal(folder, plan)
    finally:
        claims.release_all()
        with contextlib.suppress(OSError):  # unfinished strips are kept, and another may have come
            folder.rmdir()


def remove_leftovers(output: Path, plan: Mapping[str, Any]) -> None:
    """Remove the strips of a plan whose output is there: its run was killed between the two.

    Strips of another plan stay, and so do those that a run has in its hands.
    """
    folder = unfinished(output)
    try:
        is_left = read_json(folder / "plan.json") == plan
    except (DataError, OSError):
        return
    if is_left:
        with contextlib.suppress(OutputError), open_journal(output, plan) as journal:
            journal.clear()


def write_record(folder: Path, strip: int, record: Mapping[str, Any]) -> None:
    """Write down in the folder of an unfinished output that a strip is finished.

    Raises:
        OutputError: The disk is full.
    """
    write_json(folder / f"strip-{strip:06d}.json", record)


def strip_file(folder: Path, layer: str, strip: int) -> Path:
    """Where a layer of a strip lies in a folder."""
    return folder / f"{layer}-{strip:06d}.tif"


def unfinished(output: Path) -> Path:
    """The folder of the unfinished work on an output."""
    return output.with_name(f"{output.name}.unfinished")
