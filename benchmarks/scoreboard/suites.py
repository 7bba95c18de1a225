"""What is divided how: which pictures a suite learns from, chooses on, and reports on.

`rivers` holds back one site after the other of the real pictures, `river-nano` the pictures that no stage of
river-nano saw, `synthetic` drawn scenes, `corridor` a drawn river of several dates whose splits leak as the
Elwha's do, and `elwha` is the Elwha dataset itself, for whoever has it.
"""

import dataclasses
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from autosam.config import DataSettings, SplitKind, config_from_dict
from autosam.data.manifests import Split, add_hashes
from autosam.data.sources import OpenedData, make_split, open_data
from autosam.data.splits import grouped_split
from autosam.errors import ConfigError, MissingPathError, did_you_mean
from autosam.models.embedded import RIVER_NANO
from benchmarks.scoreboard.corridor import corridor_place, write_corridor
from benchmarks.scoreboard.sites import FLIGHT, by_site, site_of

NAMES = ("rivers", "river-nano", "synthetic", "corridor", "elwha")
GROUPS = (
    "brighton_negatives", "dry_land", "dubai", "monterey_ortho", "prairie_ponds", "st_marguerite_dense",
    "st_marguerite_sparse", "usgs_coast", "woodland_creek",
)  # fmt: skip
OUTSIDE = ("elwha", "elwha_thermal")
"""Never trained on, in any suite but `elwha`."""
ELWHA = "stodoran/elwha-segmentation-v1"
RECIPE = Path(__file__).parent.parent / "river_nano" / "recipe.yaml"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fold:
    """One way to divide a suite's pictures."""

    name: str
    """What is held back, or how."""
    split: Split


@dataclasses.dataclass(frozen=True, kw_only=True)
class Suite:
    """Pictures, how they are divided, and what is the same for every method."""

    name: str
    pictures: str
    """'real', 'synthetic': what a reader must know first."""
    data: DataSettings
    folds: tuple[Fold, ...]
    sam: str
    """As `sam.name`."""
    block_of: Callable[[str], str]
    """From a picture's name to what is drawn together in the bootstrap."""
    note: str = ""
    """What a reader must know of it besides."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SuiteChoice:
    """What a user says of a suite."""

    name: str
    data: Path | None = None
    """Folder of the real groups, or source of the Elwha dataset."""
    scratch: Path = Path("runs/scoreboard")
    """Where drawn pictures and links are kept."""
    sam: str = ""
    """In the place of the suite's own."""
    pictures: int = 0
    """At most so many of each site; 0 for all."""
    folds: int = 0
    """Sites are held back in so many folds; 0 for one fold a site."""
    scene_side: int = 256
    """Height and width of drawn scenes in pixels."""
    seed: int = 0


def open_suite(choice: SuiteChoice) -> Suite:
    """Build a suite; splits carry the hash of every picture's content.

    Raises:
        ConfigError: There is no such suite, or it needs a folder that was not given.
        MissingPathError: A folder is not there.
    """
    builders = {
        "rivers": _rivers, "river-nano": _river_nano, "synthetic": _synthetic, "corridor": _corridor,
        "elwha": _elwha,
    }  # fmt: skip
    if choice.name not in builders:
        raise ConfigError(
            f"suite must be one of {', '.join(NAMES)}, got {choice.name!r}. "
            f"{did_you_mean(choice.name, NAMES)}"
        )
    if choice.name == "rivers" and choice.sam == RIVER_NANO:
        raise ConfigError(
            "--sam must not have seen the pictures, got river-nano, which was trained on those of the suite "
            "rivers. Use the suite river-nano, whose test pictures it never saw."
        )
    suite = builders[choice.name](choice)
    if not choice.sam or choice.sam == suite.sam:
        return suite
    note = (
        f"SAM `{Path(choice.sam).name}` in the place of `{suite.sam}`: what pictures it has seen is not "
        "known here."
    )
    return dataclasses.replace(suite, sam=choice.sam, note=note)


