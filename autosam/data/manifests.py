"""A split as a thing: which names are for training, choosing and reporting, and what they held."""

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from autosam.errors import DataError, SplitError, did_you_mean
from autosam.files import PathLike, read_json, write_json
from autosam.types import Sample

SPLIT_VERSION = 1
"""Of the manifest's layout and of the rules by which splits are made."""

PARTS = ("train", "validation", "test", "unused")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Split:
    """Who trains, who chooses, who is reported on.

    Raises:
        SplitError: A name is in two parts, or twice in one, or a hash or group has no name.
    """

    kind: str
    """How it was made: 'published', 'blocked', 'by-date' or 'grouped'."""
    version: int = SPLIT_VERSION
    train: tuple[str, ...]
    validation: tuple[str, ...]
    """Chooses checkpoint, temperature and threshold."""
    test: tuple[str, ...]
    """Reported on, once."""
    unused: tuple[str, ...] = ()
    """Left out on purpose: the buffer between blocks."""
    groups: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """What a name is kept together with, as samples of one place are; a name that is not here stands
    for itself."""
    hashes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """`content_hash` of each sample; empty until `add_hashes`."""
    seed: int | None = None
    """None when nothing was drawn."""
    group_by: str = ""
    """The pattern of a grouped split."""

    def __post_init__(self) -> None:
        counts = Counter(name for part in PARTS for name in getattr(self, part))
        twice = sorted(name for name, count in counts.items() if count > 1)
        if twice:
            raise SplitError(
                f"split must hold each name once, got {len(twice)} more than once ({shown(twice)}). "
                "Remove them from all parts but one."
            )
        strangers = sorted({*self.groups, *self.hashes} - counts.keys())
        if strangers:
            raise SplitError(
                f"split must give groups and hashes to its own names, got {len(strangers)} others "
                f"({shown(strangers)}). Remove them."
            )

    @property
    def names(self) -> tuple[str, ...]:
        """Every name, the unused ones last."""
        return tuple(name for part in PARTS for name in getattr(self, part))

    @property
    def hash(self) -> str:
        """SHA-256 of the manifest, in hexadecimal: equal only for equal parts, contents and rules."""
        canonical = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def part(self, name: str) -> tuple[str, ...]:
        """The names of 'train', 'validation', 'test' or 'unused'.

        Raises:
            SplitError: There is no such part.
        """
        if name not in PARTS:
            raise SplitError(
                f"part must be one of a split's, got {name!r}. {did_you_mean(name, PARTS)}"
            )
        names: tuple[str, ...] = getattr(self, name)
        return names

    def to_json(self) -> dict[str, Any]:
        """Plain values; `from_json` gives back an equal split."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        values |= {part: list(values[part]) for part in PARTS}
        return values | {key: dict(sorted(values[key].items())) for key in ("groups", "hashes")}

    @classmethod
    def from_json(cls, values: Any) -> "Split":
        """Read what `to_json` wrote; only 'kind' and the three parts must be there.

        Raises:
            SplitError: A key is missing or unknown, a value has another type, the version is not
                ours, or names repeat.
        """
        if not isinstance(values, Mapping):
            raise SplitError(f"split manifest must be a JSON object, got {values!r:.60}. {_REMAKE}")
        fields = {field.name for field in dataclasses.fields(cls)}
        needed = {"kind", "train", "validation", "test"}
        if not needed <= values.keys() <= fields:
            missing, extra = sorted(needed - values.keys()), sorted(values.keys() - fields)
            raise SplitError(
                f"split manifest must hold kind, train, validation and test, got {missing} missing "
                f"and {extra} unknown. {_REMAKE}"
            )
        if values.get("version", SPLIT_VERSION) != SPLIT_VERSION:
            raise SplitError(
                f"split manifest must have version {SPLIT_VERSION}, got {values['version']!r}. {_REMAKE}"
            )
        return cls(**{key: _checked(key, value) for key, value in values.items()})


_REMAKE = "Make the split again with this version of autosam."


def _checked(key: str, value: Any) -> Any:
    """The field's value, as the dataclass holds it."""
    if key in PARTS:
        right = isinstance(value, list) and all(isinstance(name, str) for name in value)
        wanted, value = "a list of names", tuple(value) if right else value
    elif key in ("groups", "hashes"):
        right = isinstance(value, dict) and all(isinstance(text, str) for text in value.values())
        wanted = "an object of names and texts"
    elif key == "seed":
        right, wanted = value is None or type(value) is int, "a whole number or null"
    else:
        right, wanted = type(value) is (int if key == "version" else str), "text"
    if not right:
        raise SplitError(f"split manifest: {key} must be {wanted}, got {value!r:.60}. {_REMAKE}")
    return value


