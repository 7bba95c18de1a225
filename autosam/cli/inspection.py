"""Commands that say what is here: models, settings, the machine."""

from pathlib import Path
from typing import Annotated, Optional

import typer

from autosam.cli.options import (
    Json,
    Model,
    Settings,
    Token,
    application,
    print_json,
    say,
)


@application.command()
def info(
    model: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Argument(
            help="river-nano, the folder of a run or an ONNX file; without, the installation and its cache."
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
def doctor(
    bench: Annotated[
        bool,
        typer.Option(
            "--bench",
            help="Instead, time what can encode a picture here, and keep the fastest for --runtime auto.",
        ),
    ] = False,
    model: Model = "river-nano",
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Check this machine: package pairs, devices, number formats, disk, cache, and that training learns."""
    if bench:
        from autosam.recipes.benching import bench_runtimes

        rows = bench_runtimes(model, token=token, say=say)
        if as_json:
            print_json([row.to_dict() for row in rows])
        else:
            print("\n".join(row.sentence() for row in rows))
        return
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
