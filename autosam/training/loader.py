"""A DataLoader over addresses, whose worker processes live as long as the run."""

import multiprocessing
from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import DataLoader, Sampler

from autosam.training.batches import TrainingItems
from autosam.training.randomness import Address
from autosam.types import Batch

Addresses = list[Address]


class _Order(Sampler[Addresses]):
    """The batches that the loader reads next; set anew before each epoch."""

    def __init__(self) -> None:
        self.batches: Sequence[Addresses] = ()

    def __iter__(self) -> Iterator[Addresses]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class AddressLoader:
    """Reads batches of items, in this process or in workers.

    Args:
        items: What to read from.
        workers: Processes; 0 reads in this one.
    """

    def __init__(self, items: TrainingItems, *, workers: int) -> None:
        self._order = _Order()
        forking = workers > 0 and "fork" in multiprocessing.get_all_start_methods()
        self._loader: DataLoader[Batch] = DataLoader(
            items,
            sampler=self._order,
            batch_size=None,  # the sampler gives whole batches
            num_workers=workers,
            persistent_workers=workers > 0,
            multiprocessing_context="fork" if forking else None,
            # Without one of its own each pass would draw from the generator that dropout draws from,
            # and a run resumed inside an epoch makes one pass more.
            generator=torch.Generator(),
        )

    def read(self, batches: Sequence[Addresses]) -> Iterator[tuple[Addresses, Batch]]:
        """The batches of those addresses, in order."""
        self._order.batches = batches
        return zip(batches, self._loader, strict=True)
