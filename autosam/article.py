"""The names of the article's notebook, over our own rooms: its code runs with only this import changed.

The article is "Learn Transformer Fine-Tuning and Segment Anything" (S. Todoran 2024; geo-smart/water-surf,
MIT). Its way is kept where it is a choice: prompts from the true mask, squeezed pictures, one query to SAM
for each point. `method: decoder` of the configurations trains the same decoder with all points in one query,
pictures in their proportions, cached embeddings, and prompts that need no truth.
"""

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from autosam.data.elwha import ElwhaDataset
from autosam.data.geometry import Frame, mask_to_low
from autosam.errors import ConfigError, DataError, ModelError
from autosam.models.output_fusion import check_multi_mask, fuse_masks
from autosam.prompts.boxes import full_box, perturbed, tight_box
from autosam.prompts.points import control_points, pad_points
from autosam.training.randomness import Address, order_generator, prompt_generator
from autosam.types import Sample

__all__ = ["PromptType", "SAMDataset", "fuse_masks", "get_dataloader"]

LEAST_SIDE, LARGEST_SIDE = 16, 4096
"""Of pictures and masks, in pixels."""
HELD_OUT = ("validation", "valid", "val", "dev", "test")
"""Begin the names of parts that are not for training, such as validation[:10%]."""

Inputs: TypeAlias = dict[str, Tensor]


class PromptType:
    """What SAM is asked with: plain strings, as checkpoints and descriptions of the notebook hold them."""

    CONTROL_POINTS = "pts"
    BOUNDING_BOX = "bbox"


