"""What `data.source` names, opened: one collection of samples from one or many places."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import overload

from autosam.config import DataSettings
from autosam.data.elwha import load_elwha
from autosam.data.folders import FolderDataset
from autosam.data.splits import (
    Split,
    blocked_split,
    date_split,
    grouped_split,
    published_split,
)
from autosam.data.synthetic import SyntheticDataset
from autosam.errors import DataError, MissingPathError, SplitError
from autosam.types import Sample


class SampleCollection(Sequence[Sample]):
    """Samples by name, read when they are asked for.

    Args:
        read: Sample of a name.
        names: Unique.
    """

    def __init__(self, read: Callable[[str], Sample], names: Iterable[str]) -> None:
        self._read = read
        self.names = tuple(names)

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> "SampleCollection": ...
    def __getitem__(self, index: int | slice) -> "Sample | SampleCollection":
        if isinstance(index, slice):
            return SampleCollection(self._read, self.names[index])
        return self._read(self.names[index])

    def select(self, names: Iterable[str]) -> "SampleCollection":
        """The samples of these names, in this order."""
        return SampleCollection(self._read, names)


@dataclasses.dataclass(frozen=True, kw_only=True)
class OpenedData:
    """All samples of a configuration, and how their publisher divided them."""

    samples: SampleCollection
    published: tuple[tuple[str, ...], tuple[str, ...]] | None
    """Names of the published train and validation parts; None where there are none."""
    tile_names_known: bool
    """False when an Elwha copy has no name column, so that no split by place can be made."""


class _ByName:
    """Finds a sample among several datasets; a class, so that worker processes can be given it."""

    def __init__(
        self, datasets: Sequence[Sequence[Sample]], names: Sequence[Sequence[str]]
    ) -> None:
        self._datasets = datasets
        self._where = {
            name: (part, index)
            for part, some in enumerate(names)
            for index, name in enumerate(some)
        }
        if len(self._where) != sum(len(some) for some in names):
            every = [name for some in names for name in some]
            twice = sorted({name for name in every if every.count(name) > 1})
            raise DataError(
                f"sample names must be unique over all sources, got {twice[0]!r} twice. "
                "Name each source once."
            )

    def __call__(self, name: str) -> Sample:
        part, index = self._where[name]
        return self._datasets[part][index]


def open_data(
    settings: DataSettings, *, token: str | None = None, bands: Sequence[str] = ()
) -> OpenedData:
    """Open every source; nothing but names is read yet.

    Args:
        settings: Whose `source` is opened.
        token: For a private dataset on the hub.
        bands: What every sample must have besides red, green and blue: folders beside images/, columns
            of a dataset, or 'nir' of synthetic scenes.

    Raises:
        MissingPathError: A source is neither a folder nor a name we know, or lacks the folder of a band.
        DataError: A source holds nothing usable or lacks a band, or two sources share a name.
        AccessError: The hub refused or could not be reached.
    """
    if settings.source == ("synthetic",):
        scenes = SyntheticDataset(
            settings.synthetic_count, side=settings.synthetic_side, bands=bands
        )
        return _opened([scenes], [scenes.names])
    folders = [Path(source) for source in settings.source]
    if all((folder / "images").is_dir() for folder in folders):
        several = len(folders) > 1
        datasets = [
            FolderDataset(
                folder, bands=bands, prefix=f"{folder.resolve().name}/" if several else ""
            )
            for folder in folders
        ]
        return _opened(datasets, [dataset.names for dataset in datasets])
    if len(settings.source) > 1:
        wrong = next(folder for folder in folders if not (folder / "images").is_dir())
        raise MissingPathError(
            f"data.source must name folders that each hold images/, got {wrong} among several. "
            "Give such folders, or a single dataset."
        )
    return _open_elwha(settings.source[0], token, bands)


def _opened(datasets: Sequence[Sequence[Sample]], names: Sequence[Sequence[str]]) -> OpenedData:
    read = _ByName(datasets, names)
    every = [name for some in names for name in some]
    return OpenedData(samples=SampleCollection(read, every), published=None, tile_names_known=True)


def _open_elwha(source: str, token: str | None, bands: Sequence[str]) -> OpenedData:
    parts = [
        load_elwha(source, split=part, bands=bands, token=token) for part in ("train", "validation")
    ]
    names = [tuple(part.names) for part in parts]
    read = _ByName(parts, names)
    return OpenedData(
        samples=SampleCollection(read, names[0] + names[1]),
        published=(names[0], names[1]),
        tile_names_known=all(part.tile_names_known for part in parts),
    )


def make_split(settings: DataSettings, data: OpenedData, *, seed: int) -> Split:
    """Divide opened data as the settings say.

    Raises:
        SplitError: This kind of split cannot be made of this data.
    """
    if settings.split == "grouped":
        return grouped_split(
            data.samples.names,
            group_by=settings.group_by,
            validation_share=settings.validation_share,
            test_share=settings.test_share,
            seed=seed,
        )
    if settings.split == "published":
        if data.published is None:
            raise SplitError(
                f"data.split 'published' must come with the dataset, got {settings.source}. "
                "Use 'grouped' for folders and synthetic scenes."
            )
        return published_split(*data.published)
    if not data.tile_names_known:
        raise SplitError(
            f"data.split {settings.split!r} must know each tile's place and date, got a copy without "
            "the column 'name'. Use a copy from May 2024 or later, or data.split 'published'."
        )
    make = blocked_split if settings.split == "blocked" else date_split
    return make(data.samples.names)
