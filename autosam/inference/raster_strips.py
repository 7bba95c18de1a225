"""One strip of a raster after another: tiles read, masked, blended, and drawn on the raster's own pixels.

Three threads share the work of one model: one reads and prepares tiles ahead of it, this one calls it and
blends what it says, and one draws, compresses and writes what is finished. All sums are taken here, in one
order, so the bytes are those of a single thread.
"""

import dataclasses
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from autosam.data.geometry import PADDING_COLOUR
from autosam.inference.ahead_and_behind import Behind, made_ahead
from autosam.inference.raster_job import RasterJob
from autosam.inference.strip_drawing import FinishedStrip, StripDrawer
from autosam.inference.tile_models import TileModel, tile_probabilities
from autosam.maps.blending import StripAccumulator
from autosam.maps.gdal_threads import gdal_set_as, gdal_settings
from autosam.maps.model_rows import BROKEN, DATA, ModelRows
from autosam.maps.rasters import Raster
from autosam.maps.tile_grid import Window

AHEAD = 4
"""Batches of tiles that wait for the model; a row of tiles is read while those before it are masked."""

Targets = Callable[[int], Mapping[str, Path]]
"""File of each layer, by name, for a strip."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Step:
    """One row of tiles."""

    row: int
    begins: bool
    """Whether nothing that was blended before belongs to it."""
    strip: int | None
    """That is finished with it, if it is wanted."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class _Batch:
    """Tiles of one row that the model is given together, and what must be known before and after."""

    step: _Step
    columns: Sequence[int]
    images: Sequence[np.ndarray]
    """(height, width, 3) uint8 each, copies."""
    is_first: bool
    is_last: bool
    """Of its row."""
    broken: Sequence[tuple[Window, str]]
    """Tiles of the row that could not be read, and why; with its first batch."""
    masked: int
    """Tiles of the row that the model sees."""
    valid: np.ndarray | None
    """(rows, width) bool of the strip, where the raster's own pixels are those that the model sees."""


