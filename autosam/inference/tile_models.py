"""What masks a raster's tiles: anything from RGB tiles to probabilities, and a trained model as one."""

import functools
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch

from autosam.data.augmentation import apply_view, mean_of_views
from autosam.errors import AutoSamError, ConfigError, ModelError
from autosam.inference.logits import logits_together
from autosam.inference.runtimes import runtime_of
from autosam.inference.segmenter import AutoSam
from autosam.inference.tile_scales import Answer, TileScales

MODEL_FAILURES = (AutoSamError, RuntimeError, ValueError, MemoryError)
"""What a model may raise on one tile without the others being lost; out of memory on a GPU is among them."""


class TileFacts(Protocol):
    """What must be known of a model to settle how a raster is masked."""

    @property
    def identity(self) -> str:
        """Equal for models that give equal masks."""

    @property
    def side(self) -> int:
        """Height and width of the tiles it likes best."""

    @property
    def batch(self) -> int:
        """How many tiles it likes together."""

    @property
    def threshold(self) -> float:
        """Probability from which a pixel is water."""

    @property
    def ground_resolution(self) -> tuple[float, float] | None:
        """Lowest and highest metres per pixel that it was trained with; None when unknown."""


class TileModel(TileFacts, Protocol):
    """What masks tiles."""

    def __call__(self, tiles: Sequence[np.ndarray]) -> list[np.ndarray]:
        """From (height, width, 3) uint8 tiles to (height, width) float32 in 0..1 each."""


class AutoSamTiles:
    """A trained model that masks tiles.

    Args:
        model: It must read nothing but red, green and blue, and prompt itself.

    Raises:
        ConfigError: It reads other bands, or its prompts are an oracle.
        ModelError: What it says of its ground resolution is no range.
    """

    def __init__(self, model: AutoSam) -> None:
        if model.bands:
            raise ConfigError(
                f"model must read red, green and blue alone to mask rasters, got one that also reads "
                f"{', '.join(model.bands)}. Mask its pictures with autosam predict."
            )
        if model.uses_truth:
            raise ConfigError(
                "prompts must not come from the true mask to mask rasters that have none, got an oracle. "
                "Give --coarse-from a trained run, or train with geometric.source=coarse."
            )
        self._model = model
        self.identity = _made_by(model)
        self.side = model.network.side
        # On a processor a batch is no faster, and takes as many times the memory.
        self.batch = 1 if model.device.type == "cpu" else 4
        self.threshold = model.decision.threshold
        self.ground_resolution = _trained_resolution(model)

    def __call__(self, tiles: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Probabilities of water, in one pass where the model needs no geometric prompt."""
        model = self._model
        if model.geometric is not None:
            return [model.predict_image(tile).probability for tile in tiles]
        with torch.inference_mode():
            return [
                torch.sigmoid(logits / model.decision.temperature).cpu().numpy()
                for logits in logits_together(model.network, tiles)
            ]


def _made_by(model: AutoSam) -> str:
    """The model, and what runs it where that is not torch: masks of two programs differ in places."""
    runtime = runtime_of(model)
    return model.identity if runtime == "torch" else f"{model.identity} on {runtime}"


def _trained_resolution(model: AutoSam) -> tuple[float, float] | None:
    """What the run wrote down of its pictures' ground resolution."""
    known = model.facts.get("ground_resolution")
    if known is None:
        return None
    try:
        low, high = float(known["low"]), float(known["high"])
    except (KeyError, TypeError, ValueError):
        low, high = 1.0, 0.0
    if not 0 < low <= high:
        raise ModelError(
            f"ground_resolution must be {{'low': metres, 'high': metres}} in the model's facts, got "
            f"{known!r}. Mend config.json, or take the entry out."
        )
    return low, high


def tile_probabilities(
    model: TileModel,
    tiles: Sequence[np.ndarray],
    *,
    dihedral: bool,
    scales: TileScales | None = None,
) -> list[np.ndarray | str]:
    """Mask tiles together; where that fails, each alone, so that one tile costs no other.

    Args:
        model: What masks them.
        tiles: (height, width, 3) uint8.
        dihedral: Mean over what the model is shown turned and mirrored in all eight ways.
        scales: At which it is shown the tiles, in the mean; None for as they are.

    Returns:
        For each tile (height, width) float32 in 0..1, or what went wrong with it.
    """
    once = functools.partial(_checked, model)
    seen = functools.partial(_dihedral_mean, once) if dihedral else once
    try:
        return [*(seen(tiles) if scales is None else scales.mean(seen, tiles))]
    except MODEL_FAILURES as error:
        if len(tiles) == 1:
            return [" ".join(str(error).split()) or type(error).__name__]
    return [
        one
        for tile in tiles
        for one in tile_probabilities(model, [tile], dihedral=dihedral, scales=scales)
    ]


def _checked(model: TileModel, tiles: Sequence[np.ndarray]) -> list[np.ndarray]:
    found = model(tiles)
    for tile, probability in zip(tiles, found, strict=True):
        if probability.shape != tile.shape[:2] or not np.isfinite(probability).all():
            raise ModelError(
                f"probability must be finite numbers of the tile's size {tile.shape[:2]}, got "
                f"{probability.shape} or NaN. Check the model."
            )
    return found


def _dihedral_mean(answer: Answer, tiles: Sequence[np.ndarray]) -> list[np.ndarray]:
    return mean_of_views(lambda view: answer([apply_view(tile, view) for tile in tiles]))
