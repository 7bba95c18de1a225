"""Labelled pictures as parquet files and a card, laid out as the Elwha dataset is on the hub.

The columns are ``image``, ``label`` (8 bits: 255 water, 0 land), ``name`` and, where some pictures have an
area that does not count, ``valid`` (0 there, otherwise 255). JPEG files go in as they are, with what they
tell of camera and place; other pictures become PNG of the pixels that the library sees. Bands are left out.
"""

import dataclasses
import io
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from autosam.data.elwha import ElwhaDataset, load_elwha
from autosam.data.folders import FolderDataset
from autosam.data.manifests import Split, check_split
from autosam.data.rows import parts_of
from autosam.data.sources import SampleCollection
from autosam.errors import DataError, OutputError
from autosam.files import PathLike, replacing, write_text
from autosam.types import Sample

SHARD_BYTES = 400_000_000
"""Of encoded pictures, at which the next parquet file is begun; about that of the published files."""
_PARTS = ("train", "validation", "test")
_JPEG = b"\xff\xd8\xff"


@dataclasses.dataclass(frozen=True)
class Member:
    """One picture of a dataset, read when it is asked for."""

    dataset: FolderDataset | ElwhaDataset
    index: int

    def sample(self) -> Sample:
        """With its mask and valid area."""
        return self.dataset[self.index]

    def picture(self, sample: Sample) -> bytes:
        """The file of its picture as it is to be published."""
        stored = self.dataset.encoded_image(self.index)
        return stored if stored.startswith(_JPEG) else _png(sample.image)


