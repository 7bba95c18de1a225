"""Splits against their promises: counted by hand, by brute force over neighbours, and by mistake."""

import dataclasses
import datetime
import json

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from autosam.data.splits import (
    LeakReport,
    Split,
    add_hashes,
    blocked_split,
    check_split,
    content_hash,
    date_split,
    grouped_split,
    leak_report,
    published_split,
    read_split,
    write_split,
)
from autosam.errors import MissingPathError, SplitError
from autosam.types import Sample

DATES = ["20120407", "20130919", "20150303", "20160714", "20170922"]


def tile(reach: str, row: int, column: int, date: str = DATES[0]) -> str:
    return f"Elwha_{reach}_{date}_{row:03d}_{column:03d}"


def cell_of(name: str) -> tuple[str, int, int]:
    _, reach, _, row, column = name.split("_")
    return reach, int(row), int(column)


def date_of(name: str) -> str:
    return name.split("_")[2]


def touches(one: str, other: str) -> bool:
    (reach, row, column), (reach_2, row_2, column_2) = cell_of(one), cell_of(other)
    return reach == reach_2 and abs(row - row_2) <= 1 and abs(column - column_2) <= 1


def tiles(reach: str):
    return st.sets(
        st.builds(
            tile, st.just(reach), st.integers(0, 30), st.integers(0, 4), st.sampled_from(DATES)
        ),
        min_size=1,
        max_size=60,
    )


NAMES = st.builds(lambda lower, middle: sorted(lower | middle), tiles("LR"), tiles("MR"))


def names_of(split: Split) -> list[str]:
    return sorted(split.train + split.validation + split.test + split.unused)


# --- leaks


def test_the_published_elwha_lists_leak_as_was_measured(shared_data):
    lists = shared_data / "elwha_names"
    useful, holdout = (
        (lists / f"{name}.txt").read_text().split() for name in ("useful", "validation")
    )
    report = leak_report(sorted(set(useful) - set(holdout)), holdout)
    assert report is not None
    assert report.to_dict() == {
        "same_cell": 172,
        "neighbour_same_date": 150,
        "same_or_neighbour": 226,
        "holdout": 226,
    }


@pytest.mark.parametrize(
    ("train", "expected"),
    [
        (tile("LR", 5, 5, DATES[1]), (1, 0, 1)),  # the same ground at another time
        (tile("LR", 6, 4, DATES[0]), (0, 1, 1)),  # beside it in the same flight
        (tile("LR", 4, 5, DATES[1]), (0, 0, 1)),  # beside it at another time
        (tile("LR", 5, 7, DATES[0]), (0, 0, 0)),  # two columns away
        (tile("MR", 5, 5, DATES[0]), (0, 0, 0)),  # another reach has a grid of its own
    ],
)
def test_leaks_by_hand(train, expected):
    report = leak_report([train], [tile("LR", 5, 5, DATES[0])])
    assert report == LeakReport(
        same_cell=expected[0],
        neighbour_same_date=expected[1],
        same_or_neighbour=expected[2],
        holdout=1,
    )


@settings(max_examples=50, deadline=None)
@given(tiles("LR"), tiles("LR"))
def test_leaks_equal_a_comparison_of_all_pairs(train, holdout):
    same = {h for h in holdout if any(cell_of(h) == cell_of(t) for t in train)}
    near = {h for h in holdout if any(touches(h, t) for t in train)}
    beside = {
        h
        for h in holdout
        for t in train
        if touches(h, t) and cell_of(h) != cell_of(t) and date_of(h) == date_of(t)
    }
    report = leak_report(train, holdout)
    assert report is not None
    assert report.to_dict() == {
        "same_cell": len(same),
        "neighbour_same_date": len(beside),
        "same_or_neighbour": len(near),
        "holdout": len(holdout),
    }


def test_nothing_can_be_said_of_names_that_are_no_tiles():
    assert leak_report(["river_1"], [tile("LR", 1, 1)]) is None
    assert leak_report([tile("LR", 1, 1)], ["river_1"]) is None


