"""The label that is wrong comes first, and a mistake is one line."""

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from autosam.cli import run
from autosam.data.folders import FolderDataset
from autosam.evaluation.label_faults import find_fault, label_loss, suspicion
from autosam.overlap import mask_iou
from autosam.recipes.label_doctor import doctor_config, trust_sentence


@pytest.fixture(scope="module")
def examined(rivers, quick_run, tmp_path_factory):
    """The report of six rivers, of which the first two are labelled wrongly."""
    folder = tmp_path_factory.mktemp("examined") / "report"
    command = ["labels", str(rivers), "-c", str(quick_run / "config.yaml"), "-o", str(folder)]
    assert run([*command, "--json"]) == 0
    return folder, command


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "report.csv").open() as stream:
        return list(csv.DictReader(stream))


def test_the_wrong_labels_come_first_and_are_named(examined):
    found = rows(examined[0])
    assert [row["rank"] for row in found] == [str(rank) for rank in range(1, 7)]
    assert [row["name"] for row in found[:2]] == ["river_1", "river_0"]
    assert found[0]["kind"] == "bank under-filled"
    assert float(found[0]["bank_share"]) == pytest.approx(4 / 12, abs=0.04)
    assert found[1]["kind"] in ("channel missing", "false water")
    assert float(found[1]["iou"]) < 0.1
    assert {row["kind"] for row in found[2:]} == {"none"}
    assert min(float(row["iou"]) for row in found[2:]) > 0.9


def test_the_numbers_are_those_of_the_held_out_map(examined, rivers):
    folder, _ = examined
    found = {row["name"]: row for row in rows(folder)}
    for sample in FolderDataset(rivers):
        row = found[sample.name]
        stored = Image.open(folder / "cross_fitting" / "probabilities" / f"{sample.name}.png")
        probability = np.asarray(stored) / np.float32(255)
        fold = folder / "cross_fitting" / f"fold_{row['fold']}"
        assert sample.name in json.loads((fold / "split.json").read_text())["test"]
        threshold = json.loads((fold / "finished.json").read_text())["threshold"]
        valid = sample.valid_area
        loss = label_loss(probability, sample.mask, valid=valid)
        iou = mask_iou(probability >= threshold, sample.mask, valid=valid)
        fault = find_fault(probability, sample.mask, threshold=threshold, valid=valid)
        assert float(row["loss"]) == pytest.approx(loss, abs=1e-4)
        assert float(row["suspicion"]) == pytest.approx(suspicion(loss, fault), abs=1e-4)
        assert float(row["iou"]) == pytest.approx(iou, abs=1e-4)
        assert row["kind"] == fault.kind
        assert int(row["false_pixels"]) == fault.false_pixels