Parts = Mapping[str, tuple[Member, ...]]
"""Train, validation and test, or some of them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublishedPart:
    """What a part came to."""

    pictures: int
    with_water: int | None
    """Pictures with any; None when unlabelled."""
    water_share: float | None
    """Of the pixels that count; None when unlabelled, or when none counts."""
    files: int


def open_parts(source: PathLike, split: Split | None = None) -> dict[str, tuple[Member, ...]]:
    """Open what is to be published; nothing but names is read, unless a split has hashes to be checked.

    Args:
        source: A folder that holds images/ and perhaps masks/ and valid/, or an Elwha dataset's folder
            (parquet files, or from ``save_to_disk``).
        split: Divides all that is there, whatever its parts are now; without it, those stay, and a folder
            of pictures is all training.

    Returns:
        Train, validation and test, in this order, of which empty ones are left out.

    Raises:
        DataError: The source holds no dataset, or one that cannot be used.
        SplitError: The split names what is not there, or something that has changed.
    """
    folder = Path(source).expanduser()
    datasets = _opened(folder)
    parts = {
        part: tuple(Member(dataset, index) for index in range(len(dataset)))
        for part, dataset in datasets.items()
    }
    names = [name for dataset in datasets.values() for name in dataset.names]
    members = [member for part in parts.values() for member in part]
    if not members:
        raise DataError(
            f"dataset must hold a picture, got none ({folder}). Give a folder with images/, parquet files "
            "or what save_to_disk writes."
        )
    if split is None:
        return {part: found for part, found in parts.items() if found}
    return _divided(dict(zip(names, members, strict=True)), split)


def _opened(folder: Path) -> dict[str, FolderDataset | ElwhaDataset]:
    if (folder / "images").is_dir():
        return {"train": FolderDataset(folder)}
    return {part: load_elwha(folder, split=part) for part in parts_of(folder)}  # type: ignore[arg-type]


def _divided(members: Mapping[str, Member], split: Split) -> dict[str, tuple[Member, ...]]:
    check_split(split, SampleCollection(lambda name: members[name].sample(), members))
    parts = {part: tuple(members[name] for name in split.part(part)) for part in _PARTS}
    return {part: found for part, found in parts.items() if found}


def write_hub_folder(
    folder: PathLike, parts: Parts, *, title: str, licence: str, split: Split | None = None
) -> dict[str, PublishedPart]:
    """Write data/PART-00000-of-00001.parquet and README.md, which `load_elwha` and the hub read.

    Args:
        folder: New or empty; it appears whole or not at all.
        parts: As from `open_parts`; each picture labelled, or none.
        title: Of the card: ``owner/name`` on the hub.
        licence: The hub's word for the licence, such as cc-by-4.0.
        split: By which they were divided, for the card.

    Raises:
        OutputError: The folder holds something, or cannot be written.
        DataError: A picture cannot be read, or some have masks and some have none.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(
            f"output must be a new or empty folder, got {folder}. Choose another, or empty it."
        )
    columns = _columns(parts)
    beside = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        published = {
            part: _write_part(beside / "data", part, members, columns)
            for part, members in parts.items()
        }
        card = _card(published, columns, title=title, licence=licence, split=split)
        write_text(beside / "README.md", card)
        beside.replace(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return published


def _columns(parts: Parts) -> tuple[str, ...]:
    """The same in every file; reads pictures until one has an area that does not count."""
    members = [member for part in parts.values() for member in part]
    labelled = {member.dataset.labelled for member in members}
    if len(labelled) > 1:
        raise DataError(
            "dataset must have masks for all pictures or none, got some of each. Publish them apart."
        )
    has_areas = any(member.sample().valid is not None for member in members)
    return (
        "image", *(("label",) if labelled == {True} else ()), "name", *(("valid",) if has_areas else ()),
    )  # fmt: skip


def _write_part(
    folder: Path, part: str, members: Iterable[Member], columns: tuple[str, ...]
) -> PublishedPart:
    counted = _Counted()
    written: list[Path] = []
    for rows in _in_shards(_row(member, columns, counted) for member in members):
        written.append(folder / f"{part}-{len(written):05}.parquet")
        _write_rows(written[-1], rows, columns)
    for number, path in enumerate(written):  # how many there are is only known now
        path.replace(folder / f"{part}-{number:05}-of-{len(written):05}.parquet")
    return counted.result(files=len(written))


class _Counted:
    """Pictures and pixels, while they pass."""

    def __init__(self) -> None:
        self._pictures, self._with_water = 0, 0
        self._water, self._valid = 0, 0
        self._labelled = False

    def add(self, sample: Sample) -> None:
        self._pictures += 1
        if sample.mask is not None:
            water = int(np.count_nonzero(sample.mask & sample.valid_area))
            self._labelled = True
            self._with_water += water > 0
            self._water += water
            self._valid += int(np.count_nonzero(sample.valid_area))

    def result(self, *, files: int) -> PublishedPart:
        share = self._water / self._valid if self._valid else None
        return PublishedPart(
            pictures=self._pictures,
            with_water=self._with_water if self._labelled else None,
            water_share=share,
            files=files,
        )


def _row(member: Member, columns: tuple[str, ...], counted: _Counted) -> dict[str, Any]:
    sample = member.sample()
    counted.add(sample)
    label = None if sample.mask is None else _png(sample.mask.astype(np.uint8) * 255)
    valid = None if sample.valid is None else _png(sample.valid.astype(np.uint8) * 255)
    cells: dict[str, Any] = {"image": member.picture(sample), "label": label, "valid": valid}
    cells = {
        column: None if content is None else {"bytes": content, "path": None}
        for column, content in cells.items()
    }
    cells["name"] = sample.name
    return {column: cells[column] for column in columns}


def _png(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "png")
    return buffer.getvalue()


def _in_shards(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    shard: list[dict[str, Any]] = []
    size = 0
    for row in rows:
        shard.append(row)
        size += sum(len(cell["bytes"]) for cell in row.values() if isinstance(cell, dict))
        if size >= SHARD_BYTES:
            yield shard
            shard, size = [], 0
    if shard:
        yield shard


def _write_rows(path: Path, rows: list[dict[str, Any]], columns: tuple[str, ...]) -> None:
    import datasets

    kinds = {
        column: datasets.Value("string") if column == "name" else datasets.Image()
        for column in columns
    }
    table = datasets.Dataset.from_list(rows, features=datasets.Features(kinds))
    with replacing(path) as beside:
        table.to_parquet(beside)


def _card(
    published: Mapping[str, PublishedPart],
    columns: tuple[str, ...],
    *,
    title: str,
    licence: str,
    split: Split | None,
) -> str:
    """README.md: counted from what was written, silent on what only the owner knows."""
    front = {
        "license": licence,
        "task_categories": ["image-segmentation"],
        "tags": ["water", "river", "remote-sensing", "autosam"],
    }
    labelled = "label" in columns
    lines = ["| part | pictures | with water | water |", "|---|---|---|---|"]
    for part, found in published.items():
        share = "" if found.water_share is None else f"{found.water_share:.1%}"
        water = "" if found.with_water is None else str(found.with_water)
        lines.append(f"| {part} | {found.pictures} | {water} | {share} |")
    sections = [
        "---\n" + yaml.safe_dump(front, sort_keys=False) + "---",
        f"# {title}",
        f"Pictures from above{', with masks of water' if labelled else ', unlabelled'}.",
        "\n".join(lines),
        _column_sentence(columns),
        _split_sentence(split),
        f'```python\nfrom autosam.data.elwha import load_elwha\n\nsamples = load_elwha("{title}", '
        f'split="{next(iter(published))}")\n```',
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _column_sentence(columns: tuple[str, ...]) -> str:
    meanings = {
        "image": "the picture",
        "label": "its mask, 255 for water and 0 for land",
        "name": "its name, unique inside a part",
        "valid": "0 where the label does not count, otherwise 255; empty where all of it counts",
    }
    return "\n".join(f"- `{column}`: {meanings[column]}" for column in columns)


def _split_sentence(split: Split | None) -> str:
    if split is None:
        return ""
    unused = f", {len(split.unused)} left out" if split.unused else ""
    return f"Divided by a split of kind `{split.kind}`{unused}, hash `{split.hash[:12]}`."
