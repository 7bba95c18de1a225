"""Workers that mask strips together, whatever they run on: who gets which strips, and what comes back.

A worker keeps to strips that follow each other, for these share a row of tiles; it takes whole rasters while
there are any, then half of what another has still before it. What a worker that died had in its hands goes
back to the heap. Only this process writes down what is finished.
"""

import contextlib
import dataclasses
from collections import Counter, deque
from typing import Any, Protocol

from autosam.errors import AutoSamError, EngineError
from autosam.inference.map_orders import MapOrder, span_of
from autosam.inference.raster_runs import RasterRun
from autosam.inference.strip_workers import ModelFacts, Span

SPAN = 4
"""Strips that a worker is given at once: what may be lost with it, and how far it reads ahead."""
MOST_DEATHS = 3
"""Of workers over one strip, after which its raster is given up; or of one that cannot even start."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorkerReady:
    """A worker has its model and waits."""

    worker: int
    facts: ModelFacts


@dataclasses.dataclass(frozen=True, kw_only=True)
class StripMade:
    """A worker has made a strip of the span that it has."""

    worker: int
    strip: int
    record: dict[str, Any]
    layers: dict[str, bytes] | None
    """Content of its files; None where they lie in the span's folder."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpanEnded:
    """A worker is done with its span and waits; with an error the rest of the span is not made."""

    worker: int
    error: AutoSamError | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorkerDied:
    """A worker is gone in the middle of its work; another takes its place and will be ready."""

    worker: int
    why: str


Event = WorkerReady | StripMade | SpanEnded | WorkerDied


class Crew(Protocol):
    """Workers that have started; how they are talked to is all that engines differ in."""

    shares_folders: bool
    """Whether workers write where this process reads."""

    def give(self, worker: int, span: Span) -> None:
        """Let a worker that waits mask a span."""

    def events(self) -> list[Event]:
        """Wait until something happened.

        Raises:
            AutoSamError: No worker can start.
        """


@dataclasses.dataclass(eq=False)
class _Heap:
    """Strips of one raster that nobody has; in order, for one worker to go through."""

    raster: int
    strips: deque[int]


@dataclasses.dataclass(eq=False)
class _Begun:
    """A raster of which strips are being made."""

    run: RasterRun
    closed: contextlib.ExitStack
    error: AutoSamError | None = None


