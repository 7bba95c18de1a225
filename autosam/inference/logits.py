"""The one path from a picture to logits: validation, calibration, evaluation and prediction all take it."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float

from autosam.data.geometry import (
    Frame,
    bands_to_square,
    logits_to_original,
    normalise,
    scale_sizes,
    shrink_squares,
    to_square,
)
from autosam.data.prompt_geometry import prompt_to_square
from autosam.models.autosam import PromptedSam
from autosam.models.contract import MaskNetwork
from autosam.types import (
    Bands,
    ImageEmbedding,
    Pixels,
    Prompt,
    Sample,
    SquarePrompt,
    Squares,
    SquareSizes,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Square:
    """A picture in a network's square, on the network's device."""

    squares: Squares
    """(1, 3, side, side)."""
    sizes: SquareSizes
    """How much of the square it fills."""
    frame: Frame

    @property
    def inside(self) -> Bool[torch.Tensor, "1 1 side side"]:
        """True where the picture is."""
        height, width = self.frame.square_size
        inside = torch.zeros_like(self.squares[:, :1], dtype=torch.bool)
        inside[..., :height, :width] = True
        return inside


def square_of(network: MaskNetwork, image: np.ndarray) -> Square:
    """Put one (height, width, 3) uint8 picture into a network's square."""
    device = _device_of(network)
    square, frame = to_square(image, network.side)
    sizes = torch.tensor([frame.square_size], device=device)
    return Square(squares=square[None].to(device), sizes=sizes, frame=frame)


@torch.inference_mode()
def network_logits(
    network: MaskNetwork,
    sample: Sample,
    *,
    prompt: Prompt | None = None,
    image_embedding: ImageEmbedding | None = None,
) -> Float[torch.Tensor, "height width"]:
    """Mask logits of one picture at its own size, float32 on the network's device.

    Args:
        network: In evaluation mode.
        sample: The picture, and the bands that the network reads.
        prompt: In the picture's own pixels; None for none.
        image_embedding: (1, channels, grid, grid), from a cache, in the place of encoding.
    """
    low, square = low_logits(network, sample, prompt=prompt, image_embedding=image_embedding)
    return original_logits(network, low, square)


@torch.inference_mode()
def low_logits(
    network: MaskNetwork,
    sample: Sample,
    *,
    prompt: Prompt | None = None,
    mask_logits: np.ndarray | None = None,
    image_embedding: ImageEmbedding | None = None,
    square: Square | None = None,
) -> tuple[Float[torch.Tensor, "1 low low"], Square]:
    """Mask logits of one picture on the network's own grid, and the square that the picture lies in.

    Args:
        network: In evaluation mode.
        sample: The picture, and the bands that the network reads.
        prompt: In the picture's own pixels; None for none.
        mask_logits: (low, low) of the mask before a correction, for SAM's mask prompt.
        image_embedding: (1, channels, grid, grid), from a cache, in the place of encoding.
        square: The picture as `square_of` gives it, where that was done before.

    Raises:
        DataError: A band is missing.
        ImageError: The prompt lies outside the picture.
    """
    square = square or square_of(network, sample.image)
    frame, device = square.frame, square.squares.device
    pixels = None
    prompt_pixels = _prompt_pixels(network, square.squares, square.sizes)
    if image_embedding is None:
        pixels = normalise(square.squares, square.sizes)
    else:
        image_embedding = image_embedding.to(device, torch.float32)
    logits = network(
        pixels,
        image_embedding=image_embedding,
        prompt_pixels=prompt_pixels,
        prompt_bands=_bands(network, sample, frame, device),
        prompts=_prompts(network, prompt, mask_logits, frame),
    )
    return logits[0].float(), square


def original_logits(
    network: MaskNetwork, low: Float[torch.Tensor, "1 low low"], square: Square
) -> Float[torch.Tensor, "height width"]:
    """What `low_logits` gave at the picture's own size, along its edges where the network has a filter.

    Args:
        network: Whose `guided_filter` it is.
        low: Of one picture.
        square: That the picture lies in.
    """
    if network.guided_filter is not None:
        low = network.guided_filter(low[None], square.squares, inside=square.inside)[0]
    return logits_to_original(low, square.frame)


@torch.inference_mode()
def image_embedding_of(network: PromptedSam, square: Square) -> ImageEmbedding:
    """(1, channels, grid, grid) of one picture."""
    return network.sam.embed(normalise(square.squares, square.sizes))


@torch.inference_mode()
def logits_together(
    network: MaskNetwork, images: Sequence[np.ndarray]
) -> list[Float[torch.Tensor, "height width"]]:
    """As `network_logits` of several pictures, in one pass.

    Args:
        network: In evaluation mode; it reads no bands and needs no geometric prompt.
        images: (height, width, 3) uint8 each.
    """
    squares = [square_of(network, image) for image in images]
    together = torch.cat([one.squares for one in squares])
    sizes = torch.cat([one.sizes for one in squares])
    logits = network(
        normalise(together, sizes), prompt_pixels=_prompt_pixels(network, together, sizes)
    )
    pairs = zip(logits.float(), squares, strict=True)
    return [original_logits(network, low, square) for low, square in pairs]


def _prompt_pixels(network: MaskNetwork, squares: Squares, sizes: SquareSizes) -> Pixels | None:
    """What the prompt network sees, where it is not simply what the encoder sees."""
    if network.prompt_side == network.side and "prompt_pixels" not in network.training_needs:
        return None
    antialias = getattr(getattr(network, "prompter", None), "antialias", True)
    prompt_squares = shrink_squares(squares, network.prompt_side, antialias=antialias)
    prompt_sizes = scale_sizes(sizes, network.side, network.prompt_side)
    return normalise(prompt_squares, prompt_sizes)


def _device_of(network: MaskNetwork) -> torch.device:
    return next(iter([*network.parameters(), *network.buffers()])).device


def _bands(
    network: MaskNetwork, sample: Sample, frame: Frame, device: torch.device
) -> Bands | None:
    if not network.bands:
        return None
    arrays = sample.bands_of(network.bands)
    return bands_to_square(arrays, frame, network.prompt_side)[None].to(device)


def _prompts(
    network: MaskNetwork, prompt: Prompt | None, mask_logits: np.ndarray | None, frame: Frame
) -> list[SquarePrompt] | None:
    if prompt is None and mask_logits is None:
        return None
    square = prompt_to_square(prompt or Prompt(source="none"), frame, network.low_side)
    if mask_logits is not None:
        square = SquarePrompt(
            queries=square.queries, mask_logits=torch.from_numpy(mask_logits), fusion=square.fusion
        )
    return [square]
