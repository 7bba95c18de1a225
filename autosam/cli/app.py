"""The command that shows the page."""

import contextlib
from typing import Annotated

import typer

from autosam.cli.options import Device, Model, Token, application, say


@application.command()
def app(
    model: Model = "river-nano",
    host: Annotated[
        str, typer.Option(help="Address to listen on; by default only this machine reaches it.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(help="To listen on; 0 takes a free one.", min=0, max=65535)
    ] = 8765,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")
    ] = True,
    max_upload: Annotated[int, typer.Option(help="Megabytes of a picture.", min=1)] = 500,
    device: Device = None,
    token: Token = None,
) -> None:
    """See masks in a browser, correct them by clicks, take them home: autosam app."""
    from autosam.errors import MissingPackageError

    try:
        from autosam.app.server import serve
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in ("starlette", "uvicorn"):
            raise
        raise MissingPackageError(
            f"autosam app must have its packages, got no {package}. "
            "Install them with: pip install 'autosam[app]'"
        ) from error
    from autosam.inference.segmenter import AutoSam

    with contextlib.suppress(KeyboardInterrupt):  # how it is meant to end
        serve(
            lambda: AutoSam.from_pretrained(model, device=device, token=token), source=model, host=host,
            port=port, largest_upload_mb=max_upload, open_browser=browser, say=say,
        )  # fmt: skip
    say("ended; what was uploaded is removed")
