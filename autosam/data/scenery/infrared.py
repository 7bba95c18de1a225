"""The same scene in the near infrared: leaves are bright, stones middling, and water swallows nearly all.

Layer for layer as the colours are painted, from the same shapes and textures, with its own chance: what
the colours leave open (whether a grey is stone or water) the infrared tells, though not without doubt.
"""

from typing import Literal

import numpy as np

from autosam.data.scenery.textures import Size, noise

Material = Literal["leaf", "mineral"]

_BRIGHT_LEAF = 85.0
"""Mean of the colours of leaves; tones are flattened about it."""


class Infrared:
    """One channel of a scene while it is painted.

    Leaves scatter what they do not absorb, the more the greener they are, and into the gaps between
    them too: their contrast is lower than in colours. Stone, soil, roads and roofs are about as
    bright as in red. The order of magnitude follows Bowker et al. 1985, Spectral reflectances of
    natural targets, NASA RP-1139.

    Args:
        generator: Where the numbers come from: never that of the colours, which stay as they are.
        size: (height, width).
        unit: Pixels that are one pixel in a picture of side 384 at the middle zoom.
    """

    def __init__(self, generator: np.random.Generator, size: Size, *, unit: float) -> None:
        self.generator = generator
        self.image: np.ndarray = np.zeros(size, dtype=np.float32)
        """(height, width) float32, about 0..255, before light."""
        vigour = noise(generator, size, cell=45 * unit, octaves=4)
        self._vigour = np.float32(generator.uniform(0.85, 1.15)) * (1 + np.float32(0.09) * vigour)
        self._stone = float(generator.uniform(0.62, 0.85))

    def cover(self, layer: np.ndarray, share: np.ndarray, *, material: Material) -> None:
        """Paint where the colours are: `layer` (height, width, 3) or (3,), over a share of 0..1."""
        self.blend(self._seen(layer, material), share)

    def blend(self, seen: np.ndarray, share: np.ndarray) -> None:
        """Paint what is known already, (height, width), over a share of 0..1."""
        self.image += (seen - self.image) * share.astype(np.float32)

    def stone(self, layer: np.ndarray) -> np.ndarray:
        """Minerals of these colours (..., 3), without a leaf on them: (...)."""
        # Each kind of stone by a little of its own.
        brightness: np.ndarray = layer[..., 0] * np.float32(
            self._stone * self.generator.uniform(0.88, 1.12)
        )
        return brightness

    def _seen(self, layer: np.ndarray, material: Material) -> np.ndarray:
        if material == "mineral":
            return self.stone(layer)
        red, green, blue = np.moveaxis(np.maximum(layer, 1), -1, 0)
        total = red + green + blue
        greenness = np.clip((2 * green - red - blue) / total, 0, 0.35)
        # Half as much in the shade of a crown is not half as bright: leaves light each other.
        flat = np.float32(_BRIGHT_LEAF) * (total / np.float32(3 * _BRIGHT_LEAF)) ** np.float32(0.7)
        leaf: np.ndarray = flat * (np.float32(1.05) + np.float32(4.2) * greenness) * self._vigour
        return leaf

    def water(
        self,
        bottom: np.ndarray,
        *,
        colour: np.ndarray,
        tone: np.ndarray,
        depth: np.ndarray,
        clear: float,
    ) -> np.ndarray:
        """Water without its foam, (height, width).

        Args:
            bottom: (height, width, 3) colours of the wet bed.
            colour: (3,) of deep water: silt makes it paler here too.
            tone: (height, width) around 1, of waves and streaks.
            depth: (height, width) in pixels.
            clear: Depth in pixels at which a third of the bed's colour is left; here it is less.
        """
        deep = np.float32(colour.mean() * self.generator.uniform(0.05, 0.28))
        reach = np.float32(clear * self.generator.uniform(0.12, 0.35))
        left = np.exp(-depth / reach) * np.float32(self.generator.uniform(0.4, 0.8))
        surface = deep * tone
        seen: np.ndarray = surface + (self.stone(bottom) - surface) * left
        return seen
