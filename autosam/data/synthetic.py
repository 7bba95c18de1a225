"""Procedural river scenes from above: the data that needs no download.

A scene is painted from the ground up (soil, gravel, water, roads, trees), then lit, then seen
through an imperfect camera. Water is grey, brown, dark or milky and never a colour of its own:
stones, roads and shadows share it, so that a scene is solved by texture and shape only.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from autosam.data.bands import check_band_names
from autosam.data.sample_sequences import SampleSequence
from autosam.data.scenery.camera import light_up, photographed, photographed_infrared
from autosam.data.scenery.channels import Channels, lay_channels
from autosam.data.scenery.infrared import Infrared
from autosam.data.scenery.structures import ROADS, lay_road, raise_buildings
from autosam.data.scenery.terrain import (
    AUTUMN,
    BARE_TREES,
    GREENS,
    SOILS,
    Ground,
    bare_ground,
    gravel,
    picked,
    plant_trees,
    strew_logs,
)
from autosam.data.scenery.textures import Colour, Size, noise, smooth_step, tinted
from autosam.data.scenery.water import WATERS, paint_water, set_boulders
from autosam.errors import DataError, did_you_mean
from autosam.types import Sample

KINDS = ("meander", "braided", "island", "narrow", "dry")
KIND_SHARES = (0.3, 0.2, 0.2, 0.2, 0.1)
KIND_CYCLE = (
    "meander", "braided", "island", "narrow", "dry",
    "meander", "braided", "island", "narrow", "meander",
)  # fmt: skip
"""The kinds of consecutive scenes of a dataset, so that even a small one holds them all."""
BANDS = ("nir",)
"""What a scene can have besides red, green and blue."""
LEAST_SIDE = 32
BED_SHARE: dict[str, tuple[float, float]] = {
    "meander": (0.07, 0.65),
    "braided": (0.08, 0.55),
    "island": (0.12, 0.65),
    "narrow": (0.015, 0.12),
    "dry": (0.04, 0.45),
}
"""Share of the picture below the banks, before crowns, boulders and bridges hide some of it."""


_INFRARED = 1
"""Set beside a seed, of the infrared's own numbers: with them or without, the colours are the same."""


def make_scene(
    seed: int,
    *,
    side: int | tuple[int, int] = 384,
    kind: str | None = None,
    bands: Sequence[str] = (),
) -> Sample:
    """Draw one river scene from above.

    Args:
        seed: 0 or more; equal seeds, sizes and kinds give equal scenes.
        side: Height and width in pixels, or (height, width); each at least 32.
        kind: One of `KINDS`; None draws one. "dry" has no water, but perhaps an empty bed.
        bands: Of `BANDS`; they change nothing else. 'nir' is near infrared as a second camera of 8
            bits sees it, 0..255: a help, not the answer, since shadows and wet stones are dark too,
            while foam, silt and shallows are not.

    Returns:
        A sample whose mask is exactly what was painted as water: crowns, boulders, logs and bridges
        that hide it are not water, shadows on it are.

    Raises:
        DataError: The seed, size, kind or a band is not one of these.
    """
    size, bands = _checked_size(side), _checked_bands(bands)
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise DataError(f"seed must be a whole number of 0 or more, got {seed!r}. Use 0 to begin.")
    if kind is not None and kind not in KINDS:
        raise DataError(
            f"kind must be a kind of scene, got {kind!r}. {did_you_mean(str(kind), KINDS)}"
        )
    generator = np.random.Generator(np.random.PCG64(int(seed)))
    # Drawn even when given, so that make_scene(s) and make_scene(s, kind=the one drawn) are equal.
    drawn = str(generator.choice(KINDS, p=KIND_SHARES))
    own = np.random.Generator(np.random.PCG64((int(seed), _INFRARED))) if bands else None
    image, mask, nir = _paint(generator, size, kind or drawn, own)
    name = f"scene_{int(seed):05d}"
    return Sample(
        name=name, image=image, mask=mask, place=name, bands={} if nir is None else {"nir": nir}
    )


