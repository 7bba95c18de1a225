"""What the real Elwha training labels suffer from, on demand.

Measured on four tiles, original against corrected label: IoU .83, .73, .83 and .02; recall .93, .76,
.85 and .02; precision .89, .95, .97 and .57. Banks are under-filled, outlines are coarse polygons, and
sometimes a whole channel is missing.
"""

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import cv2
import numpy as np

from autosam.data.sample_sequences import SampleSequence
from autosam.data.scenery.textures import noise
from autosam.errors import DataError, did_you_mean
from autosam.types import Sample

NoiseKind = Literal["under-filled", "channel-missing", "polygon-coarse"]
NOISE_KINDS: tuple[NoiseKind, ...] = get_args(NoiseKind)
NOISE_SHARES = (0.5, 0.2, 0.3)
REAL_STRENGTHS = (0.35, 0.65)
"""Strengths at which under-filled masks score as the measured labels do: IoU about .74 to .86."""
SMALLEST_CHANNEL_SHARE = 0.03
"""A channel is worth losing when it is at least this share of the water."""


def spoil_mask(
    mask: np.ndarray, *, kind: str, strength: float, generator: np.random.Generator
) -> np.ndarray:
    """Make a mask as wrong as the real labels are.

    Args:
        mask: (height, width) bool, True for water; left as it is.
        kind: "under-filled" (banks lost, a little land gained), "channel-missing" (one component or
            branch lost, the rest untouched) or "polygon-coarse" (few corners, drawn by a hasty hand).
        strength: 0 leaves the mask as it is; 0.5 is as wrong as the measured labels; 1 is far worse.
        generator: Where the numbers come from.

    Returns:
        (height, width) bool. A mask without water stays empty.

    Raises:
        DataError: The mask is not a bool picture, or kind or strength is not one of these.
    """
    _check(mask, kind, strength)
    unchanged: np.ndarray = mask.copy()
    if strength == 0 or not mask.any():
        return unchanged
    spoil: dict[str, Callable[[np.ndarray, float, np.random.Generator], np.ndarray]] = {
        "under-filled": _under_filled,
        "channel-missing": _channel_missing,
        "polygon-coarse": _polygon_coarse,
    }
    return spoil[kind](mask, float(strength), generator)


class NoisyLabels(SampleSequence):
    """Samples of which some have spoiled masks; see `add_label_noise`."""

    spoiled: dict[str, NoiseKind]
    """Which samples are spoiled, by name, and how."""

    def __init__(
        self, samples: Sequence[Sample], *, spoiled_at: dict[int, NoiseKind], seed: int
    ) -> None:
        self._samples = samples
        self._spoiled_at = spoiled_at
        self._seed = seed
        self.names = _names(samples)
        self.spoiled = {self.names[index]: kind for index, kind in spoiled_at.items()}

    def __len__(self) -> int:
        return len(self._samples)

    def read(self, place: int) -> Sample:
        """The sample at a place, with its spoiled mask if it has one."""
        sample = self._samples[place]
        kind = self._spoiled_at.get(place)
        if kind is None or sample.mask is None:
            return sample
        generator = np.random.default_rng((self._seed, place))
        strength = generator.uniform(*REAL_STRENGTHS)
        mask = spoil_mask(sample.mask, kind=kind, strength=strength, generator=generator)
        return Sample(
            name=sample.name,
            image=sample.image,
            mask=mask,
            valid=sample.valid,
            place=sample.place,
            date=sample.date,
            georeference=sample.georeference,
            bands=sample.bands,
        )


def add_label_noise(samples: Sequence[Sample], *, share: float, seed: int) -> NoisyLabels:
    """Spoil the masks of some samples, each when it is asked for; pictures and names stay.

    Which samples are spoiled, and how, follows from the share, the seed and the number of samples.

    Args:
        samples: Left as they are; unlabelled ones stay unlabelled.
        share: Share of the samples to spoil, 0..1.
        seed: 0 or more.

    Raises:
        DataError: The share or the seed is out of range.
    """
    if not 0 <= share <= 1:
        raise DataError(f"share must be in 0..1, got {share!r} (label noise). It is no percentage.")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise DataError(
            f"seed must be a whole number of 0 or more, got {seed!r} (label noise). Use 0."
        )
    generator = np.random.default_rng(seed)
    chosen = generator.permutation(len(samples))[: round(share * len(samples))]
    kinds = generator.choice(len(NOISE_KINDS), size=len(chosen), p=NOISE_SHARES)
    spoiled_at = {
        int(index): NOISE_KINDS[kind]
        for index, kind in sorted(zip(chosen.tolist(), kinds.tolist(), strict=True))
    }
    return NoisyLabels(samples, spoiled_at=spoiled_at, seed=seed)


def _names(samples: Sequence[Sample]) -> tuple[str, ...]:
    """Names without reading the pictures, where the dataset knows them."""
    names = getattr(samples, "names", None)
    return tuple(names if names is not None else (sample.name for sample in samples))


def _check(mask: np.ndarray, kind: str, strength: float) -> None:
    if not isinstance(mask, np.ndarray) or mask.ndim != 2 or mask.dtype != np.bool_:
        given = (
            f"{mask.dtype} {mask.shape}" if isinstance(mask, np.ndarray) else type(mask).__name__
        )
        raise DataError(
            f"mask must be bool (height, width), got {given}. Compare it with 0 first: mask != 0."
        )
    if kind not in NOISE_KINDS:
        raise DataError(
            f"kind must be a kind of label noise, got {kind!r}. {did_you_mean(str(kind), NOISE_KINDS)}"
        )
    if not 0 <= strength <= 1:
        raise DataError(
            f"strength must be in 0..1, got {strength!r} ({kind}). Use 0.5 for real labels."
        )


