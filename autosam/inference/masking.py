"""A folder of pictures in, a folder of masks out: resumable, and never half-written."""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from PIL import Image

from autosam.data.images import find_images
from autosam.errors import AutoSamError, OutputError
from autosam.files import PathLike
from autosam.inference.output_names import pair_outputs
from autosam.inference.picture_sources import sample_of
from autosam.inference.segmenter import AutoSam

Status = Literal["written", "finished before", "would be written", "failed"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskedFile:
    """What became of one picture."""

    source: str
    mask: str
    status: Status
    water_share: float | None = None
    """Share of the pixels with data that are water, 0..1."""
    confidence: float | None = None
    """Mean probability of the chosen class, 0.5..1; 0 when the picture has no data."""
    presence: float | None = None
    """Probability that there is a river at all, 0..1; None where the model cannot say."""
    domain_distance: float | None = None
    """From the pictures of training, about 1 for pictures like them; None where the model cannot say."""
    expected_iou: float | None = None
    """What that distance has meant on validation pictures, 0..1; None where the model cannot say."""
    seconds: float | None = None
    error: str | None = None
    notes: tuple[str, ...] = ()


def plan_masks(source: PathLike | Sequence[PathLike], output: PathLike) -> list[tuple[Path, Path]]:
    """Pair each picture with the mask it will get: ``output/<stem>.png``.

    Args:
        source: A picture, a folder, a glob pattern, or a list of these.
        output: A folder.

    Raises:
        MissingPathError: Nothing is found.
        OutputError: `output` is a file, two pictures would share a mask, or a mask would fall on a
            picture.
    """
    pictures = find_images(source)
    named = [(str(path), path.stem) for path in pictures]
    masks = pair_outputs(named, output, suffix=".png", companions=extras, what="pictures")
    return list(zip(pictures, masks, strict=True))


def extras(mask: Path) -> tuple[Path, Path]:
    """Where the probability and the preview of a mask lie."""
    return mask.with_suffix(".probability.png"), mask.with_suffix(".preview.jpg")


def is_finished(picture: Path, mask: Path, wanted: Sequence[Path] = ()) -> bool:
    """Whether a mask is there, whole, of the picture's size and no older, with what else is wanted."""
    if not mask.is_file() or not all(path.is_file() for path in wanted):
        return False
    try:
        with Image.open(mask) as found:
            found.load()
            size = found.size
        with Image.open(picture) as opened:
            same = sorted(opened.size) == sorted(size)  # EXIF may have turned the picture
        return same and mask.stat().st_mtime >= picture.stat().st_mtime
    except (OSError, SyntaxError, ValueError):  # not to be read: mask it again, or say why not
        return False


def check_maker(masks: Sequence[Path], made_by: str) -> None:
    """Refuse to take the masks of another model, or of other prompts, for finished ones of this.

    Masks that do not say who made them are passed over.

    Args:
        masks: Where masks may be.
        made_by: The model's `identity`.

    Raises:
        OutputError: One was made by another.
    """
    for mask in masks:
        try:
            with Image.open(mask) as found:
                other = found.info.get("autosam", "")
        except (OSError, SyntaxError, ValueError):
            continue  # not there, or not to be read: it will be made anew
        if other and other != made_by:
            raise OutputError(
                f"masks in one folder must be of one model and its prompts, got {mask} by {other!r} for "
                f"{made_by!r}. Choose another folder, or --overwrite."
            )


def mask_files(
    model: AutoSam | None,
    source: PathLike | Sequence[PathLike],
    output: PathLike,
    *,
    overwrite: bool = False,
    probability: bool = False,
    preview: bool = False,
    band_folders: Mapping[str, PathLike] | None = None,
    on_each: Callable[[MaskedFile], None] | None = None,
) -> list[MaskedFile]:
    """Mask every picture; one that fails is reported and the others go on.

    A mask is written last and in one step, so its being there means that the picture is finished.

    Args:
        model: None for a dry run, in which nothing is read or written.
        source: A picture, a folder, a glob pattern, or a list of these.
        output: A folder, made if it is not there.
        overwrite: Mask again what is finished.
        probability: Also write ``<stem>.probability.png``, 0..255 for 0..1.
        preview: Also write ``<stem>.preview.jpg``, the picture with the water tinted.
        band_folders: Where the bands lie that the model reads; by default beside the pictures' folder.
        on_each: Called after each picture, for a progress bar.

    Raises:
        OutputError: The folder holds masks by another model, or cannot be written.
    """
    results = []
    if model is not None and not overwrite:
        check_maker([mask for _, mask in plan_masks(source, output)], model.identity)
    for path, mask in plan_masks(source, output):
        shown = dict(zip(extras(mask), (probability, preview), strict=True))
        wanted = [file for file, is_wanted in shown.items() if is_wanted]
        if not overwrite and is_finished(path, mask, wanted):
            result = MaskedFile(source=str(path), mask=str(mask), status="finished before")
        elif model is None:
            result = MaskedFile(source=str(path), mask=str(mask), status="would be written")
        else:
            result = _mask_one(model, path, mask, wanted=wanted, band_folders=band_folders)
        results.append(result)
        if on_each is not None:
            on_each(result)
    return results


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def _mask_one(
    model: AutoSam,
    path: Path,
    mask: Path,
    *,
    wanted: Sequence[Path],
    band_folders: Mapping[str, PathLike] | None,
) -> MaskedFile:
    start = time.perf_counter()
    probability, preview = extras(mask)
    try:
        sample, notes = sample_of(path, model.bands, folders=band_folders)
        prediction = model.predict_sample(sample)
        if probability in wanted:
            prediction.save_probability(probability)
        if preview in wanted:
            prediction.plot(preview)
        prediction.save(mask)
    except OutputError:
        raise  # the disk is full or the folder is read-only: the next picture would fail too
    except AutoSamError as error:
        return MaskedFile(source=str(path), mask=str(mask), status="failed", error=str(error))
    return MaskedFile(
        source=str(path),
        mask=str(mask),
        status="written",
        water_share=round(prediction.water_share, 6),
        confidence=round(prediction.confidence, 6),
        presence=_rounded(prediction.presence),
        domain_distance=_rounded(prediction.domain_distance),
        expected_iou=_rounded(prediction.expected_iou),
        seconds=round(time.perf_counter() - start, 3),
        notes=notes,
    )