def content_hash(sample: Sample) -> str:
    """SHA-256, in hexadecimal, of a sample's pixels, mask and valid area, with their sizes."""
    digest = hashlib.sha256()
    for array in (sample.image, sample.mask, sample.valid):
        digest.update(b"none;" if array is None else f"{array.shape} {array.dtype};".encode())
        if array is not None:
            digest.update(array.tobytes())
    return digest.hexdigest()


def add_hashes(split: Split, samples: Iterable[Sample]) -> Split:
    """The same split with the content hash of each of its samples; reads every one of them.

    Raises:
        SplitError: The samples do not hold every name of the split.
    """
    known = set(split.names)
    hashes = {sample.name: content_hash(sample) for sample in samples if sample.name in known}
    _check_names(split, hashes)
    return dataclasses.replace(split, hashes=hashes)


def check_split(split: Split, samples: Sequence[Sample], *, contents: bool = True) -> None:
    """Refuse a split that no longer matches its data. Samples that the split does not name are no fault.

    Args:
        split: As it was written.
        samples: The data of now.
        contents: Compare content hashes too, as far as the split has them, which reads every sample;
            otherwise names alone.

    Raises:
        SplitError: A name of the split is gone, or what it holds has changed.
    """
    if not (contents and split.hashes):
        names = getattr(samples, "names", None)
        _check_names(split, (sample.name for sample in samples) if names is None else names)
        return
    found: set[str] = set()
    changed: list[str] = []
    for sample in samples:
        found.add(sample.name)
        expected = split.hashes.get(sample.name)
        if expected is not None and content_hash(sample) != expected:
            changed.append(sample.name)
    _check_names(split, found)
    if changed:
        raise SplitError(
            f"split must match the data, got other pixels, mask or valid area in {len(changed)} of "
            f"{len(split.hashes)} samples ({shown(changed)}). Restore them, or make the split again."
        )


def shown(names: Sequence[str]) -> str:
    """The first five names, for a message."""
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def _check_names(split: Split, names: Iterable[str]) -> None:
    missing = sorted(set(split.names) - set(names))
    if missing:
        raise SplitError(
            f"split must match the data, got {len(missing)} of its {len(split.names)} names missing "
            f"({shown(missing)}). Use the data it was made from, or make the split again."
        )


def write_split(path: PathLike, split: Split) -> None:
    """Write the manifest as JSON, with its own hash, in one step.

    Raises:
        OutputError: The file cannot be written.
    """
    write_json(path, split.to_json() | {"hash": split.hash})


def read_split(path: PathLike) -> Split:
    """Read a manifest.

    The key 'hash' may be absent, for a manifest that was written by hand.

    Raises:
        MissingPathError: There is no such file.
        SplitError: It is no split manifest, or was changed after it was written.
    """
    try:
        values = read_json(path, what="split manifest")
    except DataError as error:
        raise SplitError(str(error)) from error
    written = values.pop("hash", None) if isinstance(values, dict) else None
    split = Split.from_json(values)
    if written is not None and written != split.hash:
        raise SplitError(
            f"split manifest must be as it was written, got hash {split.hash[:12]} instead of "
            f"{str(written)[:12]} ({path}). Restore it, or remove its key 'hash' if the change is meant."
        )
    return split
