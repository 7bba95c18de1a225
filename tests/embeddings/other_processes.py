"""What other processes do with a cache: build it, die while they build it, and read it."""

import os
import pickle
import random
import signal
import time
from collections.abc import Sequence
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from autosam.embeddings import EmbeddingCache, fill_cache, writer
from autosam.embeddings.claims import Claims
from autosam.types import Sample

SHAPE = (24, 32, 32)


class Encoder:
    """Takes as long as it is told, and counts what it encodes."""

    side, encoder_fingerprint = 64, "f" * 64

    def __init__(self, seconds: float = 0.0) -> None:
        self.encoded, self.seconds = 0, seconds

    def embed(self, pixels: torch.Tensor) -> torch.Tensor:
        time.sleep(self.seconds * len(pixels))
        self.encoded += len(pixels)
        return functional.adaptive_avg_pool2d(pixels, 32).repeat(1, 8, 1, 1)


def samples_of(count: int) -> list[Sample]:
    generator = np.random.default_rng(0)
    pictures = generator.integers(0, 256, (count, 64, 64, 3), dtype=np.uint8)
    return [Sample(name=f"scene_{n}", image=picture) for n, picture in enumerate(pictures)]


def build(
    directory: Path, count: int, seconds: float, views: Sequence[int] = (0,)
) -> dict[str, int]:
    torch.set_num_threads(1)
    writer.SHARD_RECORDS = 3
    cache, encoder = EmbeddingCache(directory, shape=SHAPE), Encoder(seconds)
    report = fill_cache(
        cache, samples_of(count), encoder, views=views, batch_size=2, progress=False
    )
    return {"encoded": encoder.encoded, "written": report.written, "reused": report.reused}


def build_together(directory: Path, count: int, seconds: float, start: Barrier, told: Queue):
    start.wait()
    told.put(build(directory, count, seconds))


def build_with_deaths(directory: Path, count: int, seconds: float, told: Queue) -> None:
    """Of eight processes each is killed at a random moment; this one ends the work."""
    random.seed(7)
    for _ in range(8):
        child = os.fork()
        if child == 0:
            build(directory, count, seconds, range(8))
            os._exit(0)
        time.sleep(random.uniform(0.05, 0.4))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    told.put(build(directory, count, seconds, range(8)))


def claim_and_sleep(directory: Path, keys: Sequence[str], told: Queue) -> None:
    claims = Claims(directory / "float16-24x32x32" / "claims")
    told.put(all(claims.take(key) for key in keys))
    time.sleep(60)


def read_pickled(content: bytes, keys: Sequence[str], told: Queue) -> None:
    told.put(pickle.loads(content).read(list(keys)).numpy().tobytes())
