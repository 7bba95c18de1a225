"""Writing so that no reader ever sees half a file, and JSON that stays JSON."""

import contextlib
import errno
import json
import os
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from autosam.errors import DataError, MissingPathError, OutputError

PathLike = str | os.PathLike[str]


@contextlib.contextmanager
def replacing(path: PathLike) -> Iterator[Path]:
    """A path beside `path` to write to, renamed over it when the block ends well.

    The temporary file keeps the suffix, so that writers that choose a format by suffix work. After
    an exception nothing is left behind and the earlier file, if any, is untouched.

    Raises:
        OutputError: The folder cannot be made or written, or the disk is full.
    """
    path = Path(path)
    beside = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        mode = _usual_mode(beside)
        yield beside
        _synchronise(beside)
        beside.chmod(mode)
        os.replace(beside, path)
    except OSError as error:
        if isinstance(error, OutputError) or error.errno is None:
            raise
        raise OutputError(_cannot_write(path, error)) from error
    finally:
        with contextlib.suppress(OSError):  # nothing to remove, or no folder to remove it from
            beside.unlink()


def _usual_mode(path: Path) -> int:
    """What a new file may be read by here; safetensors closes its own to everybody else."""
    path.touch()
    mode = stat.S_IMODE(path.stat().st_mode)
    path.unlink()
    return mode


def _synchronise(path: Path) -> None:
    """Put the bytes on the disk before the rename, so that a power cut cannot leave an empty file."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def _cannot_write(path: Path, error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return f"{path} could not be written: the disk is full. Free some space and run again."
    return (
        f"{path} could not be written: {error.strerror or error}. "
        "Choose an output folder that you may write to."
    )


def write_text(path: PathLike, text: str) -> None:
    """Write UTF-8 text in one step."""
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")


def write_json(path: PathLike, value: Any) -> None:
    """Write indented JSON in one step; NaN and infinity are refused, being no JSON."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: PathLike, *, what: str = "file") -> Any:
    """Read JSON.

    Args:
        path: The file.
        what: What the file is to the user, for the error message ("split manifest").

    Raises:
        MissingPathError: There is no such file.
        DataError: The file is not JSON.
    """
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise MissingPathError(f"{what} must exist, got {path}. Check the path.") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(
            f"{what} must be JSON, got {path} ({error}). It may be damaged: write it again."
        ) from error
