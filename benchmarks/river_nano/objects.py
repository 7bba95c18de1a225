"""What is asked for in a crop: water, a piece of it, land, or a region of any kind."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from autosam.data.geometry import PIXEL_MEAN, PIXEL_STD
from benchmarks.river_nano.light import changed_light
from benchmarks.river_nano.scenes import Crop, Scene, random_crop

LEAST_SHARE = 0.002
"""Of the crop, below which nothing is an object."""
LOW = 4
"""Pixels of the crop for one of the decoder's mask."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ObjectBatch:
    """Crops and the objects in them; low is side / 4."""

    pixels: Tensor
    """(crops, 3, side, side), normalised as for SAM."""
    water: Tensor
    """(crops, 1, low, low) in 0..1."""
    labelled: Tensor
    """(crops, 1, low, low): 1 where `water` counts."""
    targets: Tensor
    """(objects, 1, low, low) in 0..1."""
    counted: Tensor
    """(objects, 1, low, low): 1 where a target counts."""
    owner: Tensor
    """(objects,): the crop of each."""


def draw_objects(crop: Crop, count: int, generator: np.random.Generator) -> list[np.ndarray]:
    """Up to `count` masks, (side, side) bool, of water, of land and of regions."""
    chosen = []
    for _ in range(3 * count):
        draw = generator.random()
        labelled = crop.valid.any()
        if labelled and draw < 0.35:
            area = crop.water & crop.valid
        elif labelled and draw < 0.55:
            area = _component(crop.water & crop.valid, generator)
        elif labelled and draw < 0.62:
            area = ~crop.water & crop.valid
        else:
            area = _region(crop.regions, generator)
        if LEAST_SHARE * area.size <= area.sum() <= 0.97 * area.size:
            chosen.append(area)
        if len(chosen) == count:
            break
    return chosen


def _component(area: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    count, labels = cv2.connectedComponents(area.astype(np.uint8))
    return labels == generator.integers(1, count) if count > 1 else area


def _region(regions: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """One region, or a few that may lie anywhere."""
    present = np.unique(regions[::4, ::4])
    present = present[present > 0]
    if not len(present):
        return np.zeros(regions.shape, bool)
    count = 1 if generator.random() < 0.95 else min(len(present), int(generator.integers(2, 5)))
    return np.isin(regions, generator.choice(present, size=count, replace=False))


def shrunk(area: np.ndarray) -> np.ndarray:
    """Share of an area in each pixel of the decoder's mask."""
    size = (area.shape[1] // LOW, area.shape[0] // LOW)
    return cv2.resize(area.astype(np.float32), size, interpolation=cv2.INTER_AREA)


def normalised(image: np.ndarray) -> Tensor:
    """(3, side, side) as SAM is given it."""
    pixels = (image.astype(np.float32) - np.float32(PIXEL_MEAN)) / np.float32(PIXEL_STD)
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


class ObjectBatches(IterableDataset[ObjectBatch]):
    """Endless batches; batch i depends on the seed, the stage and i alone.

    Args:
        scenes: Where crops are cut from; groups are drawn evenly, tempered by their size.
        stage: side, batch of the recipe.
        objects: In each crop.
        seed: Of all that is random.
        start: Number of the first batch.
    """

    def __init__(
        self,
        scenes: Sequence[Scene],
        stage: Mapping[str, Any],
        *,
        objects: int,
        seed: int,
        start: int,
    ) -> None:
        self.scenes, self.stage, self.objects = scenes, stage, objects
        self.seed, self.start = seed, start
        groups = [scene.name.split("/")[0] for scene in scenes]
        sizes = {group: groups.count(group) for group in groups}
        weights = np.array([sizes[group] ** -0.5 for group in groups])
        self.weights = weights / weights.sum()

    def __iter__(self) -> Iterator[ObjectBatch]:
        worker = torch.utils.data.get_worker_info()
        first, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        index = self.start + first
        while True:
            yield self.batch(index)
            index += step

    def batch(self, index: int) -> ObjectBatch:
        """One batch."""
        generator = np.random.default_rng([self.seed, self.stage["side"], index])
        pixels, water, labelled, targets, counted, owner = [], [], [], [], [], []
        while len(pixels) < self.stage["batch"]:
            scene = self.scenes[generator.choice(len(self.scenes), p=self.weights)]
            crop = random_crop(scene, self.stage["side"], generator)
            objects = draw_objects(crop, self.objects, generator)
            for area in objects:
                targets.append(shrunk(area))
                counted.append(shrunk(crop.valid if crop.valid.any() else crop.inside) > 0.99)
                owner.append(len(pixels))
            pixels.append(normalised(changed_light(crop, generator)))
            water.append(shrunk(crop.water))
            labelled.append(shrunk(crop.valid) > 0.99)
        if not targets:
            return self.batch(index + 10_000_019)
        return ObjectBatch(
            pixels=torch.stack(pixels),
            water=_low(water),
            labelled=_low(labelled),
            targets=_low(targets),
            counted=_low(counted),
            owner=torch.tensor(owner),
        )


def _low(areas: Sequence[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(areas).astype(np.float32))[:, None]
