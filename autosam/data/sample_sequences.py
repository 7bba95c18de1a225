"""What every dataset that reads its samples one by one has in common."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import overload

from autosam.types import Sample


class SampleSequence(Sequence[Sample]):
    """Samples that are made or read when they are asked for; a slice is a list of them."""

    @abstractmethod
    def read(self, place: int) -> Sample:
        """The sample at a place in 0..length - 1."""

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        """One sample, counted from the end where negative, or some in a list.

        Raises:
            IndexError: There is no such place.
        """
        places = range(len(self))
        if isinstance(index, slice):
            return [self.read(place) for place in places[index]]
        return self.read(places[index])

    def __iter__(self) -> Iterator[Sample]:
        return (self.read(place) for place in range(len(self)))
