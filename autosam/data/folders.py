"""Folders of pictures, masks and bands, paired by the stem of their file names."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, overload

import numpy as np

from autosam.data.bands import check_band_names, read_bands
from autosam.data.images import Picture, is_image, read_image, read_mask
from autosam.errors import DataError, MissingPathError
from autosam.files import PathLike
from autosam.types import Sample

_LISTED = 5


class _Entry(NamedTuple):
    name: str
    image: Path
    mask: Path | None
    valid: Path | None
    bands: dict[str, Path]


class FolderDataset(Sequence[Sample]):
    """Pictures in one folder, their masks in another, read when they are asked for.

    File names are checked at once: every picture has its mask and every mask its picture. Without a
    folder of masks the samples are unlabelled. Of the valid areas (zero = ignore) there may be fewer
    than pictures, never others. Every band that is asked for has one file for each picture and keeps
    its unit; where a band has no data it is filled, and not valid.

    Args:
        root: Holds the folders.
        images: Name of the folder of pictures.
        masks: Name of the folder of masks, in which any value but zero is water.
        valid: Name of the folder of valid areas.
        bands: Names of folders of one channel each, such as nir, thermal or dem; see `read_band`.
        prefix: Put before each stem to make the sample's name.

    Raises:
        MissingPathError: There is no such folder, or none of pictures or of a band inside it.
        DataError: Stems do not match, occur twice, there is no picture at all, or a band's name is no
            folder's or means something else.
    """

    def __init__(
        self,
        root: PathLike,
        *,
        images: str = "images",
        masks: str = "masks",
        valid: str = "valid",
        bands: Sequence[str] = (),
        prefix: str = "",
    ) -> None:
        self.root = Path(root).expanduser()
        self.bands = check_band_names(bands, taken=(images, masks, valid))
        pictures = _by_stem(self.root / images, required=True)
        mask_paths = _by_stem(self.root / masks, required=False)
        valid_paths = _by_stem(self.root / valid, required=False)
        if (self.root / masks).is_dir():
            _refuse_leftovers(pictures, mask_paths, f"images in {images}/", f"masks in {masks}/")
            _refuse_leftovers(mask_paths, pictures, f"masks in {masks}/", f"images in {images}/")
        _refuse_leftovers(valid_paths, pictures, f"valid areas in {valid}/", f"images in {images}/")
        band_paths = {band: _of_band(self.root / band, pictures, images) for band in self.bands}
        self._entries = [
            _Entry(
                name=f"{prefix}{stem}",
                image=path,
                mask=mask_paths.get(stem),
                valid=valid_paths.get(stem),
                bands={band: paths[stem] for band, paths in band_paths.items()},
            )
            for stem, path in pictures.items()
        ]

    def __len__(self) -> int:
        return len(self._entries)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> "FolderDataset": ...
    def __getitem__(self, index: int | slice) -> "Sample | FolderDataset":
        if isinstance(index, slice):
            part = copy.copy(self)
            part._entries = self._entries[index]
            return part
        return _read_sample(self._entries[index])

    @property
    def names(self) -> tuple[str, ...]:
        """Of the samples, in order, without reading a picture."""
        return tuple(entry.name for entry in self._entries)

    def encoded_image(self, index: int) -> bytes:
        """The picture's file as it is."""
        return self._entries[index].image.read_bytes()

    @property
    def labelled(self) -> bool:
        """True when the samples have masks."""
        return any(entry.mask for entry in self._entries)


def _by_stem(folder: Path, *, required: bool) -> dict[str, Path]:
    """The pictures of a folder by stem, sorted; empty when the folder is not there and need not be."""
    if not folder.is_dir():
        if required:
            raise MissingPathError(
                f"dataset folder must hold pictures, got no folder {folder}. "
                f"Put the pictures into {folder.name}/ and their masks into a folder beside it."
            )
        return {}
    paths = sorted(path for path in folder.iterdir() if is_image(path))
    if required and not paths:
        raise DataError(
            f"dataset folder must hold at least one picture, got none ({folder}). Check the path."
        )
    found: dict[str, Path] = {}
    for path in paths:
        if path.stem in found:
            raise DataError(
                f"file stems must be unique in a folder, got {found[path.stem].name} and {path.name} "
                f"({folder}). Rename or remove one."
            )
        found[path.stem] = path
    return found


def _of_band(folder: Path, pictures: dict[str, Path], images: str) -> dict[str, Path]:
    """The files of a band by stem, one for each picture."""
    band = folder.name
    if not folder.is_dir():
        raise MissingPathError(
            f"band {band!r} must have a folder beside {images}/, got no folder {folder}. Put one file "
            "for each picture into it, with the picture's name, or leave the band out."
        )
    paths = _by_stem(folder, required=False)
    _refuse_leftovers(pictures, paths, f"images in {images}/", f"files of band {band!r} in {band}/")
    _refuse_leftovers(paths, pictures, f"files of band {band!r} in {band}/", f"images in {images}/")
    return paths


def _refuse_leftovers(these: dict[str, Path], those: dict[str, Path], this: str, that: str) -> None:
    left = [path.name for stem, path in these.items() if stem not in those]
    if left:
        more = f" and {len(left) - _LISTED} more" if len(left) > _LISTED else ""
        raise DataError(
            f"{this} must match the {that} by stem, got no partner for "
            f"{', '.join(left[:_LISTED])}{more}. Add what is missing, or move these elsewhere."
        )


def _read_sample(entry: _Entry) -> Sample:
    picture = read_image(entry.image)
    mask = None if entry.mask is None else _read_area(entry.mask, "mask", picture)
    bands, has_data = read_bands(entry.bands, picture.image.shape[:2], sample=entry.name)
    areas = [area for area in (picture.valid, has_data) if area is not None]
    if entry.valid is not None:
        areas.append(_read_area(entry.valid, "valid area", picture))
    return Sample(
        name=entry.name,
        image=picture.image,
        mask=mask,
        valid=np.logical_and.reduce(areas) if areas else None,
        georeference=picture.georeference,
        bands=bands,
    )


def _read_area(path: Path, kind: str, picture: Picture) -> np.ndarray:
    area = read_mask(path)
    size = picture.image.shape[:2]
    if area.shape != size:
        raise DataError(
            f"{kind} must have its image's height and width {size}, got {area.shape} ({path}). "
            "Check that both show the same picture and that neither was resized."
        )
    return area
