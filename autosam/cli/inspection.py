"""Commands that say what is here: models, settings, the machine."""

from pathlib import Path
from typing import Annotated, Optional

import typer

from autosam.cli.options import (
    Json,
    Settings,
    application,
    print_json,
)


@application.command()
def info(
    model: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Argument(
            help="river-nano, or the folder of a run; without it, the installation and its cache."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Say what a run holds, or what is installed and what the cache holds."""
    from autosam.recipes.inspecting import describe_installation, describe_run

    values = describe_installation() if model is None else describe_run(model)
    if as_json:
        print_json(values)
    else:
        import yaml

        print(yaml.safe_dump(values, sort_keys=False, allow_unicode=True), end="")


@application.command()
def doctor(as_json: Json = False) -> None:
    """Check this machine: package pairs, devices, number formats, disk, cache, and that training learns."""
    from autosam.recipes.inspecting import examine

    findings = examine()
    if as_json:
        print_json([finding.to_dict() for finding in findings])
    else:
        for finding in findings:
            print(finding.sentence())
    if not all(finding.well for finding in findings):
        raise typer.Exit(1)


@application.command(name="config")
def show_config(
    config: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Argument(help="A YAML file to resolve; without it, every default with its meaning."),
    ] = None,
    settings: Settings = None,
) -> None:
    """Print every setting with its default and meaning, or a file with its defaults filled in."""
    from autosam.config import dump_config, load_config, reference_yaml

    if config is None and not settings:
        print(reference_yaml(), end="")
    else:
        print(dump_config(load_config(config, list(settings or ()))), end="")
