"""Every name is held out once, together with its group and away from its neighbours."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autosam.data.elwha import parse_tile_name
from autosam.data.folds import fold_groups, fold_splits
from autosam.errors import SplitError

TILES = [
    f"Elwha_{reach}_{date}_{row:03d}_{column:03d}"
    for reach in ("LR", "MR")
    for date in ("20120407", "20160930")
    for row in range(30)
    for column in (row % 3, row % 3 + 1)
]


def divided(names, *, folds=3, share=0.15, seed=0, **more):
    groups = fold_groups(names, **more)
    return groups, fold_splits(groups, folds=folds, validation_share=share, seed=seed)


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 4), min_size=5, max_size=12),
    folds=st.integers(3, 4),
    seed=st.integers(0, 9),
)
def test_every_name_is_held_out_once_with_its_whole_group(sizes, folds, seed):
    names = [f"{group}_{index}" for group, size in enumerate(sizes) for index in range(size)]
    groups, splits = divided(names, folds=folds, seed=seed, group_by=r"^\d+")
    assert Counter(name for split in splits for name in split.test) == Counter(names)
    for split in splits:
        assert sorted(split.names) == sorted(names)
        assert split.train
        assert split.validation
        parts = [
            {groups[name] for name in split.part(part)} for part in ("train", "validation", "test")
        ]
        assert sum(map(len, parts)) == len(sizes)
    held = [len(split.test) for split in splits]
    assert max(held) - min(held) <= max(sizes)


def test_no_tile_that_was_learnt_from_or_chosen_by_lies_at_or_beside_a_held_out_one():
    _, splits = divided(TILES)
    for split in splits:
        seen = {parse_tile_name(name).cell for name in (*split.train, *split.validation)}
        chosen = {parse_tile_name(name).cell for name in split.validation}
        taught = {parse_tile_name(name).cell for name in split.train}
        for cells, others in (
            ({parse_tile_name(name).cell for name in split.test}, seen),
            (chosen, taught),
        ):
            for reach, row, column in cells:
                for down in (-1, 0, 1):
                    for right in (-1, 0, 1):
                        assert (reach, row + down, column + right) not in others
        assert len(split.train) >= len(TILES) / 3
        assert not {*split.unused} & {*split.test}


def test_the_dates_of_a_place_are_held_out_together():
    _, splits = divided(TILES)
    for split in splits:
        cells = Counter(parse_tile_name(name).cell for name in split.test)
        assert set(cells.values()) == {2}


def test_places_keep_samples_together_and_others_stand_for_themselves():
    groups = fold_groups(["a", "b", "c"], places={"a": "pond", "c": "pond"})
    assert groups == {"a": "pond", "b": "b", "c": "pond"}


def test_a_pattern_comes_before_places_and_tile_names():
    assert fold_groups(["a1", "a2"], group_by="^a", places={"a1": "pond"}) == {"a1": "a", "a2": "a"}
    assert set(fold_groups(TILES, group_by=r"_(LR|MR)_").values()) == {"LR", "MR"}


def test_the_order_of_the_names_does_not_matter():
    assert divided(TILES)[1] == divided(TILES[::-1])[1]


def test_another_seed_gives_other_folds():
    names = [str(index) for index in range(20)]
    assert divided(names)[1][0].test != divided(names, seed=1)[1][0].test


def test_a_share_of_nothing_still_leaves_something_to_choose_by():
    _, splits = divided([str(index) for index in range(20)], share=0.0)
    assert all(len(split.validation) >= 1 for split in splits)


@pytest.mark.parametrize(
    ("names", "folds", "message"),
    [
        (["a", "b"], 2, r"3 groups of samples or more, got 2 \(a, b\)"),
        (["a", "b", "c"], 1, r"folds must be in 2\.\.3, the number of groups, got 1"),
        (["a", "b", "c"], 4, "got 4"),
        (["a", "b", "c"], 2, "must leave 2 groups or more to learn from, got 3 groups in 2 folds"),
        (TILES[:8], 2, "3 groups of samples or more, got 1"),
    ],
)
def test_what_cannot_be_divided_is_refused(names, folds, message):
    with pytest.raises(SplitError, match=message):
        divided(names, folds=folds)


def test_tiles_that_all_lie_side_by_side_are_refused():
    row = [f"Elwha_LR_20120407_{row:03d}_001" for row in (4, 5, 9, 10, 14, 15)]
    with pytest.raises(SplitError, match="must leave tiles away from those held out"):
        divided([name for name in row if name[-7:-4] in ("004", "005", "006", "010")] + row[2:3])
