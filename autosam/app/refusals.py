"""What the app refuses, with the status that a browser is told; the text is that of any `AutoSamError`."""

from autosam.errors import AutoSamError


class RefusedError(AutoSamError):
    """A request that is not answered.

    Args:
        message: One sentence or two, as of any `AutoSamError`.
        status: Of HTTP, 4xx.
    """

    def __init__(self, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


def too_large(limit: int) -> RefusedError:
    """For an upload of more bytes than are allowed."""
    return RefusedError(
        f"picture must have at most {limit / 1e6:.0f} MB, got more. "
        "Start the app with a larger --max-upload, or mask the file with: autosam map.",
        status=413,
    )
