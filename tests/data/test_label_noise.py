import cv2
import numpy as np
import pytest

from autosam.data.label_noise import NOISE_KINDS, add_label_noise, spoil_mask
from autosam.data.synthetic import SyntheticDataset
from autosam.errors import DataError
from autosam.types import Sample


@pytest.fixture(scope="module")
def masks() -> list[np.ndarray]:
    return [s.mask for s in SyntheticDataset(30, side=256, seed=5) if s.mask.mean() > 0.05]


def spoiled(mask: np.ndarray, kind: str, *, strength: float = 0.5, seed: int = 0) -> np.ndarray:
    return spoil_mask(mask, kind=kind, strength=strength, generator=np.random.default_rng(seed))


def scores(noisy: np.ndarray, truth: np.ndarray) -> tuple[float, float, float]:
    """IoU, recall and precision of the spoiled mask, the true one being the truth."""
    hits = (noisy & truth).sum()
    return hits / (noisy | truth).sum(), hits / truth.sum(), hits / noisy.sum()


def two_rivers() -> np.ndarray:
    mask = np.zeros((80, 100), dtype=bool)
    mask[10:30] = True
    mask[60:66] = True
    return mask


def test_under_filled_masks_score_as_the_measured_labels_do(masks):
    table = np.array([scores(spoiled(m, "under-filled", seed=i), m) for i, m in enumerate(masks)])
    iou, recall, precision = table.T
    # Measured on real tiles: IoU .73 to .83, recall .76 to .93, precision .89 to .97.
    assert 0.73 < np.median(iou) < 0.83
    assert 0.76 < np.median(recall) < 0.93
    assert 0.89 < np.median(precision) < 0.97
    assert np.mean((iou > 0.70) & (iou < 0.86)) > 0.9


def test_under_filled_masks_lose_banks_and_keep_the_core(masks):
    for seed, mask in enumerate(masks[:8]):
        noisy = spoiled(mask, "under-filled", seed=seed)
        depth = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5)
        assert depth[mask & ~noisy].mean() < 0.6 * depth[mask & noisy].mean()
        reach = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5)
        gained = noisy & ~mask
        if gained.any():
            assert reach[gained].mean() < 0.3 * reach[~mask].max()


def test_a_missing_channel_is_one_whole_component():
    mask = two_rivers()
    noisy = spoiled(mask, "channel-missing")
    expected = mask.copy()
    expected[60:66] = False
    np.testing.assert_array_equal(noisy, expected)


def test_a_missing_branch_is_lost_at_its_narrow_place():
    mask = np.zeros((80, 120), dtype=bool)
    mask[20:60, 10:60] = True
    mask[38:42, 60:70] = True
    mask[30:50, 70:110] = True
    noisy = spoiled(mask, "channel-missing")
    assert noisy[25:55, 15:55].all()
    assert not noisy[:, 75:].any()
    np.testing.assert_array_equal(noisy & ~mask, np.zeros_like(mask))


def test_water_that_never_narrows_loses_one_end():
    mask = np.zeros((50, 100), dtype=bool)
    mask[20:30] = True
    noisy = spoiled(mask, "channel-missing")
    assert noisy.sum() == mask.sum() // 2
    assert not (noisy[:, :40].any() and noisy[:, 60:].any())


def test_missing_channels_touch_nothing_else(masks):
    for seed, mask in enumerate(masks):
        noisy = spoiled(mask, "channel-missing", seed=seed)
        lost = mask & ~noisy
        assert lost.any()
        assert noisy.any()
        assert not (noisy & ~mask).any()
        assert cv2.connectedComponents(lost.astype(np.uint8), connectivity=8)[0] == 2


def test_a_coarse_polygon_has_few_corners(masks):
    for seed, mask in enumerate(masks[:10]):
        noisy = spoiled(mask, "polygon-coarse", seed=seed)
        corners = []
        for area in (mask, noisy):
            outlines, _ = cv2.findContours(
                area.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE
            )
            corners.append(sum(len(cv2.approxPolyDP(one, 1.0, True)) for one in outlines))
        assert corners[1] < 0.6 * corners[0]


def test_coarse_polygons_stay_near_the_truth(masks):
    table = np.array([scores(spoiled(m, "polygon-coarse", seed=i), m) for i, m in enumerate(masks)])
    iou, recall, precision = table.T
    assert 0.73 < np.median(iou) < 0.92
    assert np.median(recall) > 0.8
    assert np.median(precision) > 0.85
    assert iou.min() > 0.55


@pytest.mark.parametrize("kind", NOISE_KINDS)
def test_noise_is_repeatable_and_leaves_its_argument_alone(kind, masks):
    mask = masks[0].copy()
    first, second = spoiled(mask, kind, seed=4), spoiled(mask, kind, seed=4)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(mask, masks[0])
    assert first.dtype == np.bool_
    assert not np.array_equal(first, mask)


