"""A folder of pictures in, a folder of masks out: resumable, and never half-written."""

import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from autosam.data.decoding import open_picture
from autosam.data.images import find_images
from autosam.errors import AutoSamError, ImageError, OutputError
from autosam.files import PathLike
from autosam.inference.output_names import pair_outputs, preview_of
from autosam.inference.picture_sources import band_files, sample_of
from autosam.inference.sample_masking import maker
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
    """Mean probability of the chosen class, 0..1; 0 when the picture has no data."""
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
    return mask.with_suffix(".probability.png"), preview_of(mask)


def is_finished(
    picture: Path, mask: Path, wanted: Sequence[Path] = (), *, bands: Iterable[Path] = ()
) -> bool:
    """Whether a mask is there, whole, of the picture's size, and it and what else is wanted no older.

    Args:
        picture: What is masked.
        mask: Its mask.
        wanted: What else is made of it.
        bands: Files that are read beside the picture.
    """
    try:
        taken = max(file.stat().st_mtime for file in (picture, *bands))
        if any(file.stat().st_mtime < taken for file in (mask, *wanted)):
            return False
        with open_picture(mask, str(mask)) as found:
            found.load()
            size = found.size
        with open_picture(picture, str(picture)) as opened:
            return sorted(opened.size) == sorted(size)  # EXIF may have turned the picture
    except (OSError, ImageError):  # not there or not to be read: mask it again, or say why not
        return False


def check_maker(files: Iterable[Path], made_by: str | None) -> None:
    """Refuse to write over files that autosam did not make, or to take another model's for finished.

    Args:
        files: What may be written; most are not there yet.
        made_by: The model's `identity`; None to take those of any model.

    Raises:
        OutputError: One was made by hand, by another program, or by another model or prompts.
    """
    for file in files:
        if not file.exists() or (file.is_file() and file.stat().st_size == 0):
            continue  # nothing to lose
        maker = _maker(file)
        if not maker:
            raise OutputError(
                f"output must be new or autosam's own, got {file}, which does not say that autosam made "
                "it. Choose another folder with -o, or --overwrite."
            )
        if made_by is not None and maker != made_by:
            raise OutputError(
                f"masks in one folder must be of one model and its prompts, got {file} by {maker!r} for "
                f"{made_by!r}. Choose another folder, or --overwrite."
            )


def _maker(file: Path) -> str:
    """What a mask, probability or preview says of who made it; nothing where autosam did not."""
    try:
        with open_picture(file, str(file)) as found:
            comment = found.info.get("comment", b"")  # of a JPEG
            said = comment.decode(errors="replace") if isinstance(comment, bytes) else ""
            own = said.removeprefix("autosam ") if said.startswith("autosam ") else ""
            return str(found.info.get("autosam", own))
    except (OSError, ImageError):
        return ""


def mask_files(
    model: AutoSam | None,
    source: PathLike | Sequence[PathLike],
    output: PathLike,
    *,
    overwrite: bool = False,
    probability: bool = False,
    preview: bool = False,
    dihedral: bool = False,
    band_folders: Mapping[str, PathLike] | None = None,
    on_each: Callable[[MaskedFile], None] | None = None,
) -> list[MaskedFile]:
    """Mask every picture; one that fails is reported and the others go on.

    A mask is written last and in one step, so its being there means that the picture is finished.

    Args:
        model: None for a dry run, in which nothing is read or written.
        source: A picture, a folder, a glob pattern, or a list of these.
        output: A folder, made if it is not there.
        overwrite: Mask again what is finished, and write over files that are not autosam's.
        probability: Also write ``<stem>.probability.png``, 0..255 for 0..1.
        preview: Also write ``<stem>.preview.jpg``, the picture with the water tinted.
        dihedral: The mean of each picture's eight views, as in `AutoSam.predict`.
        band_folders: Where the bands lie that the model reads; by default beside the pictures' folder.
        on_each: Called after each picture, for a progress bar.

    Raises:
        OutputError: The folder holds files of these names that are not autosam's or another model's, or
            cannot be written.
    """
    results = []
    plan = []
    for path, mask in plan_masks(source, output):
        shown = dict(zip(extras(mask), (probability, preview), strict=True))
        plan.append((path, mask, [file for file, is_wanted in shown.items() if is_wanted]))
    made_by = None if model is None else _maker_of(model, band_folders, dihedral=dihedral)
    if not overwrite:
        check_maker([file for _, mask, wanted in plan for file in (mask, *wanted)], made_by)
    for path, mask, wanted in plan:
        bands = _bands_beside(path, model, band_folders)
        if not overwrite and is_finished(path, mask, wanted, bands=bands):
            result = MaskedFile(source=str(path), mask=str(mask), status="finished before")
        elif model is None or made_by is None:
            result = MaskedFile(source=str(path), mask=str(mask), status="would be written")
        else:
            result = _mask_one(
                model, path, mask, wanted=wanted, dihedral=dihedral, band_folders=band_folders,
                made_by=made_by,
            )  # fmt: skip
        results.append(result)
        if on_each is not None:
            on_each(result)
    return results


def _maker_of(
    model: AutoSam, band_folders: Mapping[str, PathLike] | None, *, dihedral: bool
) -> str:
    """The model, its views, and the folders of bands that are not where they usually are."""
    given = {band: folder for band, folder in (band_folders or {}).items() if band in model.bands}
    named = "".join(f" {band} from {Path(folder).name}" for band, folder in sorted(given.items()))
    return f"{maker(model, dihedral=dihedral)}{named}"


def _bands_beside(
    picture: Path, model: AutoSam | None, band_folders: Mapping[str, PathLike] | None
) -> list[Path]:
    """Files of the bands that a model reads; none where one is missing, which masking will tell."""
    try:
        found = band_files(picture, () if model is None else model.bands, folders=band_folders)
    except AutoSamError:
        return []
    return list(found.values())


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def _mask_one(
    model: AutoSam,
    path: Path,
    mask: Path,
    *,
    wanted: Sequence[Path],
    dihedral: bool,
    band_folders: Mapping[str, PathLike] | None,
    made_by: str,
) -> MaskedFile:
    start = time.perf_counter()
    probability, preview = extras(mask)
    try:
        sample, notes = sample_of(path, model.bands, folders=band_folders)
        prediction = model.predict_sample(sample, dihedral=dihedral)
        prediction = dataclasses.replace(prediction, made_by=made_by)
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