def _under_filled(mask: np.ndarray, strength: float, generator: np.random.Generator) -> np.ndarray:
    """Banks move into the water by an uneven distance, and out of it here and there.

    The share of the water that is lost and the share of land that is gained are set, not the
    distance: a narrow river and a wide one then suffer alike, as the measured tiles do.
    """
    size = (mask.shape[0], mask.shape[1])
    rough = noise(generator, size, cell=max(size) / 10, octaves=4)
    # Relative to its width, so that a narrow channel is not lost before a wide one is touched.
    depth = _distance(mask)
    middle = max(float(np.median(depth[mask])), 1.0)
    inward = depth / middle + 0.35 * rough
    lost = strength * generator.uniform(0.28, 0.42)
    kept = mask & (inward > np.quantile(inward[mask], lost))
    gained = round(strength * generator.uniform(0.06, 0.16) * int(kept.sum()))
    outward = np.where(mask, np.inf, _distance(~mask) / middle - 0.35 * rough)
    rank = min(gained, outward.size - 1)
    spoiled: np.ndarray = kept | (outward < np.partition(outward, rank, axis=None)[rank])
    return spoiled


def _channel_missing(
    mask: np.ndarray, strength: float, generator: np.random.Generator
) -> np.ndarray:
    """Lose one whole component, or one branch when all the water hangs together."""
    worth = max(1.0, SMALLEST_CHANNEL_SHARE * float(mask.sum()))
    parts = _parts(mask, least=worth)
    if len(parts) < 2:
        parts = _branches(mask, least=worth)
    sizes = np.array([part.sum() for part in parts], dtype=np.float64)
    order = np.argsort(sizes, kind="stable")
    # Stronger noise reaches for larger channels; the largest is only lost when it is the only one.
    reachable = order[: max(1, round(strength * (len(order) - 1)))]
    lost = _parts(parts[int(generator.choice(reachable))], least=1)
    # A branch may own specks beyond it, which nobody would have missed together with it.
    remaining: np.ndarray = mask & ~max(lost, key=np.count_nonzero)
    return remaining


def _parts(mask: np.ndarray, *, least: float) -> list[np.ndarray]:
    """The 8-connected components of at least `least` pixels."""
    count, labels, statistics, _ = cv2.connectedComponentsWithStats(
        mask.astype(np.uint8), connectivity=8
    )
    areas = statistics[:, cv2.CC_STAT_AREA]
    return [labels == label for label in range(1, count) if areas[label] >= least]


def _branches(mask: np.ndarray, *, least: float) -> list[np.ndarray]:
    """Cut the water at its narrow places: the narrowest cut that leaves two parts or more.

    Water that never narrows is cut in two across its longer extent, as a label that ends too early.
    """
    depth = _distance(mask)
    for cut in np.linspace(0.15, 0.85, 8) * float(depth.max()):
        cores = _parts(depth > cut, least=least / 2)
        if len(cores) >= 2:
            return _grown(mask, cores)
    rows, columns = np.nonzero(mask)
    longer, position = (rows, "row") if np.ptp(rows) > np.ptp(columns) else (columns, "column")
    middle = np.median(longer)
    index = (
        np.arange(mask.shape[0])[:, None] if position == "row" else np.arange(mask.shape[1])[None]
    )
    halves = [mask & (index > middle), mask & (index <= middle)]
    return [half for half in halves if half.any()]


def _grown(mask: np.ndarray, cores: list[np.ndarray]) -> list[np.ndarray]:
    """Give every pixel of the mask to the nearest core."""
    seeds = np.zeros(mask.shape, dtype=np.int32)
    for number, core in enumerate(cores, start=1):
        seeds[core] = number
    _, nearest = cv2.distanceTransformWithLabels(
        (seeds == 0).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    owner = np.zeros(int(nearest.max()) + 1, dtype=np.int32)
    owner[nearest[seeds > 0]] = seeds[seeds > 0]
    owners = owner[nearest]
    return [mask & (owners == number) for number in range(1, len(cores) + 1)]


def _polygon_coarse(
    mask: np.ndarray, strength: float, generator: np.random.Generator
) -> np.ndarray:
    """Outlines become polygons with few, slightly misplaced corners; holes keep theirs or vanish."""
    # Pixels from the bank that hold half of the water: the scale at which an outline is coarse.
    middle = max(float(np.median(_distance(mask)[mask])), 1.0)
    tolerance = max(1.5, (0.5 + 1.4 * strength) * middle * generator.uniform(0.8, 1.2))
    outlines, hierarchy = cv2.findContours(
        mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE
    )
    drawn = np.zeros(mask.shape, dtype=np.uint8)
    for is_hole in (False, True):
        for outline, links in zip(outlines, hierarchy[0], strict=True):
            if (links[3] >= 0) != is_hole:
                continue
            corners = cv2.approxPolyDP(outline, tolerance, True)[:, 0]
            if len(corners) >= 3:
                moved = corners + generator.normal(0, 0.12 * tolerance, corners.shape)
                cv2.fillPoly(drawn, [np.rint(moved).astype(np.int32)], 0 if is_hole else 1)
    return drawn.astype(bool)


def _distance(area: np.ndarray) -> np.ndarray:
    """Pixels from each True pixel to the nearest False one, (height, width) float32; the border is
    no bank, because the river goes on beyond it.
    """
    if area.all():
        return np.full(area.shape, float(max(area.shape)), dtype=np.float32)
    return cv2.distanceTransform(area.astype(np.uint8), cv2.DIST_L2, 5)
