"""What commands have in common: the application, options that several take, and how answers are printed."""

import functools
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

application = typer.Typer(
    name="autosam",
    help="River masks from aerial pictures, with no prompts. Start with: autosam demo",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Model = Annotated[
    str,
    typer.Option(
        "-m",
        "--model",
        help="'river-nano', installed with autosam; the folder of a run, owner/name on the hub, "
        "or an ONNX file of `autosam export`.",
    ),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Mask again what is finished; write over others' files.")
]
Token = Annotated[
    Optional[str],  # noqa: UP045 - typer reads this at run time on Python 3.10
    typer.Option(
        help="For private repositories; else HF_TOKEN or `hf auth login`.", show_default=False
    ),
]
Settings = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--set", help="Change a setting, e.g. --set train.epochs=5. May be repeated."),
]
Device = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(help="cuda, mps or cpu; the best there is by default.", show_default=False),
]

Runtime = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        help="What encodes on a processor: torch, torch-bf16, onnx, openvino, openvino-bf16, or auto for "
        "what `autosam doctor --bench` found fastest; torch by default.",
        show_default=False,
    ),
]

PromptKind = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        help="Other prompts than the run's: points, box, both, mask, null or full-box.",
        show_default=False,
    ),
]
CoarseFrom = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(metavar="RUN", help="Make the prompts from this run's masks.", show_default=False),
]


def prompt_choice(
    kind: str | None, coarse_from: str | None, *, oracle: bool = False
) -> Any:  # PromptChoice, whose room is imported with the command
    """Of the three options, or None where none was given."""
    if kind is None and coarse_from is None and not oracle:
        return None
    from autosam.recipes.prompting import PromptChoice

    return PromptChoice(kind=kind, coarse_from=coarse_from, oracle=oracle)


def band_folders(pairs: Sequence[str]) -> dict[str, Path]:
    """NAME=FOLDER, as a mapping."""
    from autosam.errors import ConfigError

    folders = {}
    for pair in pairs:
        name, equals, folder = pair.partition("=")
        if not (name and equals and folder):
            raise ConfigError(f"--band must be NAME=FOLDER, got {pair!r}. Try --band nir=FOLDER.")
        folders[name] = Path(folder)
    return folders


def teller(as_json: bool) -> Callable[[str], None]:
    """Where lines go: with --json to stderr, so that stdout holds the JSON alone."""
    return say if as_json else functools.partial(print, flush=True)


def print_json(value: Any) -> None:
    """For --json."""
    print(json.dumps(value, indent=2, allow_nan=False))


def say(line: str) -> None:
    """What happens next, on stderr, so that stdout holds the answer alone."""
    print(line, file=sys.stderr, flush=True)
