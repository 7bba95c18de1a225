"""Names of samples as names of files, without surprises."""

import hashlib
import re

LONGEST = 120
"""Characters; file systems allow 255 bytes, and a character may take four."""


def safe_file_name(name: str) -> str:
    """A file name without suffix: different for different names, and the name itself where possible.

    Args:
        name: Anything, also with slashes, colons or line breaks; ``..`` cannot escape.

    Returns:
        The name, if it has only letters, digits, ``_``, ``-``, ``+`` and inner dots and is not too long.
        Otherwise the same with ``_`` for each other character, and eight digits of its hash behind it,
        so that ``a/b`` and ``a:b`` stay apart.
    """
    safe = re.sub(r"[^\w.+-]|^[.-]|\.$", "_", name)[:LONGEST]
    if safe == name:
        return name
    return f"{safe}-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"
