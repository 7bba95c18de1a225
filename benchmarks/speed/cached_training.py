"""Question: what does training from cached embeddings cost against encoding at every step, and what is left?

Method: one network, one batch. A encodes by transformers at every step, as the reference does; B reads the
        embeddings from a cache on disk; C does B's step in bfloat16, where this processor is quick at it.
        All, and the parts of B by themselves, alternate round by round; ratios are of the medians; the losses
        of A and B are compared. Epochs are computed from these: the reference loop encodes 50 times what the
        cache encodes once for each view. Weights are random and of a visible scale. Cold reads are of files
        that the system was told to forget.
Run:    python benchmarks/speed/cached_training.py --base SCRATCH --out RESULT.json
        (SCRATCH: where a SAM of base's size with random weights is written once)
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from full_size import write_random_base
from torch import Tensor

from autosam.config import config_from_dict
from autosam.embeddings import EmbeddingCache
from autosam.files import write_json
from autosam.inference.number_formats import half_pays
from autosam.models.autosam import PromptedSam
from autosam.models.methods import build_network
from autosam.recipes.environment import environment
from autosam.training.losses import total_loss

A, B, C = "A: encoding at every step", "B: from the cache", "C: from the cache, bfloat16"
READ, DECODER, FILL = (
    "reading a batch",
    "decoder alone, there and back",
    "encoding one picture once",
)
EPOCHS = 50
CACHED = 64
"""Embeddings on disk, of which a batch is drawn."""
MIB = 2**20
Way = Callable[[], float]


class Bench:
    """One network, one batch, and a cache of which it is read."""

    def __init__(self, sam: str, network: str, batch: int, folder: Path) -> None:
        settings = {"sam": {"name": sam}, "prompt": {"network": network}}
        self.network = cast(PromptedSam, build_network(config_from_dict(settings))).train()
        self.optimiser = torch.optim.AdamW(self.network.trained_parameters(), 0.0)
        side, prompt_side = self.network.side, self.network.prompt_side
        self.pixels = torch.randn(batch, 3, side, side)
        self.prompt_pixels = torch.randn(batch, 3, prompt_side, prompt_side)
        low = self.network.low_side
        self.target = torch.rand(batch, 1, low, low) > 0.5
        self.keys = [f"{number:064d}" for number in range(CACHED)]
        self.cache = self._filled(folder)
        self.drawn = np.random.default_rng(0).permutation(CACHED)[:batch]

    def _filled(self, folder: Path) -> EmbeddingCache:
        """Every drawn embedding is one of the batch's pictures, so that A and B have one loss."""
        grid, channels = self.network.sam.grid, self.network.sam.channels
        cache = EmbeddingCache(folder, shape=(channels, grid, grid))
        with torch.inference_mode():
            found = self.network.sam.embed(self.pixels)
        drawn = np.random.default_rng(0).permutation(CACHED)[: len(found)]
        place = {number: position for position, number in enumerate(drawn)}
        with cache.writer() as writer:
            for number, key in enumerate(self.keys):
                writer.add(key, found[place.get(number, 0)])
        return cache

    def read(self) -> Tensor:
        """The batch's embeddings, in float32."""
        return self.cache.read([self.keys[number] for number in self.drawn]).float()

    def encode_as_reference(self) -> Tensor:
        """By transformers' own encoder, one picture after another: on a processor a batch is no faster."""
        encoder: Any = self.network.sam.image_encoder
        with torch.no_grad():
            found = [encoder(one).last_hidden_state for one in self.pixels.split(1)]
        return torch.cat(found)

    def fill_one(self) -> float:
        """As the cache is filled, in the format that is quick here."""
        with (
            torch.inference_mode(),
            torch.autocast("cpu", torch.bfloat16, enabled=half_pays()),
        ):
            self.network.sam.embed(self.pixels[:1])
        return 0.0

    def step(self, embedding: Tensor, *, half: bool = False) -> float:
        """One optimiser step; the loss before it."""
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            logits = self.network(image_embedding=embedding, prompt_pixels=self.prompt_pixels)
        return self._learn(logits.float())

    def decoder_step(self, embedding: Tensor) -> float:
        """The frozen decoder, and back to the dense prompt."""
        sam = self.network.sam
        dense = sam.no_mask_embedding(len(embedding)).clone().requires_grad_()
        return self._learn(sam.decode(embedding, dense))

    def _learn(self, logits: Tensor) -> float:
        loss, _ = total_loss(
            logits, self.target, torch.ones_like(self.target), {"bce": 1.0, "dice": 1.0}
        )
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        return loss.item()

    def ways(self) -> dict[str, Way]:
        """What is timed, by name; each gives its loss, or 0."""
        held = self.read()
        ways: dict[str, Way] = {
            A: lambda: self.step(self.encode_as_reference()),
            B: lambda: self.step(self.read()),
            C: lambda: self.step(self.read(), half=True),
            READ: lambda: 0.0 * float(self.read()[0, 0, 0, 0]),
            DECODER: lambda: self.decoder_step(held),
            FILL: self.fill_one,
        }
        if not half_pays():
            del ways[C]
        return ways

    def reading(self) -> dict[str, float]:
        """GB a second, of files in the system's memory, and of files that it has forgotten."""
        for path in self.cache.directory.rglob("*"):
            if path.is_file():
                forget(path)
        cache = EmbeddingCache(self.cache.directory, shape=self.cache.shape)
        out = torch.empty(CACHED, *self.cache.shape, dtype=torch.float16)
        rates = {}
        for name in ("cold, checksums verified", "warm"):
            start = time.perf_counter()
            cache.read(self.keys, out=out)
            rates[name] = CACHED * cache.record_bytes / 1e9 / (time.perf_counter() - start)
        return {name: round(rate, 2) for name, rate in rates.items()}


