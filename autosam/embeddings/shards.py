"""One shard on disk: records of one size in a raw little-endian file, and a JSON index beside it.

The data is written and renamed first, the index last, so a shard with an index is a finished shard.
"""

import contextlib
import math
import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from autosam.errors import CacheError, DataError, MissingPathError, OutputError
from autosam.files import read_json, replacing, write_json

FORMAT = "autosam-embeddings"
FORMAT_VERSION = 1
DTYPES: dict[str, np.dtype[Any]] = {"float16": np.dtype("<f2"), "float32": np.dtype("<f4")}


class Record(NamedTuple):
    """Where one embedding lies."""

    stem: str
    """The shard's file name without its suffix."""
    row: int
    checksum: int
    """CRC-32 of the record's bytes."""


class Layout(NamedTuple):
    """What all records of a folder share."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def folder_name(self) -> str:
        """Such as 'float16-256x64x64'."""
        return f"{self.dtype}-{'x'.join(map(str, self.shape))}"

    @property
    def record_bytes(self) -> int:
        """Bytes of one record."""
        return math.prod(self.shape) * DTYPES[self.dtype].itemsize


def data_path(folder: Path, stem: str) -> Path:
    """The file that holds a shard's numbers."""
    return folder / f"{stem}.bin"


def index_path(folder: Path, stem: str) -> Path:
    """The file that says which records a shard holds."""
    return folder / f"{stem}.json"


def cannot_write(directory: Path, error: OSError) -> CacheError:
    """The error for a cache that does not take more, whatever the system's reason."""
    system = error.__cause__ if isinstance(error, OutputError) else error
    reason = getattr(system, "strerror", None) or str(error)
    return CacheError(
        f"embedding cache must be writable and have room, got {reason!r} ({directory}). "
        "Free some space there, or choose another folder with cache.directory or $AUTOSAM_CACHE; "
        "what was finished is kept."
    )


def write_shard(
    folder: Path, stem: str, layout: Layout, embeddings: Mapping[str, np.ndarray]
) -> dict[str, Record]:
    """Write a finished shard, or nothing.

    Args:
        folder: Of the layout.
        stem: New, unlike any other shard's.
        layout: Of each embedding.
        embeddings: By key; arrays of the layout's shape and dtype, C-contiguous.

    Returns:
        Where each embedding lies now.

    Raises:
        CacheError: The disk is full or the folder cannot be written; no file is left behind.
    """
    records: dict[str, Record] = {}
    data = data_path(folder, stem)
    try:
        with replacing(data) as beside, beside.open("wb", buffering=0) as stream:
            for row, (key, embedding) in enumerate(embeddings.items()):
                content = embedding.data.cast("B")
                _write_all(stream.fileno(), content)
                records[key] = Record(stem, row, zlib.crc32(content))
        write_index(folder, stem, layout, records, len(records) * layout.record_bytes)
    except BaseException as error:  # data whose index never came must not stay, whatever stopped it
        with contextlib.suppress(OSError):
            if not index_path(folder, stem).exists():
                data.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise cannot_write(folder.parent, error) from error
        raise
    return records


def _write_all(descriptor: int, content: memoryview) -> None:
    while content:
        content = content[os.write(descriptor, content) :]


def write_index(
    folder: Path, stem: str, layout: Layout, records: Mapping[str, Record], data_bytes: int
) -> None:
    """Write or replace a shard's index."""
    write_json(
        index_path(folder, stem),
        {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "dtype": layout.dtype,
            "byte_order": "little",
            "shape": list(layout.shape),
            "bytes": data_bytes,
            "records": {key: [record.row, record.checksum] for key, record in records.items()},
        },
    )


def read_shard(folder: Path, stem: str, layout: Layout) -> dict[str, Record] | None:
    """The records of a shard, or None when its index or data is damaged.

    Sizes are checked here; the numbers themselves are checked when they are read.

    Raises:
        CacheError: The index was written by a newer version of this library.
    """
    path = index_path(folder, stem)
    try:
        index = read_json(path, what="embedding index")
        size = data_path(folder, stem).stat().st_size
    except (DataError, MissingPathError, FileNotFoundError):
        return None
    version = index.get("version") if isinstance(index, dict) else None
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise CacheError(
            f"embedding index must be of version {FORMAT_VERSION} or older, got {version} ({path}). "
            "Update autosam, or choose another folder with cache.directory or $AUTOSAM_CACHE."
        )
    try:
        return _parse(index, stem, layout, size)
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def _parse(index: Any, stem: str, layout: Layout, size: int) -> dict[str, Record] | None:
    rows, rest = divmod(size, layout.record_bytes)
    if (
        index["format"] != FORMAT
        or (tuple(index["shape"]), index["dtype"]) != layout
        or index["bytes"] != size
        or rest
    ):
        return None
    records = {key: Record(stem, int(r), int(crc)) for key, (r, crc) in index["records"].items()}
    if not records or not all(0 <= record.row < rows for record in records.values()):
        return None
    return records


def shard_stems(folder: Path) -> set[str]:
    """The stems of the finished shards in a folder; none when the folder is not there.

    Raises:
        CacheError: The folder is a file, or may not be read.
    """
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return set()
    except OSError as error:
        raise CacheError(
            f"embedding cache must be a folder that can be read, got {folder} "
            f"({error.strerror}). Choose another with cache.directory or $AUTOSAM_CACHE."
        ) from error
    return {name[:-5] for name in names if name.endswith(".json") and not name.startswith(".")}


def remove_records(folder: Path, stem: str, layout: Layout, damaged: Sequence[Record]) -> None:
    """Take records out of a shard's index, or the whole shard away when none would be left.

    Raises:
        CacheError: The folder cannot be written.
    """
    try:
        records = read_shard(folder, stem, layout) or {}
        kept = {key: record for key, record in records.items() if record not in damaged}
        if kept:
            size = data_path(folder, stem).stat().st_size
            write_index(folder, stem, layout, kept, size)
            return
        # The index first: data without an index is only a leftover.
        index_path(folder, stem).unlink(missing_ok=True)
        data_path(folder, stem).unlink(missing_ok=True)
    except OSError as error:
        if isinstance(error, CacheError):
            raise
        raise cannot_write(folder.parent, error) from error
