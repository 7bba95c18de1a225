"""``python -m autosam`` is ``autosam``."""

import sys


def main() -> None:
    """Run the command line: an `AutoSamError` becomes one line and exit code 2."""
    from autosam.cli import run

    sys.exit(run())


if __name__ == "__main__":
    main()