class SAMDataset(Dataset[Inputs]):
    """Labelled tiles as inputs of transformers' ``SamModel``, with a prompt from the true mask of each.

    An item has the processor's tensors without their batch axis:

    - pixel_values (3, side, side) float32, original_sizes (2,) and reshaped_input_sizes (2,);
    - for points input_points (points, 1, 2) float32, (x, y) in SAM's square, and input_labels (points, 1):
      1 water, 0 land, -10 padding at (0, 0) up to ``num_positive + num_negative``;
    - for boxes input_boxes (1, 4) float32: left, top, right, bottom in SAM's square;
    - ground_truth_mask (mask_size, mask_size) uint8: 1 where at least half of a cell is water, else 0.

    Each point is a query of its own with a mask of its own, as in the article; `fuse_masks` makes them one.
    Prompts are drawn on the mask, brought to the picture's size, and by the processor to SAM's square, so
    they fit whatever the sizes are. They follow from (seed, epoch, index) alone. For training they are drawn
    anew in each epoch, which `get_dataloader` and Accelerate count and `set_epoch` sets; for validation they
    stay, and boxes are exact.

    A tile without water asks with padding points, or with a box round the whole picture; the article's boxes
    fail there. Where a picture has no data (transparent) it is land.

    Args:
        dataset: One part of a ``datasets.Dataset`` with the columns image and label; labels of 0/1, 0/255 or
            the survey's three classes, of any size. Of a repeated name the first row is kept.
        processor: transformers' ``SamProcessor``.
        prompt_type: Of `PromptType`.
        num_positive: Points on water, 0 or more; fewer, and padding, where they find no room.
        num_negative: Points on land, 0 or more.
        erode: Draw points from the eroded water and land only.
        multi_mask: Kept for the loop, which reads it from here: 'mean' or 'best', see `fuse_masks`.
        perturbation: Pixels of the mask by which each side of a training box moves at most, in or out.
        image_size: Side to which pictures are squeezed, smoothed, before the processor; also the article's
            pair of equal lengths. Below SAM's side the processor enlarges again what was lost here.
        mask_size: Side of the ground truth, likewise.
        seed: Of the prompts, 0 or more.
        training: None: unless the part is named validation, valid, val, dev or test.

    Raises:
        DataError: The dataset is no single part with images and labels, or is empty.
        ConfigError: A setting is out of range.
        ModelError: The processor is none of SAM's.
    """

    def __init__(
        self,
        dataset: Any,
        processor: Any,
        prompt_type: str = PromptType.CONTROL_POINTS,
        num_positive: int = 3,
        num_negative: int = 0,
        erode: bool = True,
        multi_mask: str = "mean",
        perturbation: int = 10,
        image_size: int | tuple[int, int] = 1024,
        mask_size: int | tuple[int, int] = 256,
        *,
        seed: int = 0,
        training: bool | None = None,
    ) -> None:
        self._samples = _opened(dataset)
        self.dataset, self.processor = dataset, processor
        if not callable(processor) or not hasattr(processor, "image_processor"):
            raise ModelError(
                f"processor must be a SamProcessor, got {type(processor).__name__}. "
                "Load one with SamProcessor.from_pretrained('facebook/sam-vit-base')."
            )
        if prompt_type not in (PromptType.CONTROL_POINTS, PromptType.BOUNDING_BOX):
            raise ConfigError(
                f"prompt_type must be 'pts' or 'bbox', got {prompt_type!r}. Use one of PromptType."
            )
        self.prompt_type, self.multi_mask = prompt_type, check_multi_mask(multi_mask)
        self.num_positive = _whole("num_positive", num_positive)
        self.num_negative = _whole("num_negative", num_negative)
        if prompt_type == PromptType.CONTROL_POINTS and num_positive + num_negative == 0:
            raise ConfigError(
                "num_positive + num_negative must be 1 or more, got 0. Use 3 and 0, as the article."
            )
        self.erode = _flag("erode", erode)
        self.perturbation = _whole("perturbation", perturbation)
        self.image_size = _side("image_size", image_size)
        self.mask_size = _side("mask_size", mask_size)
        self.seed = _whole("seed", seed)
        held_out = str(dataset.split).startswith(HELD_OUT)
        self.training = not held_out if training is None else _flag("training", training)
        self.epoch = 0

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int | Address) -> Inputs:
        epoch, place = index if isinstance(index, Address) else (self.epoch, index)
        place = range(len(self))[place]
        sample = self._samples[place]
        mask = self._mask(sample)
        picture = Image.fromarray(sample.image)
        picture = picture.resize((self.image_size, self.image_size), Image.Resampling.BILINEAR)
        generator = prompt_generator(self.seed, Address(epoch if self.training else 0, place))
        drawn = self._points if self.prompt_type == PromptType.CONTROL_POINTS else self._box
        prompt = drawn(mask, generator)
        inputs = self.processor(np.array(picture), **prompt, return_tensors="pt")
        item = {
            # The processor gives places as float64, which not every device has.
            name: value[0].float() if value.is_floating_point() else value[0]
            for name, value in inputs.items()
        }
        item["ground_truth_mask"] = torch.from_numpy(mask.astype(np.uint8))
        return item

    def set_epoch(self, epoch: int) -> None:
        """Draw the prompts of an epoch, from 0 on; a set for validation has the same in all.

        Raises:
            ConfigError: The epoch is no whole number of 0 or more.
        """
        self.epoch = _whole("epoch", epoch)

    def _mask(self, sample: Sample) -> np.ndarray:
        """(mask_size, mask_size) bool, squeezed as the picture is."""
        if sample.mask is None:
            raise AssertionError("only labelled datasets are opened")
        squeezed = Frame(sample.size, (self.mask_size, self.mask_size), self.mask_size)
        water = sample.mask if sample.valid is None else sample.mask & sample.valid
        low: np.ndarray = mask_to_low(water, squeezed, self.mask_size)[0].numpy()
        return low

    def _points(self, mask: np.ndarray, generator: np.random.Generator) -> dict[str, Any]:
        """One query for each point, in the picture's pixels: [picture][query][point]."""
        places, labels = control_points(
            mask, positive=self.num_positive, negative=self.num_negative, erode=self.erode,
            generator=generator,
        )  # fmt: skip
        count = self.num_positive + self.num_negative
        places, labels = pad_points(self._in_picture(places), labels, count=count)
        return {
            "input_points": [places[:, None].tolist()],
            "input_labels": [labels[:, None].tolist()],
        }

    def _box(self, mask: np.ndarray, generator: np.random.Generator) -> dict[str, Any]:
        """One query, in the picture's pixels: [picture][query]."""
        box = tight_box(mask)
        if box is None:
            return {"input_boxes": [[full_box(self.image_size, self.image_size).tolist()]]}
        if self.training:
            size, share = (self.mask_size, self.mask_size), self.perturbation / self.mask_size
            box = perturbed(box, size=size, share=share, generator=generator)
        return {"input_boxes": [[self._in_picture(box).tolist()]]}

    def _in_picture(self, places: np.ndarray) -> np.ndarray:
        """Pixel indices of the mask as those of the squeezed picture: middles to middles."""
        scaled: np.ndarray = (places + 0.5) * (self.image_size / self.mask_size) - 0.5
        return scaled


