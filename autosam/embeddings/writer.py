"""Collecting embeddings into shards small enough that a kill costs little."""

import contextlib
import time
import types
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

from autosam.embeddings.claims import Claims
from autosam.embeddings.shards import DTYPES, Layout, Record, data_path, shard_stems, write_shard
from autosam.errors import CacheError

SHARD_BYTES = 64 * 2**20
"""Largest shard: 32 embeddings of SAM's usual 256 x 64 x 64."""
SHARD_RECORDS = 128
"""Most records in a shard, since each holds an open claim until its shard is written."""
SHARD_SECONDS = 30.0
"""Longest time that a finished embedding waits in memory, when the next one is added."""
LEFTOVER_SECONDS = 600.0
"""Age at which data without an index, or a claim that nobody holds, is what a killed process left."""


class ShardWriter:
    """Takes embeddings and puts them on disk, a shard at a time; use it in a ``with`` block.

    At the end of the block the last shard is written, also when the block fails for a reason outside the
    cache, so that what was encoded is kept.

    Args:
        folder: Where the shards go; made when the first one is written.
        layout: Of each embedding.
        on_written: Told where the embeddings of each finished shard lie.
    """

    def __init__(
        self, folder: Path, layout: Layout, *, on_written: Callable[[Mapping[str, Record]], None]
    ) -> None:
        self._folder, self._layout, self._on_written = folder, layout, on_written
        self._claims = Claims(folder / "claims")
        self._waiting: dict[str, np.ndarray] = {}
        self._since = 0.0
        self._capacity = max(1, min(SHARD_RECORDS, SHARD_BYTES // layout.record_bytes))

    def __enter__(self) -> "ShardWriter":
        _remove_leftovers(self._folder)
        self._claims.remove_leftovers(LEFTOVER_SECONDS)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        try:
            if not isinstance(error, CacheError):
                self.flush()
        finally:
            self._waiting.clear()
            self._claims.release_all()

    def claim(self, key: str) -> bool:
        """Take an embedding upon this writer until it is written; False when another works on it.

        Raises:
            CacheError: The folder cannot be written.
        """
        return self._claims.take(key)

    def release(self, key: str) -> None:
        """Give back a claim that turned out not to be needed."""
        self._claims.release([key])

    def add(self, key: str, embedding: torch.Tensor, *, name: str = "") -> None:
        """Keep an embedding; it is on disk at the latest when the block ends.

        Args:
            key: From `embedding_key`.
            embedding: Of the cache's shape, on any device and in any floating-point type.
            name: Of the sample, for error messages.

        Raises:
            CacheError: Its shape is not the cache's, it has values that the dtype cannot hold, or the
                shard that it completes cannot be written.
        """
        if tuple(embedding.shape) != self._layout.shape:
            raise CacheError(
                f"embedding must have the cache's shape {self._layout.shape}, "
                f"got {tuple(embedding.shape)} ({name or key[:12]}). Open the cache with that shape."
            )
        dtype = self._layout.dtype
        stored = embedding.detach().to(getattr(torch, dtype)).cpu().numpy()
        array = np.ascontiguousarray(stored, dtype=DTYPES[dtype])
        if not np.isfinite(array).all():
            raise CacheError(
                f"embedding must be finite in {dtype}, got infinity or NaN "
                f"({name or key[:12]}). Check the encoder's weights, or open the cache with float32."
            )
        if not self._waiting:
            self._since = time.monotonic()
        self._waiting[key] = array
        is_old = time.monotonic() - self._since > SHARD_SECONDS
        if is_old or len(self._waiting) >= self._capacity:
            self.flush()

    def flush(self) -> None:
        """Write what waits as one shard and give its claims back.

        Raises:
            CacheError: The disk is full or the folder cannot be written.
        """
        if not self._waiting:
            return
        records = write_shard(self._folder, uuid.uuid4().hex, self._layout, self._waiting)
        self._on_written(records)
        self._claims.release(self._waiting)
        self._waiting = {}


def _remove_leftovers(folder: Path) -> None:
    """Clear what killed processes left: temporary files, and data that never got its index."""
    if not folder.is_dir():
        return
    finished = {data_path(folder, stem) for stem in shard_stems(folder)}
    for path in folder.iterdir():
        is_leftover = path.name.startswith(".") or (path.suffix == ".bin" and path not in finished)
        # Another builder may have removed it, or the folder may be read-only: neither matters here.
        with contextlib.suppress(OSError):
            if is_leftover and time.time() - path.stat().st_mtime > LEFTOVER_SECONDS:
                path.unlink()
