import csv
import dataclasses
import datetime
import json
import os

import numpy as np
import pytest
from PIL import Image

from autosam.config import EvaluateSettings
from autosam.errors import DataError, OutputError
from autosam.evaluation.metrics import score_mask
from autosam.evaluation.report import evaluate
from autosam.types import Prediction, Sample

SETTINGS = EvaluateSettings(bootstrap=200, worst=2)
FILES = [
    "histogram.png", "masks", "metrics.json", "per_image.csv", "reliability.png", "worst.png",
]  # fmt: skip


def scene(name, *, share=0.4, size=(40, 60), **facts):
    """A straight river over the given share of the height."""
    generator = np.random.default_rng(len(name))
    mask = np.zeros(size, dtype=bool)
    mask[: round(size[0] * share)] = True
    image = generator.integers(0, 255, (*size, 3), dtype=np.uint8)
    return Sample(name=name, image=image, mask=mask, **facts)


def missing_columns(count):
    """A predictor that finds the river but for its first columns."""

    def predict(sample):
        probability = np.where(sample.mask, 0.9, 0.1).astype(np.float32)
        probability[:, :count] = 0.2
        return Prediction(
            name=sample.name, image=sample.image, probability=probability, threshold=0.5
        )

    return predict


SCENES = [scene("b"), scene("a", size=(60, 40)), scene("dry", share=0.0)]


def test_everything_is_written_and_nothing_else(tmp_path):
    evaluate(missing_columns(5), SCENES, settings=SETTINGS, directory=tmp_path / "deep" / "out")
    assert sorted(os.listdir(tmp_path / "deep" / "out")) == FILES
    assert sorted(os.listdir(tmp_path / "deep" / "out" / "masks")) == ["a.png", "b.png", "dry.png"]


def test_without_a_directory_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    evaluation = evaluate(missing_columns(5), SCENES, settings=SETTINGS)
    assert os.listdir(tmp_path) == []
    assert evaluation.summary["iou"]["mean"] == pytest.approx((55 / 60 + 35 / 40 + 1) / 3)


def test_saved_masks_are_the_predicted_ones_with_255_for_water(tmp_path):
    predict = missing_columns(7)
    evaluate(predict, SCENES, settings=SETTINGS, directory=tmp_path)
    for sample in SCENES:
        saved = np.array(Image.open(tmp_path / "masks" / f"{sample.name}.png"))
        assert np.array_equal(saved, predict(sample).mask * np.uint8(255))


def test_rows_hold_the_scores_of_each_image_in_the_order_given():
    predict = missing_columns(3)
    evaluation = evaluate(predict, SCENES, settings=SETTINGS)
    assert [row["name"] for row in evaluation.rows] == ["b", "a", "dry"]
    for row, sample in zip(evaluation.rows, SCENES, strict=True):
        expected = score_mask(predict(sample).mask, sample.mask)
        assert {name: row[name] for name in expected} == expected


def test_per_image_csv_tells_the_same_as_the_rows_with_undefined_left_empty(tmp_path):
    evaluation = evaluate(missing_columns(3), SCENES, settings=SETTINGS, directory=tmp_path)
    with (tmp_path / "per_image.csv").open(newline="") as stream:
        read = list(csv.DictReader(stream))
    for line, row in zip(read, evaluation.rows, strict=True):
        assert line == {key: "" if value is None else str(value) for key, value in row.items()}


def test_metrics_json_is_strict_json_of_the_evaluation(tmp_path):
    context = {
        "split": "test",
        "loss": float("nan"),
        "path": tmp_path,
        "date": datetime.date(2012, 4, 7),
    }
    evaluation = evaluate(
        missing_columns(3), SCENES, settings=SETTINGS, directory=tmp_path, context=context
    )  # fmt: skip
    text = (tmp_path / "metrics.json").read_text()
    read = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert read == evaluation.to_dict()
    assert read["context"] == {
        "split": "test", "loss": None, "path": str(tmp_path), "date": "2012-04-07",
    }  # fmt: skip
    assert read["images"] == 3


def test_boundary_settings_reach_the_scores_and_the_report():
    settings = dataclasses.replace(SETTINGS, boundary_pixels=9, boundary_share=0.2)
    samples = [scene("a"), scene("b")]

    def five_rows_off(sample):
        probability = np.roll(sample.mask, 5, axis=0).astype(np.float32)
        return Prediction(
            name=sample.name, image=sample.image, probability=probability, threshold=0.5
        )

    wide = evaluate(five_rows_off, samples, settings=settings)
    narrow = evaluate(five_rows_off, samples, settings=SETTINGS)
    assert wide.rows[0]["boundary_f1"] > narrow.rows[0]["boundary_f1"]
    assert wide.rows[0]["boundary_iou"] > narrow.rows[0]["boundary_iou"]
    assert (wide.settings["boundary_pixels"], wide.settings["boundary_share"]) == (9, 0.2)


