import numpy as np
import pytest
from scipy import ndimage
from sklearn import metrics as sklearn_metrics

from autosam.errors import DataError
from autosam.evaluation.metrics import COUNTS, METRICS, by_group, pooled, score_mask, summarise

OVERLAPS = {
    "iou": sklearn_metrics.jaccard_score,
    "f1": sklearn_metrics.f1_score,
    "precision": sklearn_metrics.precision_score,
    "recall": sklearn_metrics.recall_score,
    "accuracy": sklearn_metrics.accuracy_score,
}
SIZES = [(1, 1), (1, 40), (33, 1), (20, 37), (37, 20)]


def mask(text: str) -> np.ndarray:
    return np.array([[letter == "#" for letter in line] for line in text.split()])


def blobs(shape: tuple[int, int], seed: int, *, level: float = 0.0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=shape)
    smooth = ndimage.gaussian_filter(noise, 3, mode="wrap")
    return smooth > smooth.mean() + level * smooth.std()


@pytest.mark.parametrize("name", OVERLAPS)
@pytest.mark.parametrize("seed", range(5))
def test_overlap_scores_equal_those_of_scikit_learn_on_ravelled_masks(name, seed):
    predicted, truth = blobs((37, 61), seed), blobs((37, 61), seed + 100)
    expected = OVERLAPS[name](truth.ravel(), predicted.ravel())
    assert score_mask(predicted, truth)[name] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", OVERLAPS)
def test_only_valid_pixels_are_given_to_the_scores(name):
    predicted, truth, valid = (blobs((30, 50), seed) for seed in (1, 2, 3))
    expected = OVERLAPS[name](truth[valid], predicted[valid])
    assert score_mask(predicted, truth, valid=valid)[name] == pytest.approx(expected, abs=1e-12)


def test_what_is_not_valid_changes_no_score_at_all():
    predicted, truth, valid = (blobs((40, 50), seed) for seed in (4, 5, 6))
    noise = np.random.default_rng(0).random((2, 40, 50)) < 0.5
    expected = score_mask(predicted, truth, valid=valid)
    spoiled = np.where(valid, predicted, noise[0]), np.where(valid, truth, noise[1])
    assert score_mask(*spoiled, valid=valid) == expected


@pytest.mark.parametrize("turns", range(4))
def test_half_the_river_missed_gives_one_half_whatever_the_orientation(turns):
    truth = mask("........ .######. .######. ........")
    half = mask("........ .###.... .###.... ........")
    scores = score_mask(np.rot90(half, turns), np.rot90(truth, turns))
    assert (scores["iou"], scores["f1"], scores["recall"]) == (0.5, 2 / 3, 0.5)
    assert scores["precision"] == 1.0


def test_prediction_and_truth_are_not_interchangeable():
    scores = score_mask(mask("####"), mask("##.."))
    assert (scores["precision"], scores["recall"]) == (0.5, 1.0)
    assert [scores[name] for name in COUNTS] == [2, 2, 0, 0]


@pytest.mark.parametrize("shape", SIZES)
def test_two_empty_masks_agree_wholly(shape):
    empty = np.zeros(shape, dtype=bool)
    scores = score_mask(empty, empty)
    ones = ("iou", "f1", "precision", "recall", "accuracy", "boundary_iou", "boundary_f1")
    assert [scores[name] for name in ones] == [1.0] * len(ones)
    assert (scores["hd95"], scores["false_water"], scores["water_share"]) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("shape", SIZES)
def test_two_full_masks_agree_wholly(shape):
    full = np.ones(shape, dtype=bool)
    scores = score_mask(full, full)
    assert {scores[name] for name in METRICS[:7]} == {1.0}
    assert (scores["hd95"], scores["false_water"], scores["water_share"]) == (0.0, None, 1.0)


@pytest.mark.parametrize("shape", SIZES)
def test_all_water_on_empty_truth_is_as_wrong_as_can_be(shape):
    full, empty = np.ones(shape, dtype=bool), np.zeros(shape, dtype=bool)
    scores = score_mask(full, empty)
    assert {scores[name] for name in METRICS[:7]} == {0.0}
    assert (scores["hd95"], scores["false_water"]) == (None, 1.0)


@pytest.mark.parametrize("shape", SIZES)
def test_a_river_wholly_missed_scores_nothing(shape):
    full, empty = np.ones(shape, dtype=bool), np.zeros(shape, dtype=bool)
    scores = score_mask(empty, full)
    assert {scores[name] for name in METRICS[:7]} == {0.0}
    assert (scores["hd95"], scores["false_water"]) == (None, None)


