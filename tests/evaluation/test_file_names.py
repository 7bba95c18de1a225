import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autosam.evaluation.file_names import safe_file_name


@pytest.mark.parametrize("name", ["Elwha_LR_20120407_014_006", "scene-1.part+2", "rivière", "a.b"])
def test_a_name_that_can_be_a_file_name_stays_as_it_is(name):
    assert safe_file_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["a/b", "a\\b", "a:b", "../up", "..", ".hidden", "-flag", "end.", "a b", "a\nb", "x" * 300],
)
def test_any_other_name_gets_its_hash_and_cannot_leave_the_folder(name):
    safe = safe_file_name(name)
    assert re.fullmatch(r"[\w+][\w.+-]*-[0-9a-f]{8}", safe)
    assert len(safe) <= 130


def test_names_that_differ_in_a_slash_alone_stay_apart():
    names = ["a/b", "a_b", "a:b", "a\\b", "a b"]
    assert len({safe_file_name(name) for name in names}) == len(names)


@given(st.lists(st.text(min_size=1), unique=True, min_size=2, max_size=5))
def test_different_names_give_different_files(names):
    assert len({safe_file_name(name) for name in names}) == len(names)