def test_the_leak_sentence_says_how_many_of_how_many():
    leaky = LeakReport(same_cell=3, neighbour_same_date=2, same_or_neighbour=4, holdout=8)
    assert leaky.sentence() == (
        "Of 8 held-out tiles 4 (50%) have a training tile at or beside their place: 3 at the same "
        "place, 2 beside it on the same date. Scores on them measure memory too."
    )
    clean = dataclasses.replace(leaky, same_cell=0, neighbour_same_date=0, same_or_neighbour=0)
    assert clean.sentence().startswith("None of 8 held-out tiles")
    assert "No tile is held out" in dataclasses.replace(clean, holdout=0).sentence()


# --- blocked


@settings(max_examples=100, deadline=None)
@given(NAMES, st.sampled_from([0.05, 0.15, 0.4]))
def test_no_blocked_training_tile_touches_a_held_out_tile_on_any_date(names, share):
    try:
        split = blocked_split(names, validation_share=share)
    except SplitError:  # too few rows: refused, which has its own tests
        reject()
    assert names_of(split) == names
    assert split.train
    assert split.validation
    assert {cell_of(name)[0] for name in split.test} == {"MR"}
    assert {cell_of(name)[0] for name in split.train + split.validation} == {"LR"}
    assert not [(v, t) for v in split.validation for t in split.train if touches(v, t)]


def test_a_blocked_split_by_hand():
    lower = [tile("LR", row, row % 3, date) for row in range(60) for date in DATES[:2]]
    split = blocked_split([*lower, tile("MR", 3, 3)], validation_share=0.1)
    rows = {cell_of(name)[1] for name in split.validation}
    assert rows == {9, 10, 29, 30, 49, 50}  # three blocks about 1/6, 1/2 and 5/6
    assert len(split.validation) == 12  # both dates of each
    assert {cell_of(name)[1] for name in split.unused} == {8, 11, 28, 31, 48, 51}
    assert len(split.train) == 120 - 12 - 12
    assert split.test == (tile("MR", 3, 3),)


def test_the_blocked_split_of_the_real_names_does_not_leak(shared_data):
    lists = shared_data / "elwha_names"
    names = sorted({name for path in lists.glob("*.txt") for name in path.read_text().split()})
    split = blocked_split(names)
    for holdout in (split.validation, split.test):
        report = leak_report(split.train, holdout)
        assert report is not None
        assert report.same_or_neighbour == 0
    assert (len(split.train), len(split.validation)) == (517, 81)
    assert (len(split.test), len(split.unused)) == (750, 61)


def test_a_blocked_split_needs_both_reaches():
    with pytest.raises(SplitError, match="got 2 of LR and 0 of MR"):
        blocked_split([tile("LR", 1, 1), tile("LR", 9, 1)])
    with pytest.raises(SplitError, match="got 0 of LR and 1 of MR"):
        blocked_split([tile("MR", 1, 1)])


def test_a_blocked_split_needs_rows_to_train_on():
    names = [tile("LR", row, 1) for row in (1, 2, 3)]
    with pytest.raises(SplitError, match="got 3 rows, all taken by validation and its buffer"):
        blocked_split([*names, tile("MR", 1, 1)])


@pytest.mark.parametrize("make", [blocked_split, date_split])
def test_splits_by_place_or_date_name_what_is_no_tile(make):
    with pytest.raises(SplitError, match=r"split needs Elwha tile names: .*'scene_00001'"):
        make([tile("LR", 1, 1), "scene_00001"])


# --- by date


def test_the_newest_dates_are_test_and_the_next_are_validation():
    counts = {DATES[0]: 60, DATES[1]: 10, DATES[2]: 12, DATES[3]: 8, DATES[4]: 10}
    names = [tile("LR", row, 1, date) for date, count in counts.items() for row in range(count)]
    split = date_split(names, validation_share=0.12, test_share=0.18)
    assert {date_of(name) for name in split.test} == {DATES[4], DATES[3]}  # 18 of 100
    assert {date_of(name) for name in split.validation} == {DATES[2]}  # 12
    assert {date_of(name) for name in split.train} == {DATES[0], DATES[1]}