def forget(path: Path) -> None:
    """Let the system drop what it holds of a file in memory."""
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def timed(ways: Mapping[str, Way], rounds: int) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Seconds of each round, and the last losses."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    losses: dict[str, float] = {}
    for number in range(rounds + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            losses[name] = way()
            if number:  # the first round warms up
                seconds[name].append(round(time.perf_counter() - start, 5))
    return seconds, losses


def ratios(medians: Mapping[str, float], batch: int) -> dict[str, float]:
    """How many times as fast a step is, and fifty epochs with the filling of the cache."""
    found = {}
    for name in (B, C):
        if name not in medians:
            continue
        found[f"step, {name}"] = medians[A] / medians[name]
        for views in (1, 8):
            ours = views * batch * medians[FILL] + EPOCHS * medians[name]
            found[f"{EPOCHS} epochs, views {views}, {name}"] = EPOCHS * medians[A] / ours
    return {name: round(ratio, 2) for name, ratio in found.items()}


def main() -> None:
    """Time every way and write what came of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--sam", default="nano", help="nano, or a folder or file of a larger SAM")
    parser.add_argument("--base", type=Path, metavar="SCRATCH", help="base's size, not --sam")
    parser.add_argument("--network", default="light")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if arguments.base and not (arguments.base / "config.json").is_file():
        write_random_base(arguments.base)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(
            str(arguments.base or arguments.sam), arguments.network, arguments.batch, Path(folder)
        )
        reading = bench.reading()
        seconds, losses = timed(bench.ways(), arguments.rounds)
    medians = {name: float(np.median(values)) for name, values in seconds.items()}
    result = {
        "question": "cached_training",
        "sam": "base, random weights" if arguments.base else arguments.sam,
        "network": arguments.network,
        "batch": arguments.batch,
        "seconds": seconds,
        "times_as_fast": ratios(medians, arguments.batch),
        "share_of_step": {name: round(medians[name] / medians[B], 4) for name in (READ, DECODER)},
        "cache_gb_a_second": reading,
        "embedding_mib": round(bench.cache.record_bytes / MIB, 2),
        "loss_difference": abs(losses[A] - losses[B]),
    }
    print(json.dumps(result, indent=1))
    if arguments.out:
        write_json(arguments.out, {**result, "environment": environment()})


if __name__ == "__main__":
    main()