def test_groups_are_scored_by_themselves():
    samples = [scene("x1"), scene("x2", share=0.0), scene("y1")]
    evaluation = evaluate(
        missing_columns(15), samples, settings=SETTINGS, groups=lambda name: name[0]
    )
    assert {name: group["images"] for name, group in evaluation.groups.items()} == {"x": 2, "y": 1}
    assert evaluation.groups["x"]["summary"]["iou"]["mean"] == pytest.approx((45 / 60 + 1) / 2)
    assert evaluation.groups["y"]["pooled"]["iou"] == pytest.approx(45 / 60)
    assert [row["group"] for row in evaluation.rows] == ["x", "x", "y"]


def test_images_of_one_place_give_no_interval_together():
    samples = [scene("a", place="here"), scene("b", place="here", share=0.0)]
    together = evaluate(missing_columns(9), samples, settings=SETTINGS)
    alone = evaluate(missing_columns(9), [scene("a"), scene("b", share=0.0)], settings=SETTINGS)
    assert together.summary["iou"]["low"] is None
    assert alone.summary["iou"]["low"] == pytest.approx(51 / 60)
    assert together.settings["drawn_together"] == "images of one place"
    assert alone.settings["drawn_together"] == "nothing"


def test_pixels_without_label_or_without_picture_are_not_judged():
    valid, data = np.ones((2, 40, 60), dtype=bool)
    valid[:, :10], data[:, 50:] = False, False
    sample = scene("a", valid=valid)

    def wrong_where_it_does_not_count(sample):
        probability = np.where(sample.mask, 0.9, 0.1).astype(np.float32)
        probability[:, :10] = probability[:, 50:] = 1 - probability[:, :10]
        return Prediction(
            name="a", image=sample.image, probability=probability, threshold=0.5, valid=data
        )

    evaluation = evaluate(wrong_where_it_does_not_count, [sample], settings=SETTINGS)
    assert evaluation.rows[0]["iou"] == 1.0
    assert sum(evaluation.pooled[name] for name in ("tp", "fp", "fn", "tn")) == 40 * 40
    assert sum(row["count"] for row in evaluation.calibration["reliability"]) == 40 * 40


def test_calibration_error_compares_probability_with_truth_over_all_images():
    evaluation = evaluate(missing_columns(0), SCENES[:2], settings=SETTINGS)
    # Everything is right at 0.9 or 0.1, so confidence falls 0.1 short everywhere.
    assert evaluation.calibration["ece"] == pytest.approx(0.1, abs=1e-3)


def test_the_contact_sheet_shows_the_worst_and_no_more(tmp_path):
    samples = [
        scene(name, share=share) for name, share in zip("abcd", (0, 0.1, 0.2, 0.3), strict=True)
    ]
    evaluate(missing_columns(20), samples, settings=SETTINGS, directory=tmp_path / "two")
    wide = dataclasses.replace(SETTINGS, worst=4)
    evaluate(missing_columns(20), samples, settings=wide, directory=tmp_path / "four")
    two, four = (Image.open(tmp_path / name / "worst.png").size for name in ("two", "four"))
    assert two[0] == four[0]
    assert 1.5 < four[1] / two[1] < 2


def test_names_with_slashes_stay_inside_and_apart(tmp_path):
    samples = [scene("site/a"), scene("site_a"), scene("../a")]
    evaluation = evaluate(missing_columns(0), samples, settings=SETTINGS, directory=tmp_path)
    files = sorted(row["mask_file"] for row in evaluation.rows)
    assert sorted(os.listdir(tmp_path / "masks")) == files
    assert len(set(files)) == 3


