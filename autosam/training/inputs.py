"""A batch on the device as the arguments of a network: colours changed, normalised once."""

from collections.abc import Sequence
from typing import Any

import torch

from autosam.data.augmentation import jitter_squares
from autosam.data.geometry import normalise, scale_sizes, shrink_squares
from autosam.training.batches import TrainingItems
from autosam.training.randomness import Address, jitter_generator
from autosam.types import Batch, Squares


@torch.no_grad()
def network_inputs(
    batch: Batch,
    addresses: Sequence[Address],
    items: TrainingItems,
    *,
    device: torch.device,
    jitter: float,
) -> dict[str, Any]:
    """What to call the network with.

    From the cache: `image_embedding` (float16, as it was stored) and, where asked for,
    `prompt_pixels`, `prompt_bands` and `prompts` (which stay on the processor until they are
    encoded). Otherwise `pixels` and, where asked for, `prompt_pixels` made from the same
    colours. Both ways shrink on uint8, so without jitter both give equal prompt pixels.

    Args:
        batch: Of `items`.
        addresses: Of the batch's pictures, which decide how their colours change.
        items: What the batch came from.
        device: Where to.
        jitter: Strength of the change of colours, 0..1.
    """
    sizes = batch.sizes.to(device)
    prompt_sizes = scale_sizes(sizes, items.side, items.prompt_side)
    inputs: dict[str, Any] = {}
    if batch.prompts is not None:
        inputs["prompts"] = batch.prompts
    if batch.prompt_bands is not None:
        inputs["prompt_bands"] = batch.prompt_bands.to(device)
    if batch.image_embedding is not None:
        inputs["image_embedding"] = batch.image_embedding.to(device)
    if batch.prompt_squares is not None:
        prompt_squares = _jittered(batch.prompt_squares.to(device), addresses, items.seed, jitter)
        inputs["prompt_pixels"] = normalise(prompt_squares, prompt_sizes)
    if batch.squares is not None:
        squares = _jittered(batch.squares.to(device), addresses, items.seed, jitter)
        inputs["pixels"] = normalise(squares, sizes)
        if "prompt_pixels" in items.needs:
            shrunk = shrink_squares(squares, items.prompt_side, antialias=items.antialias)
            inputs["prompt_pixels"] = normalise(shrunk, prompt_sizes)
    return inputs


def _jittered(
    squares: Squares, addresses: Sequence[Address], seed: int, strength: float
) -> Squares:
    """Picture by picture, each with chance of its own, so that batches cannot change it."""
    if strength == 0:
        return squares
    pairs = zip(torch.split(squares, 1), addresses, strict=True)
    return torch.cat(
        [
            jitter_squares(square, strength=strength, generator=jitter_generator(seed, address))
            for square, address in pairs
        ]
    )
