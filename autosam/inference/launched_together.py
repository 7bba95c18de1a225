"""Rasters masked by processes that were launched together, under `accelerate launch` or torchrun.

All see one disk. The main process settles what is to be made and joins it; each makes an equal share of the
strips that are missing, next to each other, and writes them where the main one finds them.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Sequence

from autosam.errors import AutoSamError, EngineError
from autosam.inference.map_orders import MapOrder, span_of
from autosam.inference.raster_runs import RasterRun
from autosam.inference.strip_workers import ModelFacts, ModelSource, Span, SpanWorker
from autosam.maps.journal import write_record
from autosam.training.processes import from_all, from_main, place_among_processes

_RASTERS_AT_ONCE = 128
"""That are open together: each holds a file of the main process."""


def mask_together(model: ModelSource, order: MapOrder) -> None:
    """Mask rasters; every process calls this with equal arguments, and the main one alone tells of them.

    Args:
        model: Loaded once by each process, on its own device unless one is named.
        order: What to mask.

    Raises:
        EngineError: The processes do not have the same model.
        AutoSamError: The model cannot be loaded.
    """
    number, count, device = place_among_processes()
    model = dataclasses.replace(model, device=model.device or str(device))
    worker = SpanWorker(model.load())
    facts: ModelFacts = from_main(worker.facts)
    if any(other != facts for other in from_all(worker.facts)):
        raise EngineError(
            f"processes must have one model on devices of one kind, got {worker.facts} beside {facts}. "
            "Give a path or name that means the same in every process."
        )
    for first in range(0, len(order.pairs), _RASTERS_AT_ONCE):
        rasters = range(first, min(first + _RASTERS_AT_ONCE, len(order.pairs)))
        with contextlib.ExitStack() as closed:
            runs = _begun(order, rasters, facts, closed) if number == 0 else {}
            spans: list[Span] = from_main(
                [span_of(run, raster, run.missing, is_shared=True) for raster, run in runs.items()]
            )
            errors = _mask(worker, _share(spans, number, count))
            first_errors: dict[int, AutoSamError] = {}
            for raster, error in (one for found in from_all(errors) for one in found):
                first_errors.setdefault(raster, error)
            for raster, run in runs.items():
                run.look_again()
                order.finish(raster, run, first_errors.get(raster))


def _begun(
    order: MapOrder, rasters: Sequence[int], facts: ModelFacts, closed: contextlib.ExitStack
) -> dict[int, RasterRun]:
    begun = {raster: order.begin(raster, model=facts, closed=closed) for raster in rasters}
    return {raster: run for raster, run in begun.items() if run is not None}


def _share(spans: Sequence[Span], number: int, count: int) -> list[Span]:
    """The part of one process: strips that follow each other, as many as others have, give or take one."""
    total = sum(len(span.strips) for span in spans)
    first, end = total * number // count, total * (number + 1) // count
    share, passed = [], 0
    for span in spans:
        strips = span.strips[max(0, first - passed) : max(0, end - passed)]
        if strips:
            share.append(dataclasses.replace(span, strips=strips))
        passed += len(span.strips)
    return share


def _mask(worker: SpanWorker, spans: Sequence[Span]) -> list[tuple[int, AutoSamError]]:
    """Mask spans into their folders; what went wrong, by raster."""
    errors = []
    with contextlib.closing(worker):
        for span in spans:
            assert span.folder is not None
            try:
                worker.mask(span, span.folder, functools.partial(write_record, span.folder))
            except AutoSamError as error:
                errors.append((span.raster, error))
    return errors
