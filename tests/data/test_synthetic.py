import hashlib
import subprocess
import sys

import cv2
import numpy as np
import pytest

from autosam.data.scenery import channels
from autosam.data.scenery.camera import Light, photographed_infrared
from autosam.data.scenery.channels import lay_channels
from autosam.data.scenery.infrared import Infrared
from autosam.data.scenery.textures import cast_shadow, flow_noise, noise
from autosam.data.synthetic import KINDS, SyntheticDataset, make_scene
from autosam.errors import DataError

SIDE = 128
SEEDS = range(12)


@pytest.fixture(autouse=True)
def _drawn_anew(monkeypatch):
    """Elsewhere a dataset's scenes are kept for the tests to come."""
    monkeypatch.setattr("autosam.data.synthetic.make_scene", make_scene)


def digest(*, seed: int, side: int = 96) -> str:
    scene = make_scene(seed, side=side)
    assert scene.mask is not None
    return hashlib.sha256(scene.image.tobytes() + scene.mask.tobytes()).hexdigest()


def iou(predicted: np.ndarray, truth: np.ndarray) -> float:
    union = (predicted | truth).sum()
    return float((predicted & truth).sum() / union) if union else 1.0


@pytest.fixture(scope="module")
def wet_scenes():
    wet = [kind for kind in KINDS if kind != "dry"]
    return [make_scene(seed, side=256, kind=wet[seed % len(wet)]) for seed in range(24)]


