"""Which SAM, and what prompts it: a network, geometry, a coarse mask."""

import dataclasses
from typing import Literal

from autosam.config.checking import check
from autosam.errors import ConfigError, did_you_mean

PromptKind = Literal["points", "box", "both", "mask", "null", "full-box"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamSettings:
    """Which SAM stands behind the prompt."""

    name: str = "nano"
    """'river-nano' (small, and installed with this package), 'nano' (random weights), 'base', 'large',
    'huge', a hub id, a folder, or Meta's .pth file."""
    revision: str = ""
    """Branch, tag or commit on the hub; empty: its main branch."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PromptSettings:
    """The network that looks at the image and writes the dense prompt."""

    network: str = "light"
    """'light', 'hardnet39ds', 'hardnet68', 'hardnet85' (the paper), or any timm backbone with features at
    strides 4, 8 and 16."""
    side: int = 256
    """Height and width of its input in pixels, a multiple of 16; the paper uses 256, 352 and 512."""
    weights: str = ""
    """Where its backbone starts: '' for random, 'imagenet' for pretrained weights that are installed or
    reachable, or the path of a weight file."""
    antialias: bool = True
    """Smooth while shrinking SAM's square to the side above; False is the paper's behaviour."""
    bands: tuple[str, ...] = ()
    """Bands that it reads besides red, green and blue: 'nir', 'thermal', 'dem', or any other name that the
    data has as a folder beside images/. SAM itself stays RGB and frozen."""

    def __post_init__(self) -> None:
        check(
            self.side >= 32 and self.side % 16 == 0,
            "prompt.side",
            "be a multiple of 16, at least 32",
            self.side,
            "Try 256, 352 or 512.",
        )
        check(
            len(set(self.bands)) == len(self.bands), "prompt.bands", "name each band once",
            list(self.bands), "Remove one.",
        )  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class GeometricSettings:
    """Points, boxes and masks as prompts, for 'decoder' and 'zero-shot'."""

    kind: PromptKind = "points"
    """'points', 'box', 'both' (points and a box in one query), 'mask' (SAM's mask prompt), 'null' (nothing)
    or 'full-box' (around the whole picture)."""
    source: Literal["coarse", "oracle"] = "coarse"
    """What they are made from at inference: 'coarse' (see the section below; nobody clicks) or 'oracle' (the
    true mask: for upper bounds only, and labelled so everywhere). Training always uses the true mask."""
    positive: int = 3
    """Points on water."""
    negative: int = 0
    """Points on land."""
    erode: bool = True
    """Draw points from the core of the mask only; it never vanishes, however narrow the river."""
    spacing: bool = True
    """Keep points apart, by a distance that grows with the mask's area."""
    fusion: Literal["joint", "mean", "best"] = "joint"
    """'joint': all points are one query and give one mask, as SAM was trained. The article's ways: each
    point a query of its own, then the 'mean' of the logits or the 'best' by SAM's predicted IoU."""
    components: Literal["one", "each"] = "one"
    """Boxes: 'one' around all the water, or one for 'each' connected component, whose masks are united."""
    perturbation: float = 0.04
    """In training, each side of a box moves by up to this share of the picture's longer side, inwards or
    outwards alike (10 px at 256); 0 for exact boxes."""

    def __post_init__(self) -> None:
        for name in ("positive", "negative"):
            value = getattr(self, name)
            check(0 <= value <= 100, f"geometric.{name}", "be in 0..100", value, "Try 3.")
        pointless = self.kind in ("points", "both") and self.positive + self.negative == 0
        check(
            not pointless, "geometric.positive", "be 1 or more to prompt with points", self.positive,
            "Set geometric.kind to null for no prompt at all.",
        )  # fmt: skip
        value = self.perturbation
        check(0 <= value < 0.5, "geometric.perturbation", "be in 0..0.5", value, "Try 0.04.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RefineSettings:
    """What becomes of the decoder's mask logits after it: drawn along the picture's own edges, or left."""

    radius: int = 0
    """Of the guided filter's windows, in cells of the decoder's grid, each four pixels of SAM's square; 0 for
    no filter. With 2 banks follow edges and the pattern of the cells goes; with 4 so do narrow channels."""
    epsilon: float = 0.0003
    """Variance of grey (0..1) below which a window of the picture counts as flat, and is averaged."""

    def __post_init__(self) -> None:
        check(0 <= self.radius <= 32, "refine.radius", "be in 0..32", self.radius, "Try 2.")
        check(
            0 < self.epsilon <= 1, "refine.epsilon", "be above 0 and at most 1", self.epsilon,
            "Try 0.0003.",
        )  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class CoarseSettings:
    """The coarse mask from which prompts are made at inference, with nobody clicking."""

    source: str = "hsv"
    """'hsv' (a range of hue, saturation and value), 'index' (needs the band nir, or swir), 'thermal' (needs
    the band thermal; cold is dark), or the folder or hub id of a trained run, whose mask it then is. On grey
    rivers like the Elwha fixed 'hsv' ranges are poor, with an IoU of .20 to .32: prefer a run."""
    index: str = "ndwi"
    """For 'index': ndwi (green and nir), mndwi (green and swir), ndvi (red and nir; water is low) or nir
    (water is dark)."""
    threshold: str = "fit"
    """For 'index' and 'thermal': 'fit' (tuned on training masks), 'otsu' (of each picture), or a number."""
    minimum_area: float = 0.0005
    """Components below this share of the picture are dropped."""
    largest_hole: float = 0.0005
    """Holes up to this share of the picture are closed."""
    erosions: int = 0
    """Passes of a 3 x 3 erosion, fewer where a component would vanish."""

    def __post_init__(self) -> None:
        check(bool(self.source), "coarse.source", "name a rule or a run", self.source, "Try hsv.")
        known = ("ndwi", "mndwi", "ndvi", "nir")
        if self.index not in known:
            raise ConfigError(
                f"coarse.index must be one of its choices, got {self.index!r}. "
                f"{did_you_mean(self.index, known)}"
            )
        try:
            number = 0.0 if self.threshold in ("fit", "otsu") else float(self.threshold)
        except ValueError:
            number = float("nan")
        check(
            number - number == 0, "coarse.threshold", "be fit, otsu or a number", self.threshold,
            "Try fit.",
        )  # fmt: skip
        for name in ("minimum_area", "largest_hole"):
            value = getattr(self, name)
            check(0 <= value < 1, f"coarse.{name}", "be in 0..1", value, "It is a share.")
        check(0 <= self.erosions <= 50, "coarse.erosions", "be in 0..50", self.erosions, "Use 0.")
