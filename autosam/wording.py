"""How numbers are said to people."""


def counted(number: int, noun: str) -> str:
    """'1 tile', '2 tiles', '1,200 tiles'; for nouns whose plural ends in s."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
