"""Where chance comes from in training, and how it is kept: by item for data, by state for the rest.

What happens to a picture (view, crop, jitter) is drawn from (seed, epoch, sample) alone, so that worker
processes, batches and interruptions cannot change it. What the network draws itself (dropout) comes
from the libraries' own generators, whose states are saved with a run.
"""

import contextlib
import random
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor


class Address(NamedTuple):
    """One picture in one epoch: all that its random changes depend on, besides the seed."""

    epoch: int
    """From 0."""
    sample: int
    """In the training samples, from 0."""


_VIEW, _JITTER, _NETWORK, _ORDER, _PROMPT, _CLICKS = range(
    6
)  # separate streams, so that none repeats another


def geometry_generator(seed: int, address: Address) -> np.random.Generator:
    """Draws the view and the crop of one picture in one epoch."""
    return np.random.Generator(np.random.PCG64([seed, _VIEW, *address]))


def prompt_generator(seed: int, address: Address) -> np.random.Generator:
    """Draws the points and boxes of one picture in one epoch."""
    return np.random.Generator(np.random.PCG64([seed, _PROMPT, *address]))


def clicks_generator(seed: int, epoch: int, position: int) -> np.random.Generator:
    """Draws how often a simulated person corrects in one forward pass: equally often in every process."""
    return np.random.Generator(np.random.PCG64([seed, _CLICKS, epoch, position]))


def jitter_generator(seed: int, address: Address) -> torch.Generator:
    """Draws the colours of one picture in one epoch; on the CPU, so the same for every device."""
    (word,) = np.random.SeedSequence([seed, _JITTER, *address]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(word))


def order_generator(seed: int, epoch: int) -> np.random.Generator:
    """Draws the order of the pictures in one epoch."""
    return np.random.Generator(np.random.PCG64([seed, _ORDER, epoch]))


def seed_libraries(seed: int, process: int) -> None:
    """Start the generators of torch, numpy and Python anew, each process with its own."""
    words = np.random.SeedSequence([seed, _NETWORK, process]).generate_state(3, np.uint32)
    torch.manual_seed(int(words[0]))
    np.random.seed(int(words[1]))
    random.seed(int(words[2]))


def library_states(device: torch.device) -> tuple[dict[str, UInt8[Tensor, " n"]], dict[str, Any]]:
    """The states of all generators that a network may draw from.

    Returns:
        Torch's as tensors by name, and numpy's and Python's as plain values that JSON keeps exactly.
    """
    tensors = {"torch": torch.get_rng_state()}
    if device.type == "cuda":
        tensors["cuda"] = torch.cuda.get_rng_state(device)
    kind, keys, *rest = np.random.get_state()
    version, words, gauss = random.getstate()
    plain = {
        "numpy": [kind, np.asarray(keys).tolist(), *rest],
        "python": [version, list(words), gauss],
    }
    return tensors, plain


def restore_library_states(
    tensors: dict[str, UInt8[Tensor, " n"]], plain: dict[str, Any], device: torch.device
) -> None:
    """Put `library_states` back; a CUDA state is left out where there is no such device."""
    torch.set_rng_state(tensors["torch"].cpu())
    if device.type == "cuda" and "cuda" in tensors:
        torch.cuda.set_rng_state(tensors["cuda"].cpu(), device)
    kind, keys, *rest = plain["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *rest))
    version, words, gauss = plain["python"]
    random.setstate((version, tuple(words), gauss))


@contextlib.contextmanager
def keeping_library_states(device: torch.device) -> Iterator[None]:
    """Let a block draw what it likes, and leave the generators as they were before it."""
    tensors, plain = library_states(device)
    try:
        yield
    finally:
        restore_library_states(tensors, plain, device)