@settings(max_examples=50, deadline=None)
@given(NAMES)
def test_dates_are_in_order_and_whole(names):
    if len({date_of(name) for name in names}) < 3:
        with pytest.raises(SplitError, match=r"must have 3 dates or more, got [12] "):
            date_split(names)
        return
    split = date_split(names)
    assert names_of(split) == names
    assert max(map(date_of, split.train)) < min(map(date_of, split.validation))
    assert max(map(date_of, split.validation)) < min(map(date_of, split.test))


# --- published


def test_the_published_validation_part_is_cut_by_row_blocks():
    held = [tile(reach, row, 1) for reach in ("LR", "MR") for row in (10, 14, 15, 19, 20)]
    split = published_split([tile("LR", 50, 1)], held)
    assert {cell_of(name)[1] for name in split.validation} == {10, 14, 20}
    assert {cell_of(name)[1] for name in split.test} == {15, 19}
    assert split.train == (tile("LR", 50, 1),)
    assert split.groups[tile("MR", 19, 1)] == "MR from row 015"


def test_published_names_that_are_no_tiles_are_cut_in_halves():
    split = published_split(["a"], ["v3", "v1", "v2", "v5", "v4"])
    assert split.validation == ("v1", "v2")
    assert split.test == ("v3", "v4", "v5")


def test_published_tiles_of_one_block_are_cut_in_halves():
    split = published_split([tile("LR", 9, 1)], [tile("LR", 0, 1), tile("LR", 1, 1)])
    assert (split.validation, split.test) == ((tile("LR", 0, 1),), (tile("LR", 1, 1),))


def test_a_published_split_needs_two_validation_samples():
    with pytest.raises(SplitError, match="got 1 and 1"):
        published_split(["a"], ["b"])


def test_a_name_in_both_published_parts_is_refused():
    with pytest.raises(SplitError, match=r"each name once, got 1 more than once \(b\)"):
        published_split(["a", "b"], ["b", "c"])


# --- grouped


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(1, 30), min_size=3, max_size=12),
    st.integers(0, 5),
    st.sampled_from([0.05, 0.15, 0.3]),
)
def test_groups_stay_whole_and_no_part_is_empty(sizes, seed, share):
    names = [f"site{group}_{n}" for group, size in enumerate(sizes) for n in range(size)]
    split = grouped_split(
        names, group_by="^site[0-9]+", validation_share=share, test_share=share, seed=seed
    )
    parts = [
        {name.split("_")[0] for name in p} for p in (split.train, split.validation, split.test)
    ]
    assert all(parts)
    assert sum(map(len, parts)) == len(sizes)
    assert names_of(split) == sorted(names)


def test_shares_are_met_as_nearly_as_single_samples_allow():
    names = [f"scene_{n:05d}" for n in range(40)]
    split = grouped_split(names, validation_share=0.15, test_share=0.25, seed=3)
    assert (len(split.train), len(split.validation), len(split.test)) == (24, 6, 10)


def test_a_grouped_split_depends_on_the_seed_and_not_on_the_order():
    names = [f"scene_{n:05d}" for n in range(40)]
    split = grouped_split(names, seed=1)
    assert grouped_split(names[::-1], seed=1) == split
    assert grouped_split(names, seed=2).test != split.test


def test_the_order_of_groups_is_the_same_on_every_machine_and_version():
    split = grouped_split([f"scene_{n:05d}" for n in range(8)], seed=0)
    # Another result means other splits for everybody: raise SPLIT_VERSION with it.
    assert (split.validation, split.test) == (("scene_00001",), ("scene_00002",))


def test_the_largest_group_does_not_become_the_test_part():
    names = [f"a_{n}" for n in range(90)] + [f"{site}_{n}" for site in "bc" for n in range(5)]
    for seed in range(5):
        split = grouped_split(names, group_by="^[a-z]", seed=seed)
        assert len(split.train) == 90


