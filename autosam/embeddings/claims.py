"""Who encodes what: claims that live exactly as long as the process that made them.

A claim is an advisory lock on an empty file, which the system gives up when its process dies, however it
dies. Claims only save work: records are right without them, so where the system has no such locks every
builder simply does all of it.
"""

import contextlib
import errno
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from autosam.embeddings.shards import cannot_write

if sys.platform != "win32":
    import fcntl


class Claims:
    """The keys that this builder has taken upon itself."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[str, int | None] = {}

    def take(self, key: str) -> bool:
        """Claim a key; False when it is claimed already, here or by another builder.

        Raises:
            CacheError: The folder cannot be written.
        """
        if key in self._held:
            return False
        path = self._folder / key
        while True:
            descriptor = self._open(path)
            if descriptor is None:
                break
            if not _lock(descriptor):
                os.close(descriptor)
                return False
            if os.fstat(descriptor).st_nlink:
                break
            os.close(descriptor)  # its last owner removed the file between our open and our lock
        self._held[key] = descriptor
        return True

    def release(self, keys: Iterable[str]) -> None:
        """Give claims back; keys that are not held are passed over."""
        for key in list(keys):
            descriptor = self._held.pop(key, None)
            if descriptor is not None:
                (self._folder / key).unlink(missing_ok=True)
                os.close(descriptor)

    def release_all(self) -> None:
        """Give every claim back."""
        self.release(self._held)

    def remove_leftovers(self, seconds: float) -> None:
        """Remove the files of claims that are older than this and that nobody holds any more."""
        # The folder may be absent or read-only, or another builder may be doing the same.
        with contextlib.suppress(OSError):
            for path in self._folder.iterdir():
                if time.time() - path.stat().st_mtime > seconds and self.take(path.name):
                    self.release([path.name])

    def _open(self, path: Path) -> int | None:
        if sys.platform == "win32":
            return None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                return None  # too many files are open: go on unclaimed
            raise cannot_write(self._folder.parent.parent, error) from error


def _lock(descriptor: int) -> bool:
    """False when another holds it; True also where the file system knows no locks."""
    if sys.platform != "win32":
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return True
    return True
