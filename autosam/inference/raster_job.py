"""Everything that the mask of one raster follows from, settled once and given to whoever masks a part."""

import dataclasses
from collections.abc import Sequence

from autosam.data.augmentation import VIEWS
from autosam.inference.tile_models import TileFacts
from autosam.inference.tile_scales import TileScales
from autosam.maps.model_grid import ModelGrid, choose_model_grid
from autosam.maps.raster_output import MASK_LAYER, PROBABILITY_LAYERS, Layer
from autosam.maps.rasters import Raster
from autosam.maps.resampling import AxisResampling
from autosam.maps.sampling import choose_value_range
from autosam.maps.settings import MapSettings
from autosam.maps.tile_grid import TileGrid, Window
from autosam.maps.value_range import ValueRange


@dataclasses.dataclass(frozen=True, kw_only=True)
class RasterJob:
    """Plain values: what is done to one raster, beside the raster and the model."""

    settings: MapSettings
    threshold: float
    batch: int
    """Tiles, or pieces of them, that the model is given together."""
    bands: tuple[int, ...]
    """That are read, counted from 1."""
    values: ValueRange
    grid: ModelGrid
    tiles: TileGrid
    """On the grid that the model sees."""
    scales: TileScales | None
    """At which it is shown the tiles; None for as they are."""

    @classmethod
    def of(cls, raster: Raster, model: TileFacts, settings: MapSettings) -> "RasterJob":
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
        shown, batch = settings.side or model.side, settings.batch or model.batch
        side = TileScales.tile_side(shown, settings.scales)
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
            batch=batch,
            bands=raster.bands,
            values=choose_value_range(raster, settings.choice.value_range),
            grid=_with_notes(grid, raster.notes, side, settings.scales),
            tiles=tiles,
            scales=None
            if settings.scales == (1.0,)
            else TileScales(
                scales=settings.scales,
                tile_size=tiles.tile_size,
                side=shown,
                overlap=int(settings.overlap * shown),
                batch=batch,
            ),
        )

    @property
    def tiles_together(self) -> int:
        """That are read for one batch: fewer where each holds several pieces of the model's size."""
        return max(1, int(self.batch * min(1.0, *self.settings.scales) ** 2))

    @property
    def pieces(self) -> int:
        """In which the model is shown each tile, at all scales together."""
        return 1 if self.scales is None else self.scales.pieces

    @property
    def looks(self) -> int:
        """How often the model looks at each tile or a piece of it."""
        return self.pieces * (len(VIEWS) if self.settings.dihedral else 1)

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


def _with_notes(
    grid: ModelGrid, notes: Sequence[str], side: int, scales: Sequence[float]
) -> ModelGrid:
    """With those of the raster; a model enlarges what is smaller than its square."""
    notes = [*grid.notes, *notes]
    if min(scales) < 1 and max(grid.size) < side:
        notes.append(
            f"at scale {min(scales):g} a tile has {side} pixels, and the raster fewer: the model sees it at "
            "a larger scale"
        )
    return dataclasses.replace(grid, notes=tuple(notes))
