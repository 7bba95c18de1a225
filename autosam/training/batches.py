"""Samples to batches, in an order and with changes that follow from (seed, epoch, sample) alone."""

import dataclasses
from collections.abc import Callable, Collection, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from autosam.config import GeometricSettings
from autosam.data.augmentation import random_crop_sample, view_sample
from autosam.data.geometry import (
    Frame,
    bands_to_square,
    mask_to_low,
    shrink_squares,
    to_square,
    valid_to_low,
)
from autosam.data.prompt_geometry import prompt_to_square
from autosam.embeddings import EmbeddingCache
from autosam.errors import DataError, TrainingError
from autosam.models.contract import MaskNetwork, Need
from autosam.prompts.prompters import draw_prompt
from autosam.training.randomness import (
    Address,
    geometry_generator,
    order_generator,
    prompt_generator,
)
from autosam.types import Batch, Sample, SquarePrompt

MEMORY_BYTES = 2**30
"""Prompt squares and targets kept after the first epoch, over all worker processes together."""


@dataclasses.dataclass(frozen=True, eq=False)
class PackedArea:
    """A mask of one bit per pixel, for prompts are drawn from it anew in each epoch."""

    bits: np.ndarray
    shape: tuple[int, int]

    @classmethod
    def of(cls, area: np.ndarray) -> "PackedArea":
        """Pack a (height, width) bool mask."""
        return cls(np.packbits(area), (area.shape[0], area.shape[1]))

    def unpacked(self) -> np.ndarray:
        """(height, width) bool."""
        count = self.shape[0] * self.shape[1]
        return np.unpackbits(self.bits, count=count).reshape(self.shape).astype(bool)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Item:
    """One picture of a batch, without its embedding; the square is at `side` or at `prompt_side`."""

    name: str
    size: Int[Tensor, "2"]
    """(height, width) inside the square of `side`, whatever the side of the square below."""
    square: UInt8[Tensor, "3 side side"] | None
    target: Bool[Tensor, "1 low low"]
    valid: Bool[Tensor, "1 low low"]
    frame: Frame
    """Where the picture, in its view, lies in the square of `side`."""
    areas: tuple[PackedArea, PackedArea] | None = None
    """Mask and valid area at the picture's own size, where prompts are drawn from them."""
    bands: Float[Tensor, "bands side side"] | None = None
    """At `prompt_side`."""

    @property
    def kept_bytes(self) -> int:
        """What it takes in memory."""
        tensors = (self.square, self.target, self.valid, self.bands)
        packed = sum(area.bits.nbytes for area in self.areas or ())
        return packed + sum(tensor.nbytes for tensor in tensors if tensor is not None)


