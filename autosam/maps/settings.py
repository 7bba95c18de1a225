"""How a raster is masked: what a user may choose, in one place."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

from autosam.errors import ConfigError
from autosam.maps.rasters import RasterChoice

ProbabilityKind = Literal["none", "uint8", "float32"]
_PROBABILITIES = ("none", "uint8", "float32")
SCALE_LIMITS = (0.25, 4.0)
"""Beyond, a tile would take too much memory, or a model see nothing but what interpolation makes up."""
MOST_SCALES = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class MapSettings:
    """How to mask a raster.

    Raises:
        ConfigError: A value cannot be used.
    """

    choice: RasterChoice = dataclasses.field(default_factory=RasterChoice)
    """Bands, nodata value and value range."""
    resolution: float | None = None
    """Metres per pixel at which the model sees it; None: the raster's own, as far as the model was trained
    with such."""
    threshold: float | None = None
    """Probability from which a pixel is water; None: the model's."""
    probability: ProbabilityKind = "none"
    """Also write the probability, as 0..254 in 8 bits or as it is."""
    side: int | None = None
    """Height and width of a tile in pixels; None: the model's own."""
    overlap: float = 0.25
    """Share of its side that a tile has in common with its neighbour, 0..0.5."""
    shift: int = 0
    """Pixels by which the grid of tiles is moved, to measure seams."""
    batch: int | None = None
    """Tiles that the model is given together; None: as many as it likes."""
    dihedral: bool = False
    """Show each tile turned and mirrored in all eight ways and take the mean: eight times the work."""
    scales: tuple[float, ...] = (1.0,)
    """Show each tile at several scales and take the mean: pixels that the model sees for one of the raster
    along each axis. At 0.5 it sees twice as much ground in each direction, at 2 half as much."""

    def __post_init__(self) -> None:
        if self.probability not in _PROBABILITIES:
            raise ConfigError(
                f"probability must be none, uint8 or float32, got {self.probability!r}. Choose one."
            )
        rules = {
            "resolution": (self.resolution is None or self.resolution > 0, "above 0"),
            "threshold": (self.threshold is None or 0 < self.threshold < 1, "between 0 and 1"),
            "overlap": (0 <= self.overlap <= 0.5, "0 to 0.5"),
            "batch": (self.batch is None or self.batch >= 1, "1 or more"),
            "side": (self.side is None or self.side >= 8, "8 or more"),
        }
        for name, (holds, rule) in rules.items():
            if not holds:
                raise ConfigError(f"{name} must be {rule}, got {getattr(self, name)!r}. Change it.")
        object.__setattr__(self, "scales", _checked_scales(self.scales))

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        values = dataclasses.asdict(self)
        values["scales"] = list(self.scales)
        values["choice"]["bands"] = list(self.choice.bands)
        wanted = self.choice.value_range
        values["choice"]["value_range"] = None if wanted is None else list(wanted)
        return values


def _checked_scales(scales: Sequence[float]) -> tuple[float, ...]:
    """Ascending, so that equal choices are equal."""
    (low, high), given = SCALE_LIMITS, scales if isinstance(scales, Sequence) else ()
    numbers = [one for one in given if isinstance(one, int | float) and low <= one <= high]
    if not 1 <= len(given) <= MOST_SCALES or len(set(numbers)) < len(given):
        raise ConfigError(
            f"scales must be 1 to {MOST_SCALES} different numbers from {low:g} to {high:g}, got {scales!r}. "
            "Give for example 0.5, 1 and 2."
        )
    return tuple(sorted(float(one) for one in numbers))
