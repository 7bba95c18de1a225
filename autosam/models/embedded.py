"""The model that is installed with the package."""

from pathlib import Path

RIVER_NANO = "river-nano"
"""A small SAM and a prompt network for rivers; its card is README.md in its folder."""
EMBEDDED_FOLDERS = {RIVER_NANO: Path(__file__).parent / "river_nano"}


def embedded_folder(name: object) -> Path | None:
    """The checkpoint folder of a model that is installed with the package; None for other names."""
    return EMBEDDED_FOLDERS.get(str(name))