class SyntheticDataset(SampleSequence):
    """Any number of scenes, each drawn when it is asked for.

    Scene i depends on the seed, i and the size only, not on the count or the bands.

    Raises:
        DataError: The count, size or seed is out of range, or a band is not one of `BANDS`.
    """

    def __init__(
        self,
        count: int,
        *,
        side: int | tuple[int, int] = 384,
        seed: int = 0,
        bands: Sequence[str] = (),
    ) -> None:
        if isinstance(count, bool) or not isinstance(count, int) or count < 0:
            raise DataError(
                f"count must be a whole number of 0 or more, got {count!r}. Use 48 to begin."
            )
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise DataError(
                f"seed must be a whole number of 0 or more, got {seed!r}. Use 0 to begin."
            )
        self.size = _checked_size(side)
        self.seed = seed
        self.bands = _checked_bands(bands)
        self.names = tuple(f"scene_{index:05d}" for index in range(count))

    def __len__(self) -> int:
        return len(self.names)

    def read(self, place: int) -> Sample:
        """The scene at a place."""
        name = self.names[place]
        # A sequence of two seeds has no collisions between datasets, as seed + index would have.
        seed = int(np.random.SeedSequence((self.seed, place)).generate_state(1, np.uint64)[0])
        kind = KIND_CYCLE[place % len(KIND_CYCLE)]
        scene = make_scene(seed, side=self.size, kind=kind, bands=self.bands)
        return dataclasses.replace(scene, name=name, place=name)


def _checked_size(side: int | tuple[int, int]) -> Size:
    sides = tuple(side) if isinstance(side, tuple | list) else (side, side)
    whole = all(isinstance(one, int | np.integer) and not isinstance(one, bool) for one in sides)
    if len(sides) != 2 or not whole or min(sides) < LEAST_SIDE:
        raise DataError(
            f"side must be one or two whole numbers of {LEAST_SIDE} or more, got {side!r}. "
            "Use 384, or (height, width) in pixels."
        )
    return int(sides[0]), int(sides[1])


def _checked_bands(bands: Sequence[str]) -> tuple[str, ...]:
    for name in check_band_names(bands):
        if name not in BANDS:
            raise DataError(
                f"bands of synthetic scenes must be offered, got {name!r}. {did_you_mean(name, BANDS)}"
            )
    return tuple(bands)