def _rivers(choice: SuiteChoice) -> Suite:
    data = _folders(choice, GROUPS)
    opened = open_data(data)
    names = _at_most(opened.samples.names, choice.pictures)
    sites = {site: kept for site, kept in by_site(names).items() if site not in OUTSIDE}
    folds = []
    for name, held_back in _held_back(sites, choice.folds):
        test = [picture for site in held_back for picture in sites[site]]
        if not folds:  # the Elwha is judged once, by the first fold's models
            test += _outside(names)
        folds.append(_leaving_out(name, names, test, seed=choice.seed))
    return Suite(
        name="rivers", pictures="real", data=data, folds=_hashed(folds, opened), sam="nano",
        block_of=site_of,
        note="Every site is held back once. SAM `nano` has random weights, so no method has seen a river "
        "before; the Elwha tiles are judged by the models of the first fold, which never train on them.",
    )  # fmt: skip


def _river_nano(choice: SuiteChoice) -> Suite:
    data = _folders(choice, GROUPS)
    opened = open_data(data)
    lists = yaml.safe_load(RECIPE.read_text())["data"]
    names = _at_most(opened.samples.names, choice.pictures)
    parts: dict[str, list[str]] = {"train": [], "validation": [], "test": _outside(names)}
    for name in (name for name in names if name not in parts["test"]):
        parts[_recipe_part(name, lists)].append(name)
    split = Split(kind="grouped", **{part: tuple(found) for part, found in parts.items()})
    fold = Fold(name="unseen", split=split)
    return Suite(
        name="river-nano", pictures="real", data=data, folds=_hashed([fold], opened),
        sam="river-nano", block_of=site_of,
        note="The pictures that no stage of river-nano saw: its SAM was trained on the others, with masks.",
    )  # fmt: skip


def _synthetic(choice: SuiteChoice) -> Suite:
    count = choice.pictures or 60
    data = DataSettings(
        source=("synthetic",), synthetic_count=count, synthetic_side=choice.scene_side,
        validation_share=0.2, test_share=0.3,
    )  # fmt: skip
    opened = open_data(data)
    split = make_split(data, opened, seed=choice.seed)
    return Suite(
        name="synthetic", pictures="synthetic", data=data,
        folds=_hashed([Fold(name="scenes", split=split)], opened), sam="nano",
        block_of=lambda name: name, note="SAM `nano` has random weights.",
    )  # fmt: skip


def _corridor(choice: SuiteChoice) -> Suite:
    folder = write_corridor(choice.scratch / "corridor", rows=choice.pictures or 12)
    data = config_from_dict({"data": {"source": [str(folder)]}}).data
    opened = open_data(data)
    names = opened.samples.names
    held_out = _scattered(names, share=0.25)
    published = OpenedData(
        samples=opened.samples,
        published=(tuple(n for n in names if n not in held_out), tuple(sorted(held_out))),
        tile_names_known=True,
    )
    folds = _by_kind(("published", "by-date", "blocked"), data, published, seed=choice.seed)
    return Suite(
        name="corridor", pictures="synthetic", data=data, folds=_hashed(folds, opened), sam="nano",
        block_of=corridor_place,
        note="One drawn river of two reaches on three dates, in tiles named as the Elwha's: `published` "
        "holds out scattered tiles, whose places are trained on at other dates.",
    )  # fmt: skip


def _elwha(choice: SuiteChoice) -> Suite:
    data = DataSettings(source=(str(choice.data or ELWHA),))
    opened = open_data(data)
    folds = _by_kind(("blocked", "published", "by-date"), data, opened, seed=choice.seed)
    return Suite(
        name="elwha", pictures="real", data=data, folds=_hashed(folds, opened), sam="base",
        block_of=lambda name: name.rpartition("_")[0],
        note="`blocked` is the headline; `published` leaks and is for comparison with printed figures only.",
    )  # fmt: skip


def _by_kind(
    kinds: Sequence[SplitKind], data: DataSettings, opened: OpenedData, *, seed: int
) -> list[Fold]:
    """The same pictures, divided in several ways."""
    return [
        Fold(
            name=kind,
            split=make_split(dataclasses.replace(data, split=kind), opened, seed=seed),
        )
        for kind in kinds
    ]