def test_a_scene_is_the_same_in_another_process():
    code = (
        "import hashlib; from autosam.data.synthetic import make_scene; s = make_scene(7, side=96);"
        "print(hashlib.sha256(s.image.tobytes() + s.mask.tobytes()).hexdigest())"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == digest(seed=7)


def test_a_scene_does_not_depend_on_the_number_of_threads():
    threads = cv2.getNumThreads()
    try:
        cv2.setNumThreads(1)
        single = digest(seed=3, side=256)
        cv2.setNumThreads(4)
        assert digest(seed=3, side=256) == single
    finally:
        cv2.setNumThreads(threads)


def test_a_scene_leaves_the_global_random_state_alone():
    before = np.random.get_state()[1].copy()
    make_scene(1, side=64)
    np.testing.assert_array_equal(np.random.get_state()[1], before)


def test_scenes_of_other_seeds_are_other_scenes():
    digests = {digest(seed=seed, side=48) for seed in range(30)}
    assert len(digests) == 30


def test_a_kind_that_would_be_drawn_anyway_changes_nothing():
    free = make_scene(5, side=64)
    same = [np.array_equal(make_scene(5, side=64, kind=kind).image, free.image) for kind in KINDS]
    assert sum(same) == 1


@pytest.mark.parametrize(
    ("kind", "least", "greatest"),
    [
        ("meander", 0.03, 0.65),
        ("braided", 0.04, 0.55),
        ("island", 0.06, 0.65),
        ("narrow", 0.001, 0.12),
        ("dry", 0.0, 0.0),
    ],
)
def test_the_water_share_is_in_the_range_of_its_kind(kind: str, least: float, greatest: float):
    shares = [make_scene(seed, side=SIDE, kind=kind).mask.mean() for seed in SEEDS]
    assert min(shares) >= least
    assert max(shares) <= greatest


def test_rivers_leave_the_picture_over_its_border(wet_scenes):
    touching = [
        bool(m[0].any() or m[-1].any() or m[:, 0].any() or m[:, -1].any())
        for m in (scene.mask for scene in wet_scenes)
    ]
    assert np.mean(touching) >= 0.9


def test_islands_are_land_inside_the_water():
    surrounded = []
    for seed in SEEDS:
        field = lay_channels(
            np.random.default_rng(seed), (192, 192), kind="island", limits=(0.12, 0.65)
        )
        land = (field.level >= 0).astype(np.uint8)
        _, _, boxes, _ = cv2.connectedComponentsWithStats(land, connectivity=4)
        left, top, width, height, area = boxes[1:].T
        inside = (left > 0) & (top > 0) & (left + width < 192) & (top + height < 192)
        surrounded.append((inside & (area > 30)).any())
    assert np.mean(surrounded) >= 0.5


def test_braids_part_the_land_into_several_pieces():
    pieces = []
    for seed in SEEDS:
        field = lay_channels(
            np.random.default_rng(seed), (192, 192), kind="braided", limits=(0.08, 0.6)
        )
        count, _, statistics, _ = cv2.connectedComponentsWithStats(
            (field.level >= 0).astype(np.uint8)
        )
        pieces.append(sum(statistics[i, cv2.CC_STAT_AREA] > 20 for i in range(1, count)))
    assert np.median(pieces) >= 4


def test_river_coordinates_agree_with_a_search_over_every_point():
    size = (60, 90)
    y, x = np.mgrid[: size[0], : size[1]]
    for seed in range(3):
        line, _ = channels._centre_line(np.random.default_rng(seed), size, bend=0.8)
        along, across, distance = channels._river_coordinates(line, size)
        count = np.arange(len(line))
        dense = np.stack([np.interp(np.arange(0, len(line) - 1, 0.1), count, p) for p in line.T])
        squares = (x[..., None] - dense[0]) ** 2 + (y[..., None] - dense[1]) ** 2
        exact = np.sqrt(squares.min(axis=-1))
        arc = squares.argmin(axis=-1) * 0.1 * np.hypot(*(line[1] - line[0]))
        near = exact < 12
        assert np.abs(distance - exact)[near].max() < 0.05
        assert np.abs(np.abs(across) - exact)[near].max() < 0.05
        assert np.abs(along - arc)[near].max() < 0.5
        # Far away, where two bends are equally near, the coarse search may take the other one.
        assert np.quantile(np.abs(distance - exact)[exact < 25], 0.99) < 0.05


def test_water_has_little_colour(wet_scenes):
    medians = [
        np.median(cv2.cvtColor(s.image, cv2.COLOR_RGB2HSV)[s.mask][:, 1]) for s in wet_scenes
    ]
    # Real Elwha tiles: 8 to 40 of 255.
    assert np.median(medians) < 50
    assert max(medians) < 110


def test_water_is_never_simply_blue(wet_scenes):
    excess = [
        float(np.median(s.image[s.mask][:, 2].astype(int) - s.image[s.mask][:, :2].max(axis=1)))
        for s in wet_scenes
    ]
    assert max(excess) < 40


@pytest.mark.parametrize(
    ("low", "high"),
    [((0, 10, 20), (160, 200, 230)), ((75, 10, 20), (140, 200, 230)), ((0, 0, 40), (179, 40, 255))],
)
def test_no_fixed_colour_range_finds_the_water(wet_scenes, low, high):
    scores = [
        iou(cv2.inRange(cv2.cvtColor(s.image, cv2.COLOR_RGB2HSV), low, high) > 0, s.mask)
        for s in wet_scenes
    ]
    assert np.mean(scores) < 0.6


def test_even_the_best_of_many_colour_ranges_is_poor(wet_scenes):
    hsv = [cv2.cvtColor(scene.image, cv2.COLOR_RGB2HSV) for scene in wet_scenes]
    best = 0.0
    for saturation in (20, 30, 40, 60, 80):
        for darkest in (0, 40, 80, 120, 160):
            for brightest in (100, 160, 200, 255):
                found = [
                    cv2.inRange(h, (0, 0, darkest), (179, saturation, brightest)) > 0 for h in hsv
                ]
                scores = [iou(f, s.mask) for f, s in zip(found, wet_scenes, strict=True)]
                best = max(best, float(np.mean(scores)))
    assert best < 0.6


def test_the_edge_of_the_mask_is_where_the_picture_changes(wet_scenes):
    inside_step, edge_step = [], []
    for scene in wet_scenes:
        grey = cv2.cvtColor(scene.image, cv2.COLOR_RGB2GRAY).astype(float)
        step = np.abs(np.diff(grey, axis=1))
        edge = scene.mask[:, 1:] != scene.mask[:, :-1]
        inside = scene.mask[:, 1:] & scene.mask[:, :-1]
        edge_step.append(step[edge].mean())
        inside_step.append(step[inside].mean())
    assert np.mean(np.array(edge_step) > 1.3 * np.array(inside_step)) > 0.9


@pytest.mark.parametrize("side", [32, 33, (32, 200), (301, 45), (64, 48)])
def test_any_height_and_width_works(side):
    height, width = (side, side) if isinstance(side, int) else side
    for kind in KINDS:
        scene = make_scene(4, side=side, kind=kind)
        assert scene.image.shape == (height, width, 3)
        assert scene.image.dtype == np.uint8
        assert scene.mask.shape == (height, width)
        assert scene.mask.any() == (kind != "dry")


def test_no_scene_is_blank():
    for seed in range(20):
        grey = make_scene(seed, side=96).image.mean(axis=-1)
        assert grey.std() > 5
        assert 20 < grey.mean() < 235


def test_a_dataset_reads_like_a_list_and_repeats_itself():
    dataset = SyntheticDataset(12, side=48, seed=3)
    assert len(dataset) == 12
    names = [sample.name for sample in dataset]
    assert names == [f"scene_{index:05d}" for index in range(12)]
    assert dataset.names == tuple(names)
    assert dataset[-1].name == dataset[-1].place == "scene_00011"
    assert [sample.name for sample in dataset[3:5]] == ["scene_00003", "scene_00004"]
    np.testing.assert_array_equal(dataset[5].image, dataset[5].image)
    np.testing.assert_array_equal(dataset[-1].image, dataset[11].image)
    with pytest.raises(IndexError):
        dataset[12]


def test_a_scene_of_a_dataset_does_not_depend_on_the_count():
    few, many = SyntheticDataset(3, side=48, seed=1), SyntheticDataset(300, side=48, seed=1)
    np.testing.assert_array_equal(few[2].image, many[2].image)


def test_datasets_of_other_seeds_share_no_scene():
    first, second = SyntheticDataset(8, side=40, seed=0), SyntheticDataset(8, side=40, seed=1)
    pictures = {sample.image.tobytes() for dataset in (first, second) for sample in dataset}
    assert len(pictures) == 16


def test_even_a_small_dataset_holds_water_and_dry_land():
    shares = [sample.mask.mean() for sample in SyntheticDataset(5, side=48)]
    assert sum(share == 0 for share in shares) == 1


# --- near infrared


@pytest.fixture(scope="module")
def lit_scenes():
    wet = [kind for kind in KINDS if kind != "dry"]
    return [
        make_scene(seed, side=192, kind=wet[seed % len(wet)], bands=("nir",)) for seed in range(16)
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_the_infrared_leaves_the_picture_and_the_mask_bit_for_bit_alone(kind):
    for side in (64, (50, 91)):
        plain = make_scene(5, side=side, kind=kind)
        banded = make_scene(5, side=side, kind=kind, bands=("nir",))
        np.testing.assert_array_equal(banded.image, plain.image)
        np.testing.assert_array_equal(banded.mask, plain.mask)
        assert plain.bands == {}
        assert banded.bands["nir"].shape == plain.size


def test_the_infrared_is_a_file_of_eight_bits_and_the_same_each_time():
    band = make_scene(3, side=96, bands=("nir",)).bands["nir"]
    assert band.dtype == np.float32
    np.testing.assert_array_equal(band, band.astype(np.uint8))
    np.testing.assert_array_equal(make_scene(3, side=96, bands=("nir",)).bands["nir"], band)
    assert not np.array_equal(make_scene(4, side=96, bands=("nir",)).bands["nir"], band)


def test_water_is_dark_and_leaves_are_bright_in_the_infrared(lit_scenes):
    shares, greens = [], []
    for scene in lit_scenes:
        band, land = scene.bands["nir"], ~scene.mask
        red, green, blue = np.moveaxis(scene.image.astype(float), -1, 0)
        leaves = land & (2 * green - red - blue > 0.2 * (red + green + blue))
        shares.append(np.median(band[scene.mask]) < np.percentile(band[land], 10))
        if leaves.mean() > 0.05:
            bare = land & (2 * green - red - blue < 0.06 * (red + green + blue))
            greens.append(np.median(band[leaves]) - np.median(band[bare]))
    assert np.mean(shares) > 0.8
    assert len(greens) >= 4
    assert np.mean(np.array(greens) > 0) >= 0.75


def test_the_infrared_tells_much_more_than_the_grey_of_the_picture_but_not_all(lit_scenes):
    def best(values) -> float:
        levels = np.linspace(4, 160, 40)
        return max(np.mean([iou(v < x, s.mask) for v, s in values]) for x in levels)

    infrared = best([(s.bands["nir"], s) for s in lit_scenes])
    grey = best([(s.image.mean(axis=2), s) for s in lit_scenes])
    assert grey < 0.35
    assert 0.5 < infrared < 0.9


def test_the_infrared_is_painted_from_the_scene_and_not_from_the_mask(lit_scenes):
    on_land, on_water = [], []
    for scene in lit_scenes:
        band, grey = scene.bands["nir"], scene.image.mean(axis=2)
        land = cv2.erode((~scene.mask).astype(np.uint8), np.ones((5, 5))) > 0
        water = cv2.erode(scene.mask.astype(np.uint8), np.ones((5, 5))) > 0
        fine = [x - cv2.GaussianBlur(x, (0, 0), 4) for x in (band, grey.astype(np.float32))]
        on_land.append(np.corrcoef(fine[0][land], fine[1][land])[0, 1])
        if water.sum() > 200:
            on_water.append(band[water].std())
    # Crowns, pebbles and shadows of the picture are there too.
    assert np.median(on_land) > 0.4
    assert min(on_water) > 1


def test_shadows_on_land_are_dark_in_the_infrared():
    flat = np.full((64, 64), 100, np.float32)
    infrared = Infrared(np.random.default_rng(0), (64, 64), unit=1.0)
    infrared.image = flat
    shadow = np.zeros((64, 64), np.float32)
    shadow[:, 32:] = 1
    light = Light(np.full((64, 64), 1 / 255, np.float32), shadow, 0.6)
    band = photographed_infrared(infrared, light)
    # A share of 0.69 of the light is gone; 0.03 of full scale at most is veil.
    assert band[:, 40:].mean() == pytest.approx(0.31 * band[:, :24].mean(), abs=8)


def test_a_dataset_gives_the_infrared_and_the_same_scenes():
    plain, banded = (
        SyntheticDataset(3, side=48, seed=1),
        SyntheticDataset(3, side=48, seed=1, bands=("nir",)),
    )
    assert banded[2].name == "scene_00002"
    assert list(banded[2].bands) == ["nir"]
    np.testing.assert_array_equal(plain[2].image, banded[2].image)


@pytest.mark.parametrize("bands", [("thermal",), ("nir", "dem"), "nir"])
def test_other_bands_of_synthetic_scenes_are_refused_by_name(bands):
    message = "got 'nir'. Write" if bands == "nir" else f"offered, got '{bands[-1]}'. .*nir"
    with pytest.raises(DataError, match=message):
        make_scene(0, side=32, bands=bands)
    with pytest.raises(DataError, match=message):
        SyntheticDataset(3, side=32, bands=bands)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, "seed must be a whole number of 0 or more, got -1"),
        ({"seed": 1.5}, "seed must be a whole number"),
        ({"seed": 0, "side": 31}, "side must be one or two whole numbers of 32 or more, got 31"),
        ({"seed": 0, "side": (64, 8)}, r"side must be .* got \(64, 8\)"),
        ({"seed": 0, "side": 64.0}, "side must be one or two whole numbers"),
        ({"seed": 0, "side": "large"}, "side must be one or two whole numbers"),
        ({"seed": 0, "side": (64, 64, 3)}, "side must be one or two whole numbers"),
        ({"seed": 0, "kind": "meandr"}, "got 'meandr'. Did you mean 'meander'"),
    ],
)
def test_a_wrong_scene_is_refused_by_name(arguments, message):
    seed = arguments.pop("seed")
    with pytest.raises(DataError, match=message):
        make_scene(seed, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": -1}, "count must be a whole number of 0 or more, got -1"),
        ({"count": True}, "count must be a whole number"),
        ({"count": 3, "seed": -2}, "seed must be a whole number of 0 or more, got -2"),
        ({"count": 3, "side": 4}, "side must be one or two whole numbers"),
    ],
)
def test_a_wrong_dataset_is_refused_by_name(arguments, message):
    with pytest.raises(DataError, match=message):
        SyntheticDataset(**arguments)


