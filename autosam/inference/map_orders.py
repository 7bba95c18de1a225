"""Rasters that are to be masked together: what every engine is asked for, and how it begins one."""

import contextlib
import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from autosam.errors import AutoSamError
from autosam.inference.planned_rasters import MappedRaster, PlannedRaster, check_output
from autosam.inference.raster_runs import RasterRun, open_run
from autosam.inference.strip_workers import ModelFacts, Span
from autosam.maps.rasters import is_remote, open_raster
from autosam.maps.settings import MapSettings


@dataclasses.dataclass(frozen=True, kw_only=True)
class MapOrder:
    """What to mask, how, and who is told."""

    pairs: Sequence[tuple[str, Path]]
    """Source and output of each raster, as for `mask_raster`."""
    settings: MapSettings
    overwrite: bool
    on_each: Callable[[int, MappedRaster | AutoSamError], None]
    """Told the number of a raster and what became of it, as soon as it is known."""

    def begin(
        self, raster: int, *, model: ModelFacts, closed: contextlib.ExitStack
    ) -> RasterRun | None:
        """Look at a raster and hold its output.

        Args:
            raster: Its number.
            model: Of the workers.
            closed: Gives the output free.

        Returns:
            None where there is nothing to be made; `on_each` has been told why.
        """
        source, output = self.pairs[raster]
        try:
            check_output(source, output)
            with open_raster(source, choice=self.settings.choice) as opened:
                planned = PlannedRaster.of(
                    opened, source, output, model=model, settings=self.settings
                )
            finished = None if self.overwrite else planned.finished_before()
            if finished is None:
                return closed.enter_context(open_run(planned))
            self.on_each(raster, finished)
        except AutoSamError as error:
            self.on_each(raster, error)
        return None

    def finish(self, raster: int, run: RasterRun, error: AutoSamError | None) -> None:
        """Join the strips of a raster, all of which are made, or say why they are not."""
        outcome: MappedRaster | AutoSamError
        try:
            outcome = error or run.publish()
        except AutoSamError as late:
            outcome = late
        self.on_each(raster, outcome)


def span_of(run: RasterRun, raster: int, strips: Sequence[int], *, is_shared: bool) -> Span:
    """Strips of a raster for a worker.

    Args:
        run: Of the raster.
        raster: Its number.
        strips: Which.
        is_shared: Whether the worker writes where this process reads.
    """
    source = run.planned.source
    return Span(
        raster=raster,
        source=source if is_remote(source) else os.path.abspath(Path(source).expanduser()),
        label=source,
        job=run.planned.job,
        strips=tuple(strips),
        folder=Path(os.path.abspath(run.folder)) if is_shared else None,
    )