def test_where_every_group_is_too_large_a_part_takes_the_smallest():
    names = [f"{site}_{n}" for site, size in {"a": 50, "b": 8, "c": 9}.items() for n in range(size)]
    split = grouped_split(names, group_by="^[a-z]", validation_share=0.05, test_share=0.05)
    assert (len(split.train), len(split.validation), len(split.test)) == (50, 9, 8)


def test_groups_of_the_pattern_alone_decide_what_stays_together():
    names = [f"{camera}_{site}_{n}" for camera in "xy" for site in "abc" for n in range(2)]
    split = grouped_split(names, group_by="^[xy]_([abc])_")
    assert split.groups["x_a_0"] == split.groups["y_a_1"] == "a"
    assert {len(split.train), len(split.validation), len(split.test)} == {4}


def test_a_share_of_zero_leaves_its_part_empty():
    split = grouped_split(["a", "b"], validation_share=0.5, test_share=0)
    assert (len(split.train), len(split.validation), len(split.test)) == (1, 1, 0)


def test_too_few_groups_are_counted_in_the_error():
    with pytest.raises(
        SplitError, match=r"must have 3 groups or more, got 2 of 4 samples \(a, b\)"
    ):
        grouped_split(["a_1", "a_2", "b_1", "b_2"], group_by="^[ab]")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"group_by": "["}, r"group_by must be a regular expression, got '\['"),
        ({"group_by": "^a"}, r"must match every sample name, got '\^a', which 2 of 3 .*\(b, c\)"),
        ({"validation_share": 0.6, "test_share": 0.4}, r"must be below 1, got 0\.6 \+ 0\.4"),
        ({"test_share": -0.1}, r"test_share must be in 0\.\.1 and below 1, got -0\.1"),
    ],
)
def test_grouped_splits_that_cannot_be_made(arguments, message):
    with pytest.raises(SplitError, match=message):
        grouped_split(["a", "b", "c"], **arguments)


def test_a_repeated_name_is_refused():
    with pytest.raises(SplitError, match=r"each name once, got 1 more than once \(a\)"):
        grouped_split(["a", "a", "b", "c"])


# --- manifests


def sample(name: str, value: int = 0, *, water: bool = False) -> Sample:
    image = np.full((4, 6, 3), value, dtype=np.uint8)
    return Sample(
        name=name, image=image, mask=np.full((4, 6), water), date=datetime.date(2020, 1, 1)
    )


@pytest.fixture
def samples() -> list[Sample]:
    return [sample(name, value) for value, name in enumerate("abcdef")]


@pytest.fixture
def split(samples: list[Sample]) -> Split:
    return add_hashes(grouped_split([s.name for s in samples], seed=4), samples)


def test_a_manifest_comes_back_equal(tmp_path, split):
    write_split(tmp_path / "split.json", split)
    assert read_split(tmp_path / "split.json") == split
    assert read_split(tmp_path / "split.json").hash == split.hash


def test_a_manifest_lists_names_and_content_hashes(tmp_path, split, samples):
    write_split(tmp_path / "split.json", split)
    written = json.loads((tmp_path / "split.json").read_text())
    assert sorted(written["train"] + written["validation"] + written["test"]) == list("abcdef")
    assert written["hashes"]["c"] == content_hash(samples[2])
    assert (written["kind"], written["version"], written["seed"]) == ("grouped", 1, 4)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 5},
        {"kind": "blocked"},
        {"unused": ("g",)},
        {"hashes": {}},
        {"groups": {"a": "b"}},
    ],
)
def test_the_hash_changes_with_everything_that_matters(split, change):
    assert dataclasses.replace(split, **change).hash != split.hash


def test_content_hashes_tell_pixels_mask_valid_area_and_size_apart():
    plain = sample("a")
    variants = [
        plain,
        sample("a", 1),
        sample("a", water=True),
        dataclasses.replace(plain, mask=None),
        dataclasses.replace(plain, valid=plain.valid_area),
        dataclasses.replace(plain, mask=None, valid=plain.mask),
        Sample(name="a", image=plain.image.reshape(6, 4, 3), mask=plain.mask.reshape(6, 4)),
    ]
    assert len({content_hash(variant) for variant in variants}) == len(variants)
    assert content_hash(sample("b")) == content_hash(plain)


