"""Any size to SAM's square and back: the only place that knows how pictures are scaled and padded.

A picture is shrunk or enlarged until its longer side is the square's, and lies at the top left; what
remains to the right and below is padding. All three grids (picture, square, low) describe the same
rectangle: pixel j of n covers the interval from j/n to (j+1)/n of its axis (`align_corners=False`).
"""

import dataclasses
import functools
import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn import functional
from torchvision.transforms.v2 import functional as transforms

from autosam.errors import ImageError
from autosam.types import Pixels, Squares, SquareSizes

GEOMETRY_VERSION = 1
"""Part of every embedding's key: raise it whenever `to_square` or `normalise` gives other numbers."""

PIXEL_MEAN = (123.675, 116.28, 103.53)
"""SAM's mean of red, green and blue in 0..255, which is ImageNet's."""
PIXEL_STD = (58.395, 57.12, 57.375)
"""SAM's standard deviation in 0..255, which is ImageNet's."""

PADDING_COLOUR = (124, 116, 104)
"""The mean, so that what bleeds over the picture's edge when a square shrinks is 0 once normalised,
as in SAM; black would draw a dark line along that edge, and dark is what water looks like."""

_COLUMNS_AT_ONCE = 2048
"""Of a mask converted to float together: bounds the memory that a very large mask takes."""
_TIE = 1e-5
"""Share of a cell by which rounding in float32 may miss an exact half."""


@dataclasses.dataclass(frozen=True)
class Frame:
    """How one picture lies in SAM's square; sizes are (height, width) in pixels."""

    original_size: tuple[int, int]
    """Of the picture as it was read."""
    square_size: tuple[int, int]
    """Of the picture inside the square; its longer side is `side`."""
    side: int
    """Height and width of the square."""

    @classmethod
    def fit(cls, height: int, width: int, side: int) -> "Frame":
        """The frame of a picture of any size.

        The shorter side is rounded half up in the same floating-point steps as transformers'
        `SamImageProcessor`, but never to 0, which that processor refuses.

        Raises:
            ImageError: A length is below 1.
        """
        if min(height, width, side) < 1:
            raise ImageError(
                f"height, width and side must be 1 or more, got {height}, {width} and {side}. "
                "Check that the picture was read."
            )
        scale = side * 1.0 / max(height, width)
        square = max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))
        return cls((height, width), square, side)


