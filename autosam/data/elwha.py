"""The Elwha river dataset: tiles of an orthophoto, from the hub, a saved folder or parquet files.

Any dataset of the same columns can be read: ``image``, and if present ``label``, ``name`` and ``valid``
(pictures, zero = ignore); and a column for each band that is asked for.
"""

import copy
import dataclasses
import datetime
import logging
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal, overload

import cv2
import numpy as np

from autosam.data.bands import check_band_names, read_bands
from autosam.data.images import IMAGE_SUFFIXES, read_image, read_labels
from autosam.data.rows import open_rows
from autosam.errors import DataError
from autosam.files import PathLike
from autosam.types import Sample

_TILE_NAME = re.compile(r"Elwha_(LR|MR)_([0-9]{8})_([0-9]{3})_([0-9]{3})")
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, order=True)
class TileName:
    """What the name of an Elwha tile says."""

    reach: str
    """LR for the lower, MR for the middle reach."""
    date: datetime.date
    """Of the survey flight."""
    row: int
    column: int
    """Of the grid that a reach shares over all dates."""

    def __str__(self) -> str:
        return f"Elwha_{self.reach}_{self.date:%Y%m%d}_{self.row:03}_{self.column:03}"

    @property
    def cell(self) -> tuple[str, int, int]:
        """(reach, row, column): the same piece of ground at any date."""
        return self.reach, self.row, self.column

    @property
    def place(self) -> str:
        """The cell as text, such as LR_033_020."""
        return f"{self.reach}_{self.row:03}_{self.column:03}"


def parse_tile_name(name: str) -> TileName:
    """Read a tile's name, such as Elwha_LR_20120407_014_006.

    Raises:
        DataError: It is no such name, or its date is not in the calendar.
    """
    match = _TILE_NAME.fullmatch(name)
    if match is None:
        raise DataError(
            f"tile name must be Elwha_LR_YYYYMMDD_row_column or Elwha_MR_..., got {name!r}. "
            "Splits by place or date need such names; use data.split 'grouped' for others."
        )
    reach, day, row, column = match.groups()
    try:
        date = datetime.datetime.strptime(day, "%Y%m%d").date()
    except ValueError as error:
        raise DataError(
            f"tile name must hold a date of the calendar, got {day} ({name}). Mend the name."
        ) from error
    return TileName(reach, date, int(row), int(column))


def load_elwha(
    source: PathLike,
    *,
    split: Literal["train", "validation", "test"],
    bands: Sequence[str] = (),
    token: str | None = None,
    revision: str | None = None,
) -> "ElwhaDataset":
    """Open one part of an Elwha dataset; pictures are read when they are asked for.

    Args:
        source: A hub id such as stodoran/elwha-segmentation-v1, a folder written by
            ``DatasetDict.save_to_disk``, or a folder of parquet files as on the hub.
        split: Which part; the published datasets have no test.
        bands: Names of columns of one channel each, which the published dataset lacks.
        token: For a private dataset; otherwise HF_TOKEN or the stored login is used.
        revision: Branch, tag or commit on the hub.

    Raises:
        MissingPathError: The source is neither a folder nor a hub id.
        AccessError: The hub refused, knows no such dataset, or cannot be reached.
        DataError: The dataset has no such part, other columns, or is damaged.
    """
    rows = open_rows(source, split=split, token=token, revision=revision)
    return ElwhaDataset(rows, split=split, source=str(source), bands=bands)


class ElwhaDataset(Sequence[Sample]):
    """Tiles with their masks, each read when it is asked for.

    A repeated name keeps its first row, since a name stands for one tile; the others are logged and
    kept in `repeated`. Labels of any size are brought to their tile's by the nearest pixel.

    Args:
        rows: A ``datasets.Dataset`` with the column ``image`` and perhaps ``label``, ``name``, ``valid`` and
            bands.
        split: Names the tiles when the data does not: "train_00012".
        source: What messages call the data.
        bands: Names of columns of one channel each; see `read_band`.

    Raises:
        DataError: A column is missing, or a name is empty.
    """

    def __init__(self, rows: Any, *, split: str, source: str, bands: Sequence[str] = ()) -> None:
        columns = rows.column_names
        self.bands = check_band_names(bands, taken=("image", "label", "name", "valid"))
        _check_columns(columns, self.bands, source)
        self.source, self.split = source, split
        self.labelled = "label" in columns
        areas = ("valid",) if _holds_pictures(rows, "valid") else ()
        every = _names(rows, split, source)
        first = {name: index for index, name in reversed(list(enumerate(every)))}
        self._indices = sorted(first.values())
        self._names = [every[index] for index in self._indices]
        self.repeated = tuple(name for name, count in Counter(every).items() if count > 1)
        if self.repeated:
            _log.warning(
                "%s: %d names repeat; their first rows are kept", source, len(self.repeated)
            )
        self._named = "name" in columns
        self._rows = _undecoded(rows, source, ("image", "label", *areas, *self.bands))

    def __len__(self) -> int:
        return len(self._indices)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> "ElwhaDataset": ...
    def __getitem__(self, index: int | slice) -> "Sample | ElwhaDataset":
        if isinstance(index, slice):
            part = copy.copy(self)
            part._indices, part._names = self._indices[index], self._names[index]
            return part
        return self._sample(self._names[index], self._rows[self._indices[index]])

    @property
    def names(self) -> list[str]:
        """Of the tiles, in order, without reading a picture."""
        return list(self._names)

    def encoded_image(self, index: int) -> bytes:
        """The picture's file as it is stored.

        Raises:
            DataError: There is none.
        """
        where = f"{self._names[index]} of {self.source}"
        content = _content(self._rows[self._indices[index]]["image"], "image", where)
        return content if isinstance(content, bytes) else content.read_bytes()

    @property
    def tile_names_known(self) -> bool:
        """True when every name tells its tile's place and date."""
        return self._named and all(_TILE_NAME.fullmatch(name) for name in self._names)

    def _sample(self, name: str, row: dict[str, Any]) -> Sample:
        where = f"{name} of {self.source}"
        picture = read_image(_content(row["image"], "image", where), name=where)
        mask = None
        if self.labelled:
            values = read_labels(_content(row["label"], "label", where), name=f"label of {where}")
            mask = _water(values, picture.image.shape[:2], where)
        contents = {band: _content(row[band], band, where) for band in self.bands}
        bands, valid = read_bands(contents, picture.image.shape[:2], sample=where)
        areas = [area for area in (picture.valid, valid) if area is not None]
        if row.get("valid") is not None:
            content = _content(row["valid"], "valid", where)
            values = read_labels(content, name=f"valid area of {where}")
            areas.append(_at_tile_size(values != 0, picture.image.shape[:2], where, "valid area"))
        tile = parse_tile_name(name) if _TILE_NAME.fullmatch(name) else None
        return Sample(
            name=name,
            image=picture.image,
            mask=mask,
            valid=np.logical_and.reduce(areas) if areas else None,
            place=tile.place if tile else None,
            date=tile.date if tile else None,
            bands=bands,
        )