def test_a_split_matches_the_data_it_was_made_from(split, samples):
    check_split(split, [*samples, sample("newcomer")])


def test_changed_data_is_refused_by_name(split, samples):
    samples[2] = sample("c", 2, water=True)
    with pytest.raises(SplitError, match=r"in 1 of 6 samples \(c\)"):
        check_split(split, samples)


@pytest.mark.parametrize("contents", [True, False])
def test_missing_data_is_refused_by_name(split, samples, contents):
    with pytest.raises(SplitError, match=r"got 1 of its 6 names missing \(b\)"):
        check_split(split, [s for s in samples if s.name != "b"], contents=contents)


def test_hashes_need_every_sample(split, samples):
    with pytest.raises(SplitError, match=r"got 5 of its 6 names missing \(b, c, d, e, f\)"):
        add_hashes(split, samples[:1])


class NamedOnly(list):
    """Samples that must not be read."""

    names = tuple("abcdef")

    def __iter__(self):
        raise AssertionError("a sample was read")


def test_names_are_compared_without_reading_pictures(split):
    check_split(split, NamedOnly(), contents=False)
    check_split(dataclasses.replace(split, hashes={}), NamedOnly())


def test_parts_are_found_by_name(split):
    assert split.part("validation") == split.validation
    with pytest.raises(SplitError, match=r"got 'tets'\. Did you mean 'test'"):
        split.part("tets")


def test_a_manifest_that_was_edited_is_refused_unless_its_hash_is_removed(tmp_path, split):
    path = tmp_path / "split.json"
    values = split.to_json() | {"hash": split.hash}
    values["test"], values["validation"] = values["validation"], values["test"]
    path.write_text(json.dumps(values))
    with pytest.raises(SplitError, match="must be as it was written"):
        read_split(path)
    del values["hash"]
    path.write_text(json.dumps(values))
    assert read_split(path).test == split.validation


PARTS = {"kind": "grouped", "train": ["a"], "validation": ["b"], "test": ["c"]}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1], r"must be a JSON object, got \[1\]"),
        ({"kind": "grouped"}, r"got \['test', 'train', 'validation'\] missing and \[\] unknown"),
        (PARTS | {"trian": []}, r"got \[\] missing and \['trian'\] unknown"),
        (PARTS | {"version": 9}, "must have version 1, got 9"),
        (PARTS | {"train": "a"}, "train must be a list of names, got 'a'"),
        (PARTS | {"test": [1]}, "test must be a list of names"),
        (PARTS | {"hashes": {"a": 1}}, "hashes must be an object of names and texts"),
        (PARTS | {"seed": "x"}, "seed must be a whole number or null, got 'x'"),
        (PARTS | {"kind": 3}, "kind must be text, got 3"),
        (PARTS | {"test": ["a"]}, r"each name once, got 1 more than once \(a\)"),
        (PARTS | {"groups": {"z": "1"}}, r"its own names, got 1 others \(z\)"),
    ],
)
def test_manifests_that_are_none(tmp_path, values, message):
    path = tmp_path / "split.json"
    path.write_text(json.dumps(values))
    with pytest.raises(SplitError, match=message):
        read_split(path)


def test_a_manifest_of_names_alone_can_be_written_by_hand(tmp_path):
    (tmp_path / "split.json").write_text(json.dumps(PARTS))
    assert read_split(tmp_path / "split.json").names == ("a", "b", "c")


def test_a_manifest_that_is_absent_or_damaged_is_named(tmp_path):
    with pytest.raises(MissingPathError, match=r"split manifest must exist, got .*none\.json"):
        read_split(tmp_path / "none.json")
    (tmp_path / "half.json").write_text('{"kind":')
    with pytest.raises(SplitError, match=r"split manifest must be JSON, got .*half\.json"):
        read_split(tmp_path / "half.json")
