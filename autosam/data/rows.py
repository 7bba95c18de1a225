"""Rows of a Hugging Face dataset, from the hub or a folder: the only file that knows `datasets`' loading.

What `datasets` and the hub raise becomes one sentence that says what to do.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from autosam.errors import AccessError, AutoSamError, DataError, MissingPathError
from autosam.files import PathLike, read_json

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})")
# Words for a part in file and folder names.
_PART_WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test",),
}


def open_rows(source: PathLike, *, split: str, token: str | None, revision: str | None) -> Any:
    """Open one part of a dataset without decoding anything.

    Args:
        source: A hub id, a folder written by ``save_to_disk``, or a folder of parquet files.
        split: "train", "validation" or "test", which the published datasets lack.
        token: For a private dataset; otherwise HF_TOKEN or the stored login is used.
        revision: Branch, tag or commit on the hub.

    Returns:
        A ``datasets.Dataset``, mapped from the disk.

    Raises:
        MissingPathError: The source is neither a folder nor a hub id.
        AccessError: The hub refused, knows no such dataset, or cannot be reached.
        DataError: There is no such part, or a file is missing or damaged.
    """
    if split not in _PART_WORDS:
        raise DataError(
            f"split must be 'train', 'validation' or 'test', got {split!r}. Name one of these."
        )
    folder = Path(source).expanduser()
    if str(source) and folder.is_dir():
        if (folder / "dataset_dict.json").is_file():
            return _saved_rows(folder / split, split)
        if (folder / "state.json").is_file():
            return _saved_rows(folder, split)
        return _parquet_rows(folder, split)
    if folder.exists() or not _HUB_ID.fullmatch(str(source)):
        raise MissingPathError(
            f"dataset must be a folder or a hub id (owner/name), got {str(source)!r}. Check the path."
        )
    return _hub_rows(str(source), split, token, revision)


def parts_of(folder: Path) -> tuple[str, ...]:
    """Which parts a dataset's folder holds, in their order, by its file names; none if it is no dataset.

    Raises:
        DataError: The description of a saved dataset is damaged.
    """
    if (folder / "dataset_dict.json").is_file():
        return tuple(part for part in _PART_WORDS if (folder / part).is_dir())
    if (folder / "state.json").is_file():
        state = read_json(folder / "state.json", what="description of a saved dataset")
        saved = state.get("_split") if isinstance(state, dict) else None
        return tuple(part for part in _PART_WORDS if part in (saved, folder.name))
    files = [path.relative_to(folder) for path in _parquet_files(folder)]
    return tuple(part for part in _PART_WORDS if any(_names_part(file, part) for file in files))


def _saved_rows(folder: Path, split: str) -> Any:
    """From ``save_to_disk``."""
    from datasets import load_from_disk

    if not folder.is_dir():
        parts = sorted(path.name for path in folder.parent.iterdir() if path.is_dir())
        raise DataError(_no_such_part(split, parts, folder.parent))
    try:
        rows = load_from_disk(str(folder))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"saved dataset must be complete, got {_first_line(error)} ({folder}). Save it again."
        ) from error
    if folder.name != split and str(rows.split) != split:
        raise DataError(_no_such_part(split, [str(rows.split)], folder))
    return rows


def _parquet_rows(folder: Path, split: str) -> Any:
    """From parquet files named after their part, flat or in folders, whole or in shards."""
    files = _parquet_files(folder)
    if not files:
        raise DataError(
            f"dataset folder must come from save_to_disk or hold parquet files, got neither ({folder}). "
            "A folder of pictures needs images/ and masks/."
        )
    wanted = [path for path in files if _names_part(path.relative_to(folder), split)]
    if not wanted:
        raise DataError(_no_such_part(split, [path.name for path in files], folder))
    _check_shards(wanted, folder)
    return _loaded(
        "parquet", f"{folder}", split=split, data_files={split: [str(p) for p in wanted]}
    )


def _parquet_files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*.parquet")) if not _is_hidden(path, folder)]


def _is_hidden(path: Path, folder: Path) -> bool:
    """True for leftovers of an unfinished download."""
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _names_part(path: Path, split: str) -> bool:
    """True when a word of the file's name, or of its folders', names the part."""
    words = {
        word for part in path.with_suffix("").parts for word in re.split(r"[\W_]+", part.lower())
    }
    return not words.isdisjoint(_PART_WORDS[split])


def _check_shards(files: list[Path], folder: Path) -> None:
    """Refuse an unfinished download: each shard says how many there are."""
    for path in files:
        match = _SHARD.search(path.name)
        if match is None:
            continue
        start, total = path.name[: match.start()], int(match[2])
        pattern = re.compile(rf"{re.escape(start)}-(\d{{5}})-of-{match[2]}")
        siblings = (pattern.match(other.name) for other in files if other.parent == path.parent)
        present = {int(sibling[1]) for sibling in siblings if sibling}
        missing = sorted(set(range(total)) - present)
        if missing:
            raise DataError(
                f"dataset must have all {total} files {start}-*-of-{match[2]}, got {len(present)}, "
                f"without number {missing[0]:05} ({folder}). Finish the download."
            )


def _hub_rows(source: str, split: str, token: str | None, revision: str | None) -> Any:
    if token is not None and re.search(r"\s", token) is not None:
        # The client would print the token in its own error.
        raise AccessError(
            "token must be one word, got one with a space or line break in it. Copy it again."
        )
    return _loaded(source, source, split=split, token=token, revision=revision)


def _loaded(path: str, label: str, *, split: str, **options: Any) -> Any:
    """Call ``datasets.load_dataset`` and put its errors into our words."""
    import datasets

    try:
        return datasets.load_dataset(path, split=split, **options)
    except (
        datasets.exceptions.DatasetsError,
        OSError,
        ValueError,
        RuntimeError,
        KeyError,
        TypeError,
        *_network_errors(),
    ) as error:
        raise _in_our_words(error, label, split) from error


def _network_errors() -> tuple[type[Exception], ...]:
    """What the hub's client lets through of the HTTP library below it.

    That library has changed (requests, httpx, httpx2) and may again, so it is not named here.
    """
    from huggingface_hub.errors import HfHubHTTPError

    return tuple(kind for kind in HfHubHTTPError.__mro__ if kind.__name__ == "HTTPError")


def _in_our_words(error: BaseException, label: str, split: str) -> AutoSamError:
    chain = list(_chain(error))
    text = " ".join(str(one) for one in chain)
    kinds = {kind.__name__ for one in chain for kind in type(one).__mro__}
    status = {getattr(getattr(one, "response", None), "status_code", None) for one in chain}
    if "OfflineModeIsEnabled" in kinds or "OfflineModeIsEnabled" in text:
        return AccessError(
            f"dataset must be downloaded before it is used offline, got {label!r} (HF_HUB_OFFLINE is "
            "set). Unset HF_HUB_OFFLINE once, or give a folder that holds the dataset."
        )
    if ("Revision" in text and "DatasetNotFoundError" in kinds) or "RevisionNotFoundError" in kinds:
        return DataError(
            f"revision must exist, got {_first_line(error)} ({label}). Name a branch, tag or commit."
        )
    if status & {401, 403} or kinds & {"DatasetNotFoundError", "LocalTokenNotFoundError"}:
        return AccessError(_no_access(label, text))
    if kinds & {"ConnectionError", "TransportError", "Timeout", "HfHubHTTPError"}:
        return AccessError(
            f"dataset hub must answer, got {_first_line(error)} ({label}). Check the connection and "
            "HF_ENDPOINT and try again, or give a folder that holds the dataset."
        )
    if "split" in text.lower() and isinstance(error, ValueError):
        return DataError(
            f"dataset must have the part {split!r}, got: {_first_line(error)} ({label}). "
            "Use a dataset with train and validation."
        )
    return DataError(
        f"dataset must be readable, got {type(error).__name__}: {_first_line(_root(error))} ({label}). "
        "Download or save it again."
    )


def _no_access(label: str, text: str) -> str:
    if "gated" in text:
        rule = "dataset must be open to you, got one whose terms you have not accepted"
        remedy = "Accept them on its page; then log in"
    else:
        rule = "dataset must exist and be open to you, got one that the hub denies"
        remedy = "Check the spelling; if it is private, log in"
    return f"{rule} ({label}). {remedy} with `hf auth login`, set HF_TOKEN, or pass token=."


def _no_such_part(split: str, found: list[str], folder: Path) -> str:
    shown = ", ".join(found[:5]) + (", ..." if len(found) > 5 else "")
    return (
        f"dataset must have the part {split!r}, got {shown or 'nothing'} ({folder}). "
        "Save it as a DatasetDict, or name the files train*.parquet and validation*.parquet."
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what caused it, outermost first."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _root(error: BaseException) -> BaseException:
    """What the error was raised from, in the end; it tells more than "an error occurred"."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
