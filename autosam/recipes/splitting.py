"""What `autosam splits` does: divide names, and say how much the held-out ones leak."""

import dataclasses
from pathlib import Path
from typing import Any

from autosam.data.splits import (
    Split,
    blocked_split,
    date_split,
    grouped_split,
    leak_report,
    published_split,
    write_split,
)
from autosam.errors import ConfigError, DataError, MissingPathError, did_you_mean

_KINDS = ("published", "blocked", "by-date", "grouped")


@dataclasses.dataclass(frozen=True)
class SplitReport:
    """The report as numbers and as text."""

    numbers: dict[str, Any]
    text: str


def split_names(
    names: Path,
    *,
    holdout: Path | None = None,
    kind: str = "published",
    group_by: str = "",
    seed: int = 0,
    output: Path | None = None,
) -> SplitReport:
    """Divide a list of names and report the leak of what is held out.

    Args:
        names: Text file, one name a line.
        holdout: Names that are held out of `names`; needed for 'published', refused otherwise.
        kind: 'published', 'blocked', 'by-date' or 'grouped'.
        group_by: For 'grouped'.
        seed: For 'grouped'.
        output: Where to write the split.

    Raises:
        MissingPathError: A file is not there.
        DataError: A file has no names, or one twice.
        ConfigError: The kind is unknown or does not fit the files.
        SplitError: The names cannot be divided this way.
    """
    if kind not in _KINDS:
        raise ConfigError(
            f"--kind must be a kind of split, got {kind!r}. {did_you_mean(kind, _KINDS)}"
        )
    if (kind == "published") != (holdout is not None):
        raise ConfigError(
            f"--holdout must be given for --kind published and for no other, got --kind {kind}. "
            "Name the file of held-out names, or choose another kind."
        )
    every = _read_names(names)
    if holdout is not None:
        held_out = _read_names(holdout)
        train = [name for name in every if name not in set(held_out)]
        split = published_split(train, held_out)
        leak = leak_report(train, held_out)
    else:
        split = _divide(every, kind=kind, group_by=group_by, seed=seed)
        leak = leak_report(split.train, split.test)
    if output is not None:
        write_split(output, split)
    numbers: dict[str, Any] = {
        "kind": kind,
        "train": len(split.train),
        "validation": len(split.validation),
        "test": len(split.test),
        **(leak.to_dict() if leak is not None else {"leak": None}),
    }
    counts = ", ".join(
        f"{len(split.part(part))} {part}" for part in ("train", "validation", "test")
    )
    said = (
        leak.sentence()
        if leak is not None
        else "Leak unknown: not every name tells place and date as Elwha's do."
    )
    return SplitReport(numbers, f"{kind}: {counts}. {said}")


def _divide(names: list[str], *, kind: str, group_by: str, seed: int) -> Split:
    if kind == "grouped":
        return grouped_split(
            names, group_by=group_by, validation_share=0.15, test_share=0.15, seed=seed
        )
    return blocked_split(names) if kind == "blocked" else date_split(names)


def _read_names(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise MissingPathError(f"list of names must exist, got {path}. Check the path.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"list of names must be a text file, got {path} ({error}).") from error
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise DataError(f"list of names must hold a name a line, got none in {path}. Add some.")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"names must be unique, got {twice[0]!r} twice in {path}. Remove one.")
    return names