def get_dataloader(
    hf_dataset: Any,
    model_size: str = "base",
    batch_size: int = 7,
    prompt_type: str = PromptType.CONTROL_POINTS,
    num_positive: int = 3,
    num_negative: int = 0,
    erode: bool = True,
    multi_mask: str = "mean",
    perturbation: int = 10,
    image_size: int | tuple[int, int] = 1024,
    mask_size: int | tuple[int, int] = 256,
    *,
    seed: int = 0,
    training: bool | None = None,
    workers: int = 0,
    token: str | None = None,
) -> DataLoader[Inputs]:
    """Batches of a `SAMDataset`, where the arguments are described that are not here.

    Training batches are shuffled; each pass has another order and other prompts, both from the seed.
    Validation reads one tile at a time, in order, with the same prompts in each pass.

    `model_size` is 'base', 'large' or 'huge', for which nothing is downloaded (see `load_processor`), or a
    folder or hub id of a SAM or its processor, with a `token` where it is private. `batch_size` is that of
    training. The article's `image_size` is 256, with which SAM sees a sixteenth of a tile's pixels. `workers`
    processes read; with 0 this one does.

    Raises:
        DataError: The dataset cannot be used.
        ConfigError: A setting is out of range.
        ModelError: There is no such SAM, or the hub cannot be reached.
        AccessError: The hub does not show it to us.
        MissingPathError: There is no such folder.
    """
    from autosam.models.sam_processor import load_processor

    dataset = SAMDataset(
        hf_dataset, load_processor(model_size, token=token), prompt_type, num_positive, num_negative,
        erode, multi_mask, perturbation, image_size, mask_size, seed=seed, training=training,
    )  # fmt: skip
    batch_size = _whole("batch_size", batch_size, least=1)
    workers = _whole("workers", workers)
    if not dataset.training:
        return DataLoader(dataset, batch_size=1, num_workers=workers)
    return DataLoader(dataset, batch_size=batch_size, sampler=_Passes(dataset), num_workers=workers)


class _Passes(Sampler[Address]):
    """The order of the set's epoch, which then counts on.

    Each index brings its epoch along: worker processes, and Accelerate's loaders, do not see the set's own.
    """

    def __init__(self, dataset: SAMDataset) -> None:
        self._dataset = dataset

    def __iter__(self) -> Iterator[Address]:
        epoch = self._dataset.epoch
        self._dataset.set_epoch(epoch + 1)
        order = order_generator(self._dataset.seed, epoch).permutation(len(self._dataset))
        return (Address(epoch, place) for place in order.tolist())

    def __len__(self) -> int:
        return len(self._dataset)


def _opened(dataset: Any) -> ElwhaDataset:
    columns = getattr(dataset, "column_names", None)
    if not isinstance(columns, list) or not hasattr(dataset, "__len__"):
        raise DataError(
            "dataset must be one part of a datasets.Dataset, got "
            f"{type(dataset).__name__}. Load it with load_dataset(..., split='train')."
        )
    if len(dataset) == 0:
        raise DataError("dataset must have at least one row, got 0. Check the split.")
    samples = ElwhaDataset(dataset, split=str(dataset.split or "row"), source="the dataset")
    if not samples.labelled:
        raise DataError(
            f"dataset must have the column 'label', got {', '.join(columns)}. "
            "Prompts and ground truth are made from it."
        )
    return samples


def _whole(name: str, value: int, *, least: int = 0) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ConfigError(
            f"{name} must be a whole number of {least} or more, got {value!r}. Leave it out."
        )
    return int(value)


def _side(name: str, value: int | tuple[int, int]) -> int:
    """One length; pictures and masks are squares here, so that SAM's mask and the truth lie on each other."""
    lengths = tuple(value) if isinstance(value, tuple | list | np.ndarray) else (value, value)
    if len(lengths) != 2 or lengths[0] != lengths[1]:
        raise ConfigError(
            f"{name} must be one length, or a pair of equal ones, got {value!r}. Pictures of other "
            "proportions are squeezed to a square."
        )
    side = _whole(name, lengths[0], least=LEAST_SIDE)
    if side > LARGEST_SIDE:
        raise ConfigError(f"{name} must be at most {LARGEST_SIDE}, got {value!r}. SAM sees 1024.")
    return side


def _flag(name: str, value: bool) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise ConfigError(f"{name} must be True or False, got {value!r:.60}. Give one of them.")
    return bool(value)
