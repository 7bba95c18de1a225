"""Filling the cache: what is missing is encoded in batches, what is there is kept."""

import dataclasses
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn

from autosam.data.augmentation import apply_view
from autosam.data.geometry import normalise, to_square
from autosam.embeddings.keys import embedding_key, image_digest
from autosam.embeddings.store import EmbeddingCache
from autosam.embeddings.writer import ShardWriter
from autosam.errors import CacheError, ConfigError
from autosam.types import ImageEmbedding, Pixels, Sample
from autosam.wording import counted

POLL_SECONDS = 0.2
"""Between looks at what other builders have finished, once nothing else is left to do."""

Precision = Literal["float32", "bfloat16"]
Missing = dict[int, str]
"""View → key, of one sample."""


class _Item(NamedTuple):
    """A square that waits for its batch."""

    key: str
    name: str
    square: torch.Tensor
    size: tuple[int, int]
    """Of the picture inside the square."""


class Encoder(Protocol):
    """What is needed of SAM."""

    @property
    def side(self) -> int:
        """Height and width of its square in pixels."""

    @property
    def encoder_fingerprint(self) -> str:
        """Of its image encoder's weights and configuration."""

    def embed(self, pixels: Pixels) -> ImageEmbedding:
        """Encode a batch."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FillReport:
    """What a filling did."""

    written: int
    """Embeddings encoded and written here."""
    reused: int
    """Embeddings that were there, of an equal picture, or that another builder made meanwhile."""
    bytes: int
    """Of the embeddings written here."""
    seconds: float


def fill_cache(
    cache: EmbeddingCache,
    samples: Sequence[Sample],
    sam: Encoder,
    *,
    views: Sequence[int] = (0,),
    batch_size: int = 1,
    device: str | torch.device = "cpu",
    precision: Precision = "float32",
    progress: bool = True,
) -> FillReport:
    """Make sure that the cache has the embedding of each sample in each view.

    It can be killed and called again: finished shards are kept. Several processes may fill one cache
    with the same samples at once; they share the work, and each returns when all of it is there.

    Args:
        cache: Of the encoder's embedding shape.
        samples: Each is read once for all its views, and again only when another builder, which had
            it, gave up.
        sam: Moved to `device`, and left there, when it is a module.
        views: Which of the eight rotations and reflections; 0 is the image as it is.
        batch_size: Squares in one call of the encoder.
        device: Where the encoder runs.
        precision: 'bfloat16' runs the encoder under autocast; it is part of the key.
        progress: Say the size and show a bar on the error stream, when that is a terminal.

    Raises:
        ConfigError: A view or the batch size cannot be used.
        CacheError: The disk is or would be full, the folder cannot be written, or the encoder's
            embeddings have another shape than the cache's.
    """
    _check(views, batch_size, precision)
    start = time.monotonic()
    console = Console(stderr=True, quiet=not progress)
    _announce(cache, len(samples), len(views), console)
    if isinstance(sam, nn.Module):
        sam.to(device)
    with cache.writer() as writer, _bar(console, progress) as bar:
        cache.remove_damaged()
        filling = _Filling(
            cache, sam, writer, tuple(views), batch_size, torch.device(device), precision
        )
        task = bar.add_task("Embeddings", total=len(samples) * len(views))
        for finished in filling.run(samples):
            bar.update(task, completed=finished)
    cache.remove_damaged()
    written = filling.written
    return FillReport(
        written=written,
        reused=len(samples) * len(views) - written,
        bytes=written * cache.record_bytes,
        seconds=time.monotonic() - start,
    )


def _check(views: Sequence[int], batch_size: int, precision: str) -> None:
    if not views or len(set(views)) < len(views) or not set(views) <= set(range(8)):
        raise ConfigError(
            f"views must be different numbers in 0..7, got {tuple(views)}. Use (0,) or range(8)."
        )
    if batch_size < 1:
        raise ConfigError(f"batch_size must be 1 or more, got {batch_size}. Use 1 on a CPU.")
    if precision not in ("float32", "bfloat16"):
        raise ConfigError(
            f"precision must be 'float32' or 'bfloat16', got {precision!r}. Use 'float32' if in doubt."
        )


def _announce(cache: EmbeddingCache, count: int, views: int, console: Console) -> None:
    """Say how large the cache becomes, and refuse at once what cannot fit.

    Raises:
        CacheError: Even if everything in the cache were of these samples, the rest would not fit.
    """
    total, there = count * views * cache.record_bytes, len(cache) * cache.record_bytes
    if console.is_terminal:
        console.print(
            f"Embedding cache: up to {_readable(total)} ({counted(count, 'image')} x "
            f"{counted(views, 'view')} x {_readable(cache.record_bytes)}), "
            f"{_readable(there)} there already, in {cache.directory}",
            highlight=False,
            soft_wrap=True,
        )
    free = _free_bytes(cache.directory)
    if total - there > free:
        raise CacheError(
            f"embedding cache must fit on the disk, got {_readable(free)} free for "
            f"{_readable(total - there)} or more ({cache.directory}). Free some space there, use fewer "
            "views, or choose another folder with cache.directory or $AUTOSAM_CACHE."
        )


def _free_bytes(directory: Path) -> int:
    directory = directory.absolute()
    while not directory.exists():
        directory = directory.parent
    return shutil.disk_usage(directory).free


def _readable(size: int) -> str:
    """Such as '2.9 GiB'."""
    power = min(4, max(0, size.bit_length() - 1) // 10)
    unit = ("B", "KiB", "MiB", "GiB", "TiB")[power]
    return f"{size / 1024**power:.{min(power, 1)}f} {unit}"


def _bar(console: Console, progress: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    shown = progress and console.is_terminal
    return Progress(*columns, TimeRemainingColumn(), console=console, disable=not shown)


@dataclasses.dataclass
class _Filling:
    """One call of `fill_cache` at work."""

    cache: EmbeddingCache
    sam: Encoder
    writer: ShardWriter
    views: tuple[int, ...]
    batch_size: int
    device: torch.device
    precision: Precision
    written: int = 0
    finished: int = 0
    """Embeddings known to be there, whoever made them."""
    batch: list[_Item] = dataclasses.field(default_factory=list)

    def run(self, samples: Sequence[Sample]) -> Iterator[int]:
        """Encode what nobody else does, then wait for the others; yields how many are finished."""
        todo: dict[int, Missing | None] = dict.fromkeys(range(len(samples)))
        while todo:
            left: dict[int, Missing | None] = {}
            written_before = self.written
            for index, missing in todo.items():
                others = self._take(samples, index, missing)
                if others:
                    left[index] = others
                yield self.finished
            self._encode()
            self.writer.flush()  # before waiting, since others may wait for these
            if left and self.written == written_before:
                time.sleep(POLL_SECONDS)
            todo = left
            yield self.finished

    def _take(self, samples: Sequence[Sample], index: int, missing: Missing | None) -> Missing:
        """Encode one sample's views as far as they are missing and free; returns what others encode."""
        sample = None
        if missing is None:
            sample = samples[index]
            missing = self._keys(sample)
        missing = self._without_present(missing)
        mine = {view: key for view, key in missing.items() if self.writer.claim(key)}
        others = {view: key for view, key in missing.items() if view not in mine}
        if mine:
            # Look again: another may have finished between our first look and our claim.
            free = self._without_present(mine)
            for view, key in mine.items():
                if view not in free:
                    self.writer.release(key)
            sample = sample or samples[index]
            for view, key in free.items():
                self._add(sample, view, key)
        return others

    def _keys(self, sample: Sample) -> Missing:
        digest, encoder = image_digest(sample.image), self.sam.encoder_fingerprint
        return {
            view: embedding_key(
                digest, encoder_fingerprint=encoder, side=self.sam.side, view=view,
                dtype=self.cache.dtype, precision=self.precision,
            )
            for view in self.views
        }  # fmt: skip

    def _without_present(self, keys: Missing) -> Missing:
        """Those that must be made: absent, or damaged on disk."""
        self.cache.missing(keys.values())
        missing = {view: key for view, key in keys.items() if not self.cache.verify(key)}
        self.finished += len(keys) - len(missing)
        return missing

    def _add(self, sample: Sample, view: int, key: str) -> None:
        square, frame = to_square(apply_view(sample.image, view), self.sam.side)
        self.batch.append(_Item(key, sample.name, square, frame.square_size))
        if len(self.batch) >= self.batch_size:
            self._encode()

    def _encode(self) -> None:
        if not self.batch:
            return
        batch, self.batch = self.batch, []
        squares = torch.stack([item.square for item in batch]).to(self.device)
        sizes = torch.tensor([item.size for item in batch])
        narrow = self.precision == "bfloat16"
        with (
            torch.inference_mode(),
            torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=narrow),
        ):
            embeddings = self.sam.embed(normalise(squares, sizes))
        for item, embedding in zip(batch, embeddings, strict=True):
            self.writer.add(item.key, embedding, name=item.name)
        self.written += len(batch)
        self.finished += len(batch)
