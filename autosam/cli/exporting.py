"""Commands that take a model elsewhere."""

from pathlib import Path
from typing import Annotated

import typer

from autosam.cli.options import Json, Token, application, print_json, say


@application.command()
def export(
    model: Annotated[
        str, typer.Argument(help="river-nano, the folder of a run, or owner/name on the hub.")
    ],
    output: Annotated[Path, typer.Argument(help="The file to write: NAME.onnx.")],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a file that is there.")
    ] = False,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Write a run as one ONNX file, picture to probability: autosam export RUN model.onnx.

    The file is compared with the run before it gets its name. QGIS' Deepness plugin reads it, and so do
    `autosam predict -m model.onnx` and `autosam map -m model.onnx`.
    """
    from autosam.recipes.exporting import export_run

    written = export_run(model, output, overwrite=overwrite, token=token, say=say)
    if as_json:
        print_json(written.to_dict())
    else:
        print(written.sentence())