def _check_columns(columns: Sequence[str], bands: Sequence[str], source: str) -> None:
    others = sorted(set(columns) - {"image", "label", "name", "valid", *bands})
    if "image" not in columns or ("label" not in columns and others):
        raise DataError(
            "dataset must have the columns 'image' and 'label' (and perhaps 'name'), "
            f"got {', '.join(columns)} ({source}). Rename them with rename_column."
        )
    missing = [band for band in bands if band not in columns]
    if missing:
        raise DataError(
            f"dataset must have a column for band {missing[0]!r}, got {', '.join(columns)} ({source}). "
            "Add it with add_column, or leave the band out."
        )


def _holds_pictures(rows: Any, column: str) -> bool:
    """Whether there is such a column, and it was declared as pictures."""
    from datasets import Image

    return column in rows.column_names and isinstance(rows.features[column], Image)


def _names(rows: Any, split: str, source: str) -> list[str]:
    if "name" not in rows.column_names:
        return [f"{split}_{index:05}" for index in range(len(rows))]
    names = []
    for index, name in enumerate(rows.select_columns(["name"])["name"]):
        if not isinstance(name, str) or not name.strip():
            raise DataError(
                f"name must be text that is not empty, got {name!r} (row {index} of {source}). "
                "Fill it in, or drop the column 'name'."
            )
        # Some copies keep the file that a tile came from.
        path = PurePosixPath(name.strip())
        names.append(path.stem if path.suffix.lower() in IMAGE_SUFFIXES else path.name)
    return names


def _undecoded(rows: Any, source: str, wanted: Sequence[str]) -> Any:
    """The same rows, giving encoded pictures: decoding is ours, and of the asked row only."""
    from datasets import Image

    columns = [column for column in wanted if column in rows.column_names]
    rows = rows.with_format(None).select_columns(columns)
    for column in columns:
        try:
            rows = rows.cast_column(column, Image(decode=False))
        except (TypeError, ValueError, KeyError, NotImplementedError) as error:
            raise DataError(
                f"column {column!r} must hold pictures, got {rows.features[column]} ({source}). "
                "Cast it with cast_column(..., datasets.Image())."
            ) from error
    return rows


def _content(cell: dict[str, Any] | None, column: str, where: str) -> bytes | Path:
    if cell and cell.get("bytes"):
        content: bytes = cell["bytes"]
        return content
    if cell and cell.get("path"):
        return Path(cell["path"])
    raise DataError(
        f"{column} must hold a picture, got nothing ({where}). Fill the row in, or leave it out."
    )


def _water(values: np.ndarray, size: tuple[int, int], where: str) -> np.ndarray:
    """Label values to (height, width) bool at the tile's size.

    0/1 and 0/255 are read alike. Three classes are those of the survey's own labels (0 forest,
    1 river, 2 river bank; Buscombe 2023), of which only the river is water.
    """
    mask: np.ndarray = values == 1 if values.max() == 2 else values != 0
    return _at_tile_size(mask, size, where, "label")


def _at_tile_size(area: np.ndarray, size: tuple[int, int], where: str, kind: str) -> np.ndarray:
    """(height, width) bool at the tile's size, by the nearest pixel."""
    if area.shape == size:
        return area
    (label_height, label_width), (height, width) = area.shape, size
    # Sides are rounded to whole pixels, so their ratios agree only to one label pixel.
    if abs(label_height * width - label_width * height) > max(height, width):
        raise DataError(
            f"{kind} must have its tile's proportions {size}, got {area.shape} ({where}). "
            "Check that both show the same tile."
        )
    resized: np.ndarray = cv2.resize(
        area.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST_EXACT
    )
    return resized.astype(bool)
