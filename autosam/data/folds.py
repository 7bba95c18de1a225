"""Cross-fitting's divisions: every name is held out once, away from all that its model learns from."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence

from autosam.data.leaks import neighbours, tiles_of
from autosam.data.manifests import Split, shown
from autosam.data.splits import ROWS_PER_GROUP, group_names, grouped_split
from autosam.errors import SplitError

LEAST_GROUPS = 3
"""One held out, one to learn from, one to choose the checkpoint."""
VALIDATION_SHARE = 0.15
"""Of the groups that are not held out, where the configuration asks for none."""


def fold_groups(
    names: Sequence[str], *, group_by: str = "", places: Mapping[str, str] | None = None
) -> dict[str, str]:
    """What must stay together, by name.

    A pattern decides where there is one. Otherwise Elwha tiles go by reach and block of rows, whatever
    their date; other samples by their place where it is known, and by themselves where it is not.

    Args:
        names: Of the samples.
        group_by: As `grouped_split` has it.
        places: `Sample.place` by name, of the samples that have one.

    Raises:
        SplitError: The pattern is no regular expression or does not occur in a name.
    """
    if group_by:
        return group_names(names, group_by)
    tiles = tiles_of(names)
    if tiles is not None:
        return {
            name: f"{tile.reach} rows {tile.row // ROWS_PER_GROUP * ROWS_PER_GROUP:03d}"
            for name, tile in tiles.items()
        }
    return {name: (places or {}).get(name, name) for name in names}


def fold_splits(
    groups: Mapping[str, str], *, folds: int, validation_share: float, seed: int
) -> list[Split]:
    """One split per fold; its test part is what the fold holds out.

    Whole groups are dealt to the folds, the largest first, each to the fold that is smallest so far.
    Of Elwha tiles, those at or beside a held-out tile, and training tiles at or beside a validation
    tile, are left out (`unused`).

    Args:
        groups: From `fold_groups`.
        folds: How often the data is divided, at least 2.
        validation_share: Share of the groups not held out that chooses the checkpoint, at least one;
            0 takes `VALIDATION_SHARE`.
        seed: Of the order in which groups are drawn.

    Raises:
        SplitError: There are fewer than 3 groups, fewer groups than folds, or nothing would be left
            to train on or to choose by.
    """
    _check_folds(groups, folds)
    held_out = _dealt(groups, folds, seed)
    every = set(groups.values())
    splits = []
    for held in held_out:
        inner = grouped_split(
            sorted(every - held),
            validation_share=validation_share or VALIDATION_SHARE,
            test_share=0,
            seed=seed,
        )
        members = {"train": inner.train, "validation": inner.validation, "test": held}
        parts = {
            part: [name for name in sorted(groups) if groups[name] in set(some)]
            for part, some in members.items()
        }
        splits.append(_kept_apart(parts, groups, seed))
    return splits


def _check_folds(groups: Mapping[str, str], folds: int) -> None:
    found = sorted(set(groups.values()))
    if len(found) < LEAST_GROUPS:
        raise SplitError(
            f"cross-fitting must have {LEAST_GROUPS} groups of samples or more, got {len(found)} "
            f"({shown(found)}). Add data, or set data.group_by so that fewer samples stay together."
        )
    if not 2 <= folds <= len(found):
        raise SplitError(
            f"folds must be in 2..{len(found)}, the number of groups, got {folds}. Try 3."
        )


def _dealt(groups: Mapping[str, str], folds: int, seed: int) -> list[set[str]]:
    sizes: dict[str, int] = defaultdict(int)
    for group in groups.values():
        sizes[group] += 1
    held: list[set[str]] = [set() for _ in range(folds)]
    totals = [0] * folds
    for group in sorted(sizes, key=lambda group: (-sizes[group], _draw(seed, group))):
        smallest = min(range(folds), key=lambda fold: totals[fold])
        held[smallest].add(group)
        totals[smallest] += sizes[group]
    if any(len(sizes) - len(some) < LEAST_GROUPS - 1 for some in held):
        raise SplitError(
            f"each fold must leave 2 groups or more to learn from, got {len(sizes)} groups in {folds} "
            "folds, one of them too large. Use more folds, or set data.group_by for smaller groups."
        )
    return held


def _draw(seed: int, group: str) -> bytes:
    """A random place in the order, as `grouped_split` draws it."""
    return hashlib.sha256(f"{seed}/{group}".encode()).digest()


def _kept_apart(parts: Mapping[str, Sequence[str]], groups: Mapping[str, str], seed: int) -> Split:
    """The split of these parts, without tiles that have seen what lies beside them."""
    validation = _away_from(parts["test"], parts["validation"])
    train = _away_from([*parts["test"], *validation], parts["train"])
    kept = {*train, *validation, *parts["test"]}
    if not train or not validation:
        raise SplitError(
            "cross-fitting must leave tiles away from those held out, got none to "
            f"{'train on' if validation else 'choose the checkpoint by'} "
            f"(beside {shown(parts['test'])}). Use more folds, or leave data.group_by empty."
        )
    return Split(
        kind="grouped",
        train=tuple(train),
        validation=tuple(validation),
        test=tuple(parts["test"]),
        unused=tuple(sorted(name for name in groups if name not in kept)),
        groups=dict(groups),
        seed=seed,
    )


def _away_from(these: Sequence[str], others: Sequence[str]) -> list[str]:
    """The others that are neither at nor beside the place of one of these; all, if they are no tiles."""
    tiles = tiles_of([*these, *others])
    if tiles is None:
        return list(others)
    near = {cell for name in these for cell in (tiles[name].cell, *neighbours(tiles[name]))}
    return [name for name in others if tiles[name].cell not in near]
