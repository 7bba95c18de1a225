"""Uploads and what was made of them: each in a private folder, bounded in number and age, gone at the end."""

import asyncio
import contextlib
import dataclasses
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from autosam.app.answers import Answer
from autosam.app.full_detail import FullDetail
from autosam.app.refusals import RefusedError
from autosam.app.uploads import Picture
from autosam.types import ImageEmbedding

MOST_SESSIONS = 8
MOST_ARRIVING = 4
"""Pictures on their way at once, from their first byte until they are masked."""
LONGEST_IDLE = 2 * 3600.0
"""Seconds."""


@dataclasses.dataclass(kw_only=True, eq=False)
class Session:
    """One uploaded picture; whoever knows its name may see it, and nobody can guess that."""

    name: str
    """128 random bits."""
    folder: Path
    picture: Picture | None = None
    """None while it arrives."""
    embedding: ImageEmbedding | None = None
    answers: list[Answer] = dataclasses.field(default_factory=list)
    """The model's own first, then one for each click."""
    detail: FullDetail | None = None
    touched: float = 0.0
    turn: asyncio.Lock = dataclasses.field(default_factory=asyncio.Lock)
    """Requests about one picture wait for each other."""
    writing: threading.Lock = dataclasses.field(default_factory=threading.Lock)

    def shown(self) -> tuple[Picture, Answer]:
        """The picture and the last answer.

        Raises:
            RefusedError: It is still being read.
        """
        if self.picture is None or not self.answers:
            raise RefusedError(
                "picture must be masked first, got one that still is not. Wait.", status=409
            )
        return self.picture, self.answers[-1]


class Sessions:
    """The sessions there are.

    Args:
        root: Empty folder that nobody else may read.
        most: Finished ones; the one that was idle longest is closed when there would be more.
        most_arriving: Those on their way, which no other closes and which close no other.
        longest_idle: Seconds without a request, after which a finished one is closed.
        clock: Gives seconds.
    """

    def __init__(
        self,
        root: Path,
        *,
        most: int = MOST_SESSIONS,
        most_arriving: int = MOST_ARRIVING,
        longest_idle: float = LONGEST_IDLE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root = root
        self._most = most
        self._most_arriving = most_arriving
        self._arriving = 0
        self._longest_idle = longest_idle
        self._clock = clock
        self._open: dict[str, Session] = {}

    def __len__(self) -> int:
        return len(self._open)

    @contextlib.contextmanager
    def arriving(self) -> Iterator[Session]:
        """A new session with an empty folder, open for others once the block ends well; else it is gone.

        Raises:
            RefusedError: Too many arrive already (503).
        """
        if self._arriving >= self._most_arriving:
            raise RefusedError(
                f"pictures must arrive at most {self._most_arriving} at a time, got one more. "
                "Wait a moment, then send it again.",
                status=503,
            )
        name = secrets.token_urlsafe(16)
        folder = self._root / name
        folder.mkdir(mode=0o700)
        session = Session(name=name, folder=folder)
        self._arriving += 1
        try:
            yield session
            self._keep(session)
        except BaseException:  # a browser that has gone away leaves nothing either
            shutil.rmtree(folder, ignore_errors=True)
            raise
        finally:
            self._arriving -= 1

    def _keep(self, session: Session) -> None:
        self.sweep()
        while len(self._open) >= self._most:
            self.close(min(self._open.values(), key=lambda one: one.touched).name)
        session.touched = self._clock()
        self._open[session.name] = session

    def find(self, name: str) -> Session:
        """The session of this name.

        Raises:
            RefusedError: There is none, or no longer (404).
        """
        self.sweep()
        session = self._open.get(name)
        if session is None:
            raise RefusedError(
                "picture must still be open, got one that is closed or was too long idle. Open it again.",
                status=404,
            )
        session.touched = self._clock()
        return session

    def find_again(self, session: Session) -> None:
        """Make sure that a session is still there after files were written for it.

        Raises:
            RefusedError: It was closed meanwhile (404); what was written since is removed too.
        """
        try:
            self.find(session.name)
        except RefusedError:
            shutil.rmtree(session.folder, ignore_errors=True)
            raise

    def sweep(self) -> None:
        """Close what was idle for too long."""
        now = self._clock()
        for session in list(self._open.values()):
            if now - session.touched > self._longest_idle:
                self.close(session.name)

    def close(self, name: str) -> None:
        """Forget a session and remove its files; one that is not there is passed over."""
        session = self._open.pop(name, None)
        if session is None:
            return
        if session.detail is not None:
            session.detail.stop()
        shutil.rmtree(session.folder, ignore_errors=True)

    def close_all(self, *, patience: float) -> None:
        """At the end: stop what works in the background, and wait for it at most `patience` seconds."""
        details = [one.detail for one in self._open.values() if one.detail is not None]
        for name in list(self._open):
            self.close(name)
        latest = time.monotonic() + patience
        for detail in details:
            detail.join(max(0.0, latest - time.monotonic()))
