"""The app as a whole: one model, a private folder, a page, and what happens when something goes wrong."""

import asyncio
import contextlib
import os
import shutil
import socket
import tempfile
import threading
import webbrowser
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from autosam.app.answers import Masker
from autosam.app.endpoints import Endpoints
from autosam.app.guard import Guard, is_loopback
from autosam.app.refusals import RefusedError
from autosam.app.sessions import Sessions
from autosam.errors import AutoSamError, ConfigError, one_line
from autosam.inference.segmenter import AutoSam

DEFAULT_PORT = 8765
DEFAULT_UPLOAD_MB = 500
_SWEEP = 60.0
"""Seconds between looks for what was idle for too long."""
_PATIENCE = 10.0
"""Seconds for a last answer, and again for a last tile, when the app ends."""


def build_app(
    model: AutoSam,
    folder: Path,
    *,
    source: str,
    host: str = "127.0.0.1",
    largest_upload: int = DEFAULT_UPLOAD_MB * 1_000_000,
) -> ASGIApp:
    """The app that a server runs.

    Args:
        model: What masks.
        folder: Empty and private, for uploads; removed when the app ends.
        source: Name or folder of the model, for the page.
        host: To which the server is bound.
        largest_upload: Bytes.

    Raises:
        ConfigError: The model needs more than a picture.
    """
    sessions = Sessions(folder)
    endpoints = Endpoints(Masker(model, source=source), sessions, largest_upload=largest_upload)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        sweeping = asyncio.create_task(_sweep(sessions))
        try:
            yield
        finally:
            # Here and not after the server: it ends by raising its signal once more.
            sweeping.cancel()
            sessions.close_all(patience=_PATIENCE)
            shutil.rmtree(folder, ignore_errors=True)

    app = Starlette(
        routes=endpoints.routes(),
        lifespan=lifespan,
        exception_handlers={
            AutoSamError: _said,
            HTTPException: _no_route,
            ClientDisconnect: _gone,
            Exception: _went_wrong,
        },
    )
    return Guard(app, host=host)


def serve(
    model: AutoSam | Callable[[], AutoSam],
    *,
    source: str,
    host: str = "127.0.0.1",
    port: int = DEFAULT_PORT,
    largest_upload_mb: int = DEFAULT_UPLOAD_MB,
    open_browser: bool = True,
    say: Callable[[str], None] = print,
) -> None:
    """Run the app until it is interrupted.

    Args:
        model: What masks, or what loads it, which is asked once the port is found free.
        source: Its name or folder.
        host: Address to listen on; others than loopback let the whole network in, and a line says so.
        port: To listen on; 0 takes a free one.
        largest_upload_mb: Megabytes of a picture.
        open_browser: Show the page at once.
        say: Takes lines for the user.

    Raises:
        ConfigError: The port is taken, the host is empty or not this machine's, or the model needs more
            than a picture.
    """
    with (
        contextlib.closing(_listening(host, port)) as listening,
        tempfile.TemporaryDirectory(prefix="autosam-app-", ignore_cleanup_errors=True) as folder,
    ):
        taken = listening.getsockname()[1]
        address = f"http://{_reachable(host)}:{taken}/"
        app = build_app(
            model() if callable(model) else model,
            Path(folder),
            source=source,
            host=host,
            largest_upload=largest_upload_mb * 1_000_000,
        )
        if not is_loopback(host):
            say(
                f"warning: everyone who reaches {host} on port {taken} can use this model and this "
                "machine's memory; nothing asks for a password."
            )
        say(f"{source} is at {address} (end with Ctrl-C)")
        if open_browser:
            opening = threading.Timer(0.7, webbrowser.open, (address,))
            opening.daemon = True
            opening.start()
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, server_header=False,
            timeout_graceful_shutdown=int(_PATIENCE),
        )  # fmt: skip
        uvicorn.Server(config).run(sockets=[listening])


def _reachable(host: str) -> str:
    """What a browser on this machine calls it."""
    if host in ("0.0.0.0", "::"):
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def _listening(host: str, port: int) -> socket.socket:
    """Bound here and not by the server, which would end the process with a number for a message."""
    if not host.strip():  # to a socket it means every address there is
        raise ConfigError(
            f"--host must be an address of this machine, got {host!r}. Leave it out for this machine "
            "alone, or give 0.0.0.0 for the whole network."
        )
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        if os.name != "nt":  # there it would let two servers share a port
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        bound.listen()  # until then another could take it too
    except (OSError, OverflowError) as error:
        bound.close()
        raise ConfigError(
            f"--host and --port must be free on this machine, got {host}:{port} "
            f"({getattr(error, 'strerror', None) or error}). Choose another --port."
        ) from error
    return bound


async def _sweep(sessions: Sessions) -> None:
    while True:
        await asyncio.sleep(_SWEEP)
        sessions.sweep()


async def _said(request: Request, error: Exception) -> Response:
    status = error.status if isinstance(error, RefusedError) else 400
    text = one_line(error) if isinstance(error, AutoSamError) else str(error)
    return JSONResponse({"error": text}, status_code=status)


async def _no_route(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException) or error.status_code != 405:
        status = error.status_code if isinstance(error, HTTPException) else 400
        return JSONResponse({"error": "There is nothing at this address."}, status_code=status)
    allowed = sorted((error.headers or {}).get("Allow", "").split(", "))
    text = (
        f"request must be {' or '.join(allowed)} at this address, got {request.method:.20}. "
        "Reload the page."
    )
    return JSONResponse({"error": text}, status_code=405, headers=error.headers)


async def _gone(request: Request, error: Exception) -> Response:
    """Nobody reads this: the browser left in the middle of its upload, which is no fault to print."""
    return JSONResponse(
        {"error": "upload must be whole, got a part. Send it again."}, status_code=400
    )


async def _went_wrong(request: Request, error: Exception) -> Response:
    """The terminal gets the traceback, the browser a sentence."""
    text = "Something went wrong inside autosam: its terminal says more."
    return JSONResponse({"error": text}, status_code=500)
