"""What `from autosam import ...` offers."""

import pytest

import autosam


def test_public_names_are_sorted_and_complete():
    assert autosam.__all__ == sorted(autosam.__all__)
    assert set(autosam.__all__) <= set(dir(autosam))


@pytest.mark.parametrize("name", autosam.__all__)
def test_each_public_name_can_be_had_and_is_documented(name):
    assert getattr(autosam, name).__doc__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'AutoSom'"):
        _ = autosam.AutoSom
