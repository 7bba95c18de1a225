"""One strip of a raster after another: tiles read, masked, blended, and drawn on the raster's own pixels."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from autosam.data.geometry import PADDING_COLOUR
from autosam.inference.tile_models import TileModel, tile_probabilities
from autosam.maps.blending import StripAccumulator
from autosam.maps.model_grid import ModelGrid, choose_model_grid
from autosam.maps.model_rows import BROKEN, DATA, ModelRows
from autosam.maps.raster_output import (
    MASK_LAYER,
    MASK_NODATA,
    PROBABILITY_LAYERS,
    PROBABILITY_LEVELS,
    Layer,
    write_strip,
)
from autosam.maps.rasters import Raster
from autosam.maps.resampling import AxisResampling, resample
from autosam.maps.sampling import choose_value_range
from autosam.maps.settings import MapSettings
from autosam.maps.tile_grid import TileGrid, Window
from autosam.maps.value_range import ValueRange


@dataclasses.dataclass(frozen=True, kw_only=True)
class RasterJob:
    """Everything that the mask of one raster follows from, beside the raster and the model."""

    settings: MapSettings
    threshold: float
    batch: int
    """Tiles that the model is given together."""
    bands: tuple[int, ...]
    """That are read, counted from 1."""
    values: ValueRange
    grid: ModelGrid
    tiles: TileGrid
    """On the grid that the model sees."""

    @classmethod
    def of(cls, raster: Raster, model: TileModel, settings: MapSettings) -> "RasterJob":
        """Settle the value range, the model's pixels and the tiles of one raster.

        Raises:
            ImageError: The raster cannot be read where its values are sampled, or has no data there.
            ConfigError: A setting does not fit the raster.
        """
        grid = choose_model_grid(
            raster.size,
            raster.georeference,
            resolution=settings.resolution,
            trained=model.ground_resolution,
        )
        side = settings.side or model.side
        drawn = AxisResampling(grid.size[0], grid.source_size[0])
        tiles = TileGrid.over(
            grid.size,
            side=side,
            overlap=int(settings.overlap * side),
            shift=settings.shift,
            margin=drawn.reach,
        )
        return cls(
            settings=settings,
            threshold=model.threshold if settings.threshold is None else settings.threshold,
            batch=settings.batch or model.batch,
            bands=raster.bands,
            values=choose_value_range(raster, settings.choice.value_range),
            grid=grid,
            tiles=tiles,
        )

    @property
    def is_resampled(self) -> bool:
        """Whether the model sees other pixels than the raster's."""
        return self.grid.source_size != self.grid.size

    @property
    def layers(self) -> list[Layer]:
        """What is written, the mask first."""
        kind = self.settings.probability
        return [MASK_LAYER] + ([] if kind == "none" else [PROBABILITY_LAYERS[kind]])

    @property
    def strip_tops(self) -> list[int]:
        """First row of each strip on the raster's own pixels, and the raster's height."""
        (own, _), (seen, _) = self.grid.source_size, self.grid.size
        rows = range(len(self.tiles.tops))
        return [self.tiles.strip(row)[0] * own // seen for row in rows] + [own]

    def own_window(self, tile: Window) -> Window:
        """What a tile covers of the raster's own pixels, those in part included."""
        (height, width), (rows, columns) = self.grid.source_size, self.grid.size
        top, left = tile.top * height // rows, tile.left * width // columns
        bottom, right = -(-tile.bottom * height // rows), -(-tile.right * width // columns)
        return Window(top, left, bottom - top, right - left)

    def touched_window(self, tile: Window) -> Window:
        """As `own_window`, with the pixels beyond that are interpolated with some inside."""
        window = self.own_window(tile)
        if not self.is_resampled:
            return window
        (height, width), (rows, columns) = self.grid.source_size, self.grid.size
        down, along = max(1, -(-height // rows)), max(1, -(-width // columns))
        top, left = max(0, window.top - down), max(0, window.left - along)
        bottom, right = min(height, window.bottom + down), min(width, window.right + along)
        return Window(top, left, bottom - top, right - left)


class StripMasker:
    """Masks strips of one raster; strips that follow each other share their tiles.

    A strip is the same whichever were masked before: what it needs of earlier tiles is made again where
    it is not there.

    Args:
        raster: Open.
        model: What masks tiles.
        job: What is to be done.
    """

    def __init__(self, raster: Raster, model: TileModel, job: RasterJob) -> None:
        self._model = model
        self._job = job
        self._rows = ModelRows(
            raster, job.grid, values=job.values, count=job.tiles.tile_size[0], fill=PADDING_COLOUR
        )
        self._sheet = StripAccumulator(job.tiles)
        self._last: int | None = None
        self._failed: dict[int, list[tuple[Window, str]]] = {}
        self._skipped: dict[int, int] = {}
        own, seen = job.grid.source_size, job.grid.size
        self._down, along = (AxisResampling(seen[axis], own[axis]) for axis in (0, 1))
        self._along = None if along.is_identity else along.matrix(0, own[1])

    @property
    def nbytes(self) -> int:
        """Bytes that stay in memory from strip to strip."""
        return self._rows.nbytes + self._sheet.nbytes

    def mask(
        self,
        strip: int,
        targets: Mapping[str, Path],
        on_tiles: Callable[[int], None] | None = None,
    ) -> dict[str, Any]:
        """Mask one strip and write its layers.

        Args:
            strip: Which.
            targets: File of each layer, by name; none is written where the strip is empty.
            on_tiles: Told how many tiles are done, for a progress bar.

        Returns:
            JSON values: ``tiles``, ``skipped``, ``failed`` (windows of the raster and what went wrong),
            and pixels of ``water``, ``land`` and ``nodata``.

        Raises:
            OutputError: A layer cannot be written.
        """
        first = strip
        if self._last is None or self._last != strip - 1:
            self._sheet.clear()
            first = self._job.tiles.first_row_reaching(strip)
        for row in range(first, strip + 1):
            self._add_row(row, on_tiles if row == strip else None)
        self._last = strip
        pixels = {"water": 0, "land": 0, "nodata": 0}
        top, bottom = self._job.strip_tops[strip : strip + 2]
        if bottom > top:
            width = self._job.grid.source_size[1]
            files = [(targets[layer.name], layer) for layer in self._job.layers]
            write_strip(
                files, (bottom - top, width), lambda a, b: self._draw(top + a, top + b, pixels)
            )
        failed = self._failed[strip]
        return {
            "tiles": len(self._job.tiles.lefts),
            "skipped": self._skipped[strip],
            "failed": [
                {**dataclasses.asdict(self._job.own_window(tile)), "error": error}
                for tile, error in failed
            ],
            **pixels,
        }

    def _add_row(self, row: int, on_tiles: Callable[[int], None] | None) -> None:
        """Mask one row of tiles and add it to the sheet."""
        tiles = self._job.tiles.tiles(row)
        self._sheet.move_to(row)
        self._rows.move_to(self._job.tiles.tops[row])
        failed: list[tuple[Window, str]] = []
        columns = []
        for column, tile in enumerate(tiles):
            state = self._rows.state[:, tile.left : tile.right]
            if (state == BROKEN).any():
                failed.append((tile, self._rows.problem))
            elif (state == DATA).any():
                columns.append(column)
        self._failed[row] = failed
        self._skipped[row] = len(tiles) - len(columns) - len(failed)
        if on_tiles is not None:
            on_tiles(len(tiles) - len(columns))
        batch = self._job.batch
        for start in range(0, len(columns), batch):
            self._add_batch(row, columns[start : start + batch], failed)
            if on_tiles is not None:
                on_tiles(len(columns[start : start + batch]))

    def _add_batch(
        self, row: int, columns: Sequence[int], failed: list[tuple[Window, str]]
    ) -> None:
        tiles = [self._job.tiles.tiles(row)[column] for column in columns]
        images = [
            np.ascontiguousarray(self._rows.image[:, tile.left : tile.right]) for tile in tiles
        ]
        found = tile_probabilities(self._model, images, dihedral=self._job.settings.dihedral)
        for column, tile, probability in zip(columns, tiles, found, strict=True):
            if isinstance(probability, str):
                failed.append((tile, probability))
            else:
                self._sheet.add(row, column, probability)

    def _draw(self, top: int, bottom: int, pixels: dict[str, int]) -> list[np.ndarray]:
        """Rows of each layer on the raster's own pixels; counts what they hold."""
        first, end = self._down.inputs(top, bottom)
        probability = self._sheet.rows(first, end)
        if self._along is not None or not self._down.is_identity:
            down = None if self._down.is_identity else self._down.matrix(top, bottom)
            probability = resample(probability, down, self._along)
        probability = np.clip(probability, 0, 1)  # sums of weights may miss 1 by rounding
        gaps = ~self._rows.valid_source(top, bottom)
        for tile in self._lost(top, bottom):
            gaps[max(0, tile.top - top) : tile.bottom - top, tile.left : tile.right] = True
        mask = (probability >= self._job.threshold).astype(np.uint8)
        mask[gaps] = MASK_NODATA
        counts = np.bincount(mask.ravel(), minlength=256)
        for name, value in (("land", 0), ("water", 1), ("nodata", MASK_NODATA)):
            pixels[name] += int(counts[value])
        drawn = [mask]
        if self._job.settings.probability == "uint8":
            scaled = np.rint(probability * PROBABILITY_LEVELS).astype(np.uint8)
            scaled[gaps] = MASK_NODATA
            drawn.append(scaled)
        elif self._job.settings.probability == "float32":
            probability[gaps] = np.nan
            drawn.append(probability)
        return drawn

    def _lost(self, top: int, bottom: int) -> list[Window]:
        """Where failed tiles have a word in these rows, on the raster's own pixels."""
        failed = [tile for tiles in self._failed.values() for tile, _ in tiles]
        windows = [self._job.touched_window(tile) for tile in failed]
        return [window for window in windows if window.meets(top, bottom)]
