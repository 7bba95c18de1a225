"""What a worker in another process does: it has a model of its own, and masks spans of strips.

Everything that a worker is given is plain values, and so is what it gives back: a model is named, and loaded
where it works.
"""

import contextlib
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from autosam.errors import ImageError
from autosam.inference.raster_job import RasterJob
from autosam.inference.raster_runs import strip_files
from autosam.inference.raster_strips import StripMasker
from autosam.inference.segmenter import AutoSam
from autosam.inference.tile_models import AutoSamTiles, TileFacts, TileModel
from autosam.maps.rasters import Raster, open_raster


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelSource:
    """A model by its name, and where it is to compute."""

    model: str
    """'river-nano', the folder of a run, or ``owner/name`` on the hub."""
    device: str | None = None
    """As for `AutoSam`."""
    threads: int | None = None
    """Of the processor that it may use; None leaves torch's own choice."""
    token: str | None = dataclasses.field(default=None, repr=False)
    """For a private model."""
    runtime: str | None = None
    """As for `AutoSam.from_pretrained`; each worker compiles it for its own threads."""

    def load(self) -> TileModel:
        """The model, in this process.

        Raises:
            MissingPathError: There is no such model.
            ModelError: It cannot be loaded, needs a coarse mask that it has not, or the runtime cannot
                run it here.
            ConfigError: It cannot mask rasters.
            MissingPackageError: The runtime is not installed.
        """
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        model = AutoSam.from_pretrained(
            self.model, device=self.device, token=self.token, runtime=self.runtime
        )
        _ = model.prompter  # a coarse mask that is missing is told before anything is read
        return AutoSamTiles(model)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """What a worker's model is like, for those who have none of their own."""

    identity: str
    side: int
    batch: int
    threshold: float
    ground_resolution: tuple[float, float] | None

    @classmethod
    def of(cls, model: TileFacts) -> "ModelFacts":
        """Of a loaded model."""
        return cls(**{field.name: getattr(model, field.name) for field in dataclasses.fields(cls)})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Span:
    """Strips of one raster for one worker."""

    raster: int
    """Number of the raster among those that are masked."""
    source: str
    """An address, or the path from the root."""
    label: str
    """What messages call it."""
    job: RasterJob
    strips: tuple[int, ...]
    folder: Path | None
    """Where the layers of strips go; None where the worker cannot reach it."""


class SpanWorker:
    """A model that masks spans; spans that follow each other share their tiles, and are read once.

    Args:
        model: What masks tiles.
    """

    def __init__(self, model: TileModel) -> None:
        self._model = model
        self.facts = ModelFacts.of(model)
        self._opened = contextlib.ExitStack()
        self._masker: StripMasker | None = None
        self._raster: int | None = None

    def mask(
        self, span: Span, folder: Path, on_strip: Callable[[int, dict[str, Any]], None]
    ) -> None:
        """Mask the strips of a span, each as if it were alone.

        Args:
            span: Which.
            folder: Where their layers go.
            on_strip: As for `StripMasker.mask_strips`: called by another thread, in order.

        Raises:
            MissingPathError: The raster cannot be reached from here.
            ImageError: It cannot be opened, or is another than the one that was planned.
            OutputError: A layer cannot be written.
        """
        masker = self._masker_of(span)
        self._raster = None  # until all is well, nothing that is half done can be relied on
        masker.mask_strips(
            span.strips,
            targets=lambda strip: strip_files(folder, span.job, strip),
            on_strip=on_strip,
        )
        self._raster = span.raster

    def close(self) -> None:
        """Close the raster that was masked last."""
        self._raster = self._masker = None
        self._opened.close()

    def _masker_of(self, span: Span) -> StripMasker:
        if self._masker is None or self._raster != span.raster:
            self.close()
            choice = span.job.settings.choice
            raster = self._opened.enter_context(
                open_raster(span.source, choice=choice, label=span.label)
            )
            _check_same(raster, span)
            self._masker = StripMasker(raster, self._model, span.job)
        return self._masker


def _check_same(raster: Raster, span: Span) -> None:
    planned = span.job.grid.source_size, span.job.bands
    if (raster.size, raster.bands) != planned:
        raise ImageError(
            f"raster must be the same for every worker, got {raster.size} pixels in bands {raster.bands} "
            f"for {planned[0]} in {planned[1]} ({span.label}). Give a path that is one file everywhere."
        )
