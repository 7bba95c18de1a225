"""A problem that trains in a second: small pictures, a small network, and a process to run it in.

Imported by the tests of this folder, and run as a script under `accelerate launch`.
"""

import argparse
import itertools
import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from autosam.config import TrainSettings
from autosam.data.geometry import mask_to_low, normalise, to_square
from autosam.models.contract import MaskNetwork
from autosam.training.batches import TrainingItems
from autosam.training.loop import fit
from autosam.training.processes import is_main_process
from autosam.types import Sample

SIDE, PROMPT_SIDE, LOW_SIDE = 32, 16, 8


class TinyNetwork(MaskNetwork):
    """Convolutions with BatchNorm and dropout from the square to the mask; a frozen part beside it."""

    def __init__(self, *, seed=0, dropout=0.0):
        super().__init__()
        torch.manual_seed(seed)
        self.method = "tiny"
        self.side, self.low_side, self.prompt_side = SIDE, LOW_SIDE, SIDE
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Dropout2d(dropout),
            nn.Conv2d(8, 8, 3, padding=1),
        )
        self.head = nn.Conv2d(8, 1, 1)
        self.frozen = nn.Conv2d(1, 1, 1).requires_grad_(False)

    @property
    def training_needs(self):
        return frozenset({"pixels"})

    def forward(self, pixels=None, *, image_embedding=None, prompt_pixels=None, **others):
        return self.head(self.body(pixels))

    def parameter_groups(self):
        return {
            "network": list(self.body.parameters()),
            "mask_decoder": list(self.head.parameters()),
        }

    def trained_parts(self):
        return {"body": self.body, "head": self.head}


class TinyPrompted(TinyNetwork):
    """The same behind a cached embedding: it sees the shrunken picture, and adds what was stored."""

    def __init__(self, *, seed=0, dropout=0.0):
        super().__init__(seed=seed, dropout=dropout)
        self.prompt_side = PROMPT_SIDE

    @property
    def training_needs(self):
        return frozenset({"image_embedding", "prompt_pixels"})

    def forward(self, pixels=None, *, image_embedding=None, prompt_pixels=None, **others):
        features = functional.interpolate(self.body(prompt_pixels), (LOW_SIDE, LOW_SIDE))
        return self.head(features + image_embedding.to(features.dtype))


def make_samples(count=10, *, seed=0):
    """Pictures of several shapes with a blue rectangle to find."""
    generator = np.random.default_rng(seed)
    samples = []
    for number in range(count):
        height, width = (48, 30) if number % 2 else (26, 40)
        image = generator.integers(60, 120, (height, width, 3), dtype=np.uint8)
        top, left = generator.integers(2, height // 2), generator.integers(2, width // 2)
        mask = np.zeros((height, width), dtype=bool)
        mask[top : top + height // 3, left : left + width // 3] = True
        image[mask, 2] += 120
        samples.append(Sample(name=f"picture_{number}", image=image, mask=mask))
    return samples


def validate(network):
    """Soft IoU of low masks on pictures of their own; draws random numbers as it goes."""
    torch.rand(3), np.random.rand(3)
    scores = []
    for sample in make_samples(4, seed=99):
        square, frame = to_square(sample.image, SIDE)
        logits = network(normalise(square[None], torch.tensor([frame.square_size])))[0]
        probability, truth = (
            torch.sigmoid(logits),
            mask_to_low(sample.mask, frame, LOW_SIDE).float(),
        )
        both = (probability * truth).sum()
        scores.append((both / (probability.sum() + truth.sum() - both)).item())
    return {"iou": float(np.mean(scores)), "worst": min(scores)}


def problem(directory, *, samples=10, dropout=0.2, wait=0.0, **changes):
    """Keyword arguments of `fit`."""
    values = {"epochs": 4, "batch_size": 2, "accumulation": 2, "warmup_steps": 3, "views": 8,
              "crop": 0.7, "jitter": 0.3, "save_steps": 1, "patience": 0,
              "learning_rate": 1e-2, "decoder_learning_rate": 5e-3} | changes  # fmt: skip
    settings = TrainSettings(**values)
    network = TinyNetwork(dropout=dropout)
    items = TrainingItems.of(
        network, SlowSamples(make_samples(samples), wait),
        views=range(8) if settings.views == 8 else (0,), crop=settings.crop, seed=5,
    )  # fmt: skip
    return {"network": network, "items": items, "settings": settings, "directory": directory,
            "seed": 5, "validate": validate, "progress": False}  # fmt: skip


class SlowSamples(list):
    """Samples that take a while to read, so that there is time to be killed."""

    def __init__(self, samples, wait):
        super().__init__(samples)
        self.wait = wait

    def __getitem__(self, index):
        time.sleep(self.wait)
        return super().__getitem__(index)


def run_in_process(directory, environment, changes):
    """The whole problem, as the target of a process of its own.

    Besides settings, `changes` may hold `resume`, `workers` and `killed_at_write`: the number of the
    write, from 1, in whose middle the process kills itself.
    """
    os.environ.update(environment)
    torch.set_num_threads(1)
    resume, workers = changes.pop("resume", False), changes.pop("workers", 0)
    _kill_at_write(changes.pop("killed_at_write", 0))
    result = fit(**problem(Path(directory), **changes), resume=resume, workers=workers)
    if is_main_process():
        (Path(directory) / "result.json").write_text(json.dumps(vars(result)))


def _kill_at_write(number):
    written, synchronise = itertools.count(1), os.fsync

    def counting(descriptor):
        if next(written) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        synchronise(descriptor)

    os.fsync = counting


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory")
    parser.add_argument("changes", type=json.loads, help="JSON")
    arguments = parser.parse_args()
    run_in_process(arguments.directory, {}, arguments.changes)