class RasterQueue:
    """Masks rasters with a crew.

    Args:
        crew: The workers.
        order: What to mask.
    """

    def __init__(self, crew: Crew, order: MapOrder) -> None:
        self._crew = crew
        self._order = order
        self._waiting = deque(range(len(order.pairs)))
        self._begun: dict[int, _Begun] = {}
        self._heaps: list[_Heap] = []
        self._own: dict[int, _Heap] = {}
        self._idle: set[int] = set()
        self._hands: dict[int, tuple[Span, deque[int]]] = {}
        self._deaths: Counter[tuple[int, int]] = Counter()
        self._facts: ModelFacts | None = None

    def work(self) -> None:
        """Until all rasters are masked or given up.

        Raises:
            AutoSamError: No worker can start.
        """
        try:
            while self._waiting or self._begun:
                for event in self._crew.events() if self._hands or not self._idle else []:
                    self.notice(event)
                for worker in sorted(self._idle):
                    self._employ(worker)
        finally:
            for begun in self._begun.values():
                begun.closed.close()

    def notice(self, event: Event) -> None:
        """Take account of what happened."""
        if isinstance(event, WorkerReady):
            self._check_facts(event.facts)
            self._idle.add(event.worker)
        elif isinstance(event, StripMade):
            span, left = self._hands[event.worker]
            left.remove(event.strip)
            self._take(span.raster, event)
        elif isinstance(event, SpanEnded):
            span, _ = self._hands.pop(event.worker)
            self._idle.add(event.worker)
            if event.error is not None:
                self._give_up(span.raster, event.error)
            self._settle(span.raster)
        else:
            self._bury(event)

    def _check_facts(self, facts: ModelFacts) -> None:
        if self._facts is None:
            self._facts = facts
        elif facts.identity != self._facts.identity:
            raise EngineError(
                f"workers must have one model, got {facts.identity!r} beside {self._facts.identity!r}. "
                "Give a path or name that means the same on every machine."
            )

    def _take(self, raster: int, made: StripMade) -> None:
        begun = self._begun[raster]
        if begun.error is not None:
            return
        try:
            if made.layers is None:
                begun.run.keep(made.strip, made.record)
            else:
                begun.run.take(made.strip, made.record, made.layers)
        except AutoSamError as error:
            self._give_up(raster, error)

    def _bury(self, died: WorkerDied) -> None:
        """Put back what a worker had in its hands; its raster is given up where too many have died."""
        self._idle.discard(died.worker)
        self._own.pop(died.worker, None)
        span, left = self._hands.pop(died.worker, (None, deque[int]()))
        if span is None:
            return
        if left:
            self._deaths[span.raster, left[0]] += 1
            if self._deaths[span.raster, left[0]] >= MOST_DEATHS:
                what = (
                    f"a worker must live through strip {left[0]}, got {MOST_DEATHS} that died over it "
                    f"({span.label}; the last: {died.why}). The memory may be too small: "
                    "use fewer workers."
                )
                self._give_up(span.raster, EngineError(what))
            elif self._begun[span.raster].error is None:
                self._heaps.insert(0, _Heap(span.raster, left))
        self._settle(span.raster)

    def _give_up(self, raster: int, error: AutoSamError) -> None:
        self._heaps = [heap for heap in self._heaps if heap.raster != raster]
        begun = self._begun[raster]
        begun.error = begun.error or error

    def _settle(self, raster: int) -> None:
        """Publish or report a raster once nobody works on it any more."""
        begun = self._begun[raster]
        at_work = any(span.raster == raster for span, _ in self._hands.values())
        if at_work or (begun.error is None and begun.run.missing):
            return
        del self._begun[raster]
        with begun.closed:
            self._order.finish(raster, begun.run, begun.error)

    def _employ(self, worker: int) -> None:
        heap = self._heap_for(worker)
        if heap is None:
            self._own.pop(worker, None)
            return
        self._own[worker] = heap
        strips = tuple(heap.strips.popleft() for _ in range(min(SPAN, len(heap.strips))))
        if not heap.strips:
            self._heaps.remove(heap)
        run = self._begun[heap.raster].run
        span = span_of(run, heap.raster, strips, is_shared=self._crew.shares_folders)
        self._hands[worker] = span, deque(strips)
        self._idle.discard(worker)
        self._crew.give(worker, span)

    def _heap_for(self, worker: int) -> _Heap | None:
        """What a worker should go on with: its own strips, a new raster, or a part of another's."""
        own = self._own.get(worker)
        if own in self._heaps:
            return own
        taken = [heap for other, heap in self._own.items() if other != worker]
        free = [heap for heap in self._heaps if heap not in taken]
        while not free and self._waiting:
            begun = self._begin(self._waiting.popleft())
            free = [] if begun is None else [begun]
        if free:
            return free[0]
        largest = max(self._heaps, key=lambda heap: len(heap.strips), default=None)
        if largest is None or len(largest.strips) < 2:
            return largest
        half = [largest.strips.pop() for _ in range(len(largest.strips) // 2)]
        stolen = _Heap(largest.raster, deque(reversed(half)))
        self._heaps.append(stolen)
        return stolen

    def _begin(self, raster: int) -> _Heap | None:
        """Settle what is to be made of a raster; None where nothing is."""
        assert self._facts is not None
        closed = contextlib.ExitStack()
        run = self._order.begin(raster, model=self._facts, closed=closed)
        if run is None:
            return None
        self._begun[raster] = _Begun(run, closed)
        if not run.missing:
            self._settle(raster)
            return None
        self._heaps.append(_Heap(raster, deque(run.missing)))
        return self._heaps[-1]
