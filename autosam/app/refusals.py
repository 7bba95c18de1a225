"""What the app refuses, with the status that a browser is told; the text is that of any `AutoSamError`."""

import os
from pathlib import Path

from autosam.errors import AutoSamError, one_line

_REMEDIES = {
    "Check the address, or copy the file again.": "Copy the file again, and open the copy.",
    "Choose other bands.": "Save it with 8 bits a band, or choose bands of it with: autosam map.",
    "Check its nodata value, or give the value range.": (
        "Check its nodata value, or give the value range with: autosam map."
    ),
    "Choose an output folder that you may write to.": "Free some space and try again.",
}
"""What a command line can do, and what a page can."""


class RefusedError(AutoSamError):
    """A request that is not answered.

    Args:
        message: One sentence or two, as of any `AutoSamError`.
        status: Of HTTP, 4xx or 503.
    """

    def __init__(self, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


def in_words(error: AutoSamError, file: Path, name: str) -> str:
    """What an error says of a picture, to its owner: by its own name, with what the page can do about it.

    Args:
        error: From the library, which knows paths and speaks of its command line.
        file: The picture's, alone in its folder with what was made of it.
        name: What its owner calls it.
    """
    text = one_line(error).replace(str(file), name).replace(f"{file.parent}{os.sep}", "")
    for there, here in _REMEDIES.items():
        text = text.replace(there, here)
    return text


def too_large(limit: int) -> RefusedError:
    """For an upload of more bytes than are allowed."""
    return RefusedError(
        f"picture must have at most {limit / 1e6:.0f} MB, got more. "
        "Start the app with a larger --max-upload, or mask the file with: autosam map.",
        status=413,
    )