class StripMasker:
    """Masks strips of one raster; strips that follow each other share their tiles.

    A strip is the same whichever were masked before: what it needs of earlier tiles is made again where
    it is not there.

    Args:
        raster: Open.
        model: What masks tiles.
        job: What is to be done.
        overlapped: Read and write in other threads while the model works; the bytes are the same.
    """

    def __init__(
        self, raster: Raster, model: TileModel, job: RasterJob, *, overlapped: bool = True
    ) -> None:
        self._model = model
        self._job = job
        self._overlapped = overlapped
        self._rows = ModelRows(
            raster, job.grid, values=job.values, count=job.tiles.tile_size[0], fill=PADDING_COLOUR
        )
        self._sheet = StripAccumulator(job.tiles)
        self._drawer = StripDrawer(job)
        self._last: int | None = None
        self._failed: dict[int, list[tuple[Window, str]]] = {}

    @property
    def nbytes(self) -> int:
        """Bytes that stay in memory from strip to strip, those of waiting tiles and strips included."""
        height, width = self._job.tiles.tile_size
        batches = (AHEAD + 2) if self._overlapped else 1
        waiting = batches * self._job.tiles_together * height * width * 3
        seen = 0 if self._job.scales is None else self._job.tiles_together * self._job.scales.nbytes
        return self._rows.nbytes + 2 * self._sheet.nbytes + waiting + seen

    def mask(
        self,
        strip: int,
        targets: Mapping[str, Path],
        on_tiles: Callable[[int], None] | None = None,
    ) -> dict[str, Any]:
        """Mask one strip and write its layers; as `mask_strips`, whose record it gives."""
        records: dict[int, dict[str, Any]] = {}
        self.mask_strips(
            [strip],
            targets=lambda _: targets,
            on_strip=records.__setitem__,
            on_tiles=on_tiles,
        )
        return records[strip]

    def mask_strips(
        self,
        strips: Sequence[int],
        *,
        targets: Targets,
        on_strip: Callable[[int, dict[str, Any]], None],
        on_tiles: Callable[[int], None] | None = None,
    ) -> None:
        """Mask strips in the order in which they are named, and write their layers.

        Args:
            strips: Which.
            targets: Where the layers of a strip go; none is written where the strip is empty.
            on_strip: Given each strip once its layers are written, in order, with JSON values: ``tiles``,
                ``skipped``, ``failed`` (windows of the raster and what went wrong), and pixels of
                ``water``, ``land`` and ``nodata``. Called by another thread, also for what is written
                already when this one is interrupted.
            on_tiles: Told how many tiles are done, for a progress bar.

        Raises:
            OutputError: A layer cannot be written.
        """
        steps = self._steps(strips)
        self._last = None  # until all is well, nothing that was blended can be relied on
        settings = gdal_settings()
        ahead = made_ahead(self._batches(steps, settings), count=AHEAD if self._overlapped else 0)
        with Behind(threaded=self._overlapped) as behind, ahead as batches:
            for batch in batches:
                self._mask_batch(batch, on_tiles)
                if batch.is_last and batch.step.strip is not None:
                    behind.wait()  # memory holds one strip that is being drawn, never two
                    behind.hand(self._written(batch, targets, on_strip, settings))
        self._last = strips[-1] if strips else None

    def _steps(self, strips: Sequence[int]) -> list[_Step]:
        steps, last = [], self._last
        for strip in strips:
            first = strip
            begins = last is None or last != strip - 1
            if begins:
                first = self._job.tiles.first_row_reaching(strip)
            steps += [
                _Step(
                    row=row, begins=begins and row == first, strip=strip if row == strip else None
                )
                for row in range(first, strip + 1)
            ]
            last = strip
        return steps

    def _batches(
        self, steps: Sequence[_Step], settings: Mapping[str, Any]
    ) -> Generator[_Batch, None, None]:
        """What the model will see, read and copied; the one place that moves the rows."""
        with gdal_set_as(settings):
            for step in steps:
                self._rows.move_to(self._job.tiles.tops[step.row])
                yield from self._row_of_batches(step)

    def _row_of_batches(self, step: _Step) -> Generator[_Batch, None, None]:
        tiles = self._job.tiles.tiles(step.row)
        broken, columns = [], []
        for column, tile in enumerate(tiles):
            state = self._rows.state[:, tile.left : tile.right]
            if (state == BROKEN).any():
                broken.append((tile, self._rows.problem))
            elif (state == DATA).any():
                columns.append(column)
        valid = None
        if step.strip is not None and not self._job.is_resampled:
            valid = self._rows.shown_valid(*self._job.strip_tops[step.strip : step.strip + 2])
        count = self._job.tiles_together
        for start in range(0, max(len(columns), 1), count):
            chosen = columns[start : start + count]
            windows = [tiles[column] for column in chosen]
            yield _Batch(
                step=step,
                columns=chosen,
                images=[self._rows.image[:, tile.left : tile.right].copy() for tile in windows],
                is_first=start == 0,
                is_last=start + count >= len(columns),
                broken=broken,
                masked=len(columns),
                valid=valid,
            )

    def _mask_batch(self, batch: _Batch, on_tiles: Callable[[int], None] | None) -> None:
        """Ask the model and add its word to the sheet."""
        row = batch.step.row
        tiles = self._job.tiles.tiles(row)
        if batch.is_first:
            if batch.step.begins:
                self._sheet.clear()
            self._sheet.move_to(row)
            self._failed[row] = list(batch.broken)
        if batch.columns:
            found = tile_probabilities(
                self._model,
                batch.images,
                dihedral=self._job.settings.dihedral,
                scales=self._job.scales,
            )
            for column, probability in zip(batch.columns, found, strict=True):
                if isinstance(probability, str):
                    self._failed[row].append((tiles[column], probability))
                else:
                    self._sheet.add(row, column, probability)
        if on_tiles is not None and batch.step.strip is not None:
            on_tiles(len(batch.columns) + (len(tiles) - batch.masked if batch.is_first else 0))

    def _written(
        self,
        batch: _Batch,
        targets: Targets,
        on_strip: Callable[[int, dict[str, Any]], None],
        settings: Mapping[str, Any],
    ) -> Callable[[], None]:
        """The task that draws and writes the strip which this batch finishes."""
        strip = batch.step.strip
        assert strip is not None
        finished = self._finished(strip, batch.valid)
        failed = self._failed[strip]
        count = len(self._job.tiles.lefts)
        record = {
            "tiles": count,
            "skipped": count - batch.masked - len(batch.broken),
            "failed": [
                {**dataclasses.asdict(self._job.own_window(tile)), "error": error}
                for tile, error in failed
            ],
        }

        def write() -> None:
            with gdal_set_as(settings):
                pixels = self._drawer.write(finished, targets(strip))
            on_strip(strip, {**record, **pixels})

        return write

    def _finished(self, strip: int, valid: np.ndarray | None) -> FinishedStrip:
        """A copy of what is drawn, so that the sheet may move on."""
        top, bottom = self._job.strip_tops[strip : strip + 2]
        first, end = self._drawer.inputs(top, bottom) if bottom > top else (0, 0)
        lost = [
            window
            for tiles in self._failed.values()
            for window in (self._job.touched_window(tile) for tile, _ in tiles)
            if window.meets(top, bottom)
        ]
        return FinishedStrip(
            top=top,
            bottom=bottom,
            first=first,
            probability=self._sheet.rows(first, end).copy() if bottom > top else np.empty((0, 0)),
            valid=self._rows.valid_source
            if valid is None
            else lambda a, b: valid[a - top : b - top],
            lost=lost,
        )