class TrainingItems(Dataset[Batch]):
    """Labelled samples as batches for a network: ``items[addresses]`` is the batch of those addresses.

    With a cache, a batch brings image embeddings and prompt squares; both are made once per picture
    and view, and what is small stays in memory. Without, it brings squares at SAM's side, and chance
    may also crop. Colours are changed later, on the device.

    Args:
        samples: All labelled.
        side: Of SAM's square.
        low_side: Of the mask logits.
        prompt_side: Of the prompt network's square.
        needs: What the network asks for in training.
        bands: Names of the bands that it reads.
        geometric: What prompts are drawn from the true masks, for a network that asks for prompts; anew
            in each epoch.
        antialias: Smooth while shrinking to `prompt_side`.
        cache: Of image embeddings; None where the network encodes in the step or has no encoder.
        cache_keys: (sample name, view) to the key in the cache.
        views: Drawn from, one per picture and epoch; (0,) is the picture as it is.
        crop: Without a cache: random crops down to this share of the side, and as far out; 0 for none.
        seed: Of view, crop and colours.
        memory_bytes: With a cache: bound on what is kept in memory, over all workers together.

    Raises:
        DataError: There are no samples.
        TrainingError: A cache comes without keys, with crops, or for a network that asks for no
            image embedding.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        *,
        side: int,
        low_side: int,
        prompt_side: int,
        needs: Collection[Need],
        bands: Sequence[str] = (),
        geometric: GeometricSettings | None = None,
        antialias: bool = True,
        cache: EmbeddingCache | None = None,
        cache_keys: Callable[[str, int], str] | None = None,
        views: Sequence[int] = (0,),
        crop: float = 0.0,
        seed: int = 0,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        if len(samples) == 0:
            raise DataError("training must have at least one sample, got 0. Check the split.")
        if not views:
            raise TrainingError("views must name at least one view, got none. Use (0,).")
        self.samples = samples
        self.side, self.low_side, self.prompt_side = side, low_side, prompt_side
        self.needs = frozenset(needs)
        self.bands, self.geometric = tuple(bands), geometric
        if "prompts" in self.needs and geometric is None:
            raise TrainingError(
                "geometric must be given for a network that asks for prompts, got None. "
                "Pass config.geometric."
            )
        self.antialias = antialias
        self.cache, self._cache_keys = cache, cache_keys
        self.views, self.crop, self.seed = tuple(views), crop, seed
        self._memory_bytes = memory_bytes
        self._kept: dict[tuple[int, int], Item] = {}
        self._kept_bytes = 0
        if cache is not None:
            self._check_cache()

    @classmethod
    def of(
        cls,
        network: MaskNetwork,
        samples: Sequence[Sample],
        *,
        geometric: GeometricSettings | None = None,
        antialias: bool = True,
        cache: EmbeddingCache | None = None,
        cache_keys: Callable[[str, int], str] | None = None,
        views: Sequence[int] = (0,),
        crop: float = 0.0,
        seed: int = 0,
        memory_bytes: int = MEMORY_BYTES,
    ) -> "TrainingItems":
        """Items in the sizes of a network, with what it asks for; the other arguments as above."""
        return cls(
            samples, side=network.side, low_side=network.low_side,
            prompt_side=network.prompt_side, needs=network.training_needs, bands=network.bands,
            geometric=geometric, antialias=antialias, cache=cache, cache_keys=cache_keys,
            views=views, crop=crop, seed=seed, memory_bytes=memory_bytes,
        )  # fmt: skip

    def _check_cache(self) -> None:
        advice = "Train without a cache: train.cache=false."
        if "image_embedding" not in self.needs:
            raise TrainingError(
                f"cache must be for a network that asks for image embeddings, got one that asks for "
                f"{sorted(self.needs)}. {advice}"
            )
        if self._cache_keys is None:
            raise TrainingError(
                "cache_keys must be given with a cache, got None. Pass (name, view) to key."
            )
        if self.crop > 0:
            raise TrainingError(
                f"train.crop must be 0 with cached embeddings, which know whole pictures only, got "
                f"{self.crop}. Set it to 0, or: {advice}"
            )

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, addresses: Sequence[Address]) -> Batch:
        views = [self.view(address) for address in addresses]
        items = [self._item(*pair) for pair in zip(addresses, views, strict=True)]
        prompts = self._prompts(items, addresses)
        if self.cache is None or self._cache_keys is None:
            return collate(items, prompts=prompts)
        named = zip(items, views, strict=True)
        keys = [self._cache_keys(item.name, view) for item, view in named]
        return collate(items, image_embedding=self.cache.read(keys), prompts=prompts)

    def _prompts(
        self, items: Sequence[Item], addresses: Sequence[Address]
    ) -> tuple[SquarePrompt, ...] | None:
        """Drawn from the true masks, by sample and epoch alone."""
        if "prompts" not in self.needs:
            return None
        return tuple(
            self._prompt(item, address) for item, address in zip(items, addresses, strict=True)
        )

    def _prompt(self, item: Item, address: Address) -> SquarePrompt:
        if item.areas is None or self.geometric is None:
            raise AssertionError("items keep their areas where prompts are needed")
        mask, valid = (area.unpacked() for area in item.areas)
        prompt = draw_prompt(
            mask, self.geometric, source="true mask", training=True, valid=valid,
            generator=prompt_generator(self.seed, address),
        )  # fmt: skip
        return prompt_to_square(prompt, item.frame, self.low_side)

    def view(self, address: Address) -> int:
        """The view of a picture in an epoch: the same in every process and after every resumption."""
        drawn = geometry_generator(self.seed, address).integers(len(self.views))
        return self.views[int(drawn)]

    def _item(self, address: Address, view: int) -> Item:
        if self.cache is None:
            return self._make(address, view)
        place = (address.sample, view)
        if place not in self._kept:
            item = self._make(address, view)
            if self._kept_bytes + item.kept_bytes > self._memory_share():
                return item
            self._kept[place] = item
            self._kept_bytes += item.kept_bytes
        return self._kept[place]

    def _memory_share(self) -> int:
        """Each worker process has its own copy of this object and its own share of the memory."""
        worker = get_worker_info()
        return self._memory_bytes // (worker.num_workers if worker is not None else 1)

    def _make(self, address: Address, view: int) -> Item:
        sample = self.samples[address.sample]
        if self.crop > 0:
            # The second draw of this generator's stream; `view` has taken the first.
            generator = geometry_generator(self.seed, address)
            generator.integers(len(self.views))
            sample = random_crop_sample(sample, crop=self.crop, generator=generator)
        sample = view_sample(sample, view)
        if sample.mask is None:
            raise DataError(
                f"training samples must have a mask, got none (sample {sample.name!r}). "
                "Leave it out, or give it a mask."
            )
        square, frame = to_square(sample.image, self.side)
        areas = None
        if "prompts" in self.needs:
            areas = PackedArea.of(sample.mask), PackedArea.of(sample.valid_area)
        return Item(
            name=sample.name,
            size=torch.tensor(frame.square_size),
            square=self._chosen_square(square),
            target=mask_to_low(sample.mask, frame, self.low_side),
            valid=valid_to_low(sample.valid, frame, self.low_side),
            frame=frame,
            areas=areas,
            bands=self._bands(sample, frame),
        )

    def _bands(self, sample: Sample, frame: Frame) -> Float[Tensor, "bands side side"] | None:
        if not self.bands:
            return None
        return bands_to_square(sample.bands_of(self.bands), frame, self.prompt_side)

    def _chosen_square(self, square: Tensor) -> Tensor | None:
        if self.cache is None:
            return square
        if "prompt_pixels" not in self.needs:
            return None
        return shrink_squares(square[None], self.prompt_side, antialias=self.antialias)[0]


def collate(
    items: Sequence[Item],
    *,
    image_embedding: Tensor | None = None,
    prompts: tuple[SquarePrompt, ...] | None = None,
) -> Batch:
    """Items as one batch; with an embedding their squares are the prompt network's, without SAM's."""
    bands = [item.bands for item in items if item.bands is not None]
    squares = [item.square for item in items if item.square is not None]
    stacked = torch.stack(squares) if squares else None
    return Batch(
        names=tuple(item.name for item in items),
        sizes=torch.stack([item.size for item in items]),
        squares=stacked if image_embedding is None else None,
        image_embedding=image_embedding,
        prompt_squares=None if image_embedding is None else stacked,
        target=torch.stack([item.target for item in items]),
        valid=torch.stack([item.valid for item in items]),
        prompts=prompts,
        prompt_bands=torch.stack(bands) if bands else None,
    )


def epoch_order(
    count: int, *, epoch: int, seed: int, batch_size: int, processes: int = 1, process: int = 0
) -> list[list[int]]:
    """The batches of one epoch for one process: lists of sample indices.

    All processes together read one batch of `batch_size * processes` at a time and each takes its
    slice, so two processes see together what one process with the doubled batch size sees. A last
    batch that is not full is left out; the shuffle is another one in each epoch, so none is always
    left out. A set smaller than one such batch makes a single smaller batch, equally large for every
    process; with fewer samples than processes some samples are read twice.

    Args:
        count: Samples in all, at least 1.
        epoch: From 0.
        seed: Of the shuffle.
        batch_size: Of one process.
        processes: Number of processes.
        process: Whose batches, from 0.
    """
    shuffled = order_generator(seed, epoch).permutation(count)
    share = min(batch_size, max(1, count // processes))
    together = share * processes
    shuffled = np.resize(
        shuffled, max(count, together)
    )  # repeats where processes outnumber samples
    batches = shuffled[: len(shuffled) // together * together].reshape(-1, processes, share)
    mine: list[list[int]] = batches[:, process].tolist()
    return mine
