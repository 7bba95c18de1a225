"""A picture masked by tiles at its own pixels, in the background, while the page stays in use."""

import shutil
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from autosam.app.refusals import in_words
from autosam.app.uploads import Picture
from autosam.data.images import read_image
from autosam.errors import AutoSamError
from autosam.inference.raster_plan import plan_raster
from autosam.inference.tile_models import TileModel
from autosam.inference.tiles import mask_raster
from autosam.maps.settings import MapSettings
from autosam.wording import counted


class StoppedError(Exception):
    """Nobody waits for it any longer; no tile's own failure, so it ends the whole."""


class CountedTiles:
    """A tile model that counts, gives way to others between batches, and can be stopped.

    Args:
        model: What masks the tiles.
        turn: Held while it does.
    """

    def __init__(self, model: TileModel, turn: threading.Lock) -> None:
        self._model = model
        self._turn = turn
        self.identity, self.side, self.batch = model.identity, model.side, model.batch
        self.threshold, self.ground_resolution = model.threshold, model.ground_resolution
        self.count = 0
        self.stopped = threading.Event()

    def __call__(self, tiles: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Probabilities of water.

        Raises:
            StoppedError: It was stopped.
        """
        with self._turn:
            if self.stopped.is_set():
                raise StoppedError
            found = self._model(tiles)
        self.count += len(tiles)
        return found


class FullDetail:
    """One mask by tiles; it begins at once.

    Args:
        picture: What is masked.
        model: What masks tiles.
        turn: Held while the model works.
        folder: For its files.
        threshold: Probability from which a pixel is water.
    """

    def __init__(
        self,
        picture: Picture,
        model: TileModel,
        turn: threading.Lock,
        *,
        folder: Path,
        threshold: float,
    ) -> None:
        self.threshold = threshold
        self.mask = folder / "detail.tif"
        self.state: Literal["running", "done", "failed"] = "running"
        self.error = ""
        self._tiles: int | None = None
        self._seconds: float | None = None
        self._notes: tuple[str, ...] = ()
        self._water_share: float | None = None
        self._picture = picture
        self._model = CountedTiles(model, turn)
        # No daemon: Python would end under it, and a thread inside torch then aborts the process.
        self._thread = threading.Thread(target=self._run, name="autosam-detail", daemon=False)
        self._thread.start()

    def to_dict(self) -> dict[str, Any]:
        """JSON values for the page."""
        return {
            "state": self.state,
            "threshold": self.threshold,
            "error": self.error,
            "tiles": self._tiles,
            "tiles_done": self._model.count,
            "seconds": self._seconds,
            "notes": list(self._notes),
            "water_share": self._water_share,
        }

    def stop(self) -> None:
        """End it before the next tile; nobody wants its folder any longer, which goes with it."""
        self._model.stopped.set()

    def join(self, seconds: float | None = None) -> None:
        """Wait for its end, at most so long; None: however long it takes."""
        self._thread.join(seconds)

    def _run(self) -> None:
        try:
            self._mask()
            self.state = "done"
        except StoppedError:
            self.state, self.error = "failed", "stopped."
        except AutoSamError as error:
            self.error = in_words(error, self._picture.file, self._picture.name)
            self.state = "failed"
        except Exception:
            self.error = "Something went wrong inside autosam: its terminal says more."
            self.state = "failed"
            if not self._model.stopped.is_set():  # then its files are gone, which is no fault
                raise
        finally:
            if self._model.stopped.is_set():
                shutil.rmtree(self.mask.parent, ignore_errors=True)

    def _mask(self) -> None:
        source = self._picture.file if self._picture.is_raster else self._upright()
        settings = MapSettings(threshold=self.threshold)
        plan = plan_raster(self._model, source, settings=settings)
        self._model.count = 0  # the plan has masked one to time it
        self._tiles, self._seconds = plan.tiles - plan.skipped, plan.seconds
        mapped = mask_raster(self._model, source, self.mask, settings=settings, overwrite=True)
        failed = mapped.failed_tiles
        lost = (
            (f"{counted(failed, 'tile')} could not be masked: without data there",)
            if failed
            else ()
        )
        self._notes = (*plan.notes, *lost)
        self._water_share = mapped.water_share

    def _upright(self) -> Path:
        """The photo as a TIFF, turned as it is on the screen."""
        path = self.mask.with_name("upright.tif")
        if not path.exists():
            whole = read_image(self._picture.file, name=self._picture.name)
            image = Image.fromarray(whole.image)
            if whole.valid is not None:
                image.putalpha(Image.fromarray(whole.valid.astype(np.uint8) * 255))
            image.save(path)
        return path
