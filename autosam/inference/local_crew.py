"""Workers that are processes of this machine: one for each device, or several that share the processor."""

import contextlib
import dataclasses
import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from autosam.errors import AutoSamError, EngineError
from autosam.inference.crews import (
    MOST_DEATHS,
    Event,
    SpanEnded,
    StripMade,
    WorkerDied,
    WorkerReady,
)
from autosam.inference.devices import choose_device
from autosam.inference.strip_workers import ModelFacts, ModelSource, Span, SpanWorker

_PATIENCE = 30.0
"""Seconds that a worker has to end by itself."""


def shares_of_machine(model: ModelSource, workers: int | None) -> list[ModelSource]:
    """The model once for each worker: on its own GPU, or with its part of the processor's threads.

    Args:
        model: With the device that was asked for, if any.
        workers: How many; None for one on each GPU, or one.

    Raises:
        ModelError: The device is not there.
    """
    device = choose_device(model.device)
    if device.type == "cuda":
        count = torch.cuda.device_count()
        devices = [f"cuda:{i}" for i in range(count)] if device.index is None else [str(device)]
        wanted = len(devices) if workers is None else workers
        return [dataclasses.replace(model, device=devices[i % len(devices)]) for i in range(wanted)]
    wanted = workers or 1
    threads = None if wanted == 1 else max(1, torch.get_num_threads() // wanted)
    return [dataclasses.replace(model, device=str(device), threads=threads)] * wanted


@dataclasses.dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    is_ready: bool = False


class LocalCrew:
    """Processes that have started; made by `local_crew`.

    Args:
        models: One for each worker.
    """

    shares_folders = True

    def __init__(self, models: Sequence[ModelSource]) -> None:
        self._models = models
        # A forked process could not use a GPU that this one has touched.
        self._context = multiprocessing.get_context("spawn")
        self._deaths = [0] * len(models)  # of each worker, since it was last ready
        self._workers = [self._started(number) for number in range(len(models))]

    @property
    def processes(self) -> list[int]:
        """Of the system, in the order of the workers."""
        return [worker.process.pid or 0 for worker in self._workers]

    def give(self, worker: int, span: Span) -> None:
        """Send a span; a worker that is gone by now is told of by the next `events`."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._workers[worker].connection.send(span)

    def events(self) -> list[Event]:
        """Wait until a worker says something or is gone.

        Raises:
            AutoSamError: A worker cannot load its model, or fails of itself.
        """
        numbers = {worker.connection: number for number, worker in enumerate(self._workers)}
        ready = wait(list(numbers))
        return [self._event(numbers[one]) for one in ready if isinstance(one, Connection)]

    def close(self) -> None:
        """End every worker, in the middle of its work if need be."""
        for worker in self._workers:
            worker.connection.close()
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join(_PATIENCE)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()

    def _started(self, number: int) -> _Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=_serve, args=(theirs, self._models[number]), name=f"autosam-worker-{number}",
            daemon=True,
        )  # fmt: skip
        process.start()
        theirs.close()  # so that its end is heard of
        return _Worker(process, ours)

    def _event(self, number: int) -> Event:
        worker = self._workers[number]
        try:
            said = worker.connection.recv()
        except (EOFError, ConnectionResetError):
            return self._replaced(number)
        if isinstance(said, ModelFacts):
            worker.is_ready = True
            return WorkerReady(worker=number, facts=said)
        if isinstance(said, tuple):
            strip, record = said
            return StripMade(worker=number, strip=strip, record=record, layers=None)
        if isinstance(said, AutoSamError) and not worker.is_ready:
            raise said  # it has no model, and the others will not have one either
        return SpanEnded(worker=number, error=said)

    def _replaced(self, number: int) -> WorkerDied:
        worker = self._workers[number]
        worker.process.join(_PATIENCE)
        code = worker.process.exitcode
        self._deaths[number] = 0 if worker.is_ready else self._deaths[number] + 1
        if code is None or code >= 0 or self._deaths[number] >= MOST_DEATHS:
            raise EngineError(
                f"a worker must stay alive, got exit code {code} of process {worker.process.pid}. "
                "What it said stands above; with --workers 1 everything happens in one process."
            )
        worker.connection.close()
        self._workers[number] = self._started(number)
        return WorkerDied(worker=number, why=f"signal {-code}")


@contextlib.contextmanager
def local_crew(models: Sequence[ModelSource]) -> Iterator[LocalCrew]:
    """Start a process for each model, and end them with the block."""
    crew = LocalCrew(models)
    try:
        yield crew
    finally:
        crew.close()


def _serve(connection: Connection, model: ModelSource) -> None:
    """What a worker's process does until this one closes the connection, or is gone itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started it decides when to stop
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            worker = SpanWorker(model.load())
        except AutoSamError as error:
            connection.send(error)
            return
        connection.send(worker.facts)
        while True:
            span: Span = connection.recv()
            connection.send(_masked(worker, span, connection))


def _masked(worker: SpanWorker, span: Span, connection: Connection) -> AutoSamError | None:
    folder = span.folder
    assert folder is not None

    def tell(strip: int, record: dict[str, Any]) -> None:
        connection.send((strip, record))

    try:
        worker.mask(span, Path(folder), tell)
    except AutoSamError as error:
        return error
    return None