def _paint(
    generator: np.random.Generator, size: Size, kind: str, own: np.random.Generator | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """(image uint8, mask bool, near infrared float32) of one scene; the last by its own generator."""
    extent = float(np.sqrt(size[0] * size[1]))
    unit = extent / 384 * float(np.exp(generator.uniform(np.log(0.6), np.log(1.7))))
    sun = float(generator.uniform(0, 2 * np.pi))
    bed = str(generator.choice(KINDS[:4])) if kind == "dry" else kind
    channels = lay_channels(generator, size, kind=bed, limits=BED_SHARE[kind])
    infrared = None if own is None else Infrared(own, size, unit=unit)
    ground = bare_ground(generator, size, unit=unit, infrared=infrared)
    water_colour = picked(generator, WATERS, spread=3)
    # Stones share the colour of the silt, which without water is that of the soil.
    silt = picked(generator, SOILS) if kind == "dry" else water_colour
    stones = gravel(generator, size, unit=unit, near=silt)
    _paint_bars(generator, ground, channels, stones, is_dry=kind == "dry")
    wet = (channels.level < 0) & (kind != "dry")
    if kind == "dry":
        braided = bed == "braided"
        _paint_dry_bed(generator, ground, channels, stones, braided=braided)
    else:
        paint_water(generator, ground, channels, stones, water_colour)
        set_boulders(generator, ground, wet)
    bars = (channels.level < channels.bar) & ~wet
    strew_logs(generator, ground, bars, count=int(generator.integers(0, 30)))
    _build(generator, ground, channels, wet, water_colour)
    _grow(generator, ground, channels, sun=sun)
    mask = wet & ~ground.covered
    light = light_up(generator, ground, sun=sun)
    nir = None if infrared is None else photographed_infrared(infrared, light)
    return photographed(generator, ground, light), mask, nir


def _paint_bars(
    generator: np.random.Generator,
    ground: Ground,
    channels: Channels,
    stones: np.ndarray,
    *,
    is_dry: bool,
) -> None:
    """Gravel beside the bed, dark where it is wet."""
    ragged = noise(generator, ground.size, cell=14 * ground.unit, octaves=4) * 3 * ground.unit
    share = smooth_step(channels.bar - channels.level + ragged, 0, 3 * ground.unit)
    damp = generator.uniform(2, 9) * ground.unit
    wetness = np.exp(-np.maximum(channels.level, 0) / np.float32(damp))
    strength = generator.uniform(0.15, 0.45) * (not is_dry)
    darker = stones * (1 - strength * wetness)[..., None]
    ground.cover(darker.astype(np.float32), share, material="mineral")


def _paint_dry_bed(
    generator: np.random.Generator,
    ground: Ground,
    channels: Channels,
    stones: np.ndarray,
    *,
    braided: bool,
) -> None:
    """A bed without water: gravel, or mud that has dried and cracked."""
    choice = generator.random()
    if choice < 0.4:
        return
    share = smooth_step(-channels.level, -1.5, 1.5)
    # Narrow lines and threads of smooth mud could be muddy rivers, even to a careful eye.
    if choice < 0.75 or braided or float((channels.level < 0).mean()) < 0.12:
        ground.cover(stones, share, material="mineral")
        return
    cracks = noise(generator, ground.size, cell=7 * ground.unit, octaves=4)
    wide = noise(generator, ground.size, cell=60 * ground.unit, octaves=5)
    share *= 1 - smooth_step(wide + 0.4 * cracks, 0.5, 1.0)
    tone = 1.05 + 0.08 * wide + 0.07 * cracks - 0.15 * (cracks > 1.3)
    mud = tinted(picked(generator, SOILS), tone)
    ground.cover(mud, share, material="mineral")


def _build(
    generator: np.random.Generator,
    ground: Ground,
    channels: Channels,
    wet: np.ndarray,
    water_colour: np.ndarray,
) -> None:
    """Roads and roofs; more of them, and wide smooth ones, where there is no water."""
    is_dry = not wet.any()
    roads = generator.integers(0, 3) if is_dry else generator.random() < 0.3
    for _ in range(int(roads)):
        widest = 46 if is_dry else 16
        width = max(2.0, generator.uniform(5, widest) * ground.unit)
        colour = picked(generator, ROADS)
        if generator.random() < 0.4:
            colour = water_colour * np.float32(generator.uniform(0.9, 1.1))
        lay_road(generator, ground, wet, width=width, colour=colour)
    if generator.random() < (0.5 if is_dry else 0.25):
        free = channels.level > np.maximum(channels.bar, 0) + 14 * ground.unit
        free &= ~ground.covered
        raise_buildings(generator, ground, free, count=int(generator.integers(2, 24)))


def _grow(
    generator: np.random.Generator, ground: Ground, channels: Channels, *, sun: float
) -> None:
    """Bushes and trees on land that is neither bare gravel nor built on."""
    dry_land = (channels.level > np.maximum(channels.bar, 0) + ground.unit) & ~ground.covered
    wooded = noise(generator, ground.size, cell=90 * ground.unit, octaves=4)
    openness = generator.uniform(-1.6, 1.8)
    leaves = _season(generator)
    if generator.random() < 0.75:
        low = smooth_step(wooded, openness - 1.2, openness - 0.4) * generator.uniform(0.3, 0.9)
        radius = generator.uniform(2, 4) * ground.unit
        plant_trees(generator, ground, low * dry_land, radius=radius, palette=leaves, sun=sun)
    high = smooth_step(wooded, openness - 0.2, openness + 0.2) * generator.uniform(0.5, 1.0)
    radius = generator.uniform(5, 13) * ground.unit
    dry_land &= channels.level > channels.bar + 0.4 * radius
    plant_trees(generator, ground, high * dry_land, radius=radius, palette=leaves, sun=sun)


def _season(generator: np.random.Generator) -> tuple[Colour, ...]:
    chance = generator.random()
    if chance < 0.7:
        first = int(generator.integers(len(GREENS)))
        return GREENS[first], GREENS[(first + 1) % len(GREENS)]
    return (GREENS[0], *AUTUMN) if chance < 0.85 else BARE_TREES
