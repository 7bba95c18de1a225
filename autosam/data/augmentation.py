"""Random changes of a sample, made to picture, mask, valid area and bands together; the eight views."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import Pad, functional

from autosam.data.geometry import PADDING_COLOUR
from autosam.errors import DataError
from autosam.types import Sample, Squares

VIEWS = range(8)
"""Rotations and reflections of a square, the set that a cache of embeddings can hold: view 0 is the
picture as it is, 1 to 3 turn it left by that many quarters, 4 to 7 are 0 to 3 of its mirror image."""

_LARGEST_HUE = 0.1
"""Of a full turn; every preset of the published method has it."""


def apply_view(array: np.ndarray, view: int) -> np.ndarray:
    """One of the eight views of a picture or mask.

    Args:
        array: (height, width) or (height, width, channels); odd views exchange height and width.
        view: In `VIEWS`.

    Raises:
        DataError: There is no such view.
    """
    _check_view(view)
    mirrored = array[:, ::-1] if view >= 4 else array
    return np.ascontiguousarray(np.rot90(mirrored, view % 4))


def invert_view(array: np.ndarray, view: int) -> np.ndarray:
    """What `apply_view` was given, from what it returned.

    Raises:
        DataError: There is no such view.
    """
    _check_view(view)
    turned = np.rot90(array, -(view % 4))
    return np.ascontiguousarray(turned[:, ::-1] if view >= 4 else turned)


def mean_of_views(answer: Callable[[int], Sequence[np.ndarray]]) -> list[np.ndarray]:
    """Of each picture the mean over the eight views, summed in one order: equal pictures have equal means.

    Args:
        answer: From a view to one (height, width) float32 array of each picture, as seen in that view.

    Returns:
        (height, width) float32 of each picture, as it is.
    """
    total = [array.astype(np.float32) for array in answer(VIEWS[0])]
    for view in VIEWS[1:]:
        for mean, turned in zip(total, answer(view), strict=True):
            mean += invert_view(turned, view)
    return [mean / np.float32(len(VIEWS)) for mean in total]


def _check_view(view: int) -> None:
    if view not in VIEWS:
        raise DataError(f"view must be in 0..7, got {view!r}. 0 is the picture as it is.")


def view_sample(sample: Sample, view: int) -> Sample:
    """A sample seen in one of the eight views; it loses its georeference, unless the view is 0.

    Raises:
        DataError: There is no such view.
    """
    if view == 0:
        return sample
    return dataclasses.replace(
        sample,
        image=apply_view(sample.image, view),
        mask=None if sample.mask is None else apply_view(sample.mask, view),
        valid=None if sample.valid is None else apply_view(sample.valid, view),
        georeference=None,
        bands={name: apply_view(band, view) for name, band in sample.bands.items()},
    )


def augment_sample(sample: Sample, *, crop: float, generator: np.random.Generator) -> Sample:
    """A random view of a sample, cropped or zoomed out at random.

    Args:
        sample: Unchanged itself.
        crop: As in `random_crop_sample`.
        generator: Of all that is random.
    """
    viewed = view_sample(sample, int(generator.integers(len(VIEWS))))
    return random_crop_sample(viewed, crop=crop, generator=generator)


def random_crop_sample(sample: Sample, *, crop: float, generator: np.random.Generator) -> Sample:
    """A random window of a sample, smaller or larger than it by up to the same factor.

    Pixels are only chosen, never resampled: the window is scaled once, when it enters SAM's square.
    What a larger window adds is the mean colour, each band's own median, and not valid.

    Args:
        sample: Unchanged itself; the window keeps its shape and loses its georeference.
        crop: Smallest share of each side; the largest is 1 / crop. Both are equally likely in the
            logarithm. 0 gives the sample back.
        generator: Of size and place.

    Raises:
        DataError: The share is not in 0..1.
    """
    if not 0 <= crop <= 1:
        raise DataError(f"crop must be in 0..1, got {crop}. It is the smallest share of a side.")
    if crop == 0:
        return sample
    factor = crop ** (2 * generator.random() - 1)
    height, width = (max(1, round(length * factor)) for length in sample.size)
    top, left = (
        int(generator.integers(min(0, free), max(0, free) + 1))
        for free in (sample.size[0] - height, sample.size[1] - width)
    )
    return _window(sample, top, left, height, width)


def _window(sample: Sample, top: int, left: int, height: int, width: int) -> Sample:
    """The part of a sample inside a window, which may reach beyond it."""
    bottom, right = top + height, left + width
    above, before = max(0, -top), max(0, -left)
    below, behind = max(0, bottom - sample.size[0]), max(0, right - sample.size[1])
    shared = (top + above, left + before, height - above - below, width - before - behind)
    fill = {tv_tensors.Image: PADDING_COLOUR, tv_tensors.Mask: 0}
    pad = Pad([before, above, behind, below], fill=fill)
    parts = pad({name: functional.crop(part, *shared) for name, part in _tensors(sample).items()})
    valid = parts["valid"][0].numpy()
    return dataclasses.replace(
        sample,
        image=np.ascontiguousarray(parts["image"].permute(1, 2, 0).numpy()),
        mask=None if sample.mask is None else parts["mask"][0].numpy(),
        valid=None if sample.valid is None and valid.all() else valid,
        georeference=None,
        bands={name: _window_band(b, top, left, height, width) for name, b in sample.bands.items()},
    )


def _window_band(band: np.ndarray, top: int, left: int, height: int, width: int) -> np.ndarray:
    """Filled with the median, which looks like no data; 0 could be the lowest land or coldest water."""
    window = np.full((height, width), np.median(band), dtype=np.float32)
    part = band[max(0, top) : top + height, max(0, left) : left + width]
    rows, columns = max(0, -top), max(0, -left)
    window[rows : rows + part.shape[0], columns : columns + part.shape[1]] = part
    return window


def _tensors(sample: Sample) -> dict[str, Tensor]:
    """The sample's arrays, each marked for torchvision as what it is; valid is always there."""
    areas = {"mask": sample.mask, "valid": sample.valid_area}
    image: Tensor = tv_tensors.Image(_tensor(sample.image).permute(2, 0, 1))
    marked = {k: tv_tensors.Mask(_tensor(a)[None]) for k, a in areas.items() if a is not None}
    return {"image": image, **marked}