def test_table_json_and_csv_say_the_same_and_a_second_call_changes_nothing(examined, capsys):
    folder, command = examined
    before = {path.name: path.read_bytes() for path in folder.glob("report.*")}
    assert run([*command, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [str(row["name"]) for row in told["samples"]] == [row["name"] for row in rows(folder)]
    assert sum(told["counts"].values()) == 6
    assert json.loads((folder / "report.json").read_text())["samples"] == told["samples"]
    assert before["report.csv"] == (folder / "report.csv").read_bytes()
    assert run(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:2] == ["1", "river_1"]


def test_the_sheet_shows_every_picture_four_times(examined, rivers):
    sheet = np.asarray(Image.open(examined[0] / "sheet.png"))
    image = np.asarray(Image.open(rivers / "images" / "river_3.png"))
    windows = np.lib.stride_tricks.sliding_window_view(sheet, image.shape)[:, :, 0]
    at = np.argwhere((windows[..., ::7, ::7, :] == image[::7, ::7]).all(axis=(-3, -2, -1)))
    assert len(at) == 1
    top, left = at[0]
    width = image.shape[1]
    right_of_it = sheet[top : top + image.shape[0], left + width + 1 :]
    assert (right_of_it < 250).any(axis=(0, 2)).sum() >= 3 * width


def test_the_doctors_own_settings_can_be_changed_but_not_its_data(tmp_path):
    config = doctor_config("some/place", None, ["train.epochs=3", "data.source=[elsewhere]"])
    assert config.data.source == ("some/place",)
    assert (config.train.epochs, config.start, config.sam.name) == (3, "river-nano", "river-nano")
    own = tmp_path / "own.yaml"
    own.write_text("prompt: {side: 64}")
    assert (doctor_config("p", own).prompt.side, doctor_config("p", own).start) == (64, "")


@pytest.mark.parametrize(
    ("overrides", "start", "begun", "side"),
    [
        ([], "nothing", "", 192),
        (["method=unet"], None, "", 192),  # another network than river-nano's was asked for
        (["prompt.side=64"], None, "", 64),
        (["prompt.network=hardnet68"], "nothing", "", 192),
    ],
)
def test_the_doctor_begins_with_river_nano_unless_something_else_is_to_train(
    overrides, start, begun, side
):
    config = doctor_config("some/place", None, overrides, start=start)
    assert (config.start, config.prompt.side) == (begun, side)


def test_a_model_that_has_seen_the_pictures_cannot_judge_their_labels(
    rivers, examined, tmp_path, capsys
):
    trained = examined[0] / "cross_fitting" / "fold_1" / "run"
    command = ["labels", str(rivers), "-o", str(tmp_path / "report"), "--from", str(trained)]
    assert run(command) == 2
    told = capsys.readouterr().err
    assert "start must be a model that has seen none of these samples" in told
    assert "Traceback" not in told


def test_weak_models_are_told_of():
    assert trust_sentence(0.85) == "Models and labels have a median IoU of 0.85."
    assert "most disagreement is the models' fault" in trust_sentence(0.5)


class Place:
    """A scratch folder with rivers and settings of its own."""

    def __init__(self, folder: Path, rivers: Path, quick_run: Path) -> None:
        self.folder = folder
        self.rivers = Path(shutil.copytree(rivers, folder / "rivers"))
        self.config = quick_run / "config.yaml"
        self.out = folder / "report"

    def labels(self, *more: str, data: object = None, out: object = None) -> list[str]:
        places = [str(data or self.rivers), "-o", str(out or self.out)]
        return ["labels", *places, "-c", str(self.config), *more]

    def without(self, *names: str) -> "Place":
        for name in names:
            for kind in ("images", "masks"):
                (self.rivers / kind / f"{name}.png").unlink()
        return self


def unlabelled(place: Place) -> list[str]:
    shutil.rmtree(place.rivers / "masks")
    return place.labels()


def in_use(place: Place) -> list[str]:
    place.out.mkdir()
    (place.out / "notes.txt").write_text("mine")
    return place.labels()


def broken_mask(place: Place) -> list[str]:
    (place.rivers / "masks" / "river_2.png").write_bytes(b"no picture")
    return place.labels()


CASES = {
    "missing data": (lambda p: p.labels(data="no/where"), "no/where"),
    "missing configuration": (lambda p: [*p.labels(), "-c", "no.yaml"], "must exist, got no.yaml"),
    "unknown setting": (lambda p: p.labels("--set", "train.epoch=1"), "Did you mean 'epochs'"),
    "unlabelled pictures": (unlabelled, "must have a mask to learn from"),
    "damaged mask": (broken_mask, r"river_2\.png"),
    "two pictures": (
        lambda p: p.without("river_2", "river_3", "river_4", "river_5").labels(),
        "must have 3 groups of samples or more, got 2",
    ),
    "one group": (lambda p: p.labels("--set", "data.group_by=river"), "or more, got 1"),
    "one fold": (lambda p: p.labels("--folds", "1"), r"folds must be in 2\.\.6.*got 1"),
    "more folds than pictures": (lambda p: p.labels("--folds", "7"), r"2\.\.6.*got 7"),
    "words for folds": (lambda p: p.labels("--folds", "many"), "'--folds'.*integer"),
    "report into a file": (
        lambda p: p.labels(out=p.rivers / "masks" / "river_1.png"),
        "must be a folder, got the file",
    ),
    "report among other things": (in_use, r"a new or empty folder.*notes\.txt"),
    "report into the data": (lambda p: p.labels(out=p.rivers / "masks" / "x"), "lie apart from"),
    "unknown SAM": (
        lambda p: p.labels("--set", "method=autosam", "--set", "sam.name=bass"),
        "Did you mean 'base'",
    ),
    "prompts from the labels": (
        lambda p: p.labels("--set", "method=zero-shot", "--set", "geometric.source=oracle"),
        "got 'oracle'",
    ),
    "no output named": (lambda p: ["labels", str(p.rivers)], "output"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_is_one_line_and_leaves_nothing(name, tmp_path, rivers, quick_run, capsys):
    make, message = CASES[name]
    arguments = make(Place(tmp_path, rivers, quick_run))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    folders = set(tmp_path.rglob("*"))
    assert run(arguments) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("autosam: ")]
    assert len(lines) == 1
    assert re.search(message, lines[0]), lines[0]
    assert set(tmp_path.rglob("*")) == folders
    assert before == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
