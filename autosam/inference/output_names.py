"""Which file each picture or raster will get, settled before anything is masked."""

from collections.abc import Callable, Iterable
from pathlib import Path

from autosam.errors import OutputError
from autosam.files import PathLike


def preview_of(mask: Path) -> Path:
    """Where the preview of a mask lies, be it of a picture or of a raster."""
    return mask.with_suffix(".preview.jpg")


def pair_outputs(
    sources: Iterable[tuple[str, str]],
    output: PathLike,
    *,
    suffix: str,
    companions: Callable[[Path], tuple[Path, ...]],
    what: str,
) -> list[Path]:
    """The mask of each source: ``output/<stem><suffix>``.

    Args:
        sources: Where each lies and the stem of its mask.
        output: A folder.
        suffix: Of masks.
        companions: What else may be written beside a mask.
        what: 'pictures' or 'rasters', for messages.

    Raises:
        OutputError: `output` is a file, two sources would share a file, or a mask would fall on a source.
    """
    output = Path(output)
    if output.exists() and not output.is_dir():
        raise OutputError(
            f"output must be a folder, got the file {output}. Masks are named after their {what}."
        )
    taken: dict[Path, str] = {}
    masks = []
    for source, stem in sources:
        mask = output / f"{stem}{suffix}"
        if Path(source).resolve().parent == output.resolve():
            raise OutputError(
                f"masks must not fall on {what}, got {output}, the folder of {source}, for both. "
                "Choose another folder."
            )
        for file in (mask, *companions(mask)):
            if file in taken:
                raise OutputError(
                    f"masks must not share a name, got {taken[file]} and {source} for {file}. "
                    "Rename one, or mask them into different folders."
                )
            taken[file] = source
        masks.append(mask)
    return masks