def _tensor(array: np.ndarray) -> Tensor:
    """Memory is shared where torch can: not with reversed views or read-only arrays."""
    return torch.from_numpy(np.require(array, requirements=["C", "W"]))


def jitter_squares(squares: Squares, *, strength: float, generator: torch.Generator) -> Squares:
    """Change the light and colours of each picture by its own random amounts.

    Brightness, contrast and saturation are multiplied by a factor in 1 - strength to 1 + strength,
    in this order; hue turns by up to half the strength of a full turn, at most a tenth. That is the
    published (0.2, 0.2, 0.2, 0.1) at 0.2 and (0.4, 0.4, 0.4, 0.1) at 0.4. Padding changes too.

    Args:
        squares: RGB, unchanged themselves.
        strength: 0..1; 0 gives the squares back.
        generator: Four numbers are drawn for each picture.

    Raises:
        DataError: The strength is not in 0..1.
    """
    if not 0 <= strength <= 1:
        raise DataError(f"strength must be in 0..1, got {strength}. Try 0.2.")
    if strength == 0 or not len(squares):
        return squares
    draws = torch.rand((len(squares), 4), generator=generator, device=generator.device) * 2 - 1
    hue = min(strength / 2, _LARGEST_HUE)
    spans = torch.tensor([strength, strength, strength, hue], device=generator.device)
    changes = (draws * spans).tolist()
    return torch.stack([_recolour(s, *c) for s, c in zip(squares, changes, strict=True)])


def _recolour(
    picture: Tensor, brightness: float, contrast: float, saturation: float, hue: float
) -> Tensor:
    """One picture with its light and colours changed by these shares, and its hue by this turn."""
    picture = functional.adjust_brightness(picture, 1 + brightness)
    picture = functional.adjust_contrast(picture, 1 + contrast)
    picture = functional.adjust_saturation(picture, 1 + saturation)
    recoloured: Tensor = functional.adjust_hue(picture, hue)
    return recoloured
