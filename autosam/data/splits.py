"""Four ways to divide names into train, validation and test, none of which reads a picture."""

import hashlib
import itertools
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from autosam.data.elwha import TileName, parse_tile_name
from autosam.data.leaks import LeakReport, leak_report, tiles_of
from autosam.data.manifests import (
    PARTS,
    SPLIT_VERSION,
    Split,
    add_hashes,
    check_split,
    content_hash,
    read_split,
    shown,
    write_split,
)
from autosam.errors import DataError, SplitError

__all__ = [
    "PARTS",
    "SPLIT_VERSION",
    "LeakReport",
    "Split",
    "add_hashes",
    "blocked_split",
    "check_split",
    "content_hash",
    "date_split",
    "group_names",
    "grouped_split",
    "leak_report",
    "published_split",
    "read_split",
    "write_split",
]

TRAIN_REACH, TEST_REACH = "LR", "MR"
VALIDATION_BLOCKS = 3
"""Of the blocked split: enough to meet different water, few enough to lose little to their buffers."""
ROWS_PER_GROUP = 5
"""Rows of tiles that count as one place, in bootstrap intervals and in the published split."""


def published_split(train_names: Sequence[str], validation_names: Sequence[str]) -> Split:
    """The publisher's training part; its validation part cut into validation and test.

    Tiles are cut by reach and row block, every other block for test; other names in two halves by
    name. Neighbouring tiles stay on both sides: for comparison with published numbers only.

    Raises:
        SplitError: There is no training name or fewer than two validation names, or names repeat.
    """
    if not train_names or len(validation_names) < 2:
        raise SplitError(
            "published split must have 1 training and 2 validation samples or more, got "
            f"{len(train_names)} and {len(validation_names)}. Use data.split 'grouped'."
        )
    names = sorted(validation_names)
    tiles = tiles_of([*train_names, *names])
    test = {} if tiles is None else {n: tiles[n].row // ROWS_PER_GROUP % 2 == 1 for n in names}
    if len(set(test.values())) < 2:
        test = {name: position >= len(names) // 2 for position, name in enumerate(names)}
    return Split(
        kind="published",
        train=tuple(sorted(train_names)),
        validation=tuple(name for name in names if not test[name]),
        test=tuple(name for name in names if test[name]),
        groups={} if tiles is None else _places(tiles),
    )


def blocked_split(names: Sequence[str], *, validation_share: float = 0.15) -> Split:
    """Train on the lower reach, test on the middle reach, choose on row blocks inside the lower one.

    Every date of a row goes the same way, and the rows beside a validation block are left out
    (`unused`), so that no training tile touches a validation tile on any date. Test tiles lie on
    another stretch of river.

    Args:
        names: Elwha tile names.
        validation_share: Of the lower reach's tiles, before the buffer is taken from the rest.

    Raises:
        SplitError: A name is no tile name, a reach is missing, or the lower reach has too few rows.
    """
    _check_share("validation_share", validation_share)
    tiles = _tiles_or_error(names, "blocked")
    rows: dict[int, list[str]] = defaultdict(list)
    for name in sorted(names):
        if tiles[name].reach == TRAIN_REACH:
            rows[tiles[name].row].append(name)
    test = tuple(sorted(name for name in names if tiles[name].reach == TEST_REACH))
    if not rows or not test:
        raise SplitError(
            f"blocked split must have tiles of both reaches, got {sum(map(len, rows.values()))} of "
            f"{TRAIN_REACH} and {len(test)} of {TEST_REACH}. Use data.split 'grouped' instead."
        )
    chosen, buffer = _row_blocks({row: len(some) for row, some in rows.items()}, validation_share)
    taken = {*chosen, *buffer}
    return Split(
        kind="blocked",
        train=_flat(some for row, some in rows.items() if row not in taken),
        validation=_flat(rows[row] for row in chosen),
        test=test,
        unused=_flat(rows[row] for row in buffer),
        groups=_places(tiles),
    )


def _row_blocks(counts: Mapping[int, int], share: float) -> tuple[list[int], list[int]]:
    """Rows for validation and rows of their buffer, of rows with so many tiles each.

    As many blocks as leave a row to train on, spread evenly over the tiles in row order.
    """
    rows = sorted(counts)
    ends = list(itertools.accumulate(counts[row] for row in rows))
    middles = {row: (end - counts[row] / 2) / ends[-1] for row, end in zip(rows, ends, strict=True)}
    for blocks in range(VALIDATION_BLOCKS, 0, -1):
        chosen: set[int] = set()
        for block in range(blocks):
            centre = (block + 0.5) / blocks
            near = {row: abs(middle - centre) for row, middle in middles.items()}
            chosen |= {row for row in rows if near[row] <= share / blocks / 2}
            chosen.add(min(rows, key=lambda row: near[row]))
        buffer = {row + step for row in chosen for step in (-1, 1)} & counts.keys() - chosen
        if len(chosen) + len(buffer) < len(rows):
            return sorted(chosen), sorted(buffer)
    raise SplitError(
        f"blocked split must leave rows of {TRAIN_REACH} to train on, got {len(rows)} rows, all taken "
        "by validation and its buffer. Use data.split 'grouped' instead."
    )


def date_split(
    names: Sequence[str], *, validation_share: float = 0.15, test_share: float = 0.15
) -> Split:
    """The newest dates for test, the next newest for validation, whole dates together.

    A part takes dates while that brings it nearer to its share of the tiles, and at least one. The
    same places occur on all sides: this measures new water at known places.

    Raises:
        SplitError: A name is no tile name, or there are fewer than three dates.
    """
    _check_shares(validation_share, test_share)
    tiles = _tiles_or_error(names, "by-date")
    dates: dict[str, list[str]] = defaultdict(list)
    for name in sorted(names):
        dates[str(tiles[name].date)].append(name)
    if len(dates) < 3:
        raise SplitError(
            f"by-date split must have 3 dates or more, got {len(dates)} ({shown(sorted(dates))}). "
            "Use data.split 'grouped' instead."
        )
    newest = sorted(dates, reverse=True)
    test = _first(newest, dates, test_share * len(names), leave=2)
    validation = _first(newest[len(test) :], dates, validation_share * len(names), leave=1)
    return Split(
        kind="by-date",
        train=_flat(dates[date] for date in newest[len(test) + len(validation) :]),
        validation=_flat(dates[date] for date in validation),
        test=_flat(dates[date] for date in test),
        groups=_places(tiles),
    )


def _first(
    dates: Sequence[str], sizes: Mapping[str, Sequence[str]], wanted: float, *, leave: int
) -> list[str]:
    """The first dates, at least one, whose tiles come nearest to the number wanted."""
    totals = list(itertools.accumulate(len(sizes[date]) for date in dates[: len(dates) - leave]))
    nearest = min(range(len(totals)), key=lambda last: abs(totals[last] - wanted))
    return list(dates[: nearest + 1])


def grouped_split(
    names: Sequence[str],
    *,
    group_by: str = "",
    validation_share: float = 0.15,
    test_share: float = 0.15,
    seed: int = 0,
) -> Split:
    """Random, whole groups together; the same for equal names and seed, in whatever order they come.

    Args:
        names: Of the samples.
        group_by: Regular expression that is searched for in each name; names for which its groups
            (the whole match, if it has none) are equal stay together. Empty: each name by itself.
        validation_share: Of the samples; 0 for no validation part.
        test_share: Of the samples; 0 for no test part.
        seed: Of the order in which groups are drawn.

    Raises:
        SplitError: The pattern is no regular expression or does not occur in a name, or there are
            fewer groups than parts.
    """
    _check_shares(validation_share, test_share)
    group_of = group_names(names, group_by)
    groups: dict[str, list[str]] = defaultdict(list)
    for name in sorted(names):
        groups[group_of[name]].append(name)
    shares = {"test": test_share, "validation": validation_share}
    parts = 1 + sum(share > 0 for share in shares.values())
    if len(groups) < parts:
        raise SplitError(
            f"grouped split must have {parts} groups or more, got {len(groups)} of {len(names)} "
            f"samples ({shown(sorted(groups))}). Add data, or choose data.group_by so that fewer "
            "samples stay together."
        )
    remaining = sorted(groups, key=lambda group: _draw(seed, group))
    taken: dict[str, list[str]] = {"test": [], "validation": []}
    for part in (part for part in taken if shares[part] > 0):
        parts -= 1
        sizes = {group: len(groups[group]) for group in remaining}
        taken[part] = _nearest(sizes, shares[part] * len(names), leave=parts)
        remaining = [group for group in remaining if group not in taken[part]]
    return Split(
        kind="grouped",
        train=_flat(groups[group] for group in remaining),
        validation=_flat(groups[group] for group in taken["validation"]),
        test=_flat(groups[group] for group in taken["test"]),
        groups=group_of if group_by else {},
        seed=seed,
        group_by=group_by,
    )


def _draw(seed: int, group: str) -> bytes:
    """A random place in the order: a hash, which no new version of a library changes."""
    return hashlib.sha256(f"{seed}/{group}".encode()).digest()


def _nearest(sizes: Mapping[str, int], wanted: float, *, leave: int) -> list[str]:
    """Groups in the given order, each taken if that brings the total nearer; else one smallest."""
    taken: list[str] = []
    total = 0
    for group, size in sizes.items():
        if len(sizes) - len(taken) > leave and abs(total + size - wanted) < abs(total - wanted):
            taken.append(group)
            total += size
    return taken or [min(sizes, key=lambda group: sizes[group])]


def group_names(names: Iterable[str], pattern: str) -> dict[str, str]:
    """Each name's group, as `grouped_split` forms them.

    Raises:
        SplitError: The pattern is no regular expression or does not occur in a name.
    """
    if not pattern:
        return {name: name for name in names}
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise SplitError(
            f"group_by must be a regular expression, got {pattern!r} ({error}). "
            "Write for example '^[^_]+' to group by what precedes the first underscore."
        ) from error
    found = {name: expression.search(name) for name in names}
    missed = sorted(name for name, match in found.items() if match is None)
    if missed:
        raise SplitError(
            f"group_by must match every sample name, got {pattern!r}, which {len(missed)} of "
            f"{len(found)} names lack ({shown(missed)}). Widen the pattern."
        )
    return {name: _group(match) for name, match in found.items() if match is not None}


def _group(match: "re.Match[str]") -> str:
    return " ".join(text or "" for text in match.groups()) or match.group()


def _tiles_or_error(names: Sequence[str], kind: str) -> dict[str, TileName]:
    tiles: dict[str, TileName] = {}
    for name in names:
        try:
            tiles[name] = parse_tile_name(name)
        except DataError as error:
            raise SplitError(f"{kind} split needs Elwha tile names: {error}") from error
    return tiles


def _places(tiles: Mapping[str, TileName]) -> dict[str, str]:
    """Reach and rows of each tile: what is resampled together in an interval over places."""
    starts = {name: tile.row // ROWS_PER_GROUP * ROWS_PER_GROUP for name, tile in tiles.items()}
    return {name: f"{tile.reach} from row {starts[name]:03d}" for name, tile in tiles.items()}


def _flat(groups: Iterable[Iterable[str]]) -> tuple[str, ...]:
    return tuple(sorted(itertools.chain.from_iterable(groups)))


def _check_shares(validation_share: float, test_share: float) -> None:
    _check_share("validation_share", validation_share)
    _check_share("test_share", test_share)
    if validation_share + test_share >= 1:
        raise SplitError(
            "validation_share + test_share must be below 1, got "
            f"{validation_share} + {test_share}. Leave something to train on."
        )


def _check_share(name: str, share: float) -> None:
    if not 0 <= share < 1:
        raise SplitError(f"{name} must be in 0..1 and below 1, got {share}. It is a share.")