def test_false_water_is_the_predicted_share_of_valid_pixels_where_truth_is_dry():
    predicted, valid = mask("##.. ...."), mask("#### ##..")
    truth = mask(".... ..##")  # its only water is not valid
    assert score_mask(predicted, truth, valid=valid)["false_water"] == pytest.approx(2 / 6)


def test_without_a_valid_pixel_nothing_is_measured():
    full = np.ones((3, 4), dtype=bool)
    scores = score_mask(full, full, valid=~full)
    assert {scores[name] for name in (*METRICS, "water_share")} == {None}
    assert [scores[name] for name in COUNTS] == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.ones((4, 3), dtype=bool), r"predicted must be .* truth's shape \(3, 4\), got bool \(4, 3\)"),
        (np.ones((3, 4), dtype=np.uint8), r"predicted must be bool .* got uint8 \(3, 4\)"),
        (np.ones((3, 4), dtype=np.float32), r"got float32 .* after the threshold"),
    ],
)  # fmt: skip
def test_anything_but_bool_masks_of_one_shape_is_refused(wrong, message):
    with pytest.raises(DataError, match=message):
        score_mask(wrong, np.ones((3, 4), dtype=bool))


def test_a_valid_area_of_another_shape_is_refused():
    full = np.ones((3, 4), dtype=bool)
    with pytest.raises(DataError, match=r"valid must be .* \(3, 4\), got bool \(1, 4\)"):
        score_mask(full, full, valid=full[:1])


def test_pooled_scores_are_those_of_all_pixels_laid_side_by_side():
    pairs = [(blobs((20, 30), seed), blobs((20, 30), seed + 50)) for seed in range(4)]
    together = score_mask(*(np.hstack(masks) for masks in zip(*pairs, strict=True)))
    found = pooled([score_mask(*pair) for pair in pairs])
    names = [*OVERLAPS, "water_share", *COUNTS]
    assert {name: found[name] for name in names} == {name: together[name] for name in names}


def test_pooled_scores_weigh_pixels_and_not_images():
    small = score_mask(mask("#."), mask("#."))
    large = score_mask(mask("#.#.#.#."), mask(".#.#.#.#"))
    assert pooled([small, large])["iou"] == 1 / 9


def test_pooled_false_water_is_over_the_dry_images_only():
    dry = [score_mask(mask("#..."), mask("....")), score_mask(mask("......"), mask("......"))]
    wet = score_mask(mask("####"), mask("#..."))
    assert pooled([*dry, wet])["false_water"] == 1 / 10
    assert pooled([wet])["false_water"] is None


def test_pooling_nothing_gives_none_and_zero_counts():
    found = pooled([])
    assert (found["iou"], found["false_water"], found["tp"]) == (None, None, 0)


def row(name: str = "a", **scores: float | None) -> dict:
    return {"name": name, **dict.fromkeys(METRICS), **scores}


def test_mean_and_median_leave_out_images_where_the_metric_is_undefined():
    rows = [row(iou=0.1, hd95=4.0), row(iou=0.2), row(iou=0.9, hd95=8.0)]
    found = summarise(rows, bootstrap=50, seed=0)
    assert (found["iou"]["mean"], found["iou"]["median"]) == (pytest.approx(0.4), 0.2)
    assert (found["hd95"]["mean"], found["hd95"]["count"]) == (6.0, 2)
    assert found["f1"] == {"mean": None, "median": None, "low": None, "high": None, "count": 0}


def test_summary_of_no_images_is_none_throughout():
    found = summarise([], bootstrap=50, seed=0)
    assert {value for scores in found.values() for value in scores.values()} == {None, 0}


def test_images_of_one_place_are_drawn_together():
    rows = [row(iou=value) for value in (0.0, 0.0, 0.0, 1.0, 1.0, 1.0)]
    alone = summarise(rows, bootstrap=2000, seed=0)["iou"]
    together = summarise(rows, bootstrap=2000, seed=0, blocks=list("aaabbb"))["iou"]
    assert (together["low"], together["high"]) == (0.0, 1.0)
    assert 0 < alone["low"] < alone["high"] < 1


def test_rows_are_grouped_by_their_name_in_alphabetical_order():
    groups = by_group([row("b/1"), row("a/1"), row("b/2")], lambda name: name.split("/")[0])
    assert [(key, [r["name"] for r in rows]) for key, rows in groups.items()] == [
        ("a", ["a/1"]),
        ("b", ["b/1", "b/2"]),
    ]
