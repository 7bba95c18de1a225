"""Work before and after the model's, by other threads: bounded, in order, and with its errors told here."""

import contextlib
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

Item = TypeVar("Item")
_END: Any = object()


@contextlib.contextmanager
def made_ahead(
    items: Generator[Item, None, None], *, count: int
) -> Generator[Iterator[Item], None, None]:
    """The same items in the same order, made by one other thread before they are asked for.

    The generator begins, goes on and is closed in that thread alone. What it raises is raised where its
    item would have come; when the block ends, whatever was made and not asked for is dropped.

    Args:
        items: Makes them.
        count: Items that wait at most, beside one that is being made; 0 makes each when it is asked for.
    """
    if count == 0:
        with contextlib.closing(items):
            yield items
        return
    thread = ThreadPoolExecutor(1, thread_name_prefix="autosam-ahead")
    waiting: deque[Future[Item]] = deque()
    try:
        yield _taken(items, thread, waiting, count)
    finally:
        for future in waiting:
            future.cancel()
        thread.submit(items.close).result()
        thread.shutdown()


def _taken(
    items: Iterator[Item], thread: ThreadPoolExecutor, waiting: deque[Future[Item]], count: int
) -> Iterator[Item]:
    for _ in range(count):
        waiting.append(thread.submit(next, items, _END))
    while (item := waiting.popleft().result()) is not _END:
        waiting.append(thread.submit(next, items, _END))
        yield item


class Behind:
    """One thread that does what it is handed, one thing after another; at most one thing waits for it.

    As a context it waits at the end, after an exception too, so that what was handed over is done.

    Args:
        threaded: False does everything at once, in the thread that hands it over.
    """

    def __init__(self, *, threaded: bool) -> None:
        self._thread = (
            ThreadPoolExecutor(1, thread_name_prefix="autosam-behind") if threaded else None
        )
        self._last: Future[None] | None = None

    def wait(self) -> None:
        """Until the last thing that was handed over is done; raises what it raised."""
        last, self._last = self._last, None
        if last is not None:
            last.result()

    def hand(self, task: Callable[[], None]) -> None:
        """Wait for what was handed over before, then hand over this."""
        self.wait()
        if self._thread is None:
            task()
        else:
            self._last = self._thread.submit(task)

    def __enter__(self) -> "Behind":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self.wait()
        finally:
            if self._thread is not None:
                self._thread.shutdown()
