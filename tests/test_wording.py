"""How numbers are said."""

from autosam.wording import counted


def test_one_is_said_in_the_singular_and_thousands_are_grouped():
    assert [counted(number, "tile") for number in (0, 1, 2, 12_345)] == [
        "0 tiles", "1 tile", "2 tiles", "12,345 tiles",
    ]  # fmt: skip