def test_noise_has_mean_zero_and_deviation_one():
    field = noise(np.random.default_rng(0), (200, 300), cell=20)
    assert abs(field.mean()) < 1e-3
    assert field.std() == pytest.approx(1, abs=1e-3)


def test_wide_noise_changes_slowly():
    generator = np.random.default_rng(0)
    wide, fine = (noise(generator, (128, 128), cell=cell, octaves=1) for cell in (64, 4))
    assert np.abs(np.diff(wide, axis=1)).mean() < 0.2 * np.abs(np.diff(fine, axis=1)).mean()


def test_flow_noise_is_longer_along_the_side_with_the_wider_cell():
    across, along = np.mgrid[:128, :128].astype(np.float32)
    streaks = flow_noise(np.random.default_rng(0), along, across, cells=(40, 4))
    assert np.abs(np.diff(streaks, axis=1)).mean() < 0.3 * np.abs(np.diff(streaks, axis=0)).mean()


def test_a_pole_casts_a_shadow_as_long_as_the_sun_is_low():
    height = np.zeros((9, 60), dtype=np.float32)
    height[3:6, 10:13] = 10
    # Steepness one half: 10 pixels high, 20 pixels long; it ends where half a pixel is left.
    shadow = cast_shadow(height, direction=0.0, steepness=0.5)
    assert shadow[4, 15:28].min() == 1
    assert shadow[4, :8].max() == 0
    assert shadow[4, 36:].max() == 0


def test_flat_land_has_no_shadow():
    assert not cast_shadow(np.zeros((5, 5), np.float32), direction=1.0, steepness=1.0).any()