def _folders(choice: SuiteChoice, groups: Sequence[str]) -> DataSettings:
    if choice.data is None:
        raise ConfigError(
            f"suite {choice.name!r} must have the folder of the real pictures, got none. "
            "Give it with --data, or run the suite 'synthetic'."
        )
    missing = [group for group in groups if not (choice.data / group / "images").is_dir()]
    if missing:
        raise MissingPathError(
            f"--data must hold the folders {', '.join(groups)}, got {choice.data} without "
            f"{', '.join(missing)}. Give the folder above them."
        )
    folders = [choice.data / group for group in groups]
    folders += [_linked(choice.data / group, choice.scratch / "data" / group) for group in OUTSIDE]
    return DataSettings(source=tuple(os.fspath(folder) for folder in folders))


def _linked(group: Path, folder: Path) -> Path:
    """Only the pictures that have a mask, as links."""
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for mask in sorted((group / "masks").iterdir()):
        picture = next((group / "images").glob(f"{mask.stem}.*"))
        for part, path in (("masks", mask), ("images", picture)):
            link = folder / part / path.name
            if not link.is_symlink():
                link.symlink_to(path.resolve())
    return folder


def _at_most(names: Sequence[str], count: int) -> list[str]:
    """At most so many of each site, chosen by hash; all of those outside."""
    kept = []
    for site, found in by_site(names).items():
        if count and site not in ("elwha", "elwha_mouth"):
            found = sorted(found, key=lambda name: hashlib.sha256(name.encode()).digest())[:count]
        kept += found
    return sorted(kept)


def _outside(names: Sequence[str]) -> list[str]:
    return [name for name in names if name.split("/")[0] in OUTSIDE]


def _held_back(sites: Mapping[str, Sequence[str]], folds: int) -> list[tuple[str, list[str]]]:
    """(name, sites) of each fold; the largest sites are dealt out first."""
    wanted = [site for site in sites if site not in ("elwha", "elwha_mouth")]
    if not folds:
        return [(site, [site]) for site in wanted]
    dealt: list[list[str]] = [[] for _ in range(min(folds, len(wanted)))]
    for site in sorted(wanted, key=lambda site: (-len(sites[site]), site)):
        min(dealt, key=lambda some: sum(len(sites[one]) for one in some)).append(site)
    return [("+".join(sorted(some)), sorted(some)) for some in dealt]


def _leaving_out(name: str, names: Sequence[str], test: Sequence[str], *, seed: int) -> Fold:
    """A fold that tests on some, and neither trains nor chooses on any picture from outside."""
    rest = sorted({*names} - {*test} - {*_outside(names)})
    inner = grouped_split(rest, group_by=FLIGHT, validation_share=0.15, test_share=0, seed=seed)
    split = Split(
        kind="grouped", train=inner.train, validation=inner.validation, test=tuple(sorted(test)),
        groups=inner.groups, seed=seed, group_by=FLIGHT,
    )  # fmt: skip
    return Fold(name=name, split=split)


def _recipe_part(name: str, lists: Mapping[str, Any]) -> str:
    from benchmarks.river_nano.scenes import part_of

    return part_of(name, lists)


def _scattered(names: Sequence[str], *, share: float) -> set[str]:
    ordered = sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())
    return set(ordered[: round(share * len(ordered))])


def _hashed(folds: Sequence[Fold], opened: OpenedData) -> tuple[Fold, ...]:
    """Every picture is read once, for all folds together."""
    every = tuple(dict.fromkeys(name for fold in folds for name in fold.split.names))
    whole = Split(kind="grouped", train=every, validation=(), test=())
    hashes = add_hashes(whole, opened.samples.select(every)).hashes
    return tuple(
        dataclasses.replace(
            fold,
            split=dataclasses.replace(
                fold.split, hashes={name: hashes[name] for name in fold.split.names}
            ),
        )
        for fold in folds
    )
