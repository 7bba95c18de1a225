"""One function for each request that the page makes; what takes time is done off the event loop."""

import io
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from anyio import to_thread
from PIL import Image
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from autosam.app.answers import Click, Masker, said
from autosam.app.downloads import LARGEST_DRAWN, make_download
from autosam.app.full_detail import FullDetail
from autosam.app.refusals import RefusedError, in_words, too_large
from autosam.app.sessions import Session, Sessions
from autosam.app.uploads import (
    LARGEST_PHOTO,
    SCREEN_SIDE,
    Picture,
    named_by_content,
    open_picture,
    receive,
    shown_name,
)
from autosam.data.synthetic import make_scene
from autosam.errors import AutoSamError
from autosam.inference.tiles import as_tile_model

PAGE = Path(__file__).parent / "page"
PAGE_FILES = {
    "/": ("index.html", "text/html"),
    "/style.css": ("style.css", "text/css"),
    "/app.js": ("app.js", "text/javascript"),
    "/overlay.js": ("overlay.js", "text/javascript"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
"""All that is ever read by path; a request chooses a row and never a file."""
_EXAMPLE_SEED = 11
_SMALL_JSON = 10_000
"""Bytes of a request that is no picture."""
Result = TypeVar("Result")


class Endpoints:
    """The app's answers.

    Args:
        masker: The model.
        sessions: What is open.
        largest_upload: Bytes.
    """

    def __init__(self, masker: Masker, sessions: Sessions, *, largest_upload: int) -> None:
        self._masker = masker
        self._sessions = sessions
        self._largest = largest_upload
        self._tiles = as_tile_model(masker.model)

    def routes(self) -> list[Route]:
        """Path, function and method of each."""
        one = "/api/pictures/{picture}"
        pages = [Route(path, self.page, methods=["GET"]) for path in PAGE_FILES]
        return [
            *pages,
            Route("/api/model", self.model, methods=["GET"]),
            Route("/api/pictures", self.upload, methods=["POST"]),
            Route("/api/example", self.example, methods=["POST"]),
            Route(one, self.state, methods=["GET"]),
            Route(f"{one}/screen.png", self.screen, methods=["GET"]),
            Route(f"{one}/levels", self.levels, methods=["GET"]),
            Route(f"{one}/clicks", self.click, methods=["POST"]),
            Route(f"{one}/undo", self.undo, methods=["POST"]),
            Route(f"{one}/reset", self.reset, methods=["POST"]),
            Route(f"{one}/close", self.close, methods=["POST"]),
            Route(f"{one}/detail", self.detail, methods=["POST"]),
            Route(f"{one}/files/{{kind}}", self.download, methods=["GET"]),
        ]

    async def page(self, request: Request) -> Response:
        """A part of the page."""
        name, kind = PAGE_FILES[request.url.path]
        return FileResponse(PAGE / name, media_type=kind)

    async def model(self, request: Request) -> Response:
        """What the page must know before a picture is there."""
        return JSONResponse(
            {
                **self._masker.describe(),
                "largest_upload": self._largest,
                "largest_photo": LARGEST_PHOTO,
                "screen_side": SCREEN_SIDE,
            }
        )

    async def upload(self, request: Request) -> Response:
        """Take a picture as the body of the request, and mask it."""
        length = request.headers.get("content-length", "")
        if length.isdecimal() and float(length) > self._largest:
            raise too_large(self._largest)
        with self._sessions.arriving() as session:
            file = session.folder / "picture"
            await receive(request.stream(), file, limit=self._largest)
            name = shown_name(request.headers.get("x-file-name", ""))
            session.picture = await _aside(lambda: open_picture(named_by_content(file), name))
            await self._mask(session)
        return JSONResponse(self._state(session), status_code=201)

    async def example(self, request: Request) -> Response:
        """A drawn river, for those who have no picture at hand."""

        def draw(file: Path) -> Picture:
            scene = make_scene(_EXAMPLE_SEED, side=(640, 960))
            Image.fromarray(scene.image).save(file, format="PNG")
            return open_picture(named_by_content(file), "drawn river.png")

        with self._sessions.arriving() as session:
            file = session.folder / "picture"
            session.picture = await _aside(lambda: draw(file))
            await self._mask(session)
        return JSONResponse(self._state(session), status_code=201)

    async def state(self, request: Request) -> Response:
        """All about a picture but its pixels."""
        return JSONResponse(self._state(self._session(request)))

    async def screen(self, request: Request) -> Response:
        """The picture."""
        picture, _ = self._session(request).shown()
        return Response(await _aside(lambda: _png(picture)), media_type="image/png")

    async def levels(self, request: Request) -> Response:
        """The probability, 16 bits a pixel."""
        picture, answer = self._session(request).shown()
        content = await _aside(lambda: answer.wire(picture.valid))
        return Response(content, media_type="application/octet-stream")

    async def click(self, request: Request) -> Response:
        """One more click."""
        click = _click(await _small_json(request))
        session = self._session(request)
        async with session.turn:
            picture, before = session.shown()
            answer = await _aside(
                lambda: self._masker.answer(
                    picture, embedding=session.embedding, before=before, click=click
                )
            )
            session.answers.append(answer)
        return JSONResponse(self._state(session))

    async def undo(self, request: Request) -> Response:
        """Take the last click back."""
        session = self._session(request)
        async with session.turn:
            if len(session.answers) > 1:
                session.answers.pop()
        return JSONResponse(self._state(session))

    async def reset(self, request: Request) -> Response:
        """Take all clicks back."""
        session = self._session(request)
        async with session.turn:
            del session.answers[1:]
        return JSONResponse(self._state(session))

    async def close(self, request: Request) -> Response:
        """Forget a picture and remove its files."""
        self._sessions.close(self._session(request).name)
        return JSONResponse({"closed": True})

    async def detail(self, request: Request) -> Response:
        """Begin the mask by tiles; the state says how far it is."""
        threshold = _threshold((await _small_json(request)).get("threshold"))
        session = self._session(request)  # not before: it may close while the request arrives
        picture, _ = session.shown()
        if session.detail is not None and session.detail.state == "running":
            raise RefusedError("mask by tiles must end first, got one at work. Wait.", status=409)
        turn = self._masker.lock
        session.detail = FullDetail(
            picture, self._tiles, turn, folder=session.folder, threshold=threshold
        )
        return JSONResponse(self._state(session), status_code=202)

    async def download(self, request: Request) -> Response:
        """A file to keep."""
        session = self._session(request)
        own = self._masker.model.decision.threshold
        threshold = _threshold(request.query_params.get("threshold", own))
        kind, in_detail = request.path_params["kind"], request.query_params.get("of") == "tiles"
        identity = self._tiles.identity
        try:
            made = await _aside(
                lambda: make_download(
                    session, kind, threshold=threshold, in_detail=in_detail, made_by=identity
                )
            )
        except RefusedError:
            raise
        except AutoSamError as error:
            picture, _ = session.shown()
            raise RefusedError(in_words(error, picture.file, picture.name)) from error
        finally:
            self._sessions.find_again(session)
        return FileResponse(made.file, media_type=made.kind, filename=made.name)

    def _session(self, request: Request) -> Session:
        return self._sessions.find(request.path_params["picture"])

    async def _mask(self, session: Session) -> None:
        picture = session.picture
        assert picture is not None, "a picture is opened before it is masked"
        session.embedding = await _aside(lambda: self._masker.embed(picture))
        answer = await _aside(lambda: self._masker.answer(picture, embedding=session.embedding))
        session.answers = [answer]

    def _state(self, session: Session) -> dict[str, Any]:
        picture, answer = session.shown()
        (height, width), screen = picture.size, picture.screen.shape
        return {
            "id": session.name,
            "name": picture.name,
            "size": [height, width],
            "screen": [screen[0], screen[1]],
            "is_shrunk": picture.is_shrunk,
            "has_georeference": picture.georeference is not None,
            "place": picture.place,
            "notes": list(picture.notes),
            "more_by_tiles": max(height, width) > self._tiles.side,
            "fits_from_screen": height * width <= LARGEST_DRAWN,
            "clicks": [[click.x, click.y, click.label] for click in answer.clicks],
            "said": said(answer, picture.valid, threshold=self._masker.model.decision.threshold),
            "presence": answer.presence,
            "expected_iou": answer.expected_iou,
            "detail": None if session.detail is None else session.detail.to_dict(),
        }


async def _aside(work: Callable[[], Result]) -> Result:
    return await to_thread.run_sync(work)


def _png(picture: Picture) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture.screen).save(stream, format="PNG", compress_level=1)
    return stream.getvalue()


async def _small_json(request: Request) -> dict[str, Any]:
    """The body of a request that is no picture.

    Raises:
        RefusedError: It is large, or no JSON object of plain values.
    """
    content = b""
    async for chunk in request.stream():
        content += chunk
        if len(content) > _SMALL_JSON:
            raise RefusedError(
                "request must be short, got a long one. Reload the page.", status=413
            )
    try:
        values = json.loads(content or b"{}")
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict) or any(
        isinstance(one, (list, dict)) for one in values.values()
    ):
        raise RefusedError(
            "request must be a JSON object of plain values, got something else. Reload the page."
        )
    return values


def _click(values: dict[str, Any]) -> Click:
    """A click of plain finite numbers; where it lies is checked with the picture at hand."""
    x, y, label = (values.get(name, math.nan) for name in ("x", "y", "label"))
    if not (_is_plain(x) and _is_plain(y) and type(label) is int):
        raise RefusedError(
            f"click must have numbers x and y and a label, got {values!s:.80}. Reload the page."
        )
    return Click(x=float(x), y=float(y), label=label)


def _is_plain(value: Any) -> bool:
    """Whether it is a finite number that a float can hold."""
    return type(value) in (int, float) and bool(abs(value) <= sys.float_info.max)


def _threshold(given: object) -> float:
    try:
        threshold = float(given)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        threshold = math.nan
    if not 0 < threshold < 1:
        raise RefusedError(
            f"threshold must lie between 0 and 1, got {given!r:.40}. Move the slider."
        )
    return threshold
