"""Arguments to recipe to text; nothing else. Heavy packages are imported by the command that needs them."""

import sys
import warnings
from typing import Annotated, Any

import typer

from autosam.cli.options import application
from autosam.errors import AutoSamError, PromptMismatchWarning, one_line

# Each registers its commands, and help lists them in this order.
# isort: off
from autosam.cli import pictures, app, maps, river_products, learning, exporting  # noqa: F401
from autosam.cli import inspection, labels  # noqa: F401
# isort: on

# typer brings click under its own name since 0.20; its exceptions are found through what it exports.
_CommandLineError: Any = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)

_INTERRUPTED = 130


def run(arguments: list[str] | None = None) -> int:
    """Run a command line and return its exit code: 0 done, 1 some pictures failed, 2 a mistake to mend."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", PromptMismatchWarning)
        warnings.showwarning = _say_warning
        return _run(arguments)


def _run(arguments: list[str] | None) -> int:
    try:
        code = application(args=arguments, standalone_mode=False)
    except AutoSamError as error:
        _say_error(one_line(error))
        return 2
    except typer.Exit as error:
        code = error.exit_code
    except typer.Abort:
        _say_error("stopped.")
        return _INTERRUPTED
    except _CommandLineError as error:
        _say_error(f"{error.format_message()} See: autosam --help")
        return 2
    except KeyboardInterrupt:
        code = _INTERRUPTED  # which typer makes of it since 0.29
    if code == _INTERRUPTED:
        _say_error("stopped. What was finished is kept; run again to go on.")
    return code if isinstance(code, int) else 0


def _say_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"autosam: warning: {message}", file=sys.stderr)


def _say_error(message: str) -> None:
    print(f"autosam: {message}", file=sys.stderr)


@application.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from autosam import __version__

        print(__version__)
        raise typer.Exit
