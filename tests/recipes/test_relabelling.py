"""The new dataset appears whole beside the old one, which nothing touches."""

import csv
import hashlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from autosam.cli import run
from autosam.data.folders import FolderDataset
from autosam.data.sources import SampleCollection
from autosam.data.synthetic import SyntheticDataset
from autosam.errors import OutputError
from autosam.evaluation.label_decisions import new_label, prune
from autosam.recipes.cross_fit_folder import open_cross_fit
from autosam.recipes.relabelled_folder import appearing_whole
from autosam.recipes.relabelling import relabel


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def reviewed(folder: Path, decisions: dict[str, str]) -> Path:
    """Change the decisions of a dataset's review, as a person does in a spreadsheet."""
    path = folder / "review.csv"
    with path.open() as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        row["decision"] = decisions.get(row["name"], row["decision"])
    with path.open("w") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture(scope="module")
def made(rivers, quick_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "better"
    before = contents(rivers)
    relabelled = relabel(quick_run, str(rivers), folder)
    assert contents(rivers) == before
    return relabelled


class Place:
    """A scratch folder with rivers and a dataset that was made of them."""

    def __init__(self, folder: Path, rivers: Path, quick_run: Path, made: Path) -> None:
        self.folder, self.run = folder, quick_run
        self.rivers = Path(shutil.copytree(rivers, folder / "rivers"))
        self.made = Path(shutil.copytree(made, folder / "better"))
        shutil.copytree(f"{made}.cross_fitting", folder / "better.cross_fitting")
        # Copied data has another path, which is part of the settings.
        for path in (folder / "better.cross_fitting").glob("**/config.yaml"):
            path.write_text(path.read_text().replace(str(rivers), str(self.rivers)))

    def relabel(self, *more: str, run=None, data=None, out=None) -> list[str]:
        places = [str(run or self.run), str(data or self.rivers), "-o", str(out or self.made)]
        return ["relabel", *places, *more]

    def review(self, text: str) -> list[str]:
        path = self.folder / "review.csv"
        path.write_text(text)
        return self.relabel("--review", str(path))

    def lines(self) -> list[str]:
        return (self.made / "review.csv").read_text().splitlines()


@pytest.fixture
def place(tmp_path, rivers, quick_run, made):
    return Place(tmp_path, rivers, quick_run, made.directory)


def test_an_under_filled_label_is_replaced_and_a_wrong_one_is_to_be_looked_at(made):
    decisions = {row.name: row.decision for row in made.rows}
    assert decisions == {
        "river_0": "look", "river_1": "replace", "river_2": "keep",
        "river_3": "keep", "river_4": "keep", "river_5": "keep",
    }  # fmt: skip
    truth = np.zeros((40, 48), dtype=bool)
    truth[7:19] = True
    mask = FolderDataset(made.directory)[1].mask
    # The old label has an IoU of 2/3 with it.
    assert np.count_nonzero(mask & truth) / np.count_nonzero(mask | truth) > 0.85


def test_pictures_are_copied_byte_for_byte(made, rivers):
    assert contents(made.directory / "images") == contents(rivers / "images")


def test_the_new_dataset_can_be_trained_on_and_relabelled_again(made, quick_run, tmp_path):
    settings = ["--set", f"data.source=[{made.directory}]"]
    config = str(quick_run / "config.yaml")
    assert run(["train", config, "-o", str(tmp_path / "run"), *settings]) == 0
    third = relabel(tmp_path / "run", str(made.directory), tmp_path / "third")
    assert len(third.rows) == 6


def test_a_persons_decisions_are_followed_without_training(place, capsys):
    decisions = {"river_0": "replace", "river_1": "keep", "river_2": "look"}
    review = reviewed(place.made, decisions)
    fits = contents(place.folder / "better.cross_fitting")
    assert run(place.relabel("--review", str(review), "--json")) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["counts"] == {"keep": 4, "replace": 1, "look": 1}
    assert contents(place.folder / "better.cross_fitting") == fits
    old, new = FolderDataset(place.rivers), FolderDataset(place.made)
    where = {name: index for index, name in enumerate(old.names)}
    samples = SampleCollection(lambda name: old[where[name]], old.names)
    cross = open_cross_fit(place.folder / "better.cross_fitting", samples)
    for before, after in zip(old, new, strict=True):
        probability = cross.probability(before.name)
        mask, valid = new_label(
            decisions.get(before.name, "keep"),
            before.mask,
            prune(probability >= cross.threshold(before.name)),
            probability=probability,
            valid=before.valid_area,
        )
        np.testing.assert_array_equal(after.mask, mask)
        np.testing.assert_array_equal(after.valid_area, valid)
    # What was decided stays readable beside what the rule had said.
    rows = {row["name"]: row for row in csv.DictReader(place.lines())}
    assert (rows["river_1"]["decision"], rows["river_1"]["suggested"]) == ("keep", "replace")


def test_a_review_from_a_spreadsheet_of_another_country_is_read(place):
    text = "\ufeff" + "\n".join(line.replace(",", ";") for line in place.lines())
    assert run(place.review(text)) == 0


def test_an_edited_review_is_not_lost(place, capsys):
    review = reviewed(place.made, {"river_3": "look"})
    before = review.read_bytes()
    assert run(place.relabel()) == 2
    assert "--review" in capsys.readouterr().err
    assert review.read_bytes() == before


def test_a_mask_that_a_person_mended_is_not_lost(place, capsys):
    mask = place.made / "masks" / "river_4.png"
    Image.fromarray(np.zeros((40, 48), np.uint8)).save(mask)
    before = mask.read_bytes()
    for more in ((), ("--review", str(place.made / "review.csv"))):
        assert run(place.relabel(*more)) == 2
        assert "masks/river_4.png" in capsys.readouterr().err
    assert mask.read_bytes() == before


def test_an_untouched_dataset_is_made_again_the_same(place):
    before = contents(place.made)
    assert run(place.relabel()) == 0
    after = contents(place.made)
    # The marker names the data, which was copied to another place.
    assert before.pop("relabelled.json") != after.pop("relabelled.json")
    assert after == before


def test_a_run_that_is_cut_off_leaves_the_dataset_that_was_there(tmp_path):
    output = tmp_path / "better"
    with appearing_whole(output, {}) as folder:
        (folder / "first.txt").write_text("first")

    def cut_off() -> None:
        with appearing_whole(output, {}) as folder:
            (folder / "second.txt").write_text("second")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cut_off()
    assert [path.name for path in tmp_path.iterdir()] == ["better"]
    assert (output / "first.txt").read_text() == "first"


def test_what_killed_runs_left_is_cleared_away(place):
    (place.folder / ".better.unfinished" / "images").mkdir(parents=True)
    before = contents(place.made)
    # Killed between moving the old dataset away and putting the new one in its place.
    place.made.rename(place.folder / ".better.replaced")
    assert run(place.relabel("--review", str(place.folder / "none.csv"))) == 2
    assert contents(place.made) == before
    assert run(place.relabel()) == 0
    assert not list(place.folder.glob(".better.*"))


def test_small_patches_of_the_prediction_are_dropped(place):
    review = reviewed(place.made, {f"river_{index}": "replace" for index in range(6)})
    assert run(place.relabel("--review", str(review), "--minimum-area", "65536")) == 0
    for before, after in zip(FolderDataset(place.rivers), FolderDataset(place.made), strict=True):
        assert not (after.mask & ~before.mask).any()  # nothing of the prediction is left to add


def test_scenes_that_are_no_files_are_written_as_png(quick_run, tmp_path):
    relabel(quick_run, "synthetic", tmp_path / "better")
    scenes, written = SyntheticDataset(6, side=48), FolderDataset(tmp_path / "better")
    assert written.names == scenes.names
    for scene, sample in zip(scenes, written, strict=True):
        np.testing.assert_array_equal(sample.image, scene.image)


def test_what_is_ignored_stays_so_and_bands_come_along(place, quick_run, tmp_path):
    for name in ("valid", "nir"):
        (place.rivers / name).mkdir()
    area = np.full((40, 48), 255, np.uint8)
    area[:, :10] = 0
    Image.fromarray(area).save(place.rivers / "valid" / "river_0.png")
    for index in range(6):
        Image.fromarray(area + np.uint8(index)).save(place.rivers / "nir" / f"river_{index}.png")
    relabel(quick_run, str(place.rivers), tmp_path / "new")  # which reads no band
    assert contents(tmp_path / "new" / "nir") == contents(place.rivers / "nir")
    assert not FolderDataset(tmp_path / "new")[0].valid_area[:, :10].any()


def test_work_in_a_relabelled_folder_is_never_lost(place, quick_run, tmp_path):
    relabel(quick_run, str(place.rivers), tmp_path / "new")
    (tmp_path / "new" / "run").mkdir()
    (tmp_path / "new" / "run" / "model.bin").write_bytes(b"weights")
    with pytest.raises(OutputError, match=r"got 1 file more \(run/model\.bin"):
        relabel(quick_run, str(place.rivers), tmp_path / "new")
    assert (tmp_path / "new" / "run" / "model.bin").read_bytes() == b"weights"
    shutil.rmtree(tmp_path / "new" / "run")
    (tmp_path / "new" / ".DS_Store").write_bytes(b"a file manager's")
    relabel(quick_run, str(place.rivers), tmp_path / "new")


def test_the_current_folder_is_not_replaced_under_ones_feet(
    place, quick_run, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutputError, match="got the current one"):
        relabel(quick_run, str(place.rivers), ".")


def not_ours(place: Place) -> list[str]:
    (place.folder / "thesis").mkdir()
    (place.folder / "thesis" / "chapter.txt").write_text("mine")
    return place.relabel(out=place.folder / "thesis")


def without_fits(place: Place) -> list[str]:
    shutil.rmtree(place.folder / "better.cross_fitting")
    return place.relabel("--review", str(place.made / "review.csv"))


def changed_since(place: Place) -> list[str]:
    Image.fromarray(np.zeros((40, 48), np.uint8)).save(place.rivers / "masks" / "river_1.png")
    return place.relabel("--review", str(place.made / "review.csv"))


def unlabelled(place: Place) -> list[str]:
    shutil.rmtree(place.rivers / "masks")
    return place.relabel(out=place.folder / "new")


def linked(place: Place) -> list[str]:
    (place.folder / "link").symlink_to(place.rivers)
    return place.relabel(out=place.folder / "link")


CASES = {
    "output on the data": (lambda p: p.relabel(out=p.rivers), "must lie apart"),
    "output through a link": (linked, "must lie apart"),
    "output inside the data": (lambda p: p.relabel(out=p.rivers / "new"), "must lie apart"),
    "output around the data": (lambda p: p.relabel(out=p.folder), "must lie apart"),
    "output in use": (not_ours, "which holds something else"),
    "output that is a file": (
        lambda p: p.relabel(out=p.made / "review.csv"),
        "must be a folder, got the file",
    ),
    "missing run": (lambda p: p.relabel(run="no/run"), "must hold config.yaml"),
    "missing data": (lambda p: p.relabel(data="no/where/at all", out=p.folder / "new"), "no/where/at all"),
    "unlabelled data": (unlabelled, "must have a mask"),
    "folds of another number": (lambda p: p.relabel("--folds", "2"), "3 folds then, 2 now"),
    "group pattern of other names": (
        lambda p: p.relabel("--group-by", "^tile", out=p.folder / "new"),
        "must match every sample name",
    ),
    "area below nothing": (lambda p: p.relabel("--minimum-area", "-1"), "0 or more, got -1"),
    "area that is no number": (lambda p: p.relabel("--minimum-area", "nan"), "got nan"),
    "missing review": (lambda p: p.relabel("--review", "no.csv"), "must exist, got no.csv"),
    "review without folds": (without_fits, "must be finished, got no folds"),
    "review of changed labels": (changed_since, r"must match the data.*river_1"),
    "empty review": (lambda p: p.review(""), "columns name and decision"),
    "review that is no table": (lambda p: p.review("\x89PNG"), "columns name and decision"),
    "review without a sample": (
        lambda p: p.review("\n".join(p.lines()[:-1])),
        "1 that are only in one of them, 'river_5'",
    ),
    "sample twice in a review": (
        lambda p: p.review("\n".join([*p.lines(), p.lines()[-1]])),
        "'river_5' twice",
    ),
    "unknown decision": (
        lambda p: p.review("\n".join(p.lines()).replace(",keep,", ",kep,", 1)),
        r"got 'kep' \(line 4 of .*Did you mean 'keep'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_is_one_line_and_changes_nothing(name, place, capsys):
    make, message = CASES[name]
    arguments = make(place)
    before, folders = contents(place.folder), set(place.folder.rglob("*"))
    assert run(arguments) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("autosam: ")]
    assert len(lines) == 1
    assert re.search(message, lines[0]), lines[0]
    assert contents(place.folder) == before
    assert set(place.folder.rglob("*")) == folders
