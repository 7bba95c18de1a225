"""How much of a held-out set the training set has already seen, told from tile names."""

import dataclasses
import itertools
from collections.abc import Iterable

from autosam.data.elwha import TileName, parse_tile_name
from autosam.errors import DataError


@dataclasses.dataclass(frozen=True, kw_only=True)
class LeakReport:
    """Counts of held-out tiles that training has seen in one way or another."""

    same_cell: int
    """With a training tile of the same reach, row and column, whatever the date."""
    neighbour_same_date: int
    """With a training tile of the same date in one of the eight cells around."""
    same_or_neighbour: int
    """With a training tile of any date in the same cell or one of the eight around."""
    holdout: int
    """All held-out tiles."""

    def to_dict(self) -> dict[str, int]:
        """The four counts by name, for JSON."""
        return dataclasses.asdict(self)

    def sentence(self) -> str:
        """The same in words, for people."""
        if not self.holdout:
            return "No tile is held out, so none can leak."
        if not self.same_or_neighbour:
            return (
                f"None of {self.holdout} held-out tiles has a training tile at or beside its place."
            )
        share = self.same_or_neighbour / self.holdout
        return (
            f"Of {self.holdout} held-out tiles {self.same_or_neighbour} ({share:.0%}) have a training "
            f"tile at or beside their place: {self.same_cell} at the same place, "
            f"{self.neighbour_same_date} beside it on the same date. Scores on them measure memory too."
        )


def leak_report(train_names: Iterable[str], holdout_names: Iterable[str]) -> LeakReport | None:
    """Count what training has seen of the held-out tiles.

    Returns:
        None when a name is no Elwha tile name, so that nothing can be said. With no names at all
        every count is 0.
    """
    train, holdout = tiles_of(train_names), tiles_of(holdout_names)
    if train is None or holdout is None:
        return None
    dated = {(tile.cell, tile.date) for tile in train.values()}
    cells = {cell for cell, _ in dated}
    beside = {name: neighbours(tile) for name, tile in holdout.items()}
    same = {name for name, tile in holdout.items() if tile.cell in cells}
    near = {name for name, around in beside.items() if not cells.isdisjoint(around)}
    at_once = [
        name
        for name, tile in holdout.items()
        if any((cell, tile.date) in dated for cell in beside[name])
    ]
    return LeakReport(
        same_cell=len(same),
        neighbour_same_date=len(at_once),
        same_or_neighbour=len(same | near),
        holdout=len(holdout),
    )


def tiles_of(names: Iterable[str]) -> dict[str, TileName] | None:
    """Each name's tile; None as soon as one of them is no Elwha tile name."""
    try:
        return {name: parse_tile_name(name) for name in names}
    except DataError:
        return None


def neighbours(tile: TileName) -> list[tuple[str, int, int]]:
    """The eight cells around a tile's own, as (reach, row, column)."""
    reach, row, column = tile.cell
    steps = [step for step in itertools.product((-1, 0, 1), repeat=2) if step != (0, 0)]
    return [(reach, row + down, column + right) for down, right in steps]
