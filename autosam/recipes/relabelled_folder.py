"""A folder dataset that appears whole or not at all, never in place of the original or of hand work."""

import contextlib
import hashlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from autosam.data.images import is_image
from autosam.errors import OutputError
from autosam.evaluation.file_names import safe_file_name
from autosam.files import read_json, write_json
from autosam.types import Sample
from autosam.wording import counted

MARKER = "relabelled.json"
"""Says that a folder is ours, from what it was made, and what its labels were when it was written."""
REVIEW = "review.csv"
_LABELS = ("masks", "valid")


def check_output(output: Path, sources: Sequence[str], *, reviewed: bool) -> None:
    """Refuse a folder that is the original, holds it, lies in it, is not ours, or has work of others in it.

    Args:
        output: Where the new dataset is to be.
        sources: Of the original data.
        reviewed: Whether the decisions come from a review, so that an edited review may be replaced.

    Raises:
        OutputError: As said above.
    """
    if output.resolve() == Path.cwd():
        raise OutputError(
            f"output must be a folder that can be replaced as a whole, got the current one ({output}). "
            "Name another with -o."
        )
    for source in (Path(source).resolve() for source in sources if Path(source).exists()):
        here = output.resolve()
        if here == source or source in here.parents or here in source.parents:
            raise OutputError(
                f"output must lie apart from the original data, got {output} for {source}, which is never "
                "overwritten. Choose another with -o."
            )
    _restore(output)
    if output.exists() and not output.is_dir():
        raise OutputError(f"output must be a folder, got the file {output}. Choose another.")
    if not output.exists() or not any(output.iterdir()):
        return
    if not (output / MARKER).is_file():
        raise OutputError(
            f"output must be new, empty, or made by autosam relabel, got {output}, which holds something "
            "else. Choose another with -o."
        )
    _check_untouched(output, reviewed=reviewed)


def _check_untouched(output: Path, *, reviewed: bool) -> None:
    marker = read_json(output / MARKER, what="marker")
    written: Mapping[str, str] = marker["digests"]
    now = _digests(output)
    present = _files(output)
    added = sorted(set(present) - set(marker.get("files", present)))
    if added:
        raise OutputError(
            f"output must be as it was written, got {counted(len(added), 'file')} more ({added[0]} in "
            f"{output}), which would be lost. Move the folder away to keep them, or choose another with -o."
        )
    edited = sorted(key for key in written.keys() | now.keys() if written.get(key) != now.get(key))
    if reviewed and REVIEW in edited:
        edited.remove(REVIEW)
    if edited:
        remedy = (
            f"Build it from them with --review {output / REVIEW}, or move it away."
            if edited == [REVIEW]
            else "Move the folder away to keep them, or choose another with -o."
        )
        raise OutputError(
            f"output must be as it was written, got {len(edited)} files edited since ({edited[0]} in "
            f"{output}), which would be lost. {remedy}"
        )


def _digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every label and of the review, by path inside the folder."""
    paths = [path for name in _LABELS for path in (folder / name).glob("*") if path.is_file()]
    paths += [path for path in [folder / REVIEW] if path.is_file()]
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(paths)
    }


def _files(folder: Path) -> list[str]:
    """Every file but the marker and hidden ones, by path inside the folder."""
    inside = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    shown = [path for path in inside if not any(part.startswith(".") for part in path.parts)]
    return sorted(path.as_posix() for path in shown if path.as_posix() != MARKER)


@contextlib.contextmanager
def appearing_whole(output: Path, facts: Mapping[str, Any]) -> Iterator[Path]:
    """A folder to fill, which takes the output's place when the block ends well.

    After a mistake nothing is left; what a killed process leaves is removed by the next one.

    Args:
        output: Checked by `check_output`.
        facts: For the marker.

    Raises:
        OutputError: The folder cannot be written.
    """
    beside, before = _beside(output)
    try:
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        yield beside
        write_json(beside / MARKER, {**facts, "digests": _digests(beside), "files": _files(beside)})
        if output.exists():
            output.rename(before)
        beside.rename(output)
        shutil.rmtree(before, ignore_errors=True)
    except OSError as error:
        if isinstance(error, OutputError) or error.errno is None:
            raise
        raise OutputError(
            f"{output} could not be written: {error.strerror or error}. "
            "Choose an output folder that you may write to, with enough space."
        ) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _beside(output: Path) -> tuple[Path, Path]:
    """Where the new one is being written, and where the old one waits to be removed."""
    return (
        output.with_name(f".{output.name}.unfinished"),
        output.with_name(f".{output.name}.replaced"),
    )


def _restore(output: Path) -> None:
    """Undo a replacement that was killed between its two renames."""
    _, before = _beside(output)
    if before.is_dir() and not output.exists():
        before.rename(output)


class OriginalFolder:
    """Finds the files of a folder dataset, to copy them byte for byte.

    Args:
        root: Holds images/ and the folders of bands; a source of another kind has no files to copy.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._found: dict[str, dict[str, Path]] = {}

    def file(self, kind: str, stem: str) -> Path | None:
        """The file of a sample in one of the folders; None where there is none."""
        if kind not in self._found:
            folder = self._root / kind
            paths = [path for path in folder.iterdir() if is_image(path)] if folder.is_dir() else []
            self._found[kind] = {path.stem: path for path in paths}
        return self._found[kind].get(stem)

    @property
    def band_names(self) -> list[str]:
        """Of the folders beside images/: what is not a label is a band, whether a model reads it or not."""
        if not self._root.is_dir():
            return []
        known = {"images", *_LABELS}
        return sorted(
            path.name for path in self._root.iterdir() if path.is_dir() and path.name not in known
        )


def write_sample(
    folder: Path, sample: Sample, original: OriginalFolder, *, mask: np.ndarray, valid: np.ndarray
) -> None:
    """Add a sample: its picture and bands as they are, its new mask, and its valid area if not all is.

    Args:
        folder: Of the new dataset.
        sample: Whose picture and bands are written where there is no file to copy.
        original: Where its files are.
        mask: (height, width) bool.
        valid: (height, width) bool.
    """
    source = original.file("images", sample.name)
    stem = sample.name if source else safe_file_name(sample.name)
    if source:
        _copy(source, folder / "images")
    else:
        _save(folder / "images" / f"{stem}.png", sample.image)
    for name in sorted({*sample.bands, *original.band_names}):
        band_file = original.file(name, sample.name)
        if band_file:
            _copy(band_file, folder / name)
        elif name in sample.bands:
            _save(folder / name / f"{stem}.tif", sample.bands[name])
    _save(folder / "masks" / f"{stem}.png", mask.astype(np.uint8) * 255)
    if not valid.all():
        _save(folder / "valid" / f"{stem}.png", valid.astype(np.uint8) * 255)


def _copy(source: Path, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    shutil.copyfile(source, folder / source.name)


def _save(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(picture).save(path)
