"""Progress bars: on the main process's terminal, silent everywhere else."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def progress_bar(what: str, *, total: int, shown: bool = True) -> Iterator[Callable[[int], None]]:
    """A bar on standard error while the block runs; the block is given a function that advances it.

    Args:
        what: What is being done, e.g. "masking".
        total: Steps in all.
        shown: False is silent; so is anything but a terminal, and every process but the first.
    """
    main_process = os.environ.get("LOCAL_RANK", "0") == "0"
    if not (shown and main_process and sys.stderr.isatty() and total > 0):
        yield lambda steps: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(what, total=total)
        yield lambda steps: bars.advance(task, steps)