def to_square(image: np.ndarray, side: int) -> tuple[UInt8[Tensor, "3 side side"], Frame]:
    """Scale a picture into the top left of SAM's square.

    Bilinear with antialias on uint8, as `SamImageProcessor` does it: after `normalise` within 2.4e-7
    of its pixels (rounding of the normalisation; measured on 57 random sizes of 1 to 2000 px), and
    within one grey level of Pillow's resize (0.003 on average). What lies right and below is
    filled with `PADDING_COLOUR`; `normalise` makes it exactly 0.

    Args:
        image: (height, width, 3) uint8, RGB; at least one pixel.
        side: Height and width of the square.

    Raises:
        ImageError: The picture has another shape or type.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise ImageError(
            f"image must be (height, width, 3) uint8 with at least one pixel, got {image.shape} "
            f"{image.dtype}. Read it with autosam.data.images."
        )
    frame = Frame.fit(image.shape[0], image.shape[1], side)
    picture = _tensor(image).permute(2, 0, 1)
    picture = transforms.resize(picture, list(frame.square_size), antialias=True)
    height, width = frame.square_size
    square = torch.tensor(PADDING_COLOUR, dtype=torch.uint8)[:, None, None].repeat(1, side, side)
    square[:, :height, :width] = picture
    return square, frame


def _tensor(array: np.ndarray) -> Tensor:
    """Memory is shared where torch can: not with reversed views or read-only arrays."""
    return torch.from_numpy(np.require(array, requirements=["C", "W"]))


def shrink_squares(squares: Squares, side: int, *, antialias: bool) -> Squares:
    """Squares at another side, still uint8; the same squares when the side is theirs.

    Args:
        squares: RGB, padding included; it shrinks with the picture.
        side: The prompt network's.
        antialias: Smooth while shrinking. False samples single points between aligned corners: the
            published AutoSAM, which aliases and shifts by up to half a pixel.
    """
    if squares.shape[-1] == side:
        return squares
    if antialias:
        resized: Tensor = transforms.resize(squares, [side, side], antialias=True)
        return resized
    points = functional.interpolate(
        squares.float(), (side, side), mode="bilinear", align_corners=True
    )
    return points.round_().to(torch.uint8)


def scale_sizes(sizes: SquareSizes, from_side: int, to_side: int) -> SquareSizes:
    """(height, width) of the pictures once their squares go from one side to another.

    Rounded half up in whole numbers, at least 1, and unchanged when the sides are equal.
    """
    scaled = (2 * sizes * to_side + from_side) // (2 * from_side)
    return scaled.clamp(min=1, max=to_side)


def bands_to_square(
    bands: Sequence[np.ndarray], frame: Frame, side: int
) -> Float[Tensor, "bands side side"]:
    """Scale the bands of a picture into the top left of a square, in their own units.

    Bilinear with antialias, once, from the picture's own pixels, which lie where the square of RGB
    has them at this side, to the fraction of a pixel. They end where `scale_sizes` says.

    Args:
        bands: Each (height, width) float32 of the frame's original size, finite.
        frame: Where the picture lies in SAM's square.
        side: Height and width of the square that is wanted: the prompt network's.

    Returns:
        float32; padding holds the mean of its band inside the picture.

    Raises:
        ImageError: A band has another size or type than the frame's picture.
    """
    sizes = scale_sizes(torch.tensor(frame.square_size), frame.side, side)
    height, width = (int(length) for length in sizes)
    lengths = zip(frame.square_size, frame.original_size, strict=True)
    # A little more, lest rounding lose a last pixel that is whole.
    scales = tuple(inner / outer * (side / frame.side) * (1 + 1e-9) for inner, outer in lengths)
    squares = torch.empty(len(bands), side, side)
    for square, band in zip(squares, bands, strict=True):
        if band.shape != frame.original_size or band.dtype != np.float32:
            raise ImageError(
                f"band must be float32 with its picture's height and width {frame.original_size}, got "
                f"{band.dtype} {band.shape}. Register it to the picture first."
            )
        # Less its mean while it is scaled: float32 would lose the centimetres of a high plain.
        mean = float(band.mean(dtype=np.float64))
        scaled = _scaled(_tensor(band - np.float32(mean)), scales, (height, width))
        square[:] = scaled.mean()
        square[:height, :width] = scaled
        square += np.float32(mean)
    return squares


def _scaled(
    band: Float[Tensor, "h w"], scales: tuple[float, ...], size: tuple[int, int]
) -> Float[Tensor, "height width"]:
    """At exactly these scales; where a last pixel is covered in part only, the edge fills the rest."""
    below, behind = (
        0 if int(length * scale) >= wanted else math.ceil(1 / scale) + 1
        for length, scale, wanted in zip(band.shape, scales, size, strict=True)
    )
    wider = functional.pad(band[None, None], (0, behind, 0, below), mode="replicate")
    scaled = functional.interpolate(wider, scale_factor=scales, mode="bilinear", antialias=True)
    return scaled[0, 0, : size[0], : size[1]]


def normalise(squares: Squares, sizes: SquareSizes) -> Pixels:
    """Pixels as SAM wants them: (value - mean) / std once, and exactly 0 on padding.

    A value of 255 in red becomes 2.2489, and 0 becomes -2.1179.

    Args:
        squares: RGB in 0..255.
        sizes: (height, width) of each picture inside its square, at this square's scale.
    """
    mean = torch.tensor(PIXEL_MEAN, device=squares.device)[:, None, None]
    std = torch.tensor(PIXEL_STD, device=squares.device)[:, None, None]
    pixels = (squares.float() - mean) / std
    places = torch.arange(squares.shape[-1], device=squares.device)
    heights, widths = sizes.to(squares.device).unbind(dim=1)
    rows, columns = places < heights[:, None], places < widths[:, None]
    inside = rows[:, None, :, None] & columns[:, None, None, :]
    return pixels.masked_fill_(~inside, 0.0)


def mask_to_low(mask: np.ndarray, frame: Frame, low_side: int) -> Bool[Tensor, "1 low low"]:
    """The mask on the decoder's grid: True where at least half of a cell's area is water.

    Areas are exact, whatever the sizes. Padding counts as land, so a cell that is mostly padding
    is False.

    Args:
        mask: (height, width) bool of the frame's original size.
        frame: Where the picture lies in the square.
        low_side: Cells along one side of the square.

    Raises:
        ImageError: The mask has another size than the frame's picture.
    """
    share = area_shares(mask, frame, low_side)
    return (share >= 0.5 - _TIE)[None]


def valid_to_low(
    valid: np.ndarray | None, frame: Frame, low_side: int
) -> Bool[Tensor, "1 low low"]:
    """Where the low mask counts: True only for cells that are valid picture from edge to edge.

    Args:
        valid: (height, width) bool of the frame's original size; None when all of it is valid.
        frame: Where the picture lies in the square.
        low_side: Cells along one side of the square.

    Returns:
        All False when no cell fits inside the picture, as for one that is a pixel wide.

    Raises:
        ImageError: The valid area has another size than the frame's picture.
    """
    ends = torch.arange(1, low_side + 1, dtype=torch.float64) * (frame.side / low_side) - 1e-9
    height, width = frame.square_size
    inside = (ends <= height)[:, None] & (ends <= width)[None, :]
    if valid is not None:
        # Sums of non-negative overlaps: 0 exactly where no invalid pixel reaches into the cell.
        inside &= area_shares(~valid, frame, low_side) == 0
    return inside[None]


def area_shares(mask: np.ndarray, frame: Frame, low_side: int) -> Float[Tensor, "low low"]:
    """Share of each cell's area that the mask covers, 0..1.

    Args:
        mask: (height, width) bool of the frame's original size.
        frame: Where the picture lies in the square.
        low_side: Cells along one side of the square.

    Raises:
        ImageError: The mask has another size than the frame's picture.
    """
    if mask.shape != frame.original_size:
        raise ImageError(
            f"mask must have its picture's height and width {frame.original_size}, got {mask.shape}. "
            "Check that both show the same picture and that neither was resized."
        )
    (height, width), (square_height, square_width) = frame.original_size, frame.square_size
    rows = _overlaps(height, square_height, frame.side, low_side)
    columns = _overlaps(width, square_width, frame.side, low_side)
    strips = torch.split(_tensor(mask), _COLUMNS_AT_ONCE, dim=1)
    return torch.cat([rows @ strip.float() for strip in strips], dim=1) @ columns.T


@functools.lru_cache(maxsize=32)
def _overlaps(length: int, square_length: int, side: int, low_side: int) -> Float[Tensor, "low n"]:
    """Share of each cell along one axis that each of `length` pixels covers; rows sum to 1 inside."""
    cell, pixel = side / low_side, square_length / length
    cells = torch.arange(low_side, dtype=torch.float64)[:, None] * cell
    pixels = torch.arange(length, dtype=torch.float64)[None, :] * pixel
    overlap = torch.minimum(cells + cell, pixels + pixel) - torch.maximum(cells, pixels)
    overlap[overlap < 1e-9] = 0  # edges that coincide but for rounding do not overlap
    return (overlap / cell).float()


def logits_to_original(
    logits: Float[Tensor, "*one low low"], frame: Frame
) -> Float[Tensor, "height width"]:
    """Logits of the decoder's grid at the picture's own size.

    The steps of SAM's `post_process_masks`: bilinear to the square, crop the padding away, bilinear
    to the picture, never with aligned corners. The largest tensor is the answer itself, 4 bytes per
    pixel.

    Args:
        logits: (low, low) or (1, low, low), of one picture.
        frame: Where the picture lies in the square.
    """
    low = logits.float().reshape(1, 1, *logits.shape[-2:])
    square = functional.interpolate(low, (frame.side, frame.side), mode="bilinear")
    height, width = frame.square_size
    picture = square[..., :height, :width]
    return functional.interpolate(picture, frame.original_size, mode="bilinear")[0, 0]
