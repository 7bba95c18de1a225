"""The networks that look at the picture alone: what the baselines and an exported graph have in common."""

import abc
from collections.abc import Sequence

from autosam.errors import ModelError
from autosam.models.contract import MaskNetwork, Need
from autosam.types import Bands, ImageEmbedding, MaskLogits, Pixels, SquarePrompt


class PixelNetwork(MaskNetwork):
    """A network that looks at the picture alone, on a square of its own; its logits are as large.

    Args:
        side: Height and width of its square.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = self.low_side = self.prompt_side = side

    @property
    def training_needs(self) -> frozenset[Need]:
        """The picture."""
        return frozenset({"pixels"})

    def forward(
        self,
        pixels: Pixels | None = None,
        *,
        image_embedding: ImageEmbedding | None = None,
        prompt_pixels: Pixels | None = None,
        prompt_bands: Bands | None = None,
        prompts: Sequence[SquarePrompt] | None = None,
    ) -> MaskLogits:
        """Mask logits of shape (batch, 1, side, side), from the pixels alone.

        Raises:
            ModelError: There are no pixels, or the network refuses what else is given.
        """
        return self._logits(self._pixels_of(pixels, image_embedding, prompts))

    def _pixels_of(
        self,
        pixels: Pixels | None,
        image_embedding: ImageEmbedding | None,
        prompts: Sequence[SquarePrompt] | None,
    ) -> Pixels:
        """The pixels, which must be there; embeddings and prompts are ignored."""
        if pixels is None:
            raise ModelError(
                f"pixels must be given to {self.method!r}, got None. It has no encoder to do without."
            )
        return pixels

    @abc.abstractmethod
    def _logits(self, pixels: Pixels) -> MaskLogits:
        """Mask logits of shape (batch, 1, side, side)."""