def test_no_samples_are_an_error(tmp_path):
    with pytest.raises(DataError, match="samples must hold at least one, got 0"):
        evaluate(missing_columns(0), [], settings=SETTINGS, directory=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_sample_without_mask_is_named_and_nothing_is_left_behind(tmp_path):
    samples = [scene("good"), dataclasses.replace(scene("unlabelled"), mask=None)]
    with pytest.raises(DataError, match=r"must have a mask .* \(sample 'unlabelled'\)"):
        evaluate(missing_columns(0), samples, settings=SETTINGS, directory=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_two_samples_of_one_name_are_refused():
    with pytest.raises(DataError, match="names must be unique, got 'a' twice"):
        evaluate(missing_columns(0), [scene("a"), scene("a")], settings=SETTINGS)


def test_a_prediction_of_another_size_is_refused():
    def turned(sample):
        return Prediction(
            name="a", image=sample.image, probability=np.zeros((60, 40)), threshold=0.5
        )

    with pytest.raises(
        DataError, match=r"height and width \(40, 60\), got \(60, 40\) \(sample 'a'\)"
    ):
        evaluate(turned, [scene("a")], settings=SETTINGS)


def test_a_failure_midway_leaves_the_earlier_evaluation_as_it_was(tmp_path):
    evaluate(missing_columns(0), SCENES, settings=SETTINGS, directory=tmp_path)
    before = {path: path.read_bytes() for path in sorted(tmp_path.rglob("*.*"))}
    with pytest.raises(DataError, match="twice"):
        evaluate(missing_columns(9), [*SCENES, SCENES[0]], settings=SETTINGS, directory=tmp_path)
    assert {path: path.read_bytes() for path in sorted(tmp_path.rglob("*.*"))} == before


def test_an_earlier_evaluation_is_replaced_wholly(tmp_path):
    evaluate(missing_columns(0), SCENES, settings=SETTINGS, directory=tmp_path)
    nothing_valid = scene("new", valid=np.zeros((40, 60), dtype=bool))
    evaluate(missing_columns(0), [nothing_valid], settings=SETTINGS, directory=tmp_path)
    assert os.listdir(tmp_path / "masks") == ["new.png"]
    assert sorted(os.listdir(tmp_path)) == [name for name in FILES if name != "worst.png"]
    assert json.loads((tmp_path / "metrics.json").read_text())["summary"]["iou"]["mean"] is None


def test_a_folder_whose_masks_may_be_labels_is_refused(tmp_path):
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "a.png").write_bytes(b"a label")
    with pytest.raises(OutputError, match=r"with masks and no metrics.json.*Choose another"):
        evaluate(missing_columns(0), [scene("a")], settings=SETTINGS, directory=tmp_path)
    assert (tmp_path / "masks" / "a.png").read_bytes() == b"a label"


@pytest.mark.parametrize("name", ["metrics.json", "per_image.csv", "clicks.json", "worst.png"])
def test_files_of_others_are_not_written_over(tmp_path, name):
    (tmp_path / name).write_text('{"mine": true}')
    with pytest.raises(OutputError, match=f"with {name} and no metrics.json of ours"):
        evaluate(missing_columns(0), [scene("a")], settings=SETTINGS, directory=tmp_path)
    assert os.listdir(tmp_path) == [name]


def test_a_mask_that_somebody_put_beside_those_of_an_evaluation_is_not_lost(tmp_path):
    evaluate(missing_columns(0), [scene("a")], settings=SETTINGS, directory=tmp_path)
    (tmp_path / "masks" / "hand.png").write_bytes(b"a label")
    with pytest.raises(OutputError, match=r"got hand\.png besides"):
        evaluate(missing_columns(0), [scene("a")], settings=SETTINGS, directory=tmp_path)
    assert (tmp_path / "masks" / "hand.png").read_bytes() == b"a label"


def test_what_a_killed_evaluation_leaves_is_put_right_by_the_next(tmp_path):
    evaluate(missing_columns(0), [scene("a")], settings=SETTINGS, directory=tmp_path)
    staged = tmp_path / ".evaluation.unfinished"
    staged.mkdir()
    (tmp_path / "masks").rename(staged / "earlier-masks")  # between the two renames
    (tmp_path / "clicks.json").write_text("{}")  # of a second look at the masks before
    unlabelled = dataclasses.replace(scene("a"), mask=None)
    with pytest.raises(DataError):
        evaluate(missing_columns(0), [unlabelled], settings=SETTINGS, directory=tmp_path)
    assert os.listdir(tmp_path / "masks") == ["a.png"]
    evaluate(missing_columns(4), [scene("b")], settings=SETTINGS, directory=tmp_path)
    assert os.listdir(tmp_path / "masks") == ["b.png"]
    assert not staged.exists()
    assert not (tmp_path / "clicks.json").exists()


def test_a_place_that_cannot_be_written_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OutputError, match=r"must be a folder, got the file .*file"):
        evaluate(missing_columns(0), [scene("a")], settings=SETTINGS, directory=tmp_path / "file")


def test_equal_runs_write_equal_numbers(tmp_path):
    for name in ("one", "two"):
        evaluate(missing_columns(4), SCENES, settings=SETTINGS, directory=tmp_path / name)
    for file in ("metrics.json", "per_image.csv", "worst.png"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_the_bar_is_silent_where_there_is_no_terminal(capfd):
    evaluate(missing_columns(0), SCENES, settings=SETTINGS)
    assert capfd.readouterr() == ("", "")


def test_the_bar_counts_on_a_terminal(capfd, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    evaluate(missing_columns(0), SCENES, settings=SETTINGS)
    shown = capfd.readouterr()
    assert "3/3" in shown.err
    assert shown.out == ""