@pytest.mark.parametrize("kind", NOISE_KINDS)
def test_strength_zero_changes_nothing_and_no_water_stays_no_water(kind, masks):
    np.testing.assert_array_equal(spoiled(masks[0], kind, strength=0), masks[0])
    assert not spoiled(np.zeros((20, 30), dtype=bool), kind, strength=1).any()


@pytest.mark.parametrize("kind", ["under-filled", "polygon-coarse"])
def test_stronger_noise_is_worse(kind, masks):
    means = [
        np.mean([scores(spoiled(m, kind, strength=s, seed=i), m)[0] for i, m in enumerate(masks)])
        for s in (0.2, 0.5, 1.0)
    ]
    assert means[0] > means[1] + 0.02
    assert means[1] > means[2] + 0.02


@pytest.mark.parametrize("kind", NOISE_KINDS)
@pytest.mark.parametrize(
    "mask",
    [
        np.ones((40, 40), dtype=bool),
        np.eye(9, dtype=bool),
        np.ones((1, 1), dtype=bool),
        np.ones((1, 50), dtype=bool),
        np.pad(np.ones((1, 1), dtype=bool), 4),
    ],
    ids=["all water", "diagonal", "one pixel", "one row", "one pixel on land"],
)
def test_odd_masks_are_spoiled_without_failing(kind, mask):
    for seed in range(5):
        assert spoiled(mask, kind, strength=1, seed=seed).shape == mask.shape


def test_the_stated_share_of_the_samples_is_spoiled():
    clean = SyntheticDataset(20, side=48, seed=2)
    noisy = add_label_noise(clean, share=0.4, seed=1)
    assert len(noisy) == 20
    assert len(noisy.spoiled) == 8
    assert set(noisy.spoiled.values()) <= set(NOISE_KINDS)
    for before, after in zip(clean, noisy, strict=True):
        np.testing.assert_array_equal(before.image, after.image)
        assert before.name == after.name
        if before.name not in noisy.spoiled:
            np.testing.assert_array_equal(before.mask, after.mask)
        elif before.mask.sum() > 50:
            assert not np.array_equal(before.mask, after.mask)


def test_added_noise_is_the_same_each_time_and_in_any_order():
    clean = SyntheticDataset(6, side=48, seed=2)
    first, second = (add_label_noise(clean, share=1.0, seed=3) for _ in range(2))
    assert first.spoiled == second.spoiled
    backwards = [second[index].mask for index in reversed(range(6))][::-1]
    for index in range(6):
        np.testing.assert_array_equal(first[index].mask, backwards[index])
    np.testing.assert_array_equal(first[-1].mask, first[5].mask)
    assert [sample.name for sample in first[1:3]] == ["scene_00001", "scene_00002"]
    assert add_label_noise(clean, share=0.5, seed=4).spoiled.keys() != first.spoiled.keys()


def test_unlabelled_samples_and_other_fields_pass_through():
    image = np.zeros((8, 8, 3), dtype=np.uint8)
    valid = np.zeros((8, 8), dtype=bool)
    unlabelled = Sample(name="a", image=image)
    labelled = Sample(
        name="b", image=image, mask=np.tri(8, dtype=bool), valid=valid, place="upper reach"
    )
    noisy = add_label_noise([unlabelled, labelled], share=1.0, seed=0)
    assert noisy[0] is unlabelled
    assert noisy[1].valid is valid
    assert noisy[1].place == "upper reach"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "under-fill"}, "got 'under-fill'. Did you mean 'under-filled'"),
        ({"strength": 1.5}, r"strength must be in 0..1, got 1.5 \(under-filled\)"),
        ({"strength": -0.1}, "strength must be in 0..1"),
        ({"mask": np.zeros((4, 4), np.uint8)}, r"mask must be bool \(height, width\), got uint8"),
        ({"mask": np.zeros((4, 4, 1), bool)}, r"mask must be bool .* got bool \(4, 4, 1\)"),
        ({"mask": [[True]]}, "mask must be bool .* got list"),
    ],
)
def test_a_wrong_request_is_refused_by_name(arguments, message):
    request = {"mask": np.ones((4, 4), bool), "kind": "under-filled", "strength": 0.5} | arguments
    mask = request.pop("mask")
    with pytest.raises(DataError, match=message):
        spoil_mask(mask, generator=np.random.default_rng(0), **request)


@pytest.mark.parametrize(
    ("share", "seed", "message"),
    [
        (1.1, 0, "share must be in 0..1, got 1.1"),
        (-0.1, 0, "share must be in 0..1"),
        (0.5, -1, "seed must be a whole number of 0 or more, got -1"),
    ],
)
def test_wrong_shares_and_seeds_are_refused_by_name(share, seed, message):
    with pytest.raises(DataError, match=message):
        add_label_noise(SyntheticDataset(2, side=32), share=share, seed=seed)
