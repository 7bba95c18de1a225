"""Where embeddings are kept: many shards in a folder, read through memory maps."""

import math
import os
import threading
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

import torch

from autosam.config import CacheSettings
from autosam.embeddings.shards import (
    DTYPES,
    Layout,
    Record,
    data_path,
    read_shard,
    remove_records,
    shard_stems,
)
from autosam.embeddings.writer import ShardWriter
from autosam.errors import CacheError
from autosam.files import PathLike


class EmbeddingCache:
    """Embeddings of one shape, by key.

    Opening reads the small indexes only. Nothing is written until a `writer` is used, so a cache on a
    read-only disk serves. Several processes may read and write one folder at once. It can be pickled:
    the copy opens its own memory maps.

    Args:
        directory: May hold embeddings of other shapes too; made when first written to.
        shape: Of one embedding, such as (256, 64, 64).
        dtype: 'float16' or 'float32'.

    Raises:
        CacheError: The directory is a file or cannot be read, the shape or dtype cannot be used, or an
            index was written by a newer version.
    """

    def __init__(
        self, directory: PathLike, *, shape: Sequence[int], dtype: str = "float16"
    ) -> None:
        if dtype not in DTYPES or not shape or min(shape) < 1:
            raise CacheError(
                f"embedding cache must have a shape of positive sizes and a dtype of "
                f"{', '.join(DTYPES)}, got {tuple(shape)} {dtype!r}. Use (channels, grid, grid)."
            )
        self.directory = Path(directory)
        self._layout = Layout(tuple(int(size) for size in shape), dtype)
        self._folder = self.directory / self._layout.folder_name
        self._records: dict[str, list[Record]] = {}
        self._verified: set[Record] = set()
        self._damaged: dict[str, list[Record]] = {}
        self._known_stems: set[str] = set()
        self._maps: dict[str, torch.Tensor] = {}
        self._lock = threading.RLock()
        shard_stems(self.directory)  # refuse a directory that is a file
        self.refresh()

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one embedding."""
        return self._layout.shape

    @property
    def dtype(self) -> str:
        """'float16' or 'float32'."""
        return self._layout.dtype

    @property
    def record_bytes(self) -> int:
        """Bytes that one embedding takes on disk."""
        return self._layout.record_bytes

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("_maps", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _maps={}, _lock=threading.RLock())

    def __len__(self) -> int:
        return len(self._records)

    def __contains__(self, key: object) -> bool:
        return key in self._records

    def refresh(self) -> None:
        """Take note of shards that were finished since, here or by another process.

        Raises:
            CacheError: An index was written by a newer version, or the folder cannot be read.
        """
        with self._lock:
            for stem in sorted(shard_stems(self._folder) - self._known_stems):
                records = read_shard(self._folder, stem, self._layout)
                self._known_stems.add(stem)
                if records is None:
                    self._damaged.setdefault(stem, [])
                else:
                    self._add(records)

    def _add(self, records: Mapping[str, Record]) -> None:
        with self._lock:
            for key, record in records.items():
                self._known_stems.add(record.stem)
                self._records.setdefault(key, []).append(record)

    def missing(self, keys: Iterable[str]) -> list[str]:
        """Those of the keys, in order, for which there is no embedding, after a look at the disk."""
        keys = list(keys)
        if any(key not in self._records for key in keys):
            self.refresh()
        return [key for key in keys if key not in self._records]

    def read(self, keys: Sequence[str], *, out: torch.Tensor | None = None) -> torch.Tensor:
        """The embeddings of some keys, in order: one tensor of shape (len(keys), *shape).

        Each record's checksum is verified when this process first reads it.

        Args:
            keys: Repetitions are allowed.
            out: Contiguous, of that shape and the cache's dtype, to be filled and returned. Worth it
                from about 32 MiB, where making a new tensor takes longer than filling it.

        Raises:
            CacheError: An embedding is missing or damaged, or `out` does not fit.
        """
        shape, dtype = (len(keys), *self.shape), getattr(torch, self.dtype)
        found = torch.empty(shape, dtype=dtype) if out is None else out
        if found.shape != shape or found.dtype != dtype or not found.is_contiguous():
            raise CacheError(
                f"out must be contiguous {shape} {dtype}, got {tuple(found.shape)} {found.dtype}. "
                "Leave it out to get a new tensor."
            )
        for position, key in enumerate(keys):
            if not self._read_into(found[position], key):
                raise CacheError(
                    f"embedding must be in the cache and undamaged, got none for key {key[:12]} "
                    f"({self._folder}, {len(self)} there). Run `autosam embed` with the same "
                    "configuration to make what is missing."
                )
        return found

    def verify(self, key: str) -> bool:
        """Whether the embedding is known here and its numbers are those that were written."""
        records = self._records.get(key)
        if not records:
            return False
        if records[-1] in self._verified:
            return True
        return self._read_into(torch.empty(self.shape, dtype=getattr(torch, self.dtype)), key)

    def _read_into(self, out: torch.Tensor, key: str) -> bool:
        """Copy one record, if need be after a look at what other processes have written."""
        if self._copy(out, key):
            return True
        self.refresh()
        return self._copy(out, key)

    def _copy(self, out: torch.Tensor, key: str) -> bool:
        """Copy one record; a damaged one gives way to another copy of it, if there is one."""
        while records := self._records.get(key):
            record = records[-1]
            try:
                out.copy_(self._map(record.stem)[record.row])
            except (RuntimeError, OSError, IndexError):  # removed or truncated since it was opened
                self._discard(key, record)
                continue
            if record in self._verified:
                return True
            if zlib.crc32(out.numpy().data) == record.checksum:
                self._verified.add(record)
                return True
            self._discard(key, record)
        return False

    def _map(self, stem: str) -> torch.Tensor:
        mapped = self._maps.get(stem)
        if mapped is None:
            path = data_path(self._folder, stem)
            rows = path.stat().st_size // self.record_bytes
            # torch's own map closes the file at once, so thousands of shards need no open files.
            flat = torch.from_file(
                str(path), shared=False, size=rows * math.prod(self.shape),
                dtype=getattr(torch, self.dtype),
            )  # fmt: skip
            mapped = self._maps[stem] = flat.view(rows, *self.shape)
        return mapped

    def _discard(self, key: str, record: Record) -> None:
        with self._lock:
            records = self._records.get(key, [])
            if record in records:
                records.remove(record)
                self._damaged.setdefault(record.stem, []).append(record)
            if not records:
                self._records.pop(key, None)

    def remove_damaged(self) -> None:
        """Take what was found damaged off the disk, so that nobody meets it again.

        Raises:
            CacheError: The folder cannot be written.
        """
        with self._lock:
            damaged, self._damaged = self._damaged, {}
            for stem, records in damaged.items():
                remove_records(self._folder, stem, self._layout, records)

    def writer(self) -> ShardWriter:
        """A ``with`` block in which embeddings can be added."""
        return ShardWriter(self._folder, self._layout, on_written=self._add)


class CacheDescription(TypedDict):
    """What a cache directory holds, over all shapes."""

    count: int
    """Embeddings."""
    bytes: int
    """Of all finished shards."""
    shards: int
    damaged: int
    """Shards whose index or size is wrong; the next filling of that shape removes them."""


def describe_cache(directory: PathLike) -> CacheDescription:
    """Count what is kept; all zero when the directory is not there.

    Raises:
        CacheError: The directory is a file or cannot be read, or an index is of a newer version.
    """
    directory, count, size, shards, damaged = Path(directory), 0, 0, 0, 0
    shard_stems(directory)
    for folder in sorted(directory.iterdir()) if directory.is_dir() else ():
        dtype, _, sizes = folder.name.partition("-")
        if dtype not in DTYPES or not folder.is_dir() or not sizes.replace("x", "").isdigit():
            continue
        layout = Layout(tuple(int(number) for number in sizes.split("x")), dtype)
        for stem in shard_stems(folder):
            records = read_shard(folder, stem, layout)
            damaged += records is None
            count += len(records or ())
            shards += records is not None
            size += data_path(folder, stem).stat().st_size if records else 0
    return CacheDescription(count=count, bytes=size, shards=shards, damaged=damaged)


def cache_bytes(count: int, views: int, shape: Sequence[int], dtype: str = "float16") -> int:
    """Bytes that the embeddings of `count` images in `views` views take."""
    return count * views * Layout(tuple(shape), dtype).record_bytes


def default_cache_directory(settings: CacheSettings) -> Path:
    """The folder of the settings, else $AUTOSAM_CACHE, else autosam/embeddings in the user's cache."""
    chosen = settings.directory or os.environ.get("AUTOSAM_CACHE", "")
    if chosen:
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "autosam" / "embeddings"
